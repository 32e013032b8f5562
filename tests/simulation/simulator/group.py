"""A simulated consumer group: everybody gives up everything, then partitions are shared out anew.

A member that does not answer is put out and does not know it: until it hears of that, it goes on.
Commits count while their generation lasts. `committed` is what the group knows: it may lag behind
what was acknowledged, and it may be lost.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from simulator.broker import Place
from simulator.scheduler import Process, Scheduler

KEPT_RATE = 0.4
"""Of assignments that leave with a member what it had, where it can."""
OBLIVIOUS_RATE = 0.6
"""Of members put out that go on for long before they hear of it."""


class Member(Process, Protocol):
    """A consumer, as the group sees it."""

    places: list[Place]

    def give_up(self) -> None:
        """Stop working on all partitions, then `rejoin`."""

    def receive(self, places: list[Place], generation: int) -> None:
        """These partitions are yours from now on."""

    def put_out(self) -> None:
        """You are not a member any more."""


class Group:
    """Coordinates who works on which partition."""

    def __init__(self, scheduler: Scheduler, places: Sequence[Place]) -> None:
        self.members: list[Member] = []
        self.generation = 0
        self.committed: dict[Place, int] = {}
        self.on_commit: Callable[[Place, int], object] = lambda place, offset: None
        self._places = places
        self._scheduler = scheduler
        self._waiting: list[Member] | None = None
        """Members that have not given up yet; None when nothing is being shared out."""
        self._again = False

    def join(self, member: Member) -> None:
        """A new member; it will get its share."""
        self.members.append(member)
        self.rebalance()

    def leave(self, member: Member) -> None:
        """A member that is gone, or says that it goes."""
        if member in self.members:
            self.members.remove(member)
            if self._waiting is None:
                self.rebalance()
            else:
                self.rejoin(member)

    def put_out(self, member: Member) -> None:
        """A member was silent for too long."""
        if member in self.members:
            self._scheduler.note(member.name, "is put out of the group")
            self.leave(member)
            hears = "hears that it was put out"
            self._scheduler.add(member, hears, member.put_out, slow_rate=OBLIVIOUS_RATE)

    def rebalance(self) -> None:
        """Share all partitions out anew, as soon as everybody has given them up."""
        if self._waiting is not None:
            self._again = True
            return
        self._waiting = list(self.members)
        for member in self.members:
            ask = partial(self._ask, member, self._waiting)
            self._scheduler.add(member, "hears of a rebalance", ask)
        if not self.members:
            self._share_out()

    def _ask(self, member: Member, waiting: list[Member]) -> None:
        if waiting is self._waiting and member in waiting:
            member.give_up()

    def rejoin(self, member: Member) -> None:
        """A member has given up its partitions."""
        if self._waiting is not None and member in self._waiting:
            self._waiting.remove(member)
        if self._waiting == []:
            self._share_out()

    def commit(self, member: Member, generation: int, offsets: dict[Place, int]) -> None:
        """Take a member's offsets, if it is still one."""
        if generation != self.generation or member not in self.members:
            self._scheduler.note(member.name, "commit refused")
            return
        for place, offset in offsets.items():
            self.on_commit(place, offset)
            self.committed[place] = offset

    def _share_out(self) -> None:
        self._waiting = None
        self.generation += 1
        shares: dict[str, list[Place]] = {member.name: [] for member in self.members}
        keep = self._scheduler.rng.random() < KEPT_RATE
        for place in self._places if self.members else ():
            former = [each for each in self.members if keep and place in each.places]
            shares[self._scheduler.rng.choice(former or self.members).name].append(place)
        for member in self.members:
            get = partial(member.receive, shares[member.name], self.generation)
            self._scheduler.add(member, f"gets {len(shares[member.name])} partitions", get)
        if self._again:
            self._again = False
            self.rebalance()

"""What happens next: one thing at a time, chosen by the seed; no real time, no threads, no waiting.

Whatever reaches outside a worker (an append, a read, an insert, a fetch, a timer) becomes a *step*
here and waits. The event loop runs the product's code until nothing is ready; then one step is
chosen. So a worker can stop for good, or for a while, at every one of its awaits: before a request
arrives, after it arrived and before its answer did, and between any two of them.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, Protocol, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
SLOW_RATE = 0.04
"""Of steps that stay behind until almost everything else has happened."""
SLOW_TURN = 0.02


class Process(Protocol):
    """Whose code runs: it may be gone, or stand still."""

    @property
    def name(self) -> str: ...
    @property
    def is_gone(self) -> bool: ...
    @property
    def is_frozen(self) -> bool: ...


RUNNING: ContextVar[Process | None] = ContextVar("running", default=None)
"""The process that the code at hand belongs to; tasks inherit it."""


class Step:
    """Something that may happen; `owner` must be there and awake for it."""

    __slots__ = ("happen", "is_slow", "owner", "sender", "what")

    def __init__(
        self,
        owner: Process | None,
        sender: Process | None,
        what: str,
        happen: Callable[[], object],
        is_slow: bool,
    ) -> None:
        self.owner, self.sender, self.what = owner, sender, what
        self.happen, self.is_slow = happen, is_slow


class Scheduler:
    """All steps that may happen, and what has happened."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.trace: list[tuple[str, str]] = []
        """Who and what, in order."""
        self._steps: list[Step] = []

    def add(
        self,
        owner: Process | None,
        what: str,
        happen: Callable[[], object],
        *,
        sender: Process | None = None,
        slow_rate: float = SLOW_RATE,
    ) -> None:
        """Let something happen sometime."""
        if owner is None or not owner.is_gone:
            is_slow = self.rng.random() < slow_rate
            self._steps.append(Step(owner, sender, what, happen, is_slow))

    def note(self, who: str, what: str) -> None:
        """Keep what has happened, for whoever reads the schedule."""
        self.trace.append((who, what))

    def request(self, what: str, act: Callable[[], T]) -> "asyncio.Future[T]":
        """Ask somebody else: `act` happens when the request arrives, the answer comes later."""
        asker = RUNNING.get()
        answered: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def arrive() -> None:
            try:
                result = act()
            except Exception as error:  # the edge: the error is the answer
                self.add(asker, f"learns: {what}: {error!r}", partial(_fail, answered, error))
            else:
                self.add(asker, f"learns: {what}", partial(_succeed, answered, result))

        if asker is None or not asker.is_gone:
            self.add(None, what, arrive, sender=asker)
        return answered

    def choose(self) -> bool:
        """Let one step happen; False when none can."""
        able = [step for step in self._steps if step.owner is None or _is_awake(step.owner)]
        if not able:
            return False
        if self.rng.random() >= SLOW_TURN:
            able = [step for step in able if not step.is_slow] or able
        step = able[int(self.rng.random() * len(able))]
        self._steps.remove(step)
        who = step.owner or step.sender
        self.note(who.name if who else "", step.what)
        step.happen()
        return True

    def forget(self, process: Process) -> None:
        """A process is gone: of what it had asked for, some will still arrive."""
        self._steps = [
            step
            for step in self._steps
            if step.owner is not process and (step.sender is not process or self.rng.random() < 0.5)
        ]

    def clear(self) -> None:
        """Nothing that waits will happen."""
        self._steps.clear()


def _is_awake(process: Process) -> bool:
    return not (process.is_frozen or process.is_gone)


def _succeed(answered: "asyncio.Future[T]", result: T) -> None:
    if not answered.done():
        answered.set_result(result)


def _fail(answered: "asyncio.Future[Any]", error: Exception) -> None:
    if not answered.done():
        answered.set_exception(error)


class Loop(asyncio.BaseEventLoop):
    """An event loop that calls `idle` when nothing is ready, instead of waiting."""

    def __init__(self, scheduler: Scheduler, idle: Callable[[], object]) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._idle = idle
        self._selector = self
        self._now = 0.0
        self._tasks: list[asyncio.Task[Any]] = []
        """All there ever were: nothing else holds those that nobody will wake."""
        self.set_task_factory(self._new_task)

    def select(self, timeout: float | None) -> list[Any]:
        """Called by the base class for events to come; it waits only when nothing is ready."""
        if timeout is None:
            self._idle()
        return []

    def _process_events(self, events: list[Any]) -> None:
        """None come from outside."""

    def time(self) -> float:
        """Virtual seconds: as late as the latest timer that went off."""
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """A timer is a step of its process; like all others it may be late."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)

        def go_off() -> None:
            self._now = max(self._now, when)
            if not timer.cancelled():
                self.call_soon(callback, *args, context=context)

        self._scheduler.add(RUNNING.get(), "timer", go_off)
        return timer

    def run_in_executor(  # type: ignore[override]  # the base class names its types in a stub only
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """What a thread would do is a request like others."""
        return self._scheduler.request("thread", partial(func, *args))

    def _new_task(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, T] | Generator[Any, None, T],
        **options: Any,
    ) -> "asyncio.Future[T]":
        task = asyncio.Task(work, loop=self, **options)
        self._tasks.append(task)
        return task

    def run_to_end(self, main: Coroutine[Any, Any, None]) -> None:
        """Run until `stop` is called, then end every task that is left."""
        first = self.create_task(main)
        try:
            self.run_forever()
            if first.done():
                first.result()
        finally:
            self._end_tasks()
            self.close()

    def _end_tasks(self) -> None:
        self._scheduler.clear()
        self._idle = self.stop
        while tasks := [task for task in self._tasks if not task.done()]:
            for task in tasks:
                task.cancel()
            self.run_forever()

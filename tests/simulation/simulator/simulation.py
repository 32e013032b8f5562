"""One seed, from the first touchpoint to the last check.

Everything comes from the schedule; whatever happens is in the trace. A check that fails raises
`Violation`, with the seed and what differs.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from simulator.broker import Broker, Place, Refused
from simulator.checks import Checks
from simulator.clickhouse import ClickHouse
from simulator.findings import Findings, Violation
from simulator.group import Group
from simulator.outcome import Outcome
from simulator.schedule import CODEC, Action, Publish, Schedule, schedule_of
from simulator.scheduler import Loop, Scheduler
from simulator.worker import SETTINGS, Worker, World

from touchstream.agents.course import World as Customers
from touchstream.agents.heard import Heard
from touchstream.agents.identifiers import tokens_of
from touchstream.agents.ingest import Ingest
from touchstream.agents.journey_rules import load_journey
from touchstream.agents.operate import Operate
from touchstream.agents.profile import Profile
from touchstream.agents.rules_file import default_rules
from touchstream.agents.stitch import Stitch
from touchstream.streams.catalogue import load_catalogue
from touchstream.streams.errors import TransientError
from touchstream.streams.stage import Stage
from touchstream.streams.topics import CUSTOMER, IDENTITY, OPERATIONS, TOUCHPOINTS

MOST_STEPS = 200_000
"""Then it does not come to rest."""
CATALOGUE = load_catalogue()
TOKENS = tokens_of(SETTINGS)
STITCH = Stitch(default_rules())
PROFILE = Profile(CATALOGUE, Customers(CATALOGUE, load_journey()))
"""Stages keep nothing between two chunks, so all workers of all seeds share these."""
NOTHING_SAID = Heard()
INGEST, OPERATE = Ingest(CODEC, TOKENS, SETTINGS, NOTHING_SAID), Operate(NOTHING_SAID)
SOURCES = {topic: n for n, topic in enumerate((*TOUCHPOINTS, OPERATIONS, IDENTITY, CUSTOMER))}


class LogReader(logging.Handler):
    """Reads the product's log: a worker may end with what the broker says, with nothing else."""

    def __init__(self, findings: Findings) -> None:
        super().__init__()
        self._findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        """Find an exception that no schedule explains."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, Refused | TransientError):
            self._findings.add("error", f"{record.getMessage()}: {error!r}")


class Ears:
    """What a worker has heard of operators: all there is when it starts, later bit by bit."""

    def __init__(self, broker: Broker) -> None:
        self.heard = Heard()
        self._broker = broker
        self._next = 0
        self.listen()

    def listen(self) -> None:
        """Hear what was said meanwhile."""
        for record in self._broker.log.read_now(OPERATIONS, 0, self._next):
            self.heard.take(record)
            self._next += 1


class Simulation:
    """All that there is in one run."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.scheduler = Scheduler(schedule.rng)
        self.broker = Broker(self.scheduler, schedule.broker)
        self.clickhouse = ClickHouse(self.scheduler, schedule.clickhouse)
        places: list[Place] = [(t, p) for t in SOURCES for p in range(schedule.partitions)]
        self.group = Group(self.scheduler, places)
        self.checks = Checks(self.broker, self.clickhouse, self.group, SOURCES)
        self.broker.listeners += [self.checks.on_batch, self._tell]
        self.workers: list[Worker] = []
        self._ears: dict[str, Ears] = {}
        self._actions = list(reversed(schedule.actions))
        self._started = 0
        self._steps = 0
        self._world = World(
            self.scheduler,
            self.broker,
            self.group,
            self.clickhouse,
            schedule.partitions,
            SOURCES,
            self._died,
        )

    def run(self) -> None:
        """Run to the end; raises Violation."""
        self._loop = Loop(self.scheduler, self._idle)
        self._loop.set_exception_handler(self._on_error)
        log = logging.getLogger("touchstream")
        reader = LogReader(self.checks.findings)
        log.addHandler(reader)
        log.propagate = False
        try:
            with self.schedule.bounds.hold():
                self._loop.run_to_end(self._begin())
            self.checks.all_is_processed()
            Outcome(self.checks, self.clickhouse).compare(self.schedule.published)
        except Violation as violation:
            violation.seed = self.schedule.seed
            raise
        finally:
            log.propagate = True
            log.removeHandler(reader)

    async def _begin(self) -> None:
        for _ in range(self.schedule.workers):
            self._start_worker()

    def _idle(self) -> None:
        """Nothing is ready: one thing happens."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise Violation("rest", "it does not come to rest")
        if self._actions and self.schedule.rng.random() < self.schedule.eagerness:
            self._act(self._actions.pop())
        elif not self.scheduler.choose():
            if self._actions:
                self._act(self._actions.pop())
            else:
                self._loop.stop()
        self.checks.findings.raise_first()

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        self.checks.findings.add("error", f"{context.get('message')}: {context.get('exception')!r}")

    def _act(self, action: Action) -> None:
        if isinstance(action, Publish):
            self.scheduler.note("", f"publish to {action.topic}[{action.partition}]: {action.what}")
            place = action.topic, action.partition
            self.checks.ledger.write(action, self.broker.end(place))
            self.broker.store(place, [(None, action.value, ())])
        else:
            self._fault(action.what)

    # Workers

    def _awake(self) -> list[Worker]:
        return [each for each in self.workers if not (each.is_gone or each.is_frozen)]

    def _start_worker(self) -> None:
        self._started += 1
        name = f"worker {self._started}"
        worker = Worker(name, self._world, self._stages(name))
        self.workers = [each for each in self.workers if not each.is_gone] + [worker]
        self.scheduler.note(worker.name, "starts")
        worker.start()

    def _stages(self, name: str) -> dict[str, tuple[Stage, bool]]:
        """Stages by what they read; those that hear operators are a worker's own, if need be."""
        ingest, operate = INGEST, OPERATE
        if self.schedule.must_listen:
            ears = self._ears[name] = Ears(self.broker)
            ingest = Ingest(CODEC, TOKENS, SETTINGS, ears.heard)
            operate = Operate(ears.heard)
        return {
            **dict.fromkeys(TOUCHPOINTS, (ingest, False)),
            OPERATIONS: (operate, False),
            IDENTITY: (STITCH, True),
            CUSTOMER: (PROFILE, True),
        }

    def _died(self, worker: Worker) -> None:
        self.scheduler.add(None, f"{worker.name} is missed", partial(self.group.leave, worker))
        self.scheduler.add(None, "somebody starts a worker", self._start_worker)

    def _tell(self, place: Place, base: int) -> None:
        """There are new records."""
        for worker in self.workers:
            if not worker.is_gone:
                worker.poll(place)
                if place[0] == OPERATIONS and worker.name in self._ears:
                    listen = self._ears[worker.name].listen
                    self.scheduler.add(worker, "hears what an operator said", listen)

    # What goes wrong

    def _fault(self, what: str) -> None:
        self.scheduler.note("", f"fault: {what}")
        awake = self._awake()
        if what == "outage":
            self.clickhouse.is_away = True
            self.scheduler.add(None, "ClickHouse is back", self._clickhouse_is_back)
        elif what == "lose commits":
            self.group.committed.clear()
        elif what == "rebalance":
            self.group.rebalance()
        elif what == "start":
            self._start_worker()
        elif awake:
            self._hit(self.schedule.rng.choice(awake), what)

    def _hit(self, worker: Worker, what: str) -> None:
        self.scheduler.note(worker.name, what)
        if what == "crash":
            worker.crash()
        elif what == "stop":
            worker.stop()
            self.scheduler.add(None, "somebody starts a worker", self._start_worker)
        elif what == "freeze":
            worker.is_frozen = True
            self.scheduler.add(None, f"{worker.name} is missed", partial(self._miss, worker))
            self.scheduler.add(None, f"{worker.name} wakes", partial(self._wake, worker))

    def _miss(self, worker: Worker) -> None:
        if worker.is_frozen or self.schedule.rng.random() < 0.5:
            self.group.put_out(worker)

    def _wake(self, worker: Worker) -> None:
        worker.is_frozen = False

    def _clickhouse_is_back(self) -> None:
        self.clickhouse.is_away = False


def simulate(seed: int, touchpoints: int | None = None) -> Simulation:
    """Run a seed; raises Violation."""
    simulation = Simulation(schedule_of(seed, touchpoints))
    simulation.run()
    return simulation

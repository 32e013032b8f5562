"""Ready, not ready, stuck: tables of what happened and what follows."""

import asyncio
from collections.abc import Callable

import pytest

from touchstream.streams.health import Health, Limits, Phase
from touchstream.streams.server_health import SLOW_SECONDS

WEB, IDENTITY = ("touchpoints.web", 0), ("cx.identity", 3)
READY, STUCK = 10.0, 60.0


class World:
    """A worker with two partitions, and the clock; Kafka is polled all the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        clock = self.clock
        self.health = Health(Limits(READY, STUCK), clock=clock, process_clock=clock)
        self.health.assigned([WEB, IDENTITY])

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1
            self.health.polled()

    def one_chunk(self, offset: int = 0) -> None:
        """A chunk from fetch to acknowledgement."""
        self.health.received(IDENTITY)
        self.health.computed(IDENTITY)
        self.health.stored(IDENTITY)
        self.health.acknowledged(IDENTITY, offset + 1)


@pytest.fixture
def world() -> World:
    return World()


def test_a_worker_without_partitions_yet_is_not_ready_and_not_stuck() -> None:
    now = [0.0]
    health = Health(Limits(READY, STUCK), clock=lambda: now[0])
    now[0] += 10_000
    assert health.not_ready() == [Phase.STARTING]
    assert health.stuck() == []


def test_a_worker_for_whom_no_partition_is_left_is_ready(world: World) -> None:
    world.health.assigned([])
    world.now += 10_000
    assert (world.health.not_ready(), world.health.stuck()) == ([], [])


def test_a_quiet_worker_is_ready(world: World) -> None:
    world.wait(10_000)
    assert (world.health.not_ready(), world.health.stuck()) == ([], [])


def test_a_busy_worker_is_ready(world: World) -> None:
    for offset in range(300):
        world.one_chunk(offset)
        world.wait(1)
        world.health.committed(IDENTITY, offset + 1)
    assert (world.health.not_ready(), world.health.stuck()) == ([], [])


def fetched(health: Health) -> None:
    health.received(IDENTITY)


def computed(health: Health) -> None:
    health.received(IDENTITY)
    health.computed(IDENTITY)


def acknowledged(health: Health) -> None:
    health.received(IDENTITY)
    health.computed(IDENTITY)
    health.stored(IDENTITY)
    health.acknowledged(IDENTITY, 1)


def restoring(health: Health) -> None:
    health.received(IDENTITY)
    health.restoring(IDENTITY)


HANGS = {
    fetched: "cx.identity[3]: no chunk was computed",
    computed: "cx.identity[3]: no chunk was stored",
    acknowledged: "cx.identity[3]: nothing was committed",
    restoring: "cx.identity[3]: restoring has read nothing",
}
EVERY_HANG = pytest.mark.parametrize(("begin", "what"), HANGS.items())


@EVERY_HANG
def test_what_makes_no_progress_is_stuck_after_its_time(
    world: World, begin: Callable[[Health], None], what: str
) -> None:
    begin(world.health)
    world.wait(STUCK)
    assert world.health.stuck() == []
    world.wait(1)
    assert world.health.stuck() == [f"{what} for {STUCK + 1:.0f} s"]


@EVERY_HANG
def test_what_makes_no_progress_is_not_ready_long_before(
    world: World, begin: Callable[[Health], None], what: str
) -> None:
    begin(world.health)
    world.wait(READY + 1)
    assert f"{what} for {READY + 1:.0f} s" in world.health.not_ready()


@EVERY_HANG
def test_other_partitions_do_not_hide_it(
    world: World, begin: Callable[[Health], None], what: str
) -> None:
    begin(world.health)
    for offset in range(int(STUCK) + 1):
        world.health.received(WEB)
        world.health.computed(WEB)
        world.health.stored(WEB)
        world.health.acknowledged(WEB, offset + 1)
        world.health.committed(WEB, offset + 1)
        world.health.clickhouse.answered()
        world.health.kafka.answered()
        world.wait(1)
    assert world.health.stuck() == [f"{what} for {STUCK + 1:.0f} s"]


@EVERY_HANG
@pytest.mark.parametrize("server", ["clickhouse", "kafka"])
def test_a_server_that_is_away_for_a_day_is_no_reason_to_end(
    world: World, begin: Callable[[Health], None], what: str, server: str
) -> None:
    begin(world.health)
    for _ in range(24 * 60):
        getattr(world.health, server).failed()
        world.wait(60)
        assert world.health.stuck() == []
    assert any(reason.startswith(f"{server}: ") for reason in world.health.not_ready())


@EVERY_HANG
def test_after_an_outage_there_is_the_whole_time_again(
    world: World, begin: Callable[[Health], None], what: str
) -> None:
    begin(world.health)
    for _ in range(30):
        world.health.clickhouse.failed()
        world.wait(10)
    world.health.clickhouse.answered()
    world.wait(STUCK - 10)
    assert world.health.stuck() == []
    world.wait(11)
    assert len(world.health.stuck()) == 1


@EVERY_HANG
def test_a_slow_call_is_no_reason_to_end_but_a_hanging_one_is(
    world: World, begin: Callable[[Health], None], what: str
) -> None:
    begin(world.health)
    with world.health.clickhouse.call():
        world.wait(119)
        assert world.health.stuck() == []
        world.wait(2)
        assert len(world.health.stuck()) == 1


def test_a_computed_chunk_that_waits_for_its_turn_at_clickhouse_is_not_stuck(
    world: World,
) -> None:
    """A group of many blocks, each of which is stored in less time than is slow."""
    computed(world.health)
    world.health.inserting(IDENTITY, True)
    for _ in range(100):
        world.wait(SLOW_SECONDS - 1)
        world.health.clickhouse.answered()
    assert world.health.stuck() == []


def test_a_chunk_behind_rows_that_wait_for_their_turn_is_not_stuck_before_they_are_stored(
    world: World,
) -> None:
    """A full lane computes nothing more until its rows are stored."""
    computed(world.health)
    world.health.inserting(IDENTITY, True)
    fetched(world.health)
    for _ in range(100):
        world.wait(SLOW_SECONDS - 1)
        world.health.clickhouse.answered()
    assert world.health.stuck() == []
    world.health.inserting(IDENTITY, False)
    world.health.stored(IDENTITY)
    world.wait(STUCK + 1)
    assert len(world.health.stuck()) == 1


def test_a_restore_that_reads_is_not_stuck(world: World) -> None:
    restoring(world.health)
    for _ in range(50):
        world.wait(STUCK - 1)
        world.health.read()
    assert world.health.stuck() == []
    assert "1 of 2 partitions are being restored" in world.health.not_ready()


def test_a_restored_partition_has_its_whole_time_for_the_first_chunk(world: World) -> None:
    restoring(world.health)
    world.wait(STUCK)
    world.health.restored(IDENTITY)
    world.wait(STUCK)
    assert world.health.stuck() == []


def test_each_chunk_of_a_queue_has_its_own_time(world: World) -> None:
    for _ in range(5):
        world.health.received(IDENTITY)
    for _ in range(5):
        world.wait(STUCK)
        world.health.computed(IDENTITY)
        world.health.stored(IDENTITY)
    assert world.health.stuck() == []


def test_a_lane_that_computes_but_stores_nothing_is_stuck(world: World) -> None:
    for _ in range(int(STUCK) + 1):
        computed(world.health)
        world.wait(1)
    assert [reason.partition(" for ")[0] for reason in world.health.stuck()] == [HANGS[computed]]


def test_a_commit_that_falls_behind_but_moves_is_not_stuck(world: World) -> None:
    for offset in range(200):
        world.one_chunk(offset + 1)
        world.wait(1)
        world.health.committed(IDENTITY, offset + 1)
    assert world.health.stuck() == []


def test_nothing_fetched_is_not_ready(world: World) -> None:
    world.now += READY + 1
    assert world.health.not_ready() == [f"nothing was fetched for {READY + 1:.0f} s"]


def test_nothing_fetched_is_stuck(world: World) -> None:
    world.now += STUCK + 1
    assert world.health.stuck() == [f"nothing was fetched for {STUCK + 1:.0f} s"]


def test_a_partition_that_is_held_is_not_ready_and_not_stuck_until_it_is_given_up(
    world: World,
) -> None:
    world.one_chunk()
    world.health.committed(IDENTITY, 1)
    world.health.held(WEB, 20)
    world.wait(STUCK + 1)
    said = "touchpoints.web[0]: not read any more, 20 records in a row were rejected"
    assert (world.health.not_ready(), world.health.stuck()) == ([said], [])
    world.health.revoked([WEB, IDENTITY])
    world.health.assigned([WEB, IDENTITY])
    assert world.health.not_ready() == []


def test_an_abandoned_chunk_is_waited_for_no_longer(world: World) -> None:
    fetched(world.health)
    world.health.abandoned(IDENTITY)
    world.wait(STUCK + 1)
    assert world.health.stuck() == []


@EVERY_HANG
def test_what_another_worker_has_now_is_none_of_ours(
    world: World, begin: Callable[[Health], None], what: str
) -> None:
    begin(world.health)
    world.health.revoked([WEB, IDENTITY])
    assert world.health.not_ready() == [Phase.REBALANCING]
    world.wait(10_000)
    assert world.health.stuck() == []
    world.health.assigned([WEB])
    world.health.stored(IDENTITY)  # a last word
    world.wait(10_000)
    assert (world.health.not_ready(), world.health.stuck()) == ([], [])


def test_a_worker_that_stops_is_not_ready_and_not_stuck(world: World) -> None:
    fetched(world.health)
    world.health.stopping()
    world.health.assigned([WEB])
    world.now += 10_000
    assert world.health.not_ready()[0] == "stopping"
    assert world.health.stuck() == []


@pytest.mark.parametrize("phase", list(Phase))
def test_an_event_loop_that_does_not_answer_is_stuck_whatever_explains_it(
    world: World, phase: Phase
) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    world.health.watch("the worker", loop)
    world.health.phase = phase
    world.health.kafka.failed()
    world.wait(READY + 1)
    reason = "the event loop of the worker has not answered for {} s"
    assert reason.format(11) in world.health.not_ready()
    assert world.health.stuck() == []
    world.wait(STUCK - READY)
    assert world.health.stuck() == [reason.format(61)]


def test_report_has_ages_and_no_more_than_counts_and_names(world: World) -> None:
    world.one_chunk()
    world.health.restoring(WEB)
    world.health.clickhouse.failed()
    world.wait(42)
    report = world.health.report()
    assert report == {
        "ready": False,
        "reasons": [
            "clickhouse: insert retried for 42 s",
            "1 of 2 partitions are being restored",
            "touchpoints.web[0]: restoring has read nothing for 42 s",
            "cx.identity[3]: nothing was committed for 42 s",
        ],
        "partitions": {"assigned": 2, "restoring": 1, "restored": 0},
        "age_seconds": {"progress": 42, "commit": 42, "insert": 42, "append": 0, "loop": 0},
        "retries": {"clickhouse": 1, "kafka": 0},
    }

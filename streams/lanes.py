"""All lanes of a worker: a task a partition, started by its first chunk, ended on revocation.

No exception leaves a lane unseen: what is not handled below ends the process before anything is
acknowledged, and another worker goes on from the last durable chunk.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from touchstream.streams.changelog import Changelog
from touchstream.streams.errors import EXIT_SOFTWARE, OwnershipLost
from touchstream.streams.lane import Lane, Ports
from touchstream.streams.records import Place, Record
from touchstream.streams.stage import Stage
from touchstream.streams.topics import state_topic

log = logging.getLogger(__name__)
LATE_SECONDS = 0.2
"""How long a record that is missing may take to appear."""


@dataclass(frozen=True)
class Work:
    """A chunk to process, and what to call when it is computed and when it is durable."""

    records: list[Record]
    acknowledge: Callable[[], object]
    release: Callable[[], object] = lambda: None
    """Called when it is computed: the partition may be polled again."""
    hold: Callable[[int], object] = lambda rejected: None
    """Called instead when too many records in a row were rejected: it must not be polled again."""
    committed: int = 0
    """Where the group was committed when it was fetched."""


class Reader(Protocol):
    """The consumer's side of a lane."""

    async def seek_back(self, place: Place, offset: int) -> None:
        """Read the partition again from `offset`."""


class Lanes:
    """Routes chunks to their lanes, and follows the assignment."""

    def __init__(
        self,
        ports: Ports,
        reader: Reader,
        end_process: Callable[[int], object] = os._exit,
        *,
        dead_letter_limit: int = 0,
    ) -> None:
        """A partition with so many rejected records in a row is held; 0 is no limit."""
        self._ports = ports
        self._reader = reader
        self._end_process = end_process
        self._dead_letter_limit = dead_letter_limit
        self._queues: dict[Place, asyncio.Queue[Work]] = {}
        self._tasks: dict[Place, asyncio.Task[None]] = {}
        self._changelogs: dict[Place, Changelog] = {}
        self._stopping = False

    def put(self, stage: Stage, stateful: bool, place: Place, work: Work) -> None:
        """Queue a chunk behind the earlier ones of its partition."""
        if place not in self._tasks:
            self._queues[place] = asyncio.Queue()
            lane = self._lane(stage, stateful, place)
            self._tasks[place] = asyncio.create_task(self._run(lane, self._queues[place]))
        self._queues[place].put_nowait(work)

    async def revoke(self, places: Iterable[Place]) -> None:
        """Stop the lanes of partitions that were taken away."""
        tasks = [self._tasks.pop(place) for place in places if place in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def assign(self, places: Iterable[Place]) -> None:
        """Forget the state of partitions that did not come back."""
        keep = set(places)
        for place in set(self._changelogs) - keep:
            del self._changelogs[place]

    async def stop(self, grace_seconds: float) -> None:
        """Finish the chunks in work, then stop; what another worker has claimed is left to it."""
        self._stopping = True
        waiting = asyncio.gather(*(self._finished(place) for place in self._tasks))
        try:
            await asyncio.wait_for(waiting, grace_seconds)
        except TimeoutError:
            log.warning("chunks abandoned at stop; they will be processed again")
        await self.revoke(list(self._tasks))

    async def _finished(self, place: Place) -> None:
        """Wait until all chunks of a partition are durable, or its lane has ended."""
        durable = asyncio.create_task(self._queues[place].join())
        try:
            await asyncio.wait([durable, self._tasks[place]], return_when=asyncio.FIRST_COMPLETED)
        finally:
            durable.cancel()

    def _lane(self, stage: Stage, stateful: bool, place: Place) -> Lane:
        topic, partition = place
        if stateful and place not in self._changelogs:
            name = state_topic(stage.name)
            source = self._ports.sources[topic]
            self._changelogs[place] = Changelog(self._ports.log, name, partition, source)
        return Lane(stage, topic, partition, self._ports, self._changelogs.get(place))

    async def _run(self, lane: Lane, queue: "asyncio.Queue[Work]") -> None:
        try:
            await lane.take()
            await self._work(lane, queue)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            self._end(lane)  # something inside was: the lane would be gone, its chunk in hand
        except OwnershipLost as lost:
            if self._stopping:  # Faust tells nobody of a rebalance while it stops
                log.info("left to its new owner: %s", lost)
            else:
                log.error("stopping: %s", lost)
                self._end_process(EXIT_SOFTWARE)
        except BaseException:
            self._end(lane)

    def _end(self, lane: Lane) -> None:
        try:
            log.exception(
                "stopping before acknowledgement: topic=%s partition=%d", lane.topic, lane.partition
            )
        finally:  # with no memory left, even the log fails
            self._end_process(EXIT_SOFTWARE)

    async def _work(self, lane: Lane, queue: "asyncio.Queue[Work]") -> None:
        """Compute chunks while those before them are being stored; ends with the first error."""
        computed: asyncio.Queue[Work] = asyncio.Queue()
        tasks = [
            asyncio.create_task(_contained(self._advance(lane, queue, computed))),
            asyncio.create_task(_contained(self._save(lane, queue, computed))),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _advance(
        self, lane: Lane, queue: "asyncio.Queue[Work]", computed: "asyncio.Queue[Work]"
    ) -> None:
        read_twice = -1  # the offset up to which what is missing was looked for a second time
        while True:
            work = await queue.get()
            lane.begin(min(work.committed, work.records[0].offset))
            missing = lane.missing(work.records, read_twice)
            if missing is None:
                await lane.advance(work.records)
                computed.put_nowait(work)
                self._release(lane, work)
            else:
                read_twice = work.records[-1].offset
                await lane.advance([each for each in work.records if each.offset < missing])
                await self._read_again(lane, missing)
                queue.task_done()

    async def _read_again(self, lane: Lane, missing: int) -> None:
        """Read from a missing offset: the consumer began behind the marker, or records were late.

        A broker may show a batch before an earlier one that came by another connection. What is
        missing the second time is not there: it was deleted, or it is a transaction's marker.
        """
        log.info("read again: topic=%s partition=%d offset=%d", lane.topic, lane.partition, missing)
        await asyncio.sleep(LATE_SECONDS)
        await self._reader.seek_back((lane.topic, lane.partition), missing)

    def _release(self, lane: Lane, work: Work) -> None:
        """Let the partition be polled again, unless all that comes from it is rejected."""
        if 0 < self._dead_letter_limit <= lane.rejected_last:
            work.hold(lane.rejected_last)
        else:
            work.release()

    async def _save(
        self, lane: Lane, queue: "asyncio.Queue[Work]", computed: "asyncio.Queue[Work]"
    ) -> None:
        while True:
            works = [await computed.get()]
            while not computed.empty():
                works.append(computed.get_nowait())
            await lane.save()
            for work in works:
                work.acknowledge()
                queue.task_done()


async def _contained(steps: Coroutine[Any, Any, None]) -> None:
    """Make an error of the lane of what would otherwise end the event loop around it."""
    try:
        await steps
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"raised in a lane: {error!r}") from error


def _is_cancelled() -> bool:
    """Whether this task itself was asked to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

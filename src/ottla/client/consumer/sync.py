"""The synchronous consumer: ``ottla.Consumer``. The same core on a thread of its own.

Records that are there already are decoded and handed out in the caller's thread, without a word to the other
one; while it waits for more it reads them itself (``direct_reading``). Rebalance callbacks run in the thread that polls.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ottla.client.consumer.consumer import (
    CLOSE_TIMEOUT_S,
    AsyncConsumer,
    Offsets,
    OnCommit,
    Partition,
    hand_out,
)
from ottla.client.consumer.direct_reading import VISIT_RECORDS, DirectReading
from ottla.client.consumer.fetched import Chunk
from ottla.client.consumer.settings import ConsumerOptions
from ottla.client.consumer.subscription import Mode, OnRebalance
from ottla.client.errors import KafkaError
from ottla.client.loop_thread import LoopThread, in_caller
from ottla.client.record import Record
from ottla.client.types import OffsetAndMetadata, OffsetAndTimestamp, TopicPartition

T = TypeVar("T")

LONGEST_WAIT_S = 3600.0
"""Without news a waiting thread looks again after this; a lock's longest timeout is the platform's."""


class Consumer:
    """Reads records from topics, for one thread at a time.

    ``for record in consumer`` or ``consumer.poll(timeout)``. The settings are those of
    ``ottla.aio.Consumer``.
    """

    def __init__(
        self,
        *topics: str,
        group: str | None = None,
        bootstrap: str | Sequence[str] | None = None,
        **options: Unpack[ConsumerOptions],
    ) -> None:
        self._consumer = AsyncConsumer(*topics, group=group, bootstrap=bootstrap, **options)
        self._core = self._consumer._core
        self._core.call_listener = _call_in_caller
        self._thread = LoopThread("ottla-consumer", self._forked, visited=True)
        self._news = threading.Lock()  # held while there is nothing new
        self._core.on_news = self._told
        self._direct = DirectReading(self._thread, self._core)
        self._core.clear_up = self._direct.clear_up
        self._unvisited = 0
        """Records handed out since what has come was read."""
        if topics:
            try:
                self._run(self._consumer._begin())
            except BaseException:
                self._thread.stop()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close(clean=error is None, timeout=CLOSE_TIMEOUT_S)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._core.stopped:
            work.close()
            raise RuntimeError("the consumer is closed")
        return self._thread.run(work)

    # Choosing what to read

    def subscribe(
        self,
        topics: Sequence[str] | None = None,
        *,
        pattern: str | re.Pattern[str] | None = None,
        on_assigned: OnRebalance | None = None,
        on_revoked: OnRebalance | None = None,
        on_lost: OnRebalance | None = None,
    ) -> None:
        """Read these topics, or all whose whole name matches; replaces the subscription before.

        The callbacks are called from ``poll`` with a list of ``TopicPartition``; ``on_lost`` when partitions
        went without a chance to commit (``on_revoked`` is called in its place where there is none).
        """
        self._run(
            self._consumer.subscribe(
                topics,
                pattern=pattern,
                on_assigned=on_assigned,
                on_revoked=on_revoked,
                on_lost=on_lost,
            )
        )

    def unsubscribe(self) -> None:
        """Read nothing, and leave the group."""
        self._run(self._consumer.unsubscribe())

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Read these partitions, whatever a group may say; offsets can still be committed to the group."""
        self._run(self._consumer.assign(partitions))

    def subscription(self) -> set[str]:
        """The topics that are subscribed; of a pattern those that match now."""
        return self._consumer.subscription()

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read now."""
        return self._consumer.assignment()

    # Reading

    def poll(self, timeout: float = 0.0, max_records: int | None = None) -> list[Record]:
        """The next records: what is there, or what comes within ``timeout`` seconds; perhaps none.

        Asking for more says that the records before are done with. Raises ``KafkaError`` for what the
        application has to know (no permission, no offset and no reset policy, a corrupt batch).
        """
        core = self._core
        core.polled()
        most = core.settings.max_poll_records if max_records is None else max_records
        try:
            return hand_out(self._next_chunks(timeout, most) or core.cursor.rest(most))
        except KafkaError:
            raise
        except BaseException:
            core.take_back()
            raise

    def __iter__(self) -> Iterator[Record]:
        core = self._core
        next_record = core.cursor.next_record
        most = core.settings.max_poll_records
        while not core.closed:
            record = None if core.attention else next_record()
            if record is None:
                core.polled()
                try:
                    core.cursor.load(self._next_chunks(None, most))
                except KafkaError:
                    raise
                except BaseException as error:
                    if isinstance(error, RuntimeError) and core.closed:
                        return  # by another thread, or by a signal's handler
                    core.take_back()
                    raise
                record = next_record()
                if record is None:
                    continue
            yield record

    def _next_chunks(self, timeout: float | None, most: int) -> list[Chunk]:
        """The next records, within ``timeout`` seconds; or none, and those that came are in the cursor.

        This thread waits for them in person. The loop is asked for what it alone can do: as what a coroutine
        gave back, every answer to a Fetch took four changes of threads more.
        """
        core, direct = self._core, self._direct
        until = None if timeout is None else time.monotonic() + timeout
        left = LONGEST_WAIT_S
        if self._unvisited >= VISIT_RECORDS:
            self._unvisited = 0
            direct.visit()
        while not core.attention and not core.closed:
            chunks, freed = core.take(most)
            if freed and not direct.visit(room=True):
                direct.soon(core.fetcher.maintain)
            count = sum(len(chunk.records) for chunk in chunks)
            if count:
                self._unvisited += count
                return chunks
            if chunks:  # control batches and the like: nothing to hand out
                hand_out(chunks)
                core.polled()
                continue
            if not self._may_wait():
                break
            came = core.fetcher.came
            if direct.visit(wait=True) and (core.attention or core.fetcher.came != came):
                continue
            if until is not None:
                left = min(until - time.monotonic(), LONGEST_WAIT_S)
                if left <= 0:
                    break
            with core.waiting():
                if not direct.wait(left, self._news):
                    direct.ask()
                    self._news.acquire(timeout=left)
        if until is not None:
            timeout = max(0.0, until - time.monotonic())
        if core.attention or timeout != 0.0:
            direct.leave()
        self._run(core.poll(timeout, most))
        return []

    def _may_wait(self) -> bool:
        """Whether nothing but records is to come; ``poll`` on the loop knows what to do or to raise otherwise."""
        core = self._core
        if core.subscription.mode is Mode.NONE or self._thread.is_dead_or_here():
            return False
        return core.membership is None or not core.membership.needs_attention()

    def _told(self) -> None:
        """Wake who waits; last of all, for then the loop's thread lets go of the interpreter's lock."""
        self._thread.loop.call_soon(self._wake)

    def _wake(self) -> None:
        if self._news.locked():
            self._news.release()
        self._direct.ring()

    # Positions

    def seek(self, partition: Partition, offset: int | OffsetAndMetadata) -> None:
        """Go on at this offset."""
        self._run(self._consumer.seek(partition, offset))

    def seek_to_beginning(self, *partitions: Partition) -> None:
        """Go on at the first record there is; of all assigned partitions, if none are named."""
        self._run(self._consumer.seek_to_beginning(*partitions))

    def seek_to_end(self, *partitions: Partition) -> None:
        """Go on behind the last record there is."""
        self._run(self._consumer.seek_to_end(*partitions))

    def seek_to_time(self, timestamp_ms: int, *partitions: Partition) -> None:
        """Go on at the first record of that time (milliseconds since 1970) or later, or at the end."""
        self._run(self._consumer.seek_to_time(timestamp_ms, *partitions))

    def position(self, partition: Partition, timeout: float = 30.0) -> int:
        """The offset of the next record to be handed out; waits until it is known."""
        return self._run(self._consumer.position(partition, timeout))

    def pause(self, *partitions: Partition) -> None:
        """Hand out nothing of these until ``resume``; of all assigned ones, if none are named."""
        self._run(self._consumer.pause(*partitions))

    def resume(self, *partitions: Partition) -> None:
        """Go on with these; with all assigned ones, if none are named."""
        self._run(self._consumer.resume(*partitions))

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return self._consumer.paused()

    def high_watermark(self, partition: Partition) -> int | None:
        """The end of what can be read, as the last Fetch said; None before the first."""
        return self._consumer.high_watermark(partition)

    # Committing

    def commit(self, offsets: Offsets | None = None, timeout: float = 30.0) -> None:
        """Commit, and wait until it is done: everything that was handed out, or these offsets.

        An offset is that of the next record to read. Raises ``CommitFailed`` when the group has moved on
        (poll to rejoin it), ``RequestTimeout``, other ``KafkaError``.
        """
        self._run(self._consumer.commit(offsets, timeout))

    def commit_async(
        self, offsets: Offsets | None = None, on_commit: OnCommit | None = None
    ) -> None:
        """Commit without waiting; ``on_commit(offsets, error)`` is called on the consumer's thread."""
        wanted = self._consumer._offsets(offsets)
        self._thread.call_soon(lambda: self._core.commit_later(wanted, on_commit))

    def committed(
        self, *partitions: Partition, timeout: float = 30.0
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The group's committed offsets; of all assigned partitions, if none are named."""
        return self._run(self._consumer.committed(*partitions, timeout=timeout))

    # Asking

    def beginning_offsets(self, *partitions: Partition) -> dict[TopicPartition, int]:
        """Each partition's first offset."""
        return self._run(self._consumer.beginning_offsets(*partitions))

    def end_offsets(self, *partitions: Partition) -> dict[TopicPartition, int]:
        """Each partition's end: the offset of the next record that will be readable."""
        return self._run(self._consumer.end_offsets(*partitions))

    def offsets_for_times(
        self, timestamps: Mapping[Partition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """For each partition the first record at or after a time in milliseconds; None for none."""
        return self._run(self._consumer.offsets_for_times(timestamps))

    def partitions_for(self, topic: str, timeout: float = 30.0) -> int:
        """The topic's number of partitions."""
        return self._run(self._consumer.partitions_for(topic, timeout))

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Commit what was handed out (with auto-commit), leave the group, stop.

        Leaving a ``with`` block by an exception commits only what was passed before.
        """
        self._close(clean=True, timeout=timeout)

    def _close(self, *, clean: bool, timeout: float) -> None:
        if not self._core.closed:
            try:
                self._run(self._core.close(clean=clean, timeout_ms=timeout * 1000))
            finally:
                if self._core.stopped:
                    self._thread.stop()
                    self._direct.close()

    def _forked(self) -> None:
        self._core.closed = self._core.stopped = True


async def _call_in_caller(listener: OnRebalance, partitions: list[TopicPartition]) -> None:
    await in_caller(lambda: listener(partitions))

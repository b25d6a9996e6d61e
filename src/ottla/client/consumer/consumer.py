"""The asynchronous consumer: ``ottla.aio.Consumer``."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from ottla.client.consumer.core import ConsumerCore
from ottla.client.consumer.fetched import Chunk
from ottla.client.consumer.offset_queries import list_offsets
from ottla.client.consumer.positions import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP
from ottla.client.consumer.settings import ConsumerOptions, consumer_settings
from ottla.client.consumer.subscription import Listeners, OnRebalance
from ottla.client.errors import KafkaError, RequestTimeout
from ottla.client.record import Record
from ottla.client.settings import split_options
from ottla.client.types import OffsetAndMetadata, OffsetAndTimestamp, TopicPartition

Partition = tuple[str, int]
"""A ``TopicPartition``, or any pair like one."""

Offsets = Mapping[Partition, "int | OffsetAndMetadata"]

OnCommit = Callable[[dict[TopicPartition, OffsetAndMetadata], KafkaError | None], Any]
"""Called with what was to be committed, and with why it was not."""

CLOSE_TIMEOUT_S = 30.0


class AsyncConsumer:
    """Reads records from topics.

    ``async for record in consumer`` or ``await consumer.poll(timeout)``. With a ``group`` its members share
    the partitions and go on where the group had committed; without one every partition is read.

    Settings, with times in milliseconds and sizes in bytes:

    - ``bootstrap``: addresses of one or more brokers ("host:port,host:port" or a list); by default
      ``OTTLA_BOOTSTRAP`` from the environment, or localhost:9092.
    - ``auto_offset_reset``: where to begin without a committed offset, or when it is gone: "latest",
      "earliest", or "none" (``NoOffsetForPartition`` is raised).
    - ``enable_auto_commit``, ``auto_commit_interval_ms``: what the application has passed (it asked for more
      since) is committed now and then, before a partition is given up, and on ``close``.
    - ``assignors``: "range", "roundrobin", "sticky", "cooperative-sticky", best first.
    - ``session_timeout_ms``, ``heartbeat_interval_ms``, ``max_poll_interval_ms``: when the group gives up a
      member that is dead, or that no longer polls. ``group_instance_id``: a static member.
    - ``max_poll_records``; ``fetch_min_bytes``, ``fetch_max_wait_ms``, ``fetch_max_bytes``,
      ``max_partition_fetch_bytes``; ``client_rack`` (a follower in the same rack may be read from).
      Up to two answers a partition are buffered, 2 MiB each, and of all of them no more than ``fetch_max_bytes``
      (50 MiB) and one answer.
    - ``isolation_level``: "read_uncommitted" or "read_committed". ``check_crcs``.
    - ``key_deserializer``, ``value_deserializer``: "bytes", "str", "json" or a callable.
    """

    def __init__(
        self,
        *topics: str,
        group: str | None = None,
        bootstrap: str | Sequence[str] | None = None,
        **options: Unpack[ConsumerOptions],
    ) -> None:
        connection, own = split_options(
            bootstrap, {"allow_auto_create_topics": True, **options}, "ottla-consumer"
        )
        self._core = ConsumerCore(connection, consumer_settings(group, **own))
        self._topics = topics

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._core.close(clean=error is None, timeout_ms=CLOSE_TIMEOUT_S * 1000)

    async def _begin(self) -> None:
        if self._topics:
            topics, self._topics = self._topics, ()
            await self._core.subscribe(topics, None, Listeners())

    # Choosing what to read

    async def subscribe(
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
        if (topics is None) == (pattern is None):
            raise ValueError("subscribe to topics or by pattern")
        self._topics = ()
        await self._core.subscribe(topics, pattern, Listeners(on_assigned, on_revoked, on_lost))

    async def unsubscribe(self) -> None:
        """Read nothing, and leave the group."""
        self._topics = ()
        await self._core.unsubscribe()

    async def assign(self, partitions: Iterable[Partition]) -> None:
        """Read these partitions, whatever a group may say; offsets can still be committed to the group."""
        self._topics = ()
        await self._core.assign(TopicPartition(*partition) for partition in partitions)

    def subscription(self) -> set[str]:
        """The topics that are subscribed; of a pattern those that match now."""
        return set(self._topics) or set(self._core.subscription.topics)

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read now."""
        return self._core.positions.partitions

    # Reading

    async def poll(self, timeout: float = 0.0, max_records: int | None = None) -> list[Record]:
        """The next records: what is there, or what comes within ``timeout`` seconds; perhaps none.

        Asking for more says that the records before are done with. Raises ``KafkaError`` for what the
        application has to know (no permission, no offset and no reset policy, a corrupt batch).
        """
        core = self._core
        if self._topics:
            await self._begin()
        core.polled()
        most = core.settings.max_poll_records if max_records is None else max_records
        chunks = core.take_on_loop(most)
        if chunks:
            records = hand_out(chunks)
            if records:
                return records
            core.polled()
        await core.poll(timeout, most)
        return hand_out(core.cursor.rest(most))

    def __aiter__(self) -> AsyncIterator[Record]:
        return self

    async def __anext__(self) -> Record:
        core = self._core
        record = None if core.attention else core.cursor.next_record()
        while record is None:
            if core.closed:
                raise StopAsyncIteration
            await self._begin()
            core.polled()
            try:
                await core.poll(None, core.settings.max_poll_records)
            except RuntimeError:
                if core.closed:
                    raise StopAsyncIteration from None
                raise
            record = core.cursor.next_record()
        return record

    # Positions

    async def seek(self, partition: Partition, offset: int | OffsetAndMetadata) -> None:
        """Go on at this offset.

        Raises ``RuntimeError`` for a partition that is not assigned: in a group only ``poll`` gets one.
        """
        await self._assigned()
        state = self._core.positions.get(TopicPartition(*partition))
        if isinstance(offset, OffsetAndMetadata):
            state.seek(offset.offset, offset.leader_epoch, validate=True)
        elif offset < 0:
            raise ValueError(f"offset {offset} is negative")
        else:
            state.seek(offset)
        self._core.moved()

    async def seek_to_beginning(self, *partitions: Partition) -> None:
        """Go on at the first record there is; of all assigned partitions, if none are named."""
        await self._reset(partitions, EARLIEST_TIMESTAMP)

    async def seek_to_end(self, *partitions: Partition) -> None:
        """Go on behind the last record there is."""
        await self._reset(partitions, LATEST_TIMESTAMP)

    async def seek_to_time(self, timestamp_ms: int, *partitions: Partition) -> None:
        """Go on at the first record of that time (milliseconds since 1970) or later, or at the end."""
        if timestamp_ms < 0:
            raise ValueError(f"timestamp {timestamp_ms} is negative")
        await self._reset(partitions, timestamp_ms)

    async def _reset(self, partitions: tuple[Partition, ...], timestamp: int) -> None:
        await self._assigned()
        positions = self._core.positions
        for partition in partitions or positions.partitions:
            positions.get(TopicPartition(*partition)).request_reset(timestamp)
        self._core.moved()

    async def _assigned(self) -> None:
        """Without a group the partitions are as good as assigned: wait until they are known."""
        await self._begin()
        await self._core.assigned()

    async def position(self, partition: Partition, timeout: float = 30.0) -> int:
        """The offset of the next record to be handed out; waits until it is known."""
        await self._assigned()
        return await self._core.position(TopicPartition(*partition), timeout * 1000)

    async def pause(self, *partitions: Partition) -> None:
        """Hand out nothing of these until ``resume``; of all assigned ones, if none are named."""
        await self._assigned()
        asked = partitions or self._core.positions.partitions
        self._core.pause(TopicPartition(*partition) for partition in asked)

    async def resume(self, *partitions: Partition) -> None:
        """Go on with these; with all assigned ones, if none are named."""
        for partition in partitions or self._core.positions.partitions:
            self._core.positions.get(TopicPartition(*partition)).paused = False
        self._core.resumed()

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return {state.topic_partition for state in self._core.positions if state.paused}

    def high_watermark(self, partition: Partition) -> int | None:
        """The end of what can be read, as the last Fetch said; None before the first."""
        mark = self._core.positions.get(TopicPartition(*partition)).high_watermark
        return mark if mark >= 0 else None

    # Committing

    async def commit(self, offsets: Offsets | None = None, timeout: float = 30.0) -> None:
        """Commit, and wait until it is done: everything that was handed out, or these offsets.

        An offset is that of the next record to read. Raises ``CommitFailed`` when the group has moved on
        (poll to rejoin it), ``RequestTimeout``, other ``KafkaError``.
        """
        await self._core.commit(self._offsets(offsets), timeout * 1000)

    def commit_async(
        self, offsets: Offsets | None = None, on_commit: OnCommit | None = None
    ) -> None:
        """Commit without waiting; ``on_commit(offsets, error)`` is called on the loop. Commits keep order."""
        self._core.commit_later(self._offsets(offsets), on_commit)

    def _offsets(self, offsets: Offsets | None) -> dict[TopicPartition, OffsetAndMetadata]:
        self._core.committer()
        if offsets is None:
            return self._core.positions.handed_out()
        return {
            TopicPartition(*partition): offset
            if isinstance(offset, OffsetAndMetadata)
            else OffsetAndMetadata(offset)
            for partition, offset in offsets.items()
        }

    async def committed(
        self, *partitions: Partition, timeout: float = 30.0
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The group's committed offsets; of all assigned partitions, if none are named."""
        asked = [TopicPartition(*p) for p in partitions] or sorted(self.assignment())
        committer = self._core.committer()
        self._core.start()
        found = await committer.fetch(asked, timeout_ms=timeout * 1000)
        return {partition: found.get(partition) for partition in asked}

    # Asking

    async def beginning_offsets(self, *partitions: Partition) -> dict[TopicPartition, int]:
        """Each partition's first offset."""
        return await self._ends(partitions, EARLIEST_TIMESTAMP)

    async def end_offsets(self, *partitions: Partition) -> dict[TopicPartition, int]:
        """Each partition's end: the offset of the next record that will be readable."""
        return await self._ends(partitions, LATEST_TIMESTAMP)

    async def offsets_for_times(
        self, timestamps: Mapping[Partition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """For each partition the first record at or after a time in milliseconds; None for none."""
        self._core.start()
        return await list_offsets(
            self._core.cluster,
            {TopicPartition(*p): timestamp for p, timestamp in timestamps.items()},
            read_committed=self._core.settings.isolation_level == 1,
            timeout_ms=self._core.cluster.settings.request_timeout_ms,
        )

    async def _ends(
        self, partitions: tuple[Partition, ...], timestamp: int
    ) -> dict[TopicPartition, int]:
        asked: Iterable[Partition] = partitions or self.assignment()
        found = await self.offsets_for_times(dict.fromkeys(asked, timestamp))
        return {partition: -1 if at is None else at.offset for partition, at in found.items()}

    async def partitions_for(self, topic: str, timeout: float = 30.0) -> int:
        """The topic's number of partitions."""
        core = self._core
        core.start()

        def known() -> int | None:
            found = core.cluster.metadata.topics.get(topic)
            return None if found is None else len(found.partitions)

        with core.cluster.interest([topic]):
            return await core.cluster.wait_for(known, timeout * 1000, f"topic {topic}")

    async def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Commit what was handed out (with auto-commit), leave the group, stop.

        Leaving an ``async with`` block by an exception commits only what was passed before.
        """
        await self._core.close(clean=True, timeout_ms=timeout * 1000)


def hand_out(chunks: list[Chunk]) -> list[Record]:
    """All records of the chunks, with the positions behind them; the chunks' lists are nobody's but ours.

    Without those whose position has jumped since they were taken.
    """
    records: list[Record] | None = None
    for chunk in chunks:
        if chunk.state.version != chunk.version:
            continue
        chunk.state.handed_out(chunk.end_offset, chunk.epoch)
        if records is None:
            records = chunk.records
        else:
            records += chunk.records
    return [] if records is None else records


__all__ = ["AsyncConsumer", "OnCommit", "RequestTimeout"]

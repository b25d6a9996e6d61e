"""Finds a position for every partition that has none, and has positions confirmed that are in doubt.

One task while there is something to find: the committed offset first, then (without one, or when it turned
out to be impossible) the reset by time, and the validation against the leader's epochs (KIP-320).
Failures that no retry helps against go to the application's next ``poll``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ottla.client.cluster import Cluster
from ottla.client.consumer.commits import CommittedOffsets
from ottla.client.consumer.offset_queries import EpochEnd, epoch_ends, list_offsets
from ottla.client.consumer.positions import (
    LATEST_TIMESTAMP,
    LeaderAndEpoch,
    PartitionState,
    Phase,
    Positions,
)
from ottla.client.consumer.settings import ConsumerSettings
from ottla.client.errors import LogTruncated, NoOffsetForPartition
from ottla.client.types import OffsetAndTimestamp, TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger

log = logger(__name__)


class PositionKeeper:
    """``on_settled`` is called when partitions have got positions, ``on_failure`` when one can't have one."""

    def __init__(
        self,
        cluster: Cluster,
        positions: Positions,
        committed: CommittedOffsets | None,
        settings: ConsumerSettings,
        on_settled: Callable[[], None],
        on_failure: Callable[[KafkaError, Iterable[PartitionState]], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._cluster = cluster
        self._positions = positions
        self._committed = committed
        self._settings = settings
        self._on_settled = on_settled
        self._on_failure = on_failure
        self._now_ms = now_ms
        self._task: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def kick(self) -> None:
        """See to what is unsettled, unless that is being done."""
        if not self._positions.settled and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._settle())

    def leaders_changed(self) -> None:
        """Take the leaders from the metadata; a newer one has to confirm what was read."""
        for state in self._positions:
            known = self._cluster.metadata.partition(*state.topic_partition)
            if known is not None:
                state.topic_known(self._cluster.metadata.topic_id(state.topic_partition.topic))
                state.leader_changed(LeaderAndEpoch(known.leader, known.leader_epoch))
        self.kick()

    async def round_done(self) -> None:
        """Wait until all that is unsettled has been tried once more."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.kick()
        await waiter

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _settle(self) -> None:
        try:
            while not self._positions.settled:
                for phase, work in (
                    (Phase.COMMITTED, self._fetch_committed),
                    (Phase.RESET, self._reset),
                    (Phase.VALIDATE, self._validate),
                ):
                    states = self._positions.in_phase(phase, self._now_ms())
                    if states:
                        await self._attempt(states, work)
                self._on_settled()
                waiters, self._waiters = self._waiters, []
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)
                if not self._positions.settled:
                    await asyncio.sleep(self._pause_s())
        finally:
            self._task = None

    def _pause_s(self) -> float:
        now = self._now_ms()
        due = [s.retry_at_ms - now for s in self._positions if s.phase is not Phase.FETCH]
        return max(min(due, default=0), 0) / 1000

    async def _attempt(self, states: list[PartitionState], work: Callable[..., object]) -> None:
        versions = [(state, state.version) for state in states]
        try:
            await work(versions)  # type: ignore[misc]
        except KafkaError as error:
            log.debug("a position was not found", error=str(error), partitions=len(states))
            still = [state for state, version in versions if state.version == version]
            pause_ms = self._cluster.settings.retry_backoff_ms
            if not error.retriable:
                pause_ms = self._cluster.settings.retry_backoff_max_ms
                if still:  # the application has not helped itself meanwhile
                    self._on_failure(error, still)
            for state in still:
                state.retry_at_ms = self._now_ms() + pause_ms

    async def _fetch_committed(self, states: list[tuple[PartitionState, int]]) -> None:
        found = {}
        if self._committed is not None:
            found = await self._committed.fetch(
                [state.topic_partition for state, _ in states],
                timeout_ms=self._cluster.settings.request_timeout_ms,
            )
        missing: list[PartitionState] = []
        for state, version in states:
            if state.version != version or state.phase is not Phase.COMMITTED:
                continue
            committed = found.get(state.topic_partition)
            if committed is not None:
                self._learn_leader(state)
                state.seek(committed.offset, committed.leader_epoch, validate=True)
            elif self._settings.reset_timestamp is not None:
                state.request_reset(self._settings.reset_timestamp)
            else:
                missing.append(state)
        if missing:
            for state in missing:
                state.retry_at_ms = self._now_ms() + self._cluster.settings.retry_backoff_max_ms
            partitions = [state.topic_partition for state in missing]
            self._on_failure(NoOffsetForPartition(partitions, out_of_range=False), missing)

    async def _reset(self, states: list[tuple[PartitionState, int]]) -> None:
        wanted = {state.topic_partition: state.reset_timestamp for state, _ in states}
        found = await self._list_offsets(wanted)
        # No record at or after that time: what comes next is.
        behind_the_last = {tp: LATEST_TIMESTAMP for tp, offset in found.items() if offset is None}
        if behind_the_last:
            found |= await self._list_offsets(behind_the_last)
        for state, version in states:
            offset = found.get(state.topic_partition)
            if state.version != version or state.phase is not Phase.RESET:
                continue
            if offset is None:
                self._back_off(state)
            else:
                self._learn_leader(state)
                state.seek(offset.offset)

    async def _list_offsets(
        self, timestamps: dict[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        return await list_offsets(
            self._cluster,
            timestamps,
            read_committed=self._settings.isolation_level == 1,
            timeout_ms=self._cluster.settings.request_timeout_ms,
            once=True,
        )

    def _back_off(self, state: PartitionState) -> None:
        state.retry_at_ms = self._now_ms() + self._cluster.settings.retry_backoff_ms

    async def _validate(self, states: list[tuple[PartitionState, int]]) -> None:
        asked = [(state, version) for state, version in states if state.leader.epoch >= 0]
        leaders = {state.topic_partition: state.leader for state, _ in states}
        ends: dict[TopicPartition, EpochEnd] = {}
        answered = bool(asked)
        try:
            ends = await epoch_ends(
                self._cluster,
                {state.topic_partition: state.fetch_epoch for state, _ in asked},
                timeout_ms=self._cluster.settings.request_timeout_ms,
            )
        except KafkaError as error:
            if error.code is not ErrorCode.UNSUPPORTED_VERSION:
                raise
            answered = False  # a broker that knows no epochs is believed as it is
        diverged = {}
        for state, version in states:
            if state.version != version or state.phase is not Phase.VALIDATE:
                continue
            if state.leader != leaders[state.topic_partition]:
                continue  # another leads by now, and is asked in its turn
            end = ends.get(state.topic_partition)
            if end is None and answered and state.leader.epoch >= 0:
                self._back_off(state)
                continue
            if end is None or not state.truncated_at(end.end_offset, end.epoch):
                state.phase = Phase.FETCH
                continue
            log.warning(
                "the log was truncated",
                partition=str(state.topic_partition),
                read_to=state.fetch_offset,
                end=end.end_offset,
            )
            if self._settings.reset_timestamp is None and end.end_offset < state.position:
                diverged[state.topic_partition] = end.end_offset
            if end.end_offset >= 0:
                state.rewind(end.end_offset, end.epoch)
            elif self._settings.reset_timestamp is not None:
                state.request_reset(self._settings.reset_timestamp)
            else:
                state.phase = Phase.FETCH
        if diverged:
            self._on_failure(LogTruncated(diverged), [])

    def _learn_leader(self, state: PartitionState) -> None:
        known = self._cluster.metadata.partition(*state.topic_partition)
        if known is not None:
            state.leader = LeaderAndEpoch(known.leader, known.leader_epoch)

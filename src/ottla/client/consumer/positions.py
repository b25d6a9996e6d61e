"""Where a consumer stands in each of its partitions.

Three numbers matter and never go back but by a seek, a reset or a truncation:
``fetch_offset`` (what is asked of the broker next) ≥ ``position`` (what the application gets next)
≥ ``passed`` (below it the application is done: it asked for more after having had these records).
Auto-commit commits ``passed``, so that a record whose handling was cut off is read again.

A partition without a position first needs its committed offset, then perhaps a reset (by ListOffsets),
then perhaps a validation (KIP-320: is what was read before still what the leader has?). Only then is it
fetched. ``version`` rises whenever the position jumps or the partition goes: fetches and chunks of records
of an earlier version are thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from ottla.client.types import OffsetAndMetadata, TopicPartition
from ottla.topic_ids import ZERO_ID

EARLIEST_TIMESTAMP = -2
LATEST_TIMESTAMP = -1


class Phase(IntEnum):
    """What a partition needs before it can be fetched."""

    COMMITTED = 0
    RESET = 1
    VALIDATE = 2
    FETCH = 3


class LeaderAndEpoch(NamedTuple):
    """Who leads a partition, since which epoch; -1 for unknown."""

    leader: int = -1
    epoch: int = -1


class PartitionState:
    """One assigned partition."""

    __slots__ = (
        "buffered",
        "fetch_epoch",
        "fetch_offset",
        "high_watermark",
        "last_stable_offset",
        "leader",
        "log_start_offset",
        "passed",
        "passed_epoch",
        "paused",
        "phase",
        "position",
        "position_epoch",
        "preferred_replica",
        "preferred_until_ms",
        "rackless_until_ms",
        "reset_timestamp",
        "retry_at_ms",
        "topic_id",
        "topic_partition",
        "version",
    )

    def __init__(self, topic_partition: TopicPartition) -> None:
        self.topic_partition = topic_partition
        self.phase = Phase.COMMITTED
        self.version = 0
        self.paused = False
        self.position = -1
        self.position_epoch = -1
        self.passed = -1
        self.passed_epoch = -1
        self.fetch_offset = -1
        self.fetch_epoch = -1
        self.leader = LeaderAndEpoch()
        self.topic_id = ZERO_ID
        self.reset_timestamp = LATEST_TIMESTAMP
        self.retry_at_ms = 0
        self.high_watermark = -1
        self.last_stable_offset = -1
        self.log_start_offset = -1
        self.preferred_replica = -1
        self.preferred_until_ms = 0
        self.rackless_until_ms = 0
        """Until when the leader is not told our rack: the replica in there is not to be had."""
        self.buffered = 0

    def seek(self, offset: int, epoch: int = -1, *, validate: bool = False) -> None:
        """Stand at ``offset``; ``epoch`` is that of the record before it, if known.

        ``validate`` has the leader asked first whether it still has what led to this offset.
        """
        self.version += 1
        self.position = self.passed = self.fetch_offset = offset
        self.position_epoch = self.passed_epoch = self.fetch_epoch = epoch
        self.phase = Phase.VALIDATE if validate and epoch >= 0 else Phase.FETCH
        self.retry_at_ms = 0
        self.buffered = 0

    def request_reset(self, timestamp: int) -> None:
        """Forget the position: it is looked up by time (or ``EARLIEST_TIMESTAMP``, ``LATEST_TIMESTAMP``)."""
        self.version += 1
        self.position = self.passed = self.fetch_offset = -1
        self.position_epoch = self.passed_epoch = self.fetch_epoch = -1
        self.phase = Phase.RESET
        self.reset_timestamp = timestamp
        self.retry_at_ms = 0
        self.buffered = 0

    def handed_out(self, position: int, epoch: int) -> None:
        """The application has got everything below ``position``."""
        self.position = position
        self.position_epoch = epoch

    def pass_handed_out(self) -> None:
        """The application asks for more: it is done with what it got."""
        self.passed = self.position
        self.passed_epoch = self.position_epoch

    def committed(self, offset: int, epoch: int) -> None:
        """The application has committed ``offset`` itself: if it was given all before, it is done with that."""
        if self.passed < offset <= self.position:
            self.passed, self.passed_epoch = offset, epoch

    def take_back(self) -> None:
        """What was handed out since the application asked has not reached it; call where records are taken."""
        self.position = self.passed
        self.position_epoch = self.passed_epoch

    def fetch_again(self) -> None:
        """What was fetched may be lost: fetch from the position on, once what is in doubt is confirmed."""
        phase = self.phase
        if phase in (Phase.FETCH, Phase.VALIDATE) and self.fetch_offset != self.position:
            self.rewind(self.position, self.position_epoch)
            if self.fetch_epoch >= 0:
                self.phase = phase

    def leader_changed(self, leader: LeaderAndEpoch) -> None:
        """The metadata name a leader; a new epoch is reason to validate what was read."""
        if leader == self.leader or leader.epoch < self.leader.epoch:
            return
        newer = leader.epoch > self.leader.epoch
        self.leader = leader
        self.preferred_replica = -1
        if newer and self.phase is Phase.FETCH and self.fetch_epoch >= 0 and leader.epoch >= 0:
            self.phase = Phase.VALIDATE
            self.retry_at_ms = 0

    def topic_known(self, topic_id: bytes) -> None:
        """The metadata name the topic: in one that was made anew the epochs begin again (KAFKA-12257)."""
        if topic_id != ZERO_ID:
            if self.topic_id not in (topic_id, ZERO_ID):
                self.leader = LeaderAndEpoch()
            self.topic_id = topic_id

    def rewind(self, offset: int, epoch: int) -> None:
        """The log was cut at ``offset``: fetch from there, or from the position if that is before it."""
        self.version += 1
        self.buffered = 0
        self.retry_at_ms = 0
        self.phase = Phase.FETCH
        if self.position > offset:
            self.position, self.position_epoch = offset, epoch
        if self.passed > offset:
            self.passed, self.passed_epoch = offset, epoch
        self.fetch_offset, self.fetch_epoch = self.position, self.position_epoch

    def truncated_at(self, end_offset: int, epoch: int) -> bool:
        """The leader's log of our epoch ends at ``end_offset``: whether that is before what we have read."""
        if epoch < 0 or end_offset < 0:
            return True
        return end_offset < self.fetch_offset


class Positions:
    """All assigned partitions."""

    def __init__(self) -> None:
        self._states: dict[TopicPartition, PartitionState] = {}

    def __iter__(self) -> Iterator[PartitionState]:
        return iter(list(self._states.values()))

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, partition: object) -> bool:
        return partition in self._states

    @property
    def partitions(self) -> set[TopicPartition]:
        """What is assigned."""
        return set(self._states)

    def get(self, partition: TopicPartition) -> PartitionState:
        """The state; raises ``RuntimeError`` for a partition that is not assigned."""
        try:
            return self._states[partition]
        except KeyError:
            raise RuntimeError(f"{partition} is not assigned to this consumer") from None

    def find(self, partition: TopicPartition) -> PartitionState | None:
        """The state, or None for a partition that is not assigned."""
        return self._states.get(partition)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Have exactly these: the ones that stay keep their state, new ones need a position."""
        before = self._states
        # Another dict, not another content: the application's thread may be walking through this one.
        states = {p: before.get(p) or PartitionState(p) for p in dict.fromkeys(partitions)}
        self._states = states
        for partition, state in before.items():
            if partition not in states:
                state.version += 1

    def in_phase(self, phase: Phase, now_ms: int) -> list[PartitionState]:
        """Partitions that need just this, and whose back-off is over."""
        return [s for s in self._states.values() if s.phase is phase and s.retry_at_ms <= now_ms]

    @property
    def settled(self) -> bool:
        """Whether every partition can be fetched."""
        return all(state.phase is Phase.FETCH for state in self._states.values())

    def pass_all(self) -> None:
        """The application asks for more: what it was given lies behind it."""
        for state in self._states.values():
            state.pass_handed_out()

    def passed(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """What auto-commit may commit."""
        return {
            partition: OffsetAndMetadata(state.passed, "", state.passed_epoch)
            for partition, state in self._states.items()
            if state.passed >= 0
        }

    def handed_out(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """What an explicit commit without offsets commits: everything that the application was given."""
        return {
            partition: OffsetAndMetadata(state.position, "", state.position_epoch)
            for partition, state in self._states.items()
            if state.position >= 0
        }

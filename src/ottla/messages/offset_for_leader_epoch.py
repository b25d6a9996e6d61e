"""OffsetForLeaderEpoch, API key 23, versions 2-4."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, int64, since, string


class OffsetForLeaderPartition(Message):
    """Offset for leader partition."""

    partition: int = int32(default=0)
    current_leader_epoch: int = int32(default=-1)
    leader_epoch: int = int32(default=0)


class OffsetForLeaderTopic(Message):
    """Offset for leader topic."""

    topic: str = string(default="")
    partitions: list[OffsetForLeaderPartition] = array(OffsetForLeaderPartition, default=list)


class OffsetForLeaderEpochRequest(Message, key=23, versions=(2, 4), flexible_from=4):
    """Kafka's ``OffsetForLeaderEpochRequest``."""

    replica_id: int = int32(default=-2, versions=since(3))
    topics: list[OffsetForLeaderTopic] = array(OffsetForLeaderTopic, default=list)


class EpochEndOffset(Message):
    """Epoch end offset."""

    error_code: int = int16(default=0)
    partition: int = int32(default=0)
    leader_epoch: int = int32(default=-1)
    end_offset: int = int64(default=-1)


class OffsetForLeaderTopicResult(Message):
    """Offset for leader topic result."""

    topic: str = string(default="")
    partitions: list[EpochEndOffset] = array(EpochEndOffset, default=list)


class OffsetForLeaderEpochResponse(Message, key=23, versions=(2, 4), flexible_from=4):
    """Kafka's ``OffsetForLeaderEpochResponse``."""

    throttle_time_ms: int = int32(default=0)
    topics: list[OffsetForLeaderTopicResult] = array(OffsetForLeaderTopicResult, default=list)

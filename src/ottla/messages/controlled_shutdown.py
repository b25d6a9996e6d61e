"""ControlledShutdown, API key 7, versions 0-3."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, int64, since, string


class ControlledShutdownRequest(Message, key=7, versions=(0, 3), flexible_from=3):
    """Kafka's ``ControlledShutdownRequest``."""

    broker_id: int = int32(default=0)
    broker_epoch: int = int64(default=-1, versions=since(2))


class ControlledShutdownRemainingPartition(Message):
    """Controlled shutdown remaining partition."""

    topic_name: str = string(default="")
    partition_index: int = int32(default=0)


class ControlledShutdownResponse(Message, key=7, versions=(0, 3), flexible_from=3):
    """Kafka's ``ControlledShutdownResponse``."""

    error_code: int = int16(default=0)
    remaining_partitions: list[ControlledShutdownRemainingPartition] = array(
        ControlledShutdownRemainingPartition, default=list
    )

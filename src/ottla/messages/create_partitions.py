"""CreatePartitions, API key 37, versions 0-3."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int16, int32, since, string


class CreatePartitionsAssignment(Message):
    """Create partitions assignment."""

    broker_ids: list[int] = array(int32)


class CreatePartitionsTopic(Message):
    """Create partitions topic."""

    name: str = string()
    count: int = int32()
    assignments: list[CreatePartitionsAssignment] | None = array(
        CreatePartitionsAssignment, nullable=since(0)
    )


class CreatePartitionsRequest(Message, key=37, versions=(0, 3), flexible_from=2):
    """Kafka's ``CreatePartitionsRequest``."""

    topics: list[CreatePartitionsTopic] = array(CreatePartitionsTopic)
    timeout_ms: int = int32()
    validate_only: bool = boolean()


class CreatePartitionsTopicResult(Message):
    """Create partitions topic result."""

    name: str = string()
    error_code: int = int16()
    error_message: str | None = string(default=None, nullable=since(0))


class CreatePartitionsResponse(Message, key=37, versions=(0, 3), flexible_from=2):
    """Kafka's ``CreatePartitionsResponse``."""

    throttle_time_ms: int = int32()
    results: list[CreatePartitionsTopicResult] = array(CreatePartitionsTopicResult)

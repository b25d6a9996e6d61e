"""CreatePartitions, API key 37, versions 0-3."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int16, int32, since, string


class CreatePartitionsAssignment(Message):
    """Create partitions assignment."""

    broker_ids: list[int] = array(int32, default=list)


class CreatePartitionsTopic(Message):
    """Create partitions topic."""

    name: str = string(default="")
    count: int = int32(default=0)
    assignments: list[CreatePartitionsAssignment] | None = array(
        CreatePartitionsAssignment, default=list, nullable=since(0)
    )


class CreatePartitionsRequest(Message, key=37, versions=(0, 3), flexible_from=2):
    """Kafka's ``CreatePartitionsRequest``."""

    topics: list[CreatePartitionsTopic] = array(CreatePartitionsTopic, default=list)
    timeout_ms: int = int32(default=0)
    validate_only: bool = boolean(default=False)


class CreatePartitionsTopicResult(Message):
    """Create partitions topic result."""

    name: str = string(default="")
    error_code: int = int16(default=0)
    error_message: str | None = string(default=None, nullable=since(0))


class CreatePartitionsResponse(Message, key=37, versions=(0, 3), flexible_from=2):
    """Kafka's ``CreatePartitionsResponse``."""

    throttle_time_ms: int = int32(default=0)
    results: list[CreatePartitionsTopicResult] = array(CreatePartitionsTopicResult, default=list)

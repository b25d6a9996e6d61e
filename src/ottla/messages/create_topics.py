"""CreateTopics, API key 19, versions 2-7."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int8, int16, int32, since, string, uuid


class CreatableReplicaAssignment(Message):
    """Creatable replica assignment."""

    partition_index: int = int32(default=0)
    broker_ids: list[int] = array(int32, default=list)


class CreatableTopicConfig(Message):
    """Creatable topic config."""

    name: str = string(default="")
    value: str | None = string(default="", nullable=since(0))


class CreatableTopic(Message):
    """Creatable topic."""

    name: str = string(default="")
    num_partitions: int = int32(default=0)
    replication_factor: int = int16(default=0)
    assignments: list[CreatableReplicaAssignment] = array(CreatableReplicaAssignment, default=list)
    configs: list[CreatableTopicConfig] = array(CreatableTopicConfig, default=list)


class CreateTopicsRequest(Message, key=19, versions=(2, 7), flexible_from=5):
    """Kafka's ``CreateTopicsRequest``."""

    topics: list[CreatableTopic] = array(CreatableTopic, default=list)
    timeout_ms: int = int32(default=60000)
    validate_only: bool = boolean(default=False)


class CreatableTopicConfigs(Message):
    """Creatable topic configs."""

    name: str = string(default="", versions=since(5))
    value: str | None = string(default="", versions=since(5), nullable=since(5))
    read_only: bool = boolean(default=False, versions=since(5))
    config_source: int = int8(default=-1, versions=since(5))
    is_sensitive: bool = boolean(default=False, versions=since(5))


class CreatableTopicResult(Message):
    """Creatable topic result."""

    name: str = string(default="")
    topic_id: bytes = uuid(default=bytes(16), versions=since(7))
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    topic_config_error_code: int = int16(default=0, versions=since(5), tag=0)
    num_partitions: int = int32(default=-1, versions=since(5))
    replication_factor: int = int16(default=-1, versions=since(5))
    configs: list[CreatableTopicConfigs] | None = array(
        CreatableTopicConfigs, default=list, versions=since(5), nullable=since(5)
    )


class CreateTopicsResponse(Message, key=19, versions=(2, 7), flexible_from=5):
    """Kafka's ``CreateTopicsResponse``."""

    throttle_time_ms: int = int32(default=0)
    topics: list[CreatableTopicResult] = array(CreatableTopicResult, default=list)

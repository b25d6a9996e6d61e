"""AlterReplicaLogDirs, API key 34, versions 1-2."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, string


class AlterReplicaLogDirTopic(Message):
    """Alter replica log dir topic."""

    name: str = string(default="")
    partitions: list[int] = array(int32, default=list)


class AlterReplicaLogDir(Message):
    """Alter replica log dir."""

    path: str = string(default="")
    topics: list[AlterReplicaLogDirTopic] = array(AlterReplicaLogDirTopic, default=list)


class AlterReplicaLogDirsRequest(Message, key=34, versions=(1, 2), flexible_from=2):
    """Kafka's ``AlterReplicaLogDirsRequest``."""

    dirs: list[AlterReplicaLogDir] = array(AlterReplicaLogDir, default=list)


class AlterReplicaLogDirPartitionResult(Message):
    """Alter replica log dir partition result."""

    partition_index: int = int32(default=0)
    error_code: int = int16(default=0)


class AlterReplicaLogDirTopicResult(Message):
    """Alter replica log dir topic result."""

    topic_name: str = string(default="")
    partitions: list[AlterReplicaLogDirPartitionResult] = array(
        AlterReplicaLogDirPartitionResult, default=list
    )


class AlterReplicaLogDirsResponse(Message, key=34, versions=(1, 2), flexible_from=2):
    """Kafka's ``AlterReplicaLogDirsResponse``."""

    throttle_time_ms: int = int32(default=0)
    results: list[AlterReplicaLogDirTopicResult] = array(
        AlterReplicaLogDirTopicResult, default=list
    )

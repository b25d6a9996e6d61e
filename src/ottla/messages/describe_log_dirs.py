"""DescribeLogDirs, API key 35, versions 1-5."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, int16, int32, int64, since, string


class DescribableLogDirTopic(Message):
    """Describable log dir topic."""

    topic: str = string(default="")
    partitions: list[int] = array(int32, default=list)


class DescribeLogDirsRequest(Message, key=35, versions=(1, 5), flexible_from=2):
    """Kafka's ``DescribeLogDirsRequest``."""

    topics: list[DescribableLogDirTopic] | None = array(
        DescribableLogDirTopic, default=list, nullable=since(0)
    )


class DescribeLogDirsPartition(Message):
    """Describe log dirs partition."""

    partition_index: int = int32(default=0)
    partition_size: int = int64(default=0)
    offset_lag: int = int64(default=0)
    is_future_key: bool = boolean(default=False)


class DescribeLogDirsTopic(Message):
    """Describe log dirs topic."""

    name: str = string(default="")
    partitions: list[DescribeLogDirsPartition] = array(DescribeLogDirsPartition, default=list)


class DescribeLogDirsResult(Message):
    """Describe log dirs result."""

    error_code: int = int16(default=0)
    log_dir: str = string(default="")
    topics: list[DescribeLogDirsTopic] = array(DescribeLogDirsTopic, default=list)
    total_bytes: int = int64(default=-1, versions=since(4))
    usable_bytes: int = int64(default=-1, versions=since(4))
    is_cordoned: bool = boolean(default=False, versions=since(5))


class DescribeLogDirsResponse(Message, key=35, versions=(1, 5), flexible_from=2):
    """Kafka's ``DescribeLogDirsResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0, versions=since(3))
    results: list[DescribeLogDirsResult] = array(DescribeLogDirsResult, default=list)

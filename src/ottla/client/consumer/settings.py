"""A consumer's settings, checked. Times in milliseconds, sizes in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict, TypeVar

from ottla.client.consumer.assignors import Assignor, assignors_of
from ottla.client.consumer.positions import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP
from ottla.client.serializers import Deserializer, deserializer
from ottla.client.settings import check_positive

T = TypeVar("T")

MAX_PARTITION_FETCH_BYTES = 2 * 1024 * 1024
"""Twice Kafka's: a partition has one Fetch under way, so every answer is waited for once. Two answers that are buffered and one
that is read fit the memory that a connection uses again (``framing.KEPT_BYTES_MAX``)."""

_RESETS = {"earliest": EARLIEST_TIMESTAMP, "latest": LATEST_TIMESTAMP, "none": None}
_ISOLATION = {"read_uncommitted": 0, "read_committed": 1}


class ConsumerSettings(NamedTuple):
    """What the core of a consumer is told."""

    group: str | None
    group_instance_id: str | None
    reset_timestamp: int | None
    auto_commit: bool
    auto_commit_interval_ms: int
    assignors: Sequence[str | Assignor]
    session_timeout_ms: int
    heartbeat_interval_ms: int
    max_poll_interval_ms: int
    max_poll_records: int
    fetch_min_bytes: int
    fetch_max_wait_ms: int
    fetch_max_bytes: int
    max_partition_fetch_bytes: int
    isolation_level: int
    check_crcs: bool
    client_rack: str
    key_deserializer: Deserializer | None
    value_deserializer: Deserializer | None


class ConsumerOptions(TypedDict, total=False):
    """The keyword arguments of a consumer, beside its group and its bootstrap addresses."""

    group_instance_id: str | None
    auto_offset_reset: str
    enable_auto_commit: bool
    auto_commit_interval_ms: int
    assignors: Sequence[str | Assignor]
    session_timeout_ms: int
    heartbeat_interval_ms: int
    max_poll_interval_ms: int
    max_poll_records: int
    fetch_min_bytes: int
    fetch_max_wait_ms: int
    fetch_max_bytes: int
    max_partition_fetch_bytes: int
    isolation_level: str
    check_crcs: bool
    client_rack: str
    key_deserializer: str | Deserializer | None
    value_deserializer: str | Deserializer | None
    allow_auto_create_topics: bool
    client_id: str
    request_timeout_ms: int
    retry_backoff_ms: int
    retry_backoff_max_ms: int
    metadata_max_age_ms: int


def consumer_settings(
    group: str | None,
    *,
    group_instance_id: str | None = None,
    auto_offset_reset: str = "latest",
    enable_auto_commit: bool = True,
    auto_commit_interval_ms: int = 5_000,
    assignors: Sequence[str | Assignor] = ("range", "cooperative-sticky"),
    session_timeout_ms: int = 45_000,
    heartbeat_interval_ms: int = 3_000,
    max_poll_interval_ms: int = 300_000,
    max_poll_records: int = 500,
    fetch_min_bytes: int = 1,
    fetch_max_wait_ms: int = 500,
    fetch_max_bytes: int = 50 * 1024 * 1024,
    max_partition_fetch_bytes: int = MAX_PARTITION_FETCH_BYTES,
    isolation_level: str = "read_uncommitted",
    check_crcs: bool = True,
    client_rack: str = "",
    key_deserializer: str | Deserializer | None = None,
    value_deserializer: str | Deserializer | None = None,
    retry_backoff_ms: int = 100,
    retry_backoff_max_ms: int = 1_000,
) -> ConsumerSettings:
    """Check and translate; raises ``ValueError`` for what cannot be."""
    reset = _choice("auto_offset_reset", auto_offset_reset, _RESETS)
    isolation = _choice("isolation_level", isolation_level, _ISOLATION)
    _check_group(group, group_instance_id)
    if max_poll_records < 1:
        raise ValueError("max_poll_records must be positive")
    if heartbeat_interval_ms >= session_timeout_ms:
        raise ValueError("heartbeat_interval_ms must be less than session_timeout_ms")
    assignors_of(assignors)  # raises for a name that is not known
    settings = ConsumerSettings(
        group=group,
        group_instance_id=group_instance_id,
        reset_timestamp=reset,
        auto_commit=enable_auto_commit and group is not None,
        auto_commit_interval_ms=auto_commit_interval_ms,
        assignors=assignors,
        session_timeout_ms=session_timeout_ms,
        heartbeat_interval_ms=heartbeat_interval_ms,
        max_poll_interval_ms=max_poll_interval_ms,
        max_poll_records=max_poll_records,
        fetch_min_bytes=fetch_min_bytes,
        fetch_max_wait_ms=fetch_max_wait_ms,
        fetch_max_bytes=fetch_max_bytes,
        max_partition_fetch_bytes=max_partition_fetch_bytes,
        isolation_level=isolation,
        check_crcs=check_crcs,
        client_rack=client_rack,
        key_deserializer=deserializer(key_deserializer),
        value_deserializer=deserializer(value_deserializer),
    )
    numbers = {n: v for n, v in settings._asdict().items() if n.endswith(("_ms", "_bytes"))}
    check_positive(**numbers)
    return settings


def _check_group(group: str | None, group_instance_id: str | None) -> None:
    if group == "":
        raise ValueError("a group needs a name; without a group leave it out")
    if group_instance_id is not None and group is None:
        raise ValueError("group_instance_id needs a group")


def _choice(setting: str, value: str, values: dict[str, T]) -> T:
    if value not in values:
        raise ValueError(f"{setting} is one of {', '.join(values)}, not {value!r}")
    return values[value]

"""A producer's settings, checked. Times in milliseconds, sizes in bytes."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from ottla.client.partitioner import KeyPartitioner, Partitioner
from ottla.client.producer.accumulator import Limits
from ottla.client.serializers import Serializer, serializer
from ottla.client.settings import check_positive
from ottla.records.batch import CompressionType

MAX_IN_FLIGHT_IDEMPOTENT = 5
"""The broker remembers so many batches of a producer (``ProducerStateEntry.NUM_BATCHES_TO_RETAIN``)."""

DEFAULT_BATCH_SIZE = 128 * 1024
"""Java's is 16 KiB; a larger one only sets how far a batch may grow while it lingers or waits its turn."""

_ACKS = {"all": -1, -1: -1, "-1": -1, 0: 0, "0": 0, 1: 1, "1": 1}


class ProducerSettings(NamedTuple):
    """What the core of a producer is told."""

    acks: int
    compression: CompressionType
    limits: Limits
    partitioner: Partitioner
    key_serializer: Serializer | None
    value_serializer: Serializer | None
    max_block_ms: int


class ProducerOptions(TypedDict, total=False):
    """The keyword arguments of a producer, beside those of ``ConnectionOptions``."""

    acks: str | int
    linger_ms: int
    batch_size: int
    compression: str | None
    idempotent: bool
    partitioner: Partitioner | None
    key_serializer: str | Serializer | None
    value_serializer: str | Serializer | None
    buffer_memory: int
    max_request_size: int
    max_in_flight: int
    max_block_ms: int
    delivery_timeout_ms: int
    client_id: str
    request_timeout_ms: int
    retry_backoff_ms: int
    retry_backoff_max_ms: int
    metadata_max_age_ms: int


def producer_settings(
    *,
    acks: str | int = "all",
    linger_ms: int = 5,
    batch_size: int = DEFAULT_BATCH_SIZE,
    compression: str | None = None,
    idempotent: bool = True,
    partitioner: Partitioner | None = None,
    key_serializer: str | Serializer | None = None,
    value_serializer: str | Serializer | None = None,
    buffer_memory: int = 32 * 1024 * 1024,
    max_request_size: int = 1024 * 1024,
    max_in_flight: int = MAX_IN_FLIGHT_IDEMPOTENT,
    max_block_ms: int = 60_000,
    delivery_timeout_ms: int = 120_000,
    retry_backoff_ms: int = 100,
    retry_backoff_max_ms: int = 1_000,
) -> ProducerSettings:
    """Check and translate; raises ``ValueError`` for what cannot be."""
    if acks not in _ACKS:
        raise ValueError(f'acks is "all", 1 or 0, not {acks!r}')
    try:
        kind = CompressionType[(compression or "none").upper()]
    except KeyError:
        raise ValueError(
            f"unknown compression {compression!r}: none, gzip, snappy, lz4 and zstd are known"
        ) from None
    if idempotent and _ACKS[acks] != -1:
        raise ValueError('an idempotent producer needs acks="all": pass idempotent=False as well')
    if max_in_flight < 1 or (idempotent and max_in_flight > MAX_IN_FLIGHT_IDEMPOTENT):
        raise ValueError("max_in_flight is 1 to 5 (more only with idempotent=False)")
    limits = Limits(
        batch_size=batch_size,
        linger_ms=linger_ms,
        buffer_memory=buffer_memory,
        max_request_size=max_request_size,
        delivery_timeout_ms=delivery_timeout_ms,
        retry_backoff_ms=retry_backoff_ms,
        retry_backoff_max_ms=retry_backoff_max_ms,
        max_in_flight=max_in_flight,
        idempotent=idempotent,
    )
    check_positive(max_block_ms=max_block_ms, **limits._asdict())
    return ProducerSettings(
        _ACKS[acks],
        kind,
        limits,
        partitioner or KeyPartitioner(),
        serializer(key_serializer),
        serializer(value_serializer),
        max_block_ms,
    )

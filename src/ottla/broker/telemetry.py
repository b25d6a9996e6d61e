"""The metrics that clients push (KIP-714): who is asked for what, how often, and what came last. Sans-IO.

Rules:
- Which metrics a client is asked for is the union of the subscriptions that fit it; the interval is the
  shortest of theirs. No subscription asks for nothing, and the client asks again after the default interval.
- A client that comes sooner than its interval lets it is told THROTTLING_QUOTA_EXCEEDED, but for the first push
  after it was told what to push, its last one, and where it has to ask because it was told so.
- A client that comes over another connection is taken for new: nothing of its past holds it up.
- What was pushed is handed to every reporter as it came. The last push of each client is kept, as long as
  ``PUSHES_BYTES_MAX`` has room for it; the oldest goes first. Metrics are neither unpacked nor understood here.
- Nothing grows without a bound: ``CLIENTS_MAX`` clients are remembered, the one that was silent longest goes.

Source: ``ClientMetricsManager``, ``ClientMetricsInstance``.
"""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.settings.client_metrics import ALL_METRICS, INTERVAL_DEFAULT_MS, Subscription, parse
from ottla.topic_ids import ZERO_ID, to_text

log = logger(__name__)

CLIENTS_MAX = 16_384
PUSHES_BYTES_MAX = 16 << 20
FACT_LENGTH_MAX = 255
"""Of a client's own words, what a subscription's pattern is held against."""

RESERVED_IDS = frozenset((ZERO_ID, bytes(15) + b"\x01"))
COMPRESSION_TYPES = range(5)
"""none, gzip, snappy, lz4, zstd."""

ACCEPTED_COMPRESSION_TYPES = (4, 3, 1, 2)
"""As clients are told, the best first."""

_AGAIN_AFTER = (ErrorCode.UNKNOWN_SUBSCRIPTION_ID, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
_NEVER_MS = -(1 << 62)


class Wanted(NamedTuple):
    """What a client is asked for."""

    client_instance_id: bytes
    subscription_id: int
    metrics: tuple[str, ...]
    interval_ms: int


class Push(NamedTuple):
    """Metrics as a client sent them: OTLP (protobuf), compressed by ``compression_type``."""

    client_instance_id: bytes
    client: Mapping[str, str]
    compression_type: int
    metrics: bytes
    terminating: bool


class _Instance:
    """One client instance."""

    __slots__ = (
        "connection_id",
        "last_error",
        "last_get_ms",
        "last_push_ms",
        "terminating",
        "told",
        "version",
        "wanted",
    )

    def __init__(self, wanted: Wanted, version: int, connection_id: str) -> None:
        self.wanted = wanted
        self.version = version
        self.connection_id = connection_id
        self.last_get_ms = self.last_push_ms = _NEVER_MS
        self.told = False
        """Whether it was told what to push and has not pushed since."""
        self.terminating = False
        self.last_error = ErrorCode.NONE


class ClientTelemetry:
    """The clients of one broker that have metrics to tell; ``broker.telemetry`` for the handlers.

    ``reporters`` are called with every ``Push``; one that raises is logged, and the client told
    INVALID_RECORD, as in Kafka. ``pushes``: the last one by client instance id, oldest first.
    """

    def __init__(
        self, subscriptions: Callable[[], tuple[int, Mapping[str, Mapping[str, str]]]]
    ) -> None:
        """``subscriptions()`` gives a number that rises with every change, and all settings by name."""
        self._subscriptions = subscriptions
        self._version = -1
        self._parsed: list[Subscription] = []
        self._instances: OrderedDict[bytes, _Instance] = OrderedDict()
        self._pushes_bytes = 0
        self.pushes: OrderedDict[bytes, Push] = OrderedDict()
        self.reporters: list[Callable[[Push], None]] = []

    def subscribe(
        self, client_instance_id: bytes, client: Mapping[str, str], connection_id: str, now_ms: int
    ) -> Wanted:
        """GetTelemetrySubscriptions: what the client is asked for; a new one gets its id.

        ``client``: its facts by their names in a subscription's ``match``. ``now_ms`` is steady time.
        Raises ``KafkaError`` (THROTTLING_QUOTA_EXCEEDED).
        """
        while client_instance_id in RESERVED_IDS:
            client_instance_id = _random_id()
        instance = self._instance(client_instance_id, client, connection_id)
        last_ms = max(instance.last_get_ms, instance.last_push_ms)
        too_soon = now_ms - last_ms < instance.wanted.interval_ms
        if too_soon and instance.last_error not in _AGAIN_AFTER:
            raise KafkaError(ErrorCode.THROTTLING_QUOTA_EXCEEDED)
        instance.last_get_ms = now_ms
        instance.told = True
        instance.last_error = ErrorCode.NONE
        return instance.wanted

    def push(
        self, push: Push, subscription_id: int, connection_id: str, now_ms: int, bytes_max: int
    ) -> None:
        """PushTelemetry: take the metrics. ``bytes_max`` is ``telemetry.max.bytes``.

        Raises ``KafkaError``: INVALID_REQUEST (no client instance id, or a push after the last one),
        THROTTLING_QUOTA_EXCEEDED, UNKNOWN_SUBSCRIPTION_ID, UNSUPPORTED_COMPRESSION_TYPE,
        TELEMETRY_TOO_LARGE, INVALID_RECORD.
        """
        if push.client_instance_id in RESERVED_IDS:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        instance = self._instance(push.client_instance_id, push.client, connection_id)
        try:
            _check(instance, push, subscription_id, now_ms, bytes_max)
            if push.metrics:
                self._take(push)
        except KafkaError as error:
            instance.last_error = error.code
            raise
        finally:
            instance.terminating = push.terminating
        instance.last_error = ErrorCode.NONE

    def _take(self, push: Push) -> None:
        for reporter in self.reporters:
            try:
                reporter(push)
            except Exception as error:
                log.error("a reporter of clients' metrics failed", error=error)
                raise KafkaError(ErrorCode.INVALID_RECORD) from error
        before = self.pushes.pop(push.client_instance_id, None)
        if before is not None:
            self._pushes_bytes -= len(before.metrics)
        self.pushes[push.client_instance_id] = push
        self._pushes_bytes += len(push.metrics)
        while self._pushes_bytes > PUSHES_BYTES_MAX or len(self.pushes) > CLIENTS_MAX:
            _, oldest = self.pushes.popitem(last=False)
            self._pushes_bytes -= len(oldest.metrics)

    def _instance(
        self, client_instance_id: bytes, client: Mapping[str, str], connection_id: str
    ) -> _Instance:
        """The client's instance as the subscriptions are now; a new one where something changed."""
        version, configs = self._subscriptions()
        if version != self._version:
            self._parsed = _parse_all(configs)
            self._version = version
        instance = self._instances.get(client_instance_id)
        if (
            instance is None
            or instance.version != version
            or instance.connection_id != connection_id
        ):
            facts = {**client, "client_instance_id": to_text(client_instance_id)}
            wanted = _wanted(client_instance_id, facts, self._parsed)
            instance = self._instances[client_instance_id] = _Instance(
                wanted, version, connection_id
            )
        self._instances.move_to_end(client_instance_id)
        if len(self._instances) > CLIENTS_MAX:
            self._instances.popitem(last=False)
        return instance


def _check(
    instance: _Instance, push: Push, subscription_id: int, now_ms: int, bytes_max: int
) -> None:
    if instance.terminating:
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    # Clients spread their pushes: the first one may come at any time after they were told.
    if instance.told or now_ms - instance.last_push_ms >= instance.wanted.interval_ms:
        instance.told = False
        instance.last_push_ms = now_ms
    elif not push.terminating:
        raise KafkaError(ErrorCode.THROTTLING_QUOTA_EXCEEDED)
    if subscription_id != instance.wanted.subscription_id:
        raise KafkaError(ErrorCode.UNKNOWN_SUBSCRIPTION_ID)
    if push.compression_type not in COMPRESSION_TYPES:
        raise KafkaError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
    if len(push.metrics) > bytes_max:
        raise KafkaError(ErrorCode.TELEMETRY_TOO_LARGE)


def _wanted(
    client_instance_id: bytes, facts: Mapping[str, str], subscriptions: list[Subscription]
) -> Wanted:
    metrics: set[str] = set()
    interval_ms = INTERVAL_DEFAULT_MS
    for subscription in subscriptions:
        if all(
            pattern.fullmatch(facts.get(name, "")[:FACT_LENGTH_MAX])
            for name, pattern in subscription.match.items()
        ):
            metrics.update(subscription.metrics)
            interval_ms = min(interval_ms, subscription.interval_ms)
    names = (ALL_METRICS,) if ALL_METRICS in metrics else tuple(sorted(metrics))
    return Wanted(
        client_instance_id,
        _subscription_id(client_instance_id, names, interval_ms),
        names,
        interval_ms,
    )


def _subscription_id(client_instance_id: bytes, metrics: tuple[str, ...], interval_ms: int) -> int:
    """A number that another set of metrics, interval or client most likely does not have."""
    seen = zlib.crc32(f"{','.join(metrics)} {interval_ms}".encode(), zlib.crc32(client_instance_id))
    return seen - (1 << 32) if seen >= 1 << 31 else seen


def _parse_all(configs: Mapping[str, Mapping[str, str]]) -> list[Subscription]:
    parsed = []
    for name, config in configs.items():
        try:
            parsed.append(parse(config))
        except KafkaError as error:  # another version wrote it
            log.warning("a client-metrics subscription is left out", name=name, reason=str(error))
    return parsed


def _random_id() -> bytes:
    raw = bytearray(os.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    return bytes(raw)

"""InitProducerId, API key 22, versions 0-5."""

from __future__ import annotations

from ottla.wire.schema import Message, int16, int32, int64, since, string


class InitProducerIdRequest(Message, key=22, versions=(0, 5), flexible_from=2):
    """Kafka's ``InitProducerIdRequest``."""

    transactional_id: str | None = string(default="", nullable=since(0))
    transaction_timeout_ms: int = int32(default=0)
    producer_id: int = int64(default=-1, versions=since(3))
    producer_epoch: int = int16(default=-1, versions=since(3))


class InitProducerIdResponse(Message, key=22, versions=(0, 5), flexible_from=2):
    """Kafka's ``InitProducerIdResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    producer_id: int = int64(default=-1)
    producer_epoch: int = int16(default=0)

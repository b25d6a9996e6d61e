"""DeleteTopics, API key 20, versions 1-6."""

from __future__ import annotations

from ottla.wire.schema import Message, V, array, int16, int32, since, string, uuid


class DeleteTopicState(Message):
    """Delete topic state."""

    name: str | None = string(default=None, versions=since(6), nullable=since(6))
    topic_id: bytes = uuid(default=bytes(16), versions=since(6))


class DeleteTopicsRequest(Message, key=20, versions=(1, 6), flexible_from=4):
    """Kafka's ``DeleteTopicsRequest``."""

    topics: list[DeleteTopicState] = array(DeleteTopicState, default=list, versions=since(6))
    topic_names: list[str] = array(string, default=list, versions=V(0, 5))
    timeout_ms: int = int32(default=0)


class DeletableTopicResult(Message):
    """Deletable topic result."""

    name: str | None = string(default="", nullable=since(6))
    topic_id: bytes = uuid(default=bytes(16), versions=since(6))
    error_code: int = int16(default=0)
    error_message: str | None = string(default=None, versions=since(5), nullable=since(5))


class DeleteTopicsResponse(Message, key=20, versions=(1, 6), flexible_from=4):
    """Kafka's ``DeleteTopicsResponse``."""

    throttle_time_ms: int = int32(default=0)
    responses: list[DeletableTopicResult] = array(DeletableTopicResult, default=list)

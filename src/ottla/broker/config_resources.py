"""What settings can belong to, as the admin calls name it (``ConfigResource.Type``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

TOPIC = 2
BROKER = 4
BROKER_LOGGER = 8
CLIENT_METRICS = 16
GROUP = 32

_NAMES = {BROKER_LOGGER: "BROKER_LOGGER", GROUP: "GROUP"}


def require_this_broker(broker: Broker, name: str) -> None:
    """Raise INVALID_REQUEST unless ``name`` is this broker's id: another one must be asked itself."""
    if name != str(broker.node_id):
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"Unexpected broker id, expected {broker.node_id}, but received {name}",
        )


def unsupported(resource_type: int) -> KafkaError:
    """The error for a kind of resource that has no settings here."""
    kind = _NAMES.get(resource_type, f"UNKNOWN ({resource_type})")
    return KafkaError(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {kind}")

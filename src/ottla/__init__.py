"""Ottla: event streaming in Python, with Kafka's protocol, files and semantics.

``Producer``, ``Consumer`` and ``Admin`` are for threads, ``ottla.aio`` has the same names for asyncio. What is
not used is not imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.client.admin.descriptions import NewTopic as NewTopic
    from ottla.client.admin.sync import Admin as Admin
    from ottla.client.consumer.sync import Consumer as Consumer
    from ottla.client.errors import CommitFailed as CommitFailed
    from ottla.client.errors import DeliveryTimeout as DeliveryTimeout
    from ottla.client.errors import NoBrokerAvailable as NoBrokerAvailable
    from ottla.client.errors import NoOffsetForPartition as NoOffsetForPartition
    from ottla.client.errors import RequestTimeout as RequestTimeout
    from ottla.client.producer.chosen_intake import Delivery as Delivery
    from ottla.client.producer.sync import Producer as Producer
    from ottla.client.record import Record as Record
    from ottla.client.serializers import json_deserializer as json_deserializer
    from ottla.client.types import OffsetAndMetadata as OffsetAndMetadata
    from ottla.client.types import OffsetAndTimestamp as OffsetAndTimestamp
    from ottla.client.types import RecordMetadata as RecordMetadata
    from ottla.client.types import TopicPartition as TopicPartition
    from ottla.errors import ErrorCode as ErrorCode
    from ottla.errors import KafkaError as KafkaError

_HOMES = {
    "Admin": "ottla.client.admin.sync",
    "CommitFailed": "ottla.client.errors",
    "Consumer": "ottla.client.consumer.sync",
    "Delivery": "ottla.client.producer.chosen_intake",
    "DeliveryTimeout": "ottla.client.errors",
    "ErrorCode": "ottla.errors",
    "KafkaError": "ottla.errors",
    "NewTopic": "ottla.client.admin.descriptions",
    "NoBrokerAvailable": "ottla.client.errors",
    "NoOffsetForPartition": "ottla.client.errors",
    "OffsetAndMetadata": "ottla.client.types",
    "OffsetAndTimestamp": "ottla.client.types",
    "Producer": "ottla.client.producer.sync",
    "Record": "ottla.client.record",
    "RecordMetadata": "ottla.client.types",
    "RequestTimeout": "ottla.client.errors",
    "TopicPartition": "ottla.client.types",
    "json_deserializer": "ottla.client.serializers",
}

__all__ = [
    "Admin",
    "CommitFailed",
    "Consumer",
    "Delivery",
    "DeliveryTimeout",
    "ErrorCode",
    "KafkaError",
    "NewTopic",
    "NoBrokerAvailable",
    "NoOffsetForPartition",
    "OffsetAndMetadata",
    "OffsetAndTimestamp",
    "Producer",
    "Record",
    "RecordMetadata",
    "RequestTimeout",
    "TopicPartition",
    "json_deserializer",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

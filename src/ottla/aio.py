"""Ottla for asyncio: the names of ``ottla``, with coroutines where those wait."""

from __future__ import annotations

from ottla.client.admin.admin import AsyncAdmin as Admin
from ottla.client.admin.descriptions import NewTopic
from ottla.client.consumer.consumer import AsyncConsumer as Consumer
from ottla.client.errors import (
    CommitFailed,
    DeliveryTimeout,
    NoBrokerAvailable,
    NoOffsetForPartition,
    RequestTimeout,
)
from ottla.client.producer.chosen_intake import AsyncDelivery as Delivery
from ottla.client.producer.producer import AsyncProducer as Producer
from ottla.client.record import Record
from ottla.client.serializers import json_deserializer
from ottla.client.types import (
    OffsetAndMetadata,
    OffsetAndTimestamp,
    RecordMetadata,
    TopicPartition,
)
from ottla.errors import ErrorCode, KafkaError

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

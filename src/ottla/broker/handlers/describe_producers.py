"""DescribeProducers (key 61): the producers that a partition's leader remembers (KIP-664).

Behaviour: idempotent producers, as the partition's state has them; who was silent for
``producer.id.expiration.ms`` is forgotten. A partition that is named twice is told once.
Errors, for each partition: INVALID_TOPIC_EXCEPTION, UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER,
KAFKA_STORAGE_ERROR.
Source: ``KafkaApis.handleDescribeProducersRequest``, ``Partition.activeProducerState``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.controller import topic_names
from ottla.errors import KafkaError
from ottla.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.log.producer_state import ProducerEntry
    from ottla.network.request import Request


def handle(broker: Broker, request: Request) -> DescribeProducersResponse:
    """Describe each partition's producers."""
    body: DescribeProducersRequest = request.body
    wanted: dict[str, dict[int, None]] = {}
    for topic in body.topics:
        wanted.setdefault(topic.name, {}).update(dict.fromkeys(topic.partition_indexes))
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=name, partitions=[_describe(broker, name, index) for index in indexes]
            )
            for name, indexes in wanted.items()
        ]
    )


def _describe(broker: Broker, name: str, index: int) -> PartitionResponse:
    answer = PartitionResponse(partition_index=index)
    try:
        topic_names.validate(name)
        partition = broker.replicas.leader_of(name, index)
    except KafkaError as error:
        answer.error_code, answer.error_message = error.code, error.message
        return answer
    producers = partition.log.producers.producers
    answer.active_producers = [_producer(entry) for entry in producers.values()]
    return answer


def _producer(entry: ProducerEntry) -> ProducerState:
    return ProducerState(
        producer_id=entry.producer_id,
        producer_epoch=entry.epoch,
        last_sequence=entry.last_sequence,
        last_timestamp=entry.last_timestamp_ms,
        coordinator_epoch=entry.coordinator_epoch,
        current_txn_start_offset=entry.transaction_first_offset,
    )

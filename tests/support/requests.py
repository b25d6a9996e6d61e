"""Short forms of the requests that tests of the broker send most."""

from __future__ import annotations

from typing import Any

from ottla.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.wire import Wire


def create_topic(wire: Wire, name: str, partitions: int = 1, **settings: object) -> bytes:
    """Create a topic with settings (underscores for dots); returns its id."""
    configs = [
        CreatableTopicConfig(name=key.replace("_", "."), value=str(value))
        for key, value in settings.items()
    ]
    topic = CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=1, configs=configs
    )
    (created,) = wire.ask(CreateTopicsRequest(topics=[topic]), 7).topics
    assert created.error_code == 0, created.error_message
    topic_id: bytes = created.topic_id
    return topic_id


def produce_request(
    topic: str, records: bytes | None, *, partition: int = 0, acks: int = -1, timeout_ms: int = 5000
) -> ProduceRequest:
    """One batch for one partition."""
    data = TopicProduceData(
        name=topic, partition_data=[PartitionProduceData(index=partition, records=records)]
    )
    return ProduceRequest(acks=acks, timeout_ms=timeout_ms, topic_data=[data])


def produce(wire: Wire, topic: str, records: bytes | None, **how: Any) -> Any:
    """Send one batch with Produce 9; the partition's answer."""
    answer = wire.ask(produce_request(topic, records, **how), 9)
    return answer.responses[0].partition_responses[0]


def fetch_request(
    topic: str,
    *offsets: int,
    max_wait_ms: int = 0,
    min_bytes: int = 1,
    max_bytes: int = 1 << 20,
    session_id: int = 0,
    session_epoch: int = -1,
    **partition: Any,
) -> FetchRequest:
    """A Fetch of partitions 0, 1, … from these offsets on."""
    partitions = [
        FetchPartition(
            partition=index, fetch_offset=offset, partition_max_bytes=max_bytes, **partition
        )
        for index, offset in enumerate(offsets)
    ]
    return FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        session_id=session_id,
        session_epoch=session_epoch,
        topics=[FetchTopic(topic=topic, partitions=partitions)] if partitions else [],
    )


def fetch(wire: Wire, topic: str, offset: int = 0, **how: Any) -> Any:
    """Fetch partition 0 with Fetch 12; the partition's answer."""
    return wire.ask(fetch_request(topic, offset, **how), 12).responses[0].partitions[0]


def list_offset(wire: Wire, topic: str, timestamp: int, version: int = 7) -> Any:
    """ListOffsets of partition 0; the partition's answer."""
    wanted = ListOffsetsTopic(
        name=topic, partitions=[ListOffsetsPartition(partition_index=0, timestamp=timestamp)]
    )
    request = ListOffsetsRequest(replica_id=-1, topics=[wanted])
    return wire.ask(request, version).topics[0].partitions[0]

"""The newest versions of the protocol, which address topics by id, in kafka-python's own encoding."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from tests.interop.kafka_python.adapter import MARKS, admin_client, create_topic
from tests.interop.requirements import require_module
from tests.interop.samples import SAMPLES, Sample

pytestmark = MARKS

protocol = require_module("kafka.protocol", "kafka-python")
producing = require_module("kafka.protocol.producer", "kafka-python")
consuming = require_module("kafka.protocol.consumer", "kafka-python")


class Wire:
    """kafka-python's connection to the broker, for its message classes."""

    def __init__(self, client: Any) -> None:
        self._client = client
        (self._node_id,) = [b.node_id for b in client._manager.cluster.brokers()]

    def call(self, request: Any) -> Any:
        """Send a request in the newest version that both sides have."""
        manager = self._client._manager
        return manager.run(self._send, manager, request)

    async def _send(self, manager: Any, request: Any) -> Any:
        return await manager.send(request, node_id=self._node_id)


@pytest.fixture
def wire(bootstrap: str) -> Iterator[Wire]:
    """A connection."""
    with admin_client(bootstrap) as client:
        client.list_topics()
        yield Wire(client)


@pytest.fixture
def topic_id(bootstrap: str, unused: str) -> uuid.UUID:
    """The id of a new topic."""
    create_topic(bootstrap, unused)
    with admin_client(bootstrap) as client:
        (topic,) = client.describe_topics([unused])
        found = topic["topic_id"]
    return found if isinstance(found, uuid.UUID) else uuid.UUID(str(found))


def produce(topic_id: uuid.UUID, records: bytes) -> Any:
    """A Produce request of version 13."""
    request = producing.ProduceRequest
    topic = request.TopicProduceData
    return request(
        transactional_id=None,
        acks=-1,
        timeout_ms=30_000,
        topic_data=[
            topic(
                topic_id=topic_id,
                partition_data=[topic.PartitionProduceData(index=0, records=records)],
            )
        ],
        min_version=13,
    )


def fetch(
    topic_id: uuid.UUID, session_id: int = 0, session_epoch: int = -1, offset: int = 0
) -> Any:
    """A Fetch request of version 18; ``offset`` -1 adds no partition to the session's."""
    request = consuming.FetchRequest
    topic = request.FetchTopic
    partition = topic.FetchPartition(
        partition=0,
        current_leader_epoch=-1,
        fetch_offset=offset,
        last_fetched_epoch=-1,
        log_start_offset=-1,
        partition_max_bytes=1 << 20,
    )
    return request(
        max_wait_ms=20,
        min_bytes=1,
        max_bytes=1 << 20,
        isolation_level=0,
        session_id=session_id,
        session_epoch=session_epoch,
        topics=[] if offset < 0 else [topic(topic_id=topic_id, partitions=[partition])],
        forgotten_topics_data=[],
        rack_id="",
        min_version=18,
    )


def batch_of(*samples: Sample) -> bytes:
    """The samples as one batch."""
    return bytes(build_batch([(s.timestamp_ms, s.key, s.value, s.headers) for s in samples]))


def test_records_go_in_with_produce_13_and_come_out_with_fetch_18(
    wire: Wire, topic_id: uuid.UUID
) -> None:
    answer = wire.call(produce(topic_id, batch_of(*SAMPLES)))
    assert answer.API_VERSION == 13
    (produced,) = answer.responses
    assert produced.topic_id == topic_id
    (partition,) = produced.partition_responses
    assert (partition.error_code, partition.base_offset) == (0, 0)

    answer = wire.call(fetch(topic_id))
    assert answer.API_VERSION == 18
    (fetched,) = answer.responses
    assert fetched.topic_id == topic_id
    (partition,) = fetched.partitions
    assert partition.error_code == 0
    assert partition.high_watermark == len(SAMPLES)
    records = decode_batch(bytes(partition.records), max_decompressed_bytes=1 << 20)
    assert [
        Sample(r.key, r.value, tuple(map(tuple, r.headers)), r.timestamp_ms)  # type: ignore[arg-type]
        for r in records
    ] == list(SAMPLES)


def test_an_id_that_no_topic_has_is_unknown(wire: Wire) -> None:
    nobody = uuid.UUID(int=0x1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF0)
    (produced,) = wire.call(produce(nobody, batch_of(SAMPLES[0]))).responses
    assert produced.partition_responses[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID
    (fetched,) = wire.call(fetch(nobody)).responses
    assert fetched.partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_a_fetch_session_tells_only_what_is_new(wire: Wire, topic_id: uuid.UUID) -> None:
    wire.call(produce(topic_id, batch_of(SAMPLES[0])))
    first = wire.call(fetch(topic_id, session_epoch=0, offset=1))
    assert first.error_code == 0
    session_id = first.session_id
    assert session_id > 0
    second = wire.call(fetch(topic_id, session_id, session_epoch=1, offset=-1))
    assert (second.error_code, second.responses) == (0, [])
    wire.call(produce(topic_id, batch_of(SAMPLES[1])))
    third = wire.call(fetch(topic_id, session_id, session_epoch=2, offset=-1))
    assert third.error_code == 0
    (fetched,) = third.responses
    records = decode_batch(bytes(fetched.partitions[0].records), max_decompressed_bytes=1 << 20)
    assert [record.value for record in records] == [SAMPLES[1].value]
    wrong = wire.call(fetch(topic_id, session_id, session_epoch=7, offset=-1))
    assert wrong.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    unknown = wire.call(fetch(topic_id, session_id ^ 0x55555, session_epoch=3, offset=-1))
    assert unknown.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND

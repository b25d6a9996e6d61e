"""What no client sends by itself, or not to this broker: it is refused, and nothing is written."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.messages.api_versions import ApiVersionsRequest
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.init_producer_id import InitProducerIdRequest
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.builder import build_batch
from tests.interop.raw import RawClient
from tests.interop.samples import BASE_MS

pytestmark = pytest.mark.interop

RECORDS = [(BASE_MS, b"key", b"value", ())]


def produce(
    raw: RawClient, topic: str, records: bytes | bytearray, transactional_id: str | None = None
) -> int:
    """The error code that a Produce is answered with."""
    data = PartitionProduceData(index=0, records=records)
    request = ProduceRequest(
        transactional_id=transactional_id,
        acks=-1,
        timeout_ms=30_000,
        topic_data=[TopicProduceData(name=topic, partition_data=[data])],
    )
    return int(raw.call(request, 9).responses[0].partition_responses[0].error_code)


@pytest.fixture
def topic(raw: RawClient, unused: str) -> str:
    """An empty topic."""
    raw.create_topic(unused)
    return unused


@pytest.mark.parametrize("transactional_id", ["tx", None])
def test_a_transactional_batch_is_refused_for_good_and_writes_nothing(
    transactional_id: str | None, raw: RawClient, topic: str, only_ottla: None
) -> None:
    batch = build_batch(
        RECORDS, producer_id=4711, producer_epoch=0, base_sequence=0, transactional=True
    )
    code = ErrorCode(produce(raw, topic, batch, transactional_id))
    assert code != ErrorCode.NONE
    assert not code.retriable
    assert raw.offset(topic) == 0


def test_a_transactional_id_gets_no_producer_and_no_coordinator(
    raw: RawClient, only_ottla: None
) -> None:
    for version in (4, 5):
        answer = raw.call(
            InitProducerIdRequest(transactional_id="tx", transaction_timeout_ms=1_000), version
        )
        assert answer.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        assert (answer.producer_id, answer.producer_epoch) == (-1, -1)
    (found,) = raw.call(FindCoordinatorRequest(key_type=1, coordinator_keys=["tx"])).coordinators
    assert found.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


def test_transactions_are_not_advertised(raw: RawClient, only_ottla: None) -> None:
    answer: Any = raw.call(ApiVersionsRequest(), 3)
    assert not {24, 25, 26, 28} & {api.api_key for api in answer.api_keys}


def test_the_next_group_protocol_and_share_groups_are_not_advertised(
    raw: RawClient, only_ottla: None
) -> None:
    """Clients that prefer them (franz-go) would leave the classic protocol for them."""
    answer: Any = raw.call(ApiVersionsRequest(), 3)
    consumer_groups, share_groups = {68, 69}, {76, 77, 78, 79}
    assert not (consumer_groups | share_groups) & {api.api_key for api in answer.api_keys}
    assert not {"group.version", "share.version"} & {
        feature.name for feature in answer.supported_features or ()
    }


def test_damaged_and_doubled_batches_are_refused(raw: RawClient, topic: str) -> None:
    batch = build_batch(RECORDS)
    damaged = bytearray(batch)
    damaged[-1] ^= 1
    assert produce(raw, topic, damaged) == ErrorCode.CORRUPT_MESSAGE
    assert produce(raw, topic, batch + batch) == ErrorCode.INVALID_RECORD
    assert produce(raw, topic, batch) == ErrorCode.NONE
    assert raw.offset(topic) == 1


def test_control_batches_are_the_brokers_own(raw: RawClient, topic: str) -> None:
    assert produce(raw, topic, build_batch(RECORDS, control=True)) == ErrorCode.INVALID_RECORD
    assert raw.offset(topic) == 0


def test_a_gap_in_a_producers_sequence_is_refused_and_a_repetition_is_answered_like_the_first(
    raw: RawClient, topic: str
) -> None:
    producer_id = int(raw.call(InitProducerIdRequest(transactional_id=None), 4).producer_id)

    def batch(sequence: int, epoch: int = 0) -> bytearray:
        return build_batch(
            RECORDS, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence
        )

    assert produce(raw, topic, batch(0)) == ErrorCode.NONE
    assert produce(raw, topic, batch(1)) == ErrorCode.NONE
    assert produce(raw, topic, batch(0)) == ErrorCode.NONE
    assert raw.offset(topic) == 2
    assert produce(raw, topic, batch(3)) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert produce(raw, topic, batch(0, epoch=1)) == ErrorCode.NONE
    assert produce(raw, topic, batch(2)) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert raw.offset(topic) == 3

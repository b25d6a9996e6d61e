"""Producers of Node and Go: acks, idempotence, and what the broker refuses."""

from __future__ import annotations

import pytest

from ottla.errors import ErrorCode
from tests.interop.programs.clients import CLIENTS
from tests.interop.programs.program import Program, Refused, encoded
from tests.interop.raw import RawClient
from tests.interop.samples import Sample
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.parametrize("client", CLIENTS, indirect=True)]

RECORDS = [encoded(Sample(b"%d" % n, b"value")) for n in range(20)]


@pytest.mark.parametrize("acks", [0, 1, -1])
def test_records_arrive_in_order_whatever_acknowledgement_is_asked_for(
    acks: int, client: Program, raw: RawClient, unused: str
) -> None:
    raw.create_topic(unused)
    client.call("produce", topic=unused, partition=0, acks=acks, records=RECORDS)
    eventually(lambda: raw.offset(unused) == len(RECORDS), "all arrive")
    assert [record.key for record in raw.records(unused)] == [b"%d" % n for n in range(20)]


def test_an_idempotent_producers_batches_carry_its_id_and_a_sequence_without_gaps(
    client: Program, raw: RawClient, unused: str
) -> None:
    raw.create_topic(unused)
    client.call("produce", topic=unused, partition=0, idempotent=True, records=RECORDS)
    batches = raw.batches(unused)
    assert {batch.producer_id for batch in batches} != {-1}
    assert len({batch.producer_id for batch in batches}) == 1
    sequence = 0
    for batch in batches:
        assert batch.base_sequence == sequence
        sequence += batch.record_count
    assert sequence == len(RECORDS)


def test_a_batch_that_is_too_large_for_its_topic_is_refused_and_nothing_is_written(
    client: Program, raw: RawClient, unused: str
) -> None:
    raw.create_topic(unused, config={"max.message.bytes": "1000"})
    large = [encoded(Sample(None, bytes(range(256)) * 20))]
    with pytest.raises(Refused) as refused:
        client.call("produce", topic=unused, partition=0, records=large)
    assert refused.value.code == ErrorCode.MESSAGE_TOO_LARGE
    assert raw.offset(unused) == 0
    client.call("produce", topic=unused, partition=0, records=RECORDS)
    assert raw.offset(unused) == len(RECORDS)


def test_a_name_that_no_topic_can_have_is_refused(client: Program) -> None:
    with pytest.raises(Refused):
        client.call("produce", topic="no/such name", partition=0, records=RECORDS)


def test_a_megabyte_of_records_arrives_whole(client: Program, raw: RawClient, unused: str) -> None:
    raw.create_topic(unused)
    many = [encoded(Sample(b"%d" % n, b"%06d" % n * 100)) for n in range(1500)]
    client.call("produce", topic=unused, partition=0, codec="gzip", records=many)
    assert [record.key for record in raw.records(unused)] == [b"%d" % n for n in range(1500)]
    read = client.call("read", topic=unused, partition=0, count=1500)
    assert [record["offset"] for record in read] == list(range(1500))
    assert {record["value"] == many[n]["value"] for n, record in enumerate(read)} == {True}

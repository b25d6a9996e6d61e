"""What people do with kcat at the command line."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from ottla.messages.describe_groups import DescribeGroupsRequest
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.batch import CompressionType
from ottla.records.builder import build_batch
from tests.interop.kcat.adapter import CODECS, Running, kcat, read, record_of, records, write
from tests.interop.raw import RawClient
from tests.interop.samples import BASE_MS, TEXT_SAMPLES, Sample
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop


@pytest.fixture
def numbered(raw: RawClient, unused: str) -> str:
    """A topic with 20 records, a second apart, in four batches."""
    raw.create_topic(unused)
    for start in range(0, 20, 5):
        batch = build_batch(
            [(BASE_MS + n * 1_000, None, b"%d" % n, ()) for n in range(start, start + 5)]
        )
        data = PartitionProduceData(index=0, records=batch)
        topic = TopicProduceData(name=unused, partition_data=[data])
        raw.call(ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[topic]), 9)
    return unused


def values(printed: list[dict[str, Any]]) -> list[int]:
    """What the records say."""
    return [int(record["payload"]) for record in printed]


@pytest.mark.parametrize("codec", CODECS)
def test_lines_come_back_as_they_were_written(
    codec: str, bootstrap: str, unused: str, raw: RawClient
) -> None:
    write(bootstrap, unused, 0, codec, TEXT_SAMPLES)
    assert [s[:3] for s in read(bootstrap, unused, 0, len(TEXT_SAMPLES))] == [
        s[:3] for s in TEXT_SAMPLES
    ]
    kinds = {batch.compression for batch in raw.batches(unused)}
    assert CompressionType[codec.upper()] in kinds


def test_a_large_file_is_one_record(bootstrap: str, unused: str, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * 3_900)
    kcat(bootstrap, "-P", "-t", unused, str(file))
    (sample,) = read(bootstrap, unused, 0, 1)
    assert sample.value == file.read_bytes()


def test_a_file_above_the_topics_limit_is_refused(
    bootstrap: str, unused: str, raw: RawClient, tmp_path: Path
) -> None:
    raw.create_topic(unused, config={"max.message.bytes": "100000"})
    file = tmp_path / "large"
    file.write_bytes(b"x" * 200_000)
    refused = kcat(bootstrap, "-P", "-t", unused, str(file), check=False)
    assert b"Broker: Message size too large" in refused.stderr
    assert raw.offset(unused) == 0


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_lines_arrive_with_any_acks(acks: str, bootstrap: str, unused: str) -> None:
    lines = [Sample(None, b"%d" % n) for n in range(100)]
    kcat(
        bootstrap,
        *("-P", "-t", unused, "-X", f"acks={acks}"),
        stdin=b"".join((line.value or b"") + b"\n" for line in lines),
    )
    assert [s.value for s in read(bootstrap, unused, 0, 100)] == [s.value for s in lines]


def test_an_idempotent_kcat_numbers_its_batches(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    kcat(
        bootstrap,
        *("-P", "-t", unused, "-X", "enable.idempotence=true", "-X", "batch.num.messages=10"),
        stdin=b"".join(b"%d\n" % n for n in range(100)),
    )
    batches = raw.batches(unused)
    assert [batch.base_sequence for batch in batches] == [batch.base_offset for batch in batches]
    assert batches[0].producer_id >= 0
    assert batches[-1].next_offset == 100


def test_a_transaction_is_refused_and_nothing_is_written(
    bootstrap: str, unused: str, raw: RawClient, only_ottla: None
) -> None:
    raw.create_topic(unused)
    refused = kcat(
        bootstrap,
        *("-P", "-t", unused, "-X", f"transactional.id={unused}"),
        stdin=b"never\n",
        check=False,
    )
    assert refused.returncode != 0
    assert b"Transactional Id authorization failed" in refused.stderr
    assert raw.offset(unused) == 0


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("beginning", range(20)),
        ("13", range(13, 20)),
        ("-3", range(17, 20)),
        (f"s@{BASE_MS + 6_500}", range(7, 20)),
    ],
    ids=["beginning", "offset", "from the end", "time"],
)
def test_reading_starts_wherever_it_is_told_to(
    start: str, expected: range, bootstrap: str, numbered: str
) -> None:
    printed = records(bootstrap, "-C", "-t", numbered, "-o", start, "-e")
    assert values(printed) == list(expected)
    assert [record["offset"] for record in printed] == list(expected)
    assert [record["ts"] for record in printed] == [BASE_MS + n * 1_000 for n in expected]


def test_reading_stops_at_a_time(bootstrap: str, numbered: str) -> None:
    places = ("-o", f"s@{BASE_MS + 3_000}", "-o", f"e@{BASE_MS + 6_000}")
    assert values(records(bootstrap, "-C", "-t", numbered, *places)) == [3, 4, 5]


def test_an_offset_is_asked_for_by_time(bootstrap: str, numbered: str) -> None:
    def asked(timestamp_ms: int) -> bytes:
        return kcat(bootstrap, "-Q", "-t", f"{numbered}:0:{timestamp_ms}").stdout

    assert asked(BASE_MS + 6_500) == f"{numbered} [0] offset 7\n".encode()
    assert asked(-1) == f"{numbered} [0] offset 20\n".encode()
    assert asked(-2) == f"{numbered} [0] offset 0\n".encode()


def test_the_cluster_is_listed(bootstrap: str, numbered: str, raw: RawClient) -> None:
    listed = json.loads(kcat(bootstrap, "-L", "-J").stdout)
    (broker,) = listed["brokers"]
    assert broker["name"] == bootstrap
    assert listed["controllerid"] == broker["id"]
    (topic,) = [topic for topic in listed["topics"] if topic["topic"] == numbered]
    (partition,) = topic["partitions"]
    assert partition["leader"] == broker["id"]
    assert partition["isrs"] == [{"id": broker["id"]}]


def test_a_group_goes_on_where_it_stopped(bootstrap: str, numbered: str) -> None:
    group = ("-G", numbered, "-X", "auto.offset.reset=earliest", "-e")
    assert values(records(bootstrap, *group, numbered)) == list(range(20))
    kcat(bootstrap, "-P", "-t", numbered, stdin=b"20\n21\n")
    assert values(records(bootstrap, *group, numbered)) == [20, 21]


def test_a_member_that_is_killed_is_replaced_after_its_session(
    bootstrap: str, unused: str, raw: RawClient
) -> None:
    raw.create_topic(unused, 2)
    settings = (
        "session.timeout.ms=1000",
        "heartbeat.interval.ms=100",
        "auto.offset.reset=earliest",
    )
    member = ("-G", unused, "-J", *itertools.chain(*(("-X", setting) for setting in settings)))
    with Running(bootstrap, *member, unused) as killed, Running(bootstrap, *member, unused) as heir:

        def assigned_members() -> int:
            (described,) = raw.call(DescribeGroupsRequest(groups=[unused]), 4).groups
            assigned = [m for m in described.members if len(m.member_assignment) > 10]
            return len(assigned) if described.group_state == "Stable" else 0

        eventually(lambda: assigned_members() == 2, "both have a partition")
        killed.kill()
        eventually(lambda: assigned_members() == 1, "the other member is alone")
        for partition in range(2):
            kcat(bootstrap, "-P", "-t", unused, "-p", str(partition), stdin=b"%d\n" % partition)
        eventually(lambda: len(heir.lines()) >= 2, "the other member reads both partitions")
        assert sorted(values([record_of(line) for line in heir.lines()])) == [0, 1]

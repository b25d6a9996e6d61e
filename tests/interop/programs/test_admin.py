"""Administration by clients of Node and Go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ottla.errors import ErrorCode
from tests.interop.programs.clients import CLIENTS, having
from tests.interop.programs.conftest import Join
from tests.interop.programs.program import Program, Refused, encoded, program
from tests.interop.raw import RawClient
from tests.interop.samples import BASE_MS, Sample
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop


def each_with(operation: str) -> pytest.MarkDecorator:
    """The clients that have an operation."""
    return pytest.mark.parametrize("client", having(operation), indirect=True)


def code_of(call: Callable[[], object]) -> int | None:
    """The error code that a call fails with."""
    with pytest.raises(Refused) as refused:
        call()
    return refused.value.code


@each_with("create_topic")
def test_a_topic_is_created_described_and_deleted(client: Program, unused: str) -> None:
    client.call("create_topic", topic=unused, partitions=3)
    assert unused in client.call("topics")
    assert sorted(client.call("partitions", topic=unused)) == [0, 1, 2]
    client.call("delete_topic", topic=unused)
    eventually(lambda: unused not in client.call("topics"), "it is gone")


@each_with("create_topic")
def test_what_cannot_be_is_refused_with_the_reason(client: Program, unused: str) -> None:
    client.call("create_topic", topic=unused)
    assert (
        code_of(lambda: client.call("create_topic", topic=unused)) == ErrorCode.TOPIC_ALREADY_EXISTS
    )
    assert (
        code_of(lambda: client.call("create_topic", topic=f"{unused} no"))
        == ErrorCode.INVALID_TOPIC_EXCEPTION
    )
    odd = {"no.such.setting": "1"}
    assert (
        code_of(lambda: client.call("create_topic", topic=f"{unused}.odd", config=odd))
        == ErrorCode.INVALID_CONFIG
    )
    assert (
        code_of(lambda: client.call("delete_topic", topic=f"{unused}.none"))
        == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    )


@each_with("create_partitions")
def test_partitions_are_added_and_never_taken_away(client: Program, unused: str) -> None:
    client.call("create_topic", topic=unused, partitions=1)
    client.call("create_partitions", topic=unused, count=3)
    eventually(
        lambda: sorted(client.call("partitions", topic=unused)) == [0, 1, 2], "three partitions"
    )
    fewer = code_of(lambda: client.call("create_partitions", topic=unused, count=2))
    assert fewer == ErrorCode.INVALID_PARTITIONS


@each_with("alter_config")
def test_a_topics_settings_are_changed(client: Program, unused: str) -> None:
    client.call("create_topic", topic=unused, config={"retention.ms": "1234567"})
    setting = {"topic": unused, "name": "retention.ms"}
    assert client.call("describe_config", **setting) == "1234567"
    client.call("alter_config", **setting, value="7654321")
    assert client.call("describe_config", **setting) == "7654321"
    refused = code_of(lambda: client.call("alter_config", **setting, value="soon"))
    assert refused == ErrorCode.INVALID_CONFIG
    assert client.call("describe_config", **setting) == "7654321"


@each_with("offsets")
def test_offsets_are_found_at_the_ends_and_by_time(
    client: Program, raw: RawClient, unused: str
) -> None:
    raw.create_topic(unused, 2)
    records = [encoded(Sample(None, b"value", (), BASE_MS + n * 1_000)) for n in range(5)]
    client.call("produce", topic=unused, partition=1, records=records)
    assert client.call("offsets", topic=unused, at="earliest") == {"0": 0, "1": 0}
    assert client.call("offsets", topic=unused, at="latest") == {"0": 0, "1": 5}
    assert client.call("offsets", topic=unused, at=BASE_MS + 2_500)["1"] == 3


@each_with("delete_records")
def test_records_are_deleted_up_to_an_offset(client: Program, unused: str) -> None:
    client.call("create_topic", topic=unused)
    records = [encoded(Sample(None, b"%d" % n)) for n in range(5)]
    client.call("produce", topic=unused, partition=0, records=records)
    client.call("delete_records", topic=unused, partition=0, offset=3)
    assert client.call("offsets", topic=unused, at="earliest") == {"0": 3}
    read = client.call("read", topic=unused, partition=0, count=2)
    assert [record["offset"] for record in read] == [3, 4]
    with pytest.raises(Refused):
        client.call("delete_records", topic=unused, partition=0, offset=100)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_group_is_described_and_deleted_once_it_is_empty(
    name: str, join: Join, bootstrap: str, unused: str
) -> None:

    client = program(name, bootstrap)
    client.call("create_topic", topic=unused)
    member = join(name, unused, topics=[unused])
    eventually(lambda: member.partitions, "it has its partition")
    assert unused in client.call("groups")
    assert client.call("describe_group", group=unused) == {"state": "stable", "members": 1}
    assert code_of(lambda: client.call("delete_group", group=unused)) == ErrorCode.NON_EMPTY_GROUP
    member.leave()
    eventually(
        lambda: client.call("describe_group", group=unused) == {"state": "empty", "members": 0},
        "the group is empty",
    )
    client.call("delete_group", group=unused)
    assert unused not in client.call("groups")


@each_with("reset_group_offsets")
def test_a_groups_offsets_are_set_while_it_is_empty(client: Program, unused: str) -> None:
    client.call("create_topic", topic=unused)
    records = [encoded(Sample(None, b"%d" % n)) for n in range(10)]
    client.call("produce", topic=unused, partition=0, records=records)
    client.call("reset_group_offsets", group=unused, topic=unused, partition=0, offset=7)
    assert client.call("group_offsets", group=unused, topic=unused) == {"0": 7}


@each_with("cluster")
def test_the_cluster_is_described(client: Program, bootstrap: str) -> None:
    cluster = client.call("cluster")
    assert cluster["brokers"] == [bootstrap]
    assert cluster["controller"] == 1
    assert cluster["cluster_id"] is None or len(cluster["cluster_id"]) == 22

"""kafka-python's admin client."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.kafka_python.adapter import (
    MARKS,
    Member,
    admin,
    admin_client,
    consumer,
    create_topic,
    errors,
    kafka,
    producer,
    send,
    take,
)
from tests.interop.samples import BASE_MS, Sample
from tests.support.waiting import eventually

pytestmark = MARKS

TopicPartition = kafka.TopicPartition


@pytest.fixture
def client(bootstrap: str) -> Iterator[Any]:
    """An admin client."""
    with admin_client(bootstrap) as connected:
        yield connected


def test_a_topic_is_created_described_enlarged_and_deleted(client: Any, unused: str) -> None:
    answer = client.create_topics(
        {unused: {"num_partitions": 2, "configs": {"retention.ms": "1234"}}}
    )
    (created,) = answer["topics"]
    assert (created["num_partitions"], created["replication_factor"]) == (2, 1)
    assert created["configs"]["retention.ms"]["value"] == "1234"
    with pytest.raises(errors.TopicAlreadyExistsError):
        client.create_topics([unused])
    assert unused in client.list_topics()
    (topic,) = client.describe_topics([unused])
    assert topic["topic_id"] == created["topic_id"]
    assert sorted(p["partition_index"] for p in topic["partitions"]) == [0, 1]
    client.create_partitions({unused: 3})
    with pytest.raises(errors.InvalidPartitionsError):
        client.create_partitions({unused: 1})
    eventually(
        lambda: len(client.describe_topics([unused])[0]["partitions"]) == 3, "three partitions"
    )
    client.delete_topics([unused])
    eventually(lambda: unused not in client.list_topics(), "the topic is gone")
    with pytest.raises(errors.UnknownTopicOrPartitionError):
        client.delete_topics([unused])


def test_a_topic_is_deleted_by_its_id(client: Any, unused: str) -> None:
    (created,) = client.create_topics([unused])["topics"]
    assert created["num_partitions"] == 1
    topic_id = uuid.UUID(created["topic_id"])
    client.delete_topics([topic_id])
    eventually(lambda: unused not in client.list_topics(), "the topic is gone")
    with pytest.raises(errors.UnknownTopicIdError):
        client.delete_topics([topic_id])


def test_a_topics_settings_are_described_changed_and_reset(client: Any, unused: str) -> None:
    client.create_topics({unused: {"configs": {"retention.ms": "1234"}}})

    def modified() -> dict[str, str]:
        resource = admin.ConfigResource("TOPIC", unused)
        described = client.describe_configs([resource], include_synonyms=True)
        return {name: found["value"] for name, found in described["topic"][unused].items()}

    assert modified() == {"retention.ms": "1234"}
    changed = admin.ConfigResource("TOPIC", unused, {"segment.bytes": "2000000"})
    assert client.alter_configs([changed]) == {"topic": {unused: "OK"}}
    eventually(
        lambda: modified() == {"retention.ms": "1234", "segment.bytes": "2000000"}, "the change"
    )
    reset = admin.ConfigResource("TOPIC", unused, ["retention.ms"])
    assert client.reset_configs([reset]) == {"topic": {unused: "OK"}}
    eventually(lambda: modified() == {"segment.bytes": "2000000"}, "the reset")
    wrong = admin.ConfigResource("TOPIC", unused, {"segment.bytes": "many"})
    assert "InvalidConfig" in client.alter_configs([wrong])["topic"][unused]


def test_the_brokers_settings_are_described(client: Any) -> None:
    (broker,) = client.describe_cluster()["brokers"]
    resource = admin.ConfigResource("BROKER", str(broker["broker_id"]))
    described = client.describe_configs([resource], config_filter="all")
    settings = described["broker"][str(broker["broker_id"])]
    assert settings["num.partitions"]["value"] == "1"
    assert settings["group.initial.rebalance.delay.ms"]["value"] == "0"


def test_groups_are_listed_described_altered_and_deleted(
    client: Any, bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused)
    partition = TopicPartition(unused, 0)
    with producer(bootstrap) as writer:
        send(writer, unused, [Sample(None, b"1")])
    with consumer(bootstrap, unused, group_id=unused, client_id="the-member") as member:
        take(member, 1)
        member.commit()
        (listed,) = [g for g in client.list_groups() if g["group_id"] == unused]
        assert listed["group_state"] == "Stable"
        assert listed["group_type"] == "classic"
        assert unused not in {g["group_id"] for g in client.list_groups(states_filter=["Empty"])}
        described = client.describe_groups([unused])[unused]
        assert described["error"] is None
        assert described["group_state"] == "Stable"
        (only,) = described["members"]
        assert only["client_id"] == "the-member"
        assert client.delete_groups([unused]) == {unused: "NonEmptyGroupError"}
    assert client.list_group_offsets(unused)[unused][partition].offset == 1
    client.alter_group_offsets(unused, {partition: kafka.OffsetAndMetadata(0, "", -1)})
    assert client.list_group_offsets({unused: [partition]})[unused][partition].offset == 0
    assert client.delete_groups([unused]) == {unused: "OK"}
    assert client.describe_groups([unused])[unused]["error"] is not None


def test_a_member_is_removed_from_its_group(client: Any, bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused)
    with Member(bootstrap, unused, group_id=unused, group_instance_id="one") as member:
        eventually(lambda: member.partitions, "the member has its partition")
        (only,) = client.describe_groups([unused])[unused]["members"]
        assert only["group_instance_id"] == "one"
        client.remove_group_members(unused, [admin.MemberToRemove(group_instance_id="one")])
        eventually(
            lambda: not client.describe_groups([unused])[unused]["members"], "the member is gone"
        )


def test_offsets_are_listed_by_every_kind_of_question(
    client: Any, bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused)
    times = (3, 9, 5)  # the latest time is not the last record's
    with producer(bootstrap) as writer:
        send(writer, unused, [Sample(None, b"%d" % n, (), BASE_MS + n) for n in times])
    partition = TopicPartition(unused, 0)
    spec = kafka.OffsetSpec
    for question, offset in [
        (spec.EARLIEST, 0),
        (spec.LATEST, 3),
        (spec.MAX_TIMESTAMP, 1),
        (spec.EARLIEST_LOCAL, 0),
        (BASE_MS + 4, 1),
        (BASE_MS + 10, -1),
    ]:
        found = client.list_partition_offsets({partition: question})
        assert found[partition].offset == offset


def test_the_cluster_is_described(client: Any, bootstrap: str) -> None:
    cluster = client.describe_cluster()
    assert len(cluster["cluster_id"]) == 22
    (broker,) = cluster["brokers"]
    assert f"{broker['host']}:{broker['port']}" == bootstrap
    assert cluster["controller_id"] == broker["broker_id"]


def test_log_directories_are_described(client: Any, unused: str) -> None:
    client.create_topics({unused: {"num_partitions": 2}})
    (broker,) = client.describe_cluster()["brokers"]
    (described,) = client.describe_log_dirs({unused: [0, 1]})
    assert described["broker"] == broker["broker_id"]
    (directory,) = described["log_dirs"]
    assert directory["error_code"] == 0
    ((topic),) = directory["topics"]
    assert topic["name"] == unused
    assert [p["partition_index"] for p in topic["partitions"]] == [0, 1]

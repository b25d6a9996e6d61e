"""librdkafka's admin client."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.confluent_kafka.adapter import (
    admin,
    admin_client,
    confluent_kafka,
    consumer,
    create_topic,
    producer,
    send,
    take,
    write,
)
from tests.interop.samples import BASE_MS, Sample
from tests.support.waiting import DEADLINE_S, eventually

pytestmark = pytest.mark.interop

KafkaError = confluent_kafka.KafkaError
TopicPartition = confluent_kafka.TopicPartition
ConfigResource = admin.ConfigResource


@pytest.fixture
def client(bootstrap: str) -> Any:
    """An admin client."""
    return admin_client(bootstrap)


def code_of(future: Any) -> int:
    """The error code that a future fails with."""
    with pytest.raises(confluent_kafka.KafkaException) as failed:
        future.result(DEADLINE_S)
    return int(failed.value.args[0].code())


def configuration(client: Any, resource: Any) -> dict[str, Any]:
    """The settings of a resource by name."""
    (future,) = client.describe_configs([resource]).values()
    return dict(future.result(DEADLINE_S))


def test_a_topic_is_created_described_and_deleted(client: Any, unused: str) -> None:
    new = admin.NewTopic(unused, 3, replication_factor=1, config={"retention.ms": "1234"})
    client.create_topics([new])[unused].result(DEADLINE_S)
    topic = client.list_topics(unused, timeout=DEADLINE_S).topics[unused]
    assert topic.error is None
    assert sorted(topic.partitions) == [0, 1, 2]
    (broker,) = client.list_topics(timeout=DEADLINE_S).brokers.values()
    for partition in topic.partitions.values():
        assert partition.leader == broker.id
        assert partition.replicas == [broker.id]
        assert partition.isrs == [broker.id]
    described = client.describe_topics(confluent_kafka.TopicCollection([unused]))[unused].result(
        DEADLINE_S
    )
    assert described.name == unused
    assert not described.is_internal
    assert [partition.id for partition in described.partitions] == [0, 1, 2]
    assert str(described.topic_id) != "AAAAAAAAAAAAAAAAAAAAAA"
    assert unused in client.list_topics(timeout=DEADLINE_S).topics

    client.delete_topics([unused])[unused].result(DEADLINE_S)
    eventually(
        lambda: unused not in client.list_topics(timeout=DEADLINE_S).topics, "the topic is gone"
    )
    assert code_of(client.delete_topics([unused])[unused]) == KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"num_partitions": 0}, KafkaError.INVALID_PARTITIONS),
        ({"replication_factor": 3}, KafkaError.INVALID_REPLICATION_FACTOR),
        ({"config": {"no.such.setting": "1"}}, KafkaError.INVALID_CONFIG),
        ({"config": {"retention.ms": "soon"}}, KafkaError.INVALID_CONFIG),
        ({"topic": "no/such name"}, KafkaError.TOPIC_EXCEPTION),
        ({"topic": ".."}, KafkaError.TOPIC_EXCEPTION),
        ({"topic": "x" * 250}, KafkaError.TOPIC_EXCEPTION),
    ],
)
def test_a_topic_that_cannot_be_is_refused_with_the_reason(
    settings: dict[str, Any], code: int, client: Any, unused: str
) -> None:
    topic = settings.pop("topic", unused)
    new = admin.NewTopic(topic, **{"num_partitions": 1, "replication_factor": 1, **settings})
    assert code_of(client.create_topics([new])[topic]) == code
    assert topic not in client.list_topics(timeout=DEADLINE_S).topics


def test_a_topic_is_created_once_and_a_rehearsal_creates_none(client: Any, unused: str) -> None:
    new = admin.NewTopic(unused, 1)
    client.create_topics([new], validate_only=True)[unused].result(DEADLINE_S)
    assert unused not in client.list_topics(timeout=DEADLINE_S).topics
    client.create_topics([new])[unused].result(DEADLINE_S)
    assert code_of(client.create_topics([new])[unused]) == KafkaError.TOPIC_ALREADY_EXISTS


def test_partitions_are_added_and_never_taken_away(
    client: Any, bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused, 2)
    client.create_partitions([admin.NewPartitions(unused, 4)])[unused].result(DEADLINE_S)
    eventually(
        lambda: len(client.list_topics(unused, timeout=DEADLINE_S).topics[unused].partitions) == 4,
        "four partitions",
    )
    write(bootstrap, unused, 3, "none", [Sample(None, b"in the new one")])
    fewer = client.create_partitions([admin.NewPartitions(unused, 3)])[unused]
    assert code_of(fewer) == KafkaError.INVALID_PARTITIONS
    unknown = client.create_partitions([admin.NewPartitions(unused + "-", 3)])[unused + "-"]
    assert code_of(unknown) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_topics_settings_are_described_changed_and_reset(
    client: Any, bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused, config={"retention.ms": "1000"})
    resource = ConfigResource(ConfigResource.Type.TOPIC, unused)
    before = configuration(client, resource)
    assert before["retention.ms"].value == "1000"
    assert not before["retention.ms"].is_default
    assert before["segment.bytes"].value == str(1 << 30)
    assert before["segment.bytes"].is_default
    assert before["cleanup.policy"].value == "delete"

    def alter(name: str, value: str | None, operation: Any) -> Any:
        entry = admin.ConfigEntry(name, value, incremental_operation=operation)
        changed = ConfigResource(ConfigResource.Type.TOPIC, unused, incremental_configs=[entry])
        (future,) = client.incremental_alter_configs([changed]).values()
        return future

    operations = admin.AlterConfigOpType
    alter("segment.bytes", "2000000", operations.SET).result(DEADLINE_S)
    alter("retention.ms", None, operations.DELETE).result(DEADLINE_S)
    alter("cleanup.policy", "compact", operations.APPEND).result(DEADLINE_S)

    def altered() -> bool:
        after = configuration(client, resource)
        names = ("segment.bytes", "retention.ms", "cleanup.policy")
        expected = ["2000000", "604800000", "delete,compact"]
        return [after[name].value for name in names] == expected

    eventually(altered, "the settings are changed")
    assert code_of(alter("segment.bytes", "many", operations.SET)) == KafkaError.INVALID_CONFIG
    assert code_of(alter("no.such.setting", "1", operations.SET)) == KafkaError.INVALID_CONFIG
    assert configuration(client, resource)["segment.bytes"].value == "2000000"


def test_a_changed_limit_holds_for_the_next_record(
    client: Any, bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused)
    entry = admin.ConfigEntry(
        "max.message.bytes", "1000", incremental_operation=admin.AlterConfigOpType.SET
    )
    changed = ConfigResource(ConfigResource.Type.TOPIC, unused, incremental_configs=[entry])
    (future,) = client.incremental_alter_configs([changed]).values()
    future.result(DEADLINE_S)
    writer = producer(bootstrap)

    def refused() -> list[Any]:
        return send(writer, unused, [Sample(None, b"x" * 2_000)]).errors

    (error,) = eventually(refused, "the record is refused")
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_the_brokers_settings_are_described(client: Any) -> None:
    (broker,) = client.list_topics(timeout=DEADLINE_S).brokers.values()
    settings = configuration(client, ConfigResource(ConfigResource.Type.BROKER, str(broker.id)))
    assert settings["auto.create.topics.enable"].value == "true"
    assert settings["num.partitions"].value == "1"
    assert settings["group.initial.rebalance.delay.ms"].value == "0"
    assert settings["advertised.listeners"].is_read_only


def test_settings_of_what_does_not_exist_are_an_error(client: Any, unused: str) -> None:
    (future,) = client.describe_configs(
        [ConfigResource(ConfigResource.Type.TOPIC, unused)]
    ).values()
    assert code_of(future) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_groups_are_listed_described_and_deleted(client: Any, bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused, 2)
    write(bootstrap, unused, 0, "none", [Sample(None, b"1")])
    member = consumer(bootstrap, unused, **{"client.id": "the member"})
    member.subscribe([unused])
    take(member, 1)
    member.commit(asynchronous=False)

    listed = client.list_consumer_groups().result(DEADLINE_S)
    assert not listed.errors
    (group,) = [group for group in listed.valid if group.group_id == unused]
    assert group.state == confluent_kafka.ConsumerGroupState.STABLE
    assert not group.is_simple_consumer_group
    stable = client.list_consumer_groups(states={confluent_kafka.ConsumerGroupState.EMPTY}).result(
        DEADLINE_S
    )
    assert unused not in {group.group_id for group in stable.valid}

    described = client.describe_consumer_groups([unused])[unused].result(DEADLINE_S)
    assert described.state == confluent_kafka.ConsumerGroupState.STABLE
    assert described.partition_assignor == "range"
    (only,) = described.members
    assert only.client_id == "the member"
    assert {p.partition for p in only.assignment.topic_partitions} == {0, 1}
    assert code_of(client.delete_consumer_groups([unused])[unused]) == KafkaError.NON_EMPTY_GROUP
    member.close()

    request = confluent_kafka.ConsumerGroupTopicPartitions(unused)
    offsets = client.list_consumer_group_offsets([request])[unused].result(DEADLINE_S)
    assert {
        (p.topic, p.partition): p.offset for p in offsets.topic_partitions if p.offset >= 0
    } == {(unused, 0): 1}
    client.delete_consumer_groups([unused])[unused].result(DEADLINE_S)
    assert code_of(client.delete_consumer_groups([unused])[unused]) == KafkaError.GROUP_ID_NOT_FOUND
    again = client.list_consumer_groups().result(DEADLINE_S)
    assert unused not in {group.group_id for group in again.valid}


def test_a_groups_offsets_are_reset_while_nobody_reads(
    client: Any, bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused)
    wanted = confluent_kafka.ConsumerGroupTopicPartitions(unused, [TopicPartition(unused, 0, 7)])
    changed = client.alter_consumer_group_offsets([wanted])[unused].result(DEADLINE_S)
    assert changed.topic_partitions[0].error is None
    request = confluent_kafka.ConsumerGroupTopicPartitions(unused, [TopicPartition(unused, 0)])
    offsets = client.list_consumer_group_offsets([request])[unused].result(DEADLINE_S)
    assert [p.offset for p in offsets.topic_partitions] == [7]


def test_offsets_are_listed_by_every_kind_of_question(
    client: Any, bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused)
    times = (3, 9, 5)  # the latest time is not the last record's
    samples = [Sample(None, b"%d" % n, (), BASE_MS + n) for n in times]
    write(bootstrap, unused, 0, "none", samples)
    spec = admin.OffsetSpec
    expected = [
        (spec.earliest(), 0),
        (spec.latest(), 3),
        (spec.max_timestamp(), 1),
        (spec.for_timestamp(BASE_MS + 4), 1),
        (spec.for_timestamp(BASE_MS + 10), -1),
    ]
    for question, offset in expected:
        (future,) = client.list_offsets({TopicPartition(unused, 0): question}).values()
        assert future.result(DEADLINE_S).offset == offset


def test_the_cluster_is_described(client: Any, bootstrap: str) -> None:
    cluster = client.describe_cluster().result(DEADLINE_S)
    assert len(cluster.cluster_id) == 22
    (node,) = cluster.nodes
    assert f"{node.host}:{node.port}" == bootstrap
    assert cluster.controller.id == node.id

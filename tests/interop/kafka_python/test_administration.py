"""kafka-python's admin client: records, offsets, producers, and what a single broker refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.kafka_python.adapter import (
    MARKS,
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
from tests.interop.samples import Sample

pytestmark = MARKS

TopicPartition = kafka.TopicPartition


@pytest.fixture
def client(bootstrap: str) -> Iterator[Any]:
    """An admin client."""
    with admin_client(bootstrap) as connected:
        yield connected


def write(bootstrap: str, topic: str, count: int) -> None:
    """So many records in partition 0."""
    with producer(bootstrap) as writer:
        send(writer, topic, [Sample(None, b"%d" % n) for n in range(count)])


def test_records_are_deleted_from_the_start(client: Any, bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused)
    write(bootstrap, unused, 3)
    partition = TopicPartition(unused, 0)
    (found,) = client.delete_records({partition: 2}).values()
    assert (found["error_code"], found["low_watermark"]) == (0, 2)
    earliest = client.list_partition_offsets({partition: kafka.OffsetSpec.EARLIEST})
    assert earliest[partition].offset == 2
    with consumer(bootstrap, unused, auto_offset_reset="earliest") as reader:
        assert [record.value for record in take(reader, 1)] == [b"2"]
    with pytest.raises(errors.OffsetOutOfRangeError):
        client.delete_records({partition: 4})


def test_offsets_are_forgotten(client: Any, bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused)
    partition = TopicPartition(unused, 0)
    client.alter_group_offsets(unused, {partition: kafka.OffsetAndMetadata(1, "", -1)})
    outcome = client.delete_group_offsets(unused, [partition])
    assert outcome == {partition: errors.NoError}
    assert partition not in client.list_group_offsets(unused)[unused]
    with pytest.raises(errors.GroupIdNotFoundError):
        client.delete_group_offsets(f"{unused}.not", [partition])


def test_settings_are_replaced_by_the_old_call(client: Any, unused: str) -> None:
    client.create_topics({unused: {"num_partitions": 1, "configs": {"retention.ms": "1234"}}})
    changed = admin.ConfigResource("TOPIC", unused, {"segment.bytes": "2000000"})
    assert client.alter_configs([changed], incremental=False) == {"topic": {unused: "OK"}}
    wrong = admin.ConfigResource("TOPIC", unused, {"segment.bytes": "many"})
    assert "InvalidConfig" in client.alter_configs([wrong], incremental=False)["topic"][unused]


def test_topics_are_described_in_pages(client: Any, unused: str) -> None:
    client.create_topics({unused: {"num_partitions": 3}})
    page = client.describe_topic_partitions([unused], response_partition_limit=2)
    (topic,) = page["topics"]
    assert [p["partition_index"] for p in topic["partitions"]] == [0, 1]
    rest = client.describe_topic_partitions([unused], cursor=page["next_cursor"])
    assert [p["partition_index"] for p in rest["topics"][0]["partitions"]] == [2]
    assert rest["next_cursor"] is None


def test_producers_and_transactions_are_described(client: Any, bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused)
    write(bootstrap, unused, 2)
    (state,) = client.describe_producers([TopicPartition(unused, 0)]).values()
    (active,) = state.active_producers
    assert active.producer_id >= 0
    assert active.last_sequence == 1
    assert [listed for each in client.list_transactions().values() for listed in each] == []


def test_leaders_and_reassignments_of_one_broker_stay_as_they_are(
    client: Any, bootstrap: str, unused: str
) -> None:
    create_topic(bootstrap, unused)
    (broker,) = client.describe_cluster()["brokers"]
    partition = TopicPartition(unused, 0)
    elected = client.elect_leaders(0, {unused: [0]}, raise_errors=False)
    (result,) = elected.replica_election_results
    assert [p.error_code for p in result.partition_result] == [errors.ElectionNotNeededError.errno]
    assert client.list_partition_reassignments() == {}
    here, elsewhere = [broker["broker_id"]], [broker["broker_id"] + 7]
    assert client.alter_partition_reassignments({partition: here})[partition] is None
    refused = client.alter_partition_reassignments({partition: elsewhere})[partition]
    assert refused is errors.InvalidReplicationAssignmentError
    cancelled = client.alter_partition_reassignments({partition: None})[partition]
    assert cancelled is errors.NoReassignmentInProgressError


@pytest.mark.usefixtures("only_ottla")
def test_what_nobody_keeps_to_is_refused(client: Any) -> None:
    any_acl = admin.ACLFilter(
        principal=None,
        host="*",
        operation=admin.ACLOperation.ANY,
        permission_type=admin.ACLPermissionType.ANY,
        resource_pattern=admin.ResourcePatternFilter(
            admin.ResourceType.ANY, None, admin.ACLResourcePatternType.ANY
        ),
    )
    with pytest.raises(errors.SecurityDisabledError):
        client.describe_acls(any_acl)
    assert client.describe_user_scram_credentials() == {}
    with pytest.raises(errors.KafkaError):
        client.update_features({"transaction.version": 2})


def test_what_has_settings_is_listed(client: Any, unused: str) -> None:
    client.create_topics([unused])
    found = client.list_config_resources()
    assert unused in found["topic"]
    (broker,) = client.describe_cluster()["brokers"]
    assert str(broker["broker_id"]) in found["broker"]

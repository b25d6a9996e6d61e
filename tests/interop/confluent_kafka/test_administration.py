"""librdkafka's admin client: records, leaders, and what a broker without security refuses."""

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
)
from tests.interop.samples import Sample
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.interop

KafkaError = confluent_kafka.KafkaError
TopicPartition = confluent_kafka.TopicPartition


@pytest.fixture
def client(bootstrap: str) -> Any:
    """An admin client."""
    return admin_client(bootstrap)


def code_of(future: Any) -> int:
    """The error code that a future fails with."""
    with pytest.raises(confluent_kafka.KafkaException) as failed:
        future.result(DEADLINE_S)
    return int(failed.value.args[0].code())


def test_records_are_deleted_from_the_start(client: Any, bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused)
    send(producer(bootstrap), unused, [Sample(None, b"%d" % n) for n in range(3)])
    (future,) = client.delete_records([TopicPartition(unused, 0, 2)]).values()
    assert future.result(DEADLINE_S).low_watermark == 2
    reader = consumer(bootstrap)
    reader.assign([TopicPartition(unused, 0, confluent_kafka.OFFSET_BEGINNING)])
    assert [message.offset() for message in take(reader, 1)] == [2]
    reader.close()
    (refused,) = client.delete_records([TopicPartition(unused, 0, 4)]).values()
    assert code_of(refused) == KafkaError.OFFSET_OUT_OF_RANGE
    (everything,) = client.delete_records(
        [TopicPartition(unused, 0, confluent_kafka.OFFSET_END)]
    ).values()
    assert everything.result(DEADLINE_S).low_watermark == 3


def test_settings_are_replaced_by_the_old_call(client: Any, bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused, config={"retention.ms": "1234"})
    resource = admin.ConfigResource(
        admin.ConfigResource.Type.TOPIC, unused, set_config={"segment.bytes": "2000000"}
    )
    with pytest.warns(DeprecationWarning, match="incremental"):
        (future,) = client.alter_configs([resource]).values()
    future.result(DEADLINE_S)
    (described,) = client.describe_configs([resource]).values()
    found = described.result(DEADLINE_S)
    assert found["segment.bytes"].value == "2000000"
    assert found["retention.ms"].is_default


def test_a_leader_that_leads_needs_no_election(client: Any, bootstrap: str, unused: str) -> None:
    create_topic(bootstrap, unused)
    wanted = [TopicPartition(unused, 0), TopicPartition(unused, 9)]
    future = client.elect_leaders(confluent_kafka.ElectionType.PREFERRED, wanted)
    codes = {tp.partition: error.code() for tp, error in future.result(DEADLINE_S).items()}
    assert codes == {0: KafkaError.ELECTION_NOT_NEEDED, 9: KafkaError.UNKNOWN_TOPIC_OR_PART}


@pytest.mark.usefixtures("only_ottla")
def test_what_nobody_keeps_to_is_refused(client: Any) -> None:
    any_acl = admin.AclBindingFilter(
        admin.ResourceType.ANY,
        None,
        admin.ResourcePatternType.ANY,
        None,
        None,
        admin.AclOperation.ANY,
        admin.AclPermissionType.ANY,
    )
    assert client.describe_acls(any_acl).result(DEADLINE_S) == []  # it hides SECURITY_DISABLED
    mine = admin.AclBinding(
        admin.ResourceType.TOPIC,
        "t",
        admin.ResourcePatternType.LITERAL,
        "User:me",
        "*",
        admin.AclOperation.READ,
        admin.AclPermissionType.ALLOW,
    )
    (created,) = client.create_acls([mine]).values()
    assert code_of(created) == KafkaError.SECURITY_DISABLED
    (deleted,) = client.delete_acls([any_acl]).values()
    assert code_of(deleted) == KafkaError.SECURITY_DISABLED
    assert client.describe_user_scram_credentials().result(DEADLINE_S) == {}
    (unknown,) = client.describe_user_scram_credentials(["me"]).values()
    assert code_of(unknown) == KafkaError.RESOURCE_NOT_FOUND

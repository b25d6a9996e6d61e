"""What clients that administer a broker expect of each version of the APIs that they use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ottla.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    EntityData,
    EntryData,
    OpData,
)
from ottla.messages.alter_configs import (
    AlterableConfig,
    AlterConfigsRequest,
    AlterConfigsResource,
)
from ottla.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from ottla.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)
from ottla.messages.create_acls import AclCreation, CreateAclsRequest
from ottla.messages.create_delegation_token import CreateDelegationTokenRequest
from ottla.messages.delete_acls import DeleteAclsFilter, DeleteAclsRequest
from ottla.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.messages.describe_acls import DescribeAclsRequest
from ottla.messages.describe_client_quotas import ComponentData, DescribeClientQuotasRequest
from ottla.messages.describe_delegation_token import DescribeDelegationTokenRequest
from ottla.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from ottla.messages.describe_producers import DescribeProducersRequest
from ottla.messages.describe_producers import TopicRequest as ProducersTopic
from ottla.messages.describe_topic_partitions import DescribeTopicPartitionsRequest, TopicRequest
from ottla.messages.describe_transactions import DescribeTransactionsRequest
from ottla.messages.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    UserName,
)
from ottla.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.messages.expire_delegation_token import ExpireDelegationTokenRequest
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsRequest
from ottla.messages.list_config_resources import ListConfigResourcesRequest
from ottla.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from ottla.messages.list_transactions import ListTransactionsRequest
from ottla.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.messages.push_telemetry import PushTelemetryRequest
from ottla.messages.renew_delegation_token import RenewDelegationTokenRequest
from ottla.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.support.requests import create_topic, produce
from tests.support.wire import Wire, batch

TOPIC = "weather"


class World(Protocol):
    """A broker, node 1, with the topic ``TOPIC`` of one partition and a record in it."""

    wire: Wire
    topic_id: bytes


def check_describe_acls(world: World, version: int) -> None:
    answer = world.wire.ask(
        DescribeAclsRequest(resource_type_filter=1, operation=1, permission_type=1), version
    )
    assert (answer.error_code, answer.resources) == (54, [])
    assert "Authorizer" in answer.error_message


def check_create_acls(world: World, version: int) -> None:
    acl = AclCreation(resource_type=2, resource_name=TOPIC, principal="User:me", host="*")
    answer = world.wire.ask(CreateAclsRequest(creations=[acl, acl]), version)
    assert [result.error_code for result in answer.results] == [54, 54]


def check_delete_acls(world: World, version: int) -> None:
    answer = world.wire.ask(DeleteAclsRequest(filters=[DeleteAclsFilter()]), version)
    assert [result.error_code for result in answer.filter_results] == [54]


def check_delete_records(world: World, version: int) -> None:
    name = f"purged-{version}"
    create_topic(world.wire, name)
    assert produce(world.wire, name, batch(b"1", b"2")).error_code == 0
    partitions = [
        DeleteRecordsPartition(partition_index=index, offset=offset)
        for index, offset in ((0, 1), (9, 0))
    ]
    request = DeleteRecordsRequest(
        topics=[DeleteRecordsTopic(name=name, partitions=partitions)], timeout_ms=5000
    )
    (topic,) = world.wire.ask(request, version).topics
    told = [(p.partition_index, p.error_code, p.low_watermark) for p in topic.partitions]
    assert told == [(0, 0, 1), (9, 3, -1)]


def check_create_delegation_token(world: World, version: int) -> None:
    assert world.wire.ask(CreateDelegationTokenRequest(), version).error_code == 61


def check_offset_delete(world: World, version: int) -> None:
    topic = OffsetDeleteRequestTopic(
        name=TOPIC, partitions=[OffsetDeleteRequestPartition(partition_index=0)]
    )
    assert world.wire.ask(FindCoordinatorRequest(key="none"), 3).error_code == 0
    answer = world.wire.ask(OffsetDeleteRequest(group_id="none", topics=[topic]), version)
    assert (answer.error_code, answer.topics) == (69, [])


def check_renew_delegation_token(world: World, version: int) -> None:
    assert world.wire.ask(RenewDelegationTokenRequest(hmac=b"x"), version).error_code == 61


def check_expire_delegation_token(world: World, version: int) -> None:
    assert world.wire.ask(ExpireDelegationTokenRequest(hmac=b"x"), version).error_code == 61


def check_describe_delegation_token(world: World, version: int) -> None:
    answer = world.wire.ask(DescribeDelegationTokenRequest(owners=None), version)
    assert (answer.error_code, answer.tokens) == (61, [])


def check_elect_leaders(world: World, version: int) -> None:
    request = ElectLeadersRequest(
        election_type=1 if version else 0,
        topic_partitions=[TopicPartitions(topic=TOPIC, partitions=[0, 9])],
    )
    answer = world.wire.ask(request, version)
    (topic,) = answer.replica_election_results
    codes = {each.partition_id: each.error_code for each in topic.partition_result}
    assert (answer.error_code, codes) == (0, {0: 84, 9: 3})
    everywhere = world.wire.ask(ElectLeadersRequest(topic_partitions=None), version)
    assert everywhere.replica_election_results == []
    if version >= 1:
        strange = ElectLeadersRequest(election_type=7, topic_partitions=None)
        assert world.wire.ask(strange, version).error_code == 42


def check_alter_partition_reassignments(world: World, version: int) -> None:
    def answers(replicas: dict[int, list[int] | None]) -> dict[int, int]:
        partitions = [
            ReassignablePartition(partition_index=index, replicas=each)
            for index, each in replicas.items()
        ]
        request = AlterPartitionReassignmentsRequest(
            topics=[ReassignableTopic(name=TOPIC, partitions=partitions)]
        )
        answer = world.wire.ask(request, version)
        assert (answer.error_code, answer.error_message) == (0, None)
        (topic,) = answer.responses
        return {each.partition_index: each.error_code for each in topic.partitions}

    assert answers({0: [1], 1: [1]}) == {0: 0, 1: 3}
    assert answers({0: None}) == {0: 85}
    for replicas in ([], [1, 1], [2], [-1]):
        assert answers({0: replicas}) == {0: 39}


def check_alter_configs(world: World, version: int) -> None:
    def alter(name: str, value: str) -> Any:
        config = AlterableConfig(name="retention.ms", value=value)
        resource = AlterConfigsResource(resource_type=2, resource_name=name, configs=[config])
        (answer,) = world.wire.ask(AlterConfigsRequest(resources=[resource]), version).responses
        return answer

    assert alter(TOPIC, "604800000").error_code == 0
    refused = alter(TOPIC, "soon")
    assert (refused.error_code, refused.resource_name) == (40, TOPIC)
    assert "retention.ms" in refused.error_message
    assert alter("none", "1").error_code == 3


def check_list_config_resources(world: World, version: int) -> None:
    answer = world.wire.ask(ListConfigResourcesRequest(), version)
    assert answer.error_code == 0
    found = {(each.resource_type, each.resource_name) for each in answer.config_resources}
    if version == 0:
        assert found == set()
        return
    assert {(2, TOPIC), (4, "1")} <= found
    brokers = world.wire.ask(ListConfigResourcesRequest(resource_types=[4]), version)
    assert [each.resource_name for each in brokers.config_resources] == ["1"]
    unknown = world.wire.ask(ListConfigResourcesRequest(resource_types=[77]), version)
    assert (unknown.error_code, unknown.config_resources) == (35, [])


def check_get_telemetry_subscriptions(world: World, version: int) -> None:
    answer = world.wire.ask(GetTelemetrySubscriptionsRequest(), version)
    assert (answer.error_code, answer.requested_metrics) == (0, [])
    assert answer.client_instance_id != bytes(16)
    assert answer.push_interval_ms == 300_000
    assert set(answer.accepted_compression_types) == {1, 2, 3, 4}
    again = GetTelemetrySubscriptionsRequest(client_instance_id=answer.client_instance_id)
    assert world.wire.ask(again, version).error_code == 89


def check_push_telemetry(world: World, version: int) -> None:
    told = world.wire.ask(GetTelemetrySubscriptionsRequest(), 0)
    request = PushTelemetryRequest(
        client_instance_id=told.client_instance_id,
        subscription_id=told.subscription_id,
        metrics=b"otlp",
    )
    assert world.wire.ask(request, version).error_code == 0
    assert world.wire.ask(request, version).error_code == 89
    assert world.wire.ask(PushTelemetryRequest(), version).error_code == 42


def check_list_partition_reassignments(world: World, version: int) -> None:
    answer = world.wire.ask(ListPartitionReassignmentsRequest(topics=None), version)
    assert (answer.error_code, answer.error_message, answer.topics) == (0, None, [])


def check_describe_client_quotas(world: World, version: int) -> None:
    user = ComponentData(entity_type="user", match_type=2, match=None)
    answer = world.wire.ask(DescribeClientQuotasRequest(components=[user]), version)
    assert (answer.error_code, answer.error_message, answer.entries) == (0, None, [])
    twice = world.wire.ask(DescribeClientQuotasRequest(components=[user, user]), version)
    assert (twice.error_code, twice.entries) == (42, None)


def check_alter_client_quotas(world: World, version: int) -> None:
    entry = EntryData(
        entity=[EntityData(entity_type="user", entity_name="me")],
        ops=[OpData(key="producer_byte_rate", value=1.0)],
    )
    (refused,) = world.wire.ask(AlterClientQuotasRequest(entries=[entry]), version).entries
    assert (refused.error_code, refused.entity[0].entity_name) == (42, "me")


def check_describe_user_scram_credentials(world: World, version: int) -> None:
    everybody = world.wire.ask(DescribeUserScramCredentialsRequest(users=None), version)
    assert (everybody.error_code, everybody.error_message, everybody.results) == (0, None, [])
    users = [UserName(name=name) for name in ("me", "you", "you")]
    answer = world.wire.ask(DescribeUserScramCredentialsRequest(users=users), version)
    assert {r.user: r.error_code for r in answer.results} == {"me": 91, "you": 92}


def check_alter_user_scram_credentials(world: World, version: int) -> None:
    request = AlterUserScramCredentialsRequest(
        deletions=[ScramCredentialDeletion(name="you", mechanism=1)],
        upsertions=[ScramCredentialUpsertion(name="me", mechanism=1, iterations=4096)],
    )
    answer = world.wire.ask(request, version)
    assert {r.user: r.error_code for r in answer.results} == {"you": 91, "me": 33}


def check_update_features(world: World, version: int) -> None:
    update = FeatureUpdateKey(feature="transaction.version", max_version_level=2)
    answer = world.wire.ask(UpdateFeaturesRequest(feature_updates=[update]), version)
    assert answer.error_code == 95
    told = [(result.feature, result.error_code) for result in answer.results]
    assert told == ([("transaction.version", 95)] if version < 2 else [])


def check_describe_producers(world: World, version: int) -> None:
    topics = [
        ProducersTopic(name=TOPIC, partition_indexes=[0, 9]),
        ProducersTopic(name="no topic", partition_indexes=[0]),
    ]
    known, unknown = world.wire.ask(DescribeProducersRequest(topics=topics), version).topics
    assert [(p.partition_index, p.error_code) for p in known.partitions] == [(0, 0), (9, 3)]
    assert known.partitions[0].active_producers == []
    assert [p.error_code for p in unknown.partitions] == [17]


def check_describe_transactions(world: World, version: int) -> None:
    request = DescribeTransactionsRequest(transactional_ids=["mine", "mine"])
    (state,) = world.wire.ask(request, version).transaction_states
    assert (state.transactional_id, state.error_code) == ("mine", 105)


def check_list_transactions(world: World, version: int) -> None:
    answer = world.wire.ask(ListTransactionsRequest(state_filters=["Ongoing", "Odd"]), version)
    assert (answer.error_code, answer.transaction_states) == (0, [])
    assert answer.unknown_state_filters == ["Odd"]
    if version >= 2:
        strange = ListTransactionsRequest(transactional_id_pattern="(")
        assert world.wire.ask(strange, version).error_code == 128


def check_describe_topic_partitions(world: World, version: int) -> None:
    topics = [TopicRequest(name=name) for name in (TOPIC, "none", "no topic")]
    answer = world.wire.ask(DescribeTopicPartitionsRequest(topics=topics), version)
    assert [(t.name, t.error_code) for t in answer.topics] == [
        ("no topic", 17),
        ("none", 3),
        (TOPIC, 0),
    ]
    found = answer.topics[2]
    (partition,) = found.partitions
    assert (found.topic_id, partition.leader_id, partition.isr_nodes) == (world.topic_id, 1, [1])
    assert (partition.eligible_leader_replicas, answer.next_cursor) == ([], None)


def check_describe_log_dirs(world: World, version: int) -> None:
    wanted = [DescribableLogDirTopic(topic=name, partitions=[0, 9]) for name in (TOPIC, "none")]
    answer = world.wire.ask(DescribeLogDirsRequest(topics=wanted), version)
    assert answer.error_code == 0
    (directory,) = answer.results
    assert directory.error_code == 0
    assert directory.log_dir.startswith("/")
    assert not directory.is_cordoned
    if version >= 4:
        assert directory.total_bytes >= directory.usable_bytes > 0
    (topic,) = directory.topics
    (partition,) = topic.partitions
    assert (topic.name, partition.partition_index, partition.is_future_key) == (TOPIC, 0, False)
    assert partition.partition_size > 0
    assert partition.offset_lag == 0
    (everything,) = world.wire.ask(DescribeLogDirsRequest(topics=None), version).results
    assert TOPIC in {topic.name for topic in everything.topics}
    (nothing,) = world.wire.ask(DescribeLogDirsRequest(topics=[]), version).results
    assert nothing.topics == []


def check_alter_replica_log_dirs(world: World, version: int) -> None:
    (here,) = world.wire.ask(DescribeLogDirsRequest(topics=[]), 2).results
    wanted = {here.log_dir: ((TOPIC, [0, 9]), ("none", [0])), "/nowhere": ((TOPIC, [8]),)}
    request = AlterReplicaLogDirsRequest(
        dirs=[
            AlterReplicaLogDir(
                path=path,
                topics=[AlterReplicaLogDirTopic(name=name, partitions=p) for name, p in topics],
            )
            for path, topics in wanted.items()
        ]
    )
    answer = world.wire.ask(request, version)
    codes = {
        (t.topic_name, p.partition_index): p.error_code
        for t in answer.results
        for p in t.partitions
    }
    assert codes == {(TOPIC, 0): 0, (TOPIC, 9): 3, ("none", 0): 3, (TOPIC, 8): 57}


CHECKS: dict[str, Callable[[Any, int], None]] = {
    "AlterClientQuotas": check_alter_client_quotas,
    "AlterConfigs": check_alter_configs,
    "AlterPartitionReassignments": check_alter_partition_reassignments,
    "AlterUserScramCredentials": check_alter_user_scram_credentials,
    "AlterReplicaLogDirs": check_alter_replica_log_dirs,
    "CreateAcls": check_create_acls,
    "CreateDelegationToken": check_create_delegation_token,
    "DeleteAcls": check_delete_acls,
    "DeleteRecords": check_delete_records,
    "DescribeAcls": check_describe_acls,
    "DescribeClientQuotas": check_describe_client_quotas,
    "DescribeDelegationToken": check_describe_delegation_token,
    "DescribeLogDirs": check_describe_log_dirs,
    "DescribeProducers": check_describe_producers,
    "DescribeTopicPartitions": check_describe_topic_partitions,
    "DescribeTransactions": check_describe_transactions,
    "DescribeUserScramCredentials": check_describe_user_scram_credentials,
    "ElectLeaders": check_elect_leaders,
    "ExpireDelegationToken": check_expire_delegation_token,
    "GetTelemetrySubscriptions": check_get_telemetry_subscriptions,
    "ListConfigResources": check_list_config_resources,
    "ListPartitionReassignments": check_list_partition_reassignments,
    "ListTransactions": check_list_transactions,
    "OffsetDelete": check_offset_delete,
    "PushTelemetry": check_push_telemetry,
    "RenewDelegationToken": check_renew_delegation_token,
    "UpdateFeatures": check_update_features,
}

"""Every API answers every version that the broker advertises, with what a client of that version expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ottla.broker.handlers.api_versions import advertised
from ottla.messages import registry
from ottla.messages.api_versions import ApiVersionsRequest
from ottla.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from ottla.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.messages.delete_groups import DeleteGroupsRequest
from ottla.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.messages.describe_cluster import DescribeClusterRequest
from ottla.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.messages.describe_groups import DescribeGroupsRequest
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ReplicaState
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.heartbeat import HeartbeatRequest
from ottla.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.messages.init_producer_id import InitProducerIdRequest
from ottla.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.messages.list_groups import ListGroupsRequest
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from ottla.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from ottla.testing import Broker
from ottla.topic_ids import ZERO_ID
from ottla.wire.schema import Message
from tests.conformance import administration
from tests.support.wire import Wire, batch

TOPIC = "weather"


class World:
    """A broker with one topic, one record in it, and a fresh name for whatever a version creates."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        created = wire.ask(CreateTopicsRequest(topics=[new_topic(TOPIC)]), 7).topics[0]
        assert created.error_code == 0
        self.topic_id: bytes = created.topic_id
        assert created.num_partitions == 1
        assert wire.ask(produce(self, 9), 9).responses[0].partition_responses[0].base_offset == 0


@pytest.fixture(scope="module")
def world() -> Any:
    with Broker() as broker, Wire(broker.bootstrap) as wire:
        yield World(wire)


def new_topic(name: str) -> CreatableTopic:
    return CreatableTopic(name=name, num_partitions=1, replication_factor=1)


def produce(world: World, version: int) -> ProduceRequest:
    topic = TopicProduceData(
        name=TOPIC,
        topic_id=getattr(world, "topic_id", ZERO_ID),
        partition_data=[PartitionProduceData(index=0, records=batch(b"sunny", key=b"JFK"))],
    )
    return ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[topic])


def check_produce(world: World, version: int) -> None:
    answer = world.wire.ask(produce(world, version), version).responses[0]
    partition = answer.partition_responses[0]
    assert partition.error_code == 0
    assert partition.base_offset > 0
    assert answer.topic_id == (world.topic_id if version >= 13 else ZERO_ID)


def check_fetch(world: World, version: int) -> None:
    topic = FetchTopic(
        topic=TOPIC,
        topic_id=world.topic_id,
        partitions=[FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1000)],
    )
    request = FetchRequest(
        max_wait_ms=100,
        min_bytes=1,
        max_bytes=1000,
        topics=[topic],
        replica_state=ReplicaState() if version >= 15 else None,
        session_epoch=0,
    )
    answer = world.wire.ask(request, version)
    assert answer.error_code == 0
    assert (answer.session_id > 0) == (version >= 7)
    (found,) = answer.responses
    partition = found.partitions[0]
    assert partition.error_code == 0
    assert b"sunny" in bytes(partition.records)
    assert partition.high_watermark == partition.last_stable_offset > 0
    assert found.topic_id == (world.topic_id if version >= 13 else ZERO_ID)


def check_list_offsets(world: World, version: int) -> None:
    for timestamp, offset in ((-2, 0), (1_700_000_000_000, 0), (1_800_000_000_000, -1)):
        topic = ListOffsetsTopic(
            name=TOPIC,
            partitions=[ListOffsetsPartition(partition_index=0, timestamp=timestamp)],
        )
        request = ListOffsetsRequest(replica_id=-1, topics=[topic])
        partition = world.wire.ask(request, version).topics[0].partitions[0]
        assert (partition.error_code, partition.offset) == (0, offset)


def check_metadata(world: World, version: int) -> None:
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name=TOPIC)], allow_auto_topic_creation=False
    )
    answer = world.wire.ask(request, version)
    assert [broker.node_id for broker in answer.brokers] == [1]
    assert answer.topics[0].partitions[0].leader_id == 1
    if version >= 10:
        assert answer.topics[0].topic_id == world.topic_id
    if version >= 12:
        by_id = MetadataRequest(topics=[MetadataRequestTopic(topic_id=world.topic_id)])
        assert world.wire.ask(by_id, version).topics[0].name == TOPIC


def check_offset_commit(world: World, version: int) -> None:
    topic = OffsetCommitRequestTopic(
        name=TOPIC,
        topic_id=world.topic_id,
        partitions=[
            OffsetCommitRequestPartition(
                partition_index=0, committed_offset=version, committed_metadata="note"
            )
        ],
    )
    find_coordinator(world, f"commit-{version}")
    request = OffsetCommitRequest(group_id=f"commit-{version}", topics=[topic])
    assert world.wire.ask(request, version).topics[0].partitions[0].error_code == 0


def check_offset_fetch(world: World, version: int) -> None:
    check_offset_commit(world, 9)
    if version < 8:
        topic = OffsetFetchRequestTopic(name=TOPIC, partition_indexes=[0])
        answer = world.wire.ask(OffsetFetchRequest(group_id="commit-9", topics=[topic]), version)
        partition = answer.topics[0].partitions[0]
    else:
        topics = OffsetFetchRequestTopics(
            name=TOPIC, topic_id=world.topic_id, partition_indexes=[0]
        )
        group = OffsetFetchRequestGroup(group_id="commit-9", topics=[topics])
        answer = world.wire.ask(OffsetFetchRequest(groups=[group]), version)
        assert answer.groups[0].error_code == 0
        partition = answer.groups[0].topics[0].partitions[0]
    assert (partition.error_code, partition.committed_offset) == (0, 9)
    assert partition.metadata == "note"


def find_coordinator(world: World, group_id: str) -> None:
    answer = world.wire.ask(FindCoordinatorRequest(key=group_id), 3)
    assert answer.error_code == 0


def check_find_coordinator(world: World, version: int) -> None:
    answer = world.wire.ask(FindCoordinatorRequest(key="g", coordinator_keys=["g", "h"]), version)
    found = answer.coordinators if version >= 4 else [answer]
    assert [(each.error_code, each.node_id) for each in found] == [(0, 1)] * len(found)
    assert len(found) == (2 if version >= 4 else 1)


def join(world: World, group_id: str, version: int = 5) -> tuple[str, int]:
    """Become the only member of a group; its id and generation."""
    find_coordinator(world, group_id)
    request = JoinGroupRequest(
        group_id=group_id,
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"mine")],
    )
    answer = world.wire.ask(request, version)
    if version >= 4:
        assert answer.error_code == 79  # MEMBER_ID_REQUIRED
        request.member_id = answer.member_id
        answer = world.wire.ask(request, version)
    assert (answer.error_code, answer.generation_id) == (0, 1)
    assert answer.leader == answer.member_id
    assert [member.metadata for member in answer.members] == [b"mine"]
    return answer.member_id, answer.generation_id


def sync(world: World, group_id: str, member_id: str, generation: int, version: int = 3) -> None:
    request = SyncGroupRequest(
        group_id=group_id,
        member_id=member_id,
        generation_id=generation,
        protocol_type="consumer",
        protocol_name="range",
        assignments=[SyncGroupRequestAssignment(member_id=member_id, assignment=b"all")],
    )
    answer = world.wire.ask(request, version)
    assert (answer.error_code, answer.assignment) == (0, b"all")


def check_join_group(world: World, version: int) -> None:
    join(world, f"join-{version}", version)


def check_sync_group(world: World, version: int) -> None:
    sync(world, f"sync-{version}", *join(world, f"sync-{version}"), version)


def check_heartbeat(world: World, version: int) -> None:
    group_id = f"heartbeat-{version}"
    member_id, generation = join(world, group_id)
    sync(world, group_id, member_id, generation)
    request = HeartbeatRequest(group_id=group_id, member_id=member_id, generation_id=generation)
    assert world.wire.ask(request, version).error_code == 0


def check_leave_group(world: World, version: int) -> None:
    group_id = f"leave-{version}"
    member_id, _ = join(world, group_id)
    request = LeaveGroupRequest(
        group_id=group_id, member_id=member_id, members=[MemberIdentity(member_id=member_id)]
    )
    answer = world.wire.ask(request, version)
    assert answer.error_code == 0
    assert [member.error_code for member in answer.members] == ([0] if version >= 3 else [])


def check_describe_groups(world: World, version: int) -> None:
    group_id = f"describe-{version}"
    sync(world, group_id, *join(world, group_id))
    (group,) = world.wire.ask(DescribeGroupsRequest(groups=[group_id]), version).groups
    assert (group.error_code, group.group_state) == (0, "Stable")
    assert [member.client_id for member in group.members] == ["test"]


def check_list_groups(world: World, version: int) -> None:
    group_id = f"list-{version}"
    join(world, group_id)
    answer = world.wire.ask(ListGroupsRequest(), version)
    assert answer.error_code == 0
    (listed,) = [group for group in answer.groups if group.group_id == group_id]
    assert listed.protocol_type == "consumer"
    assert listed.group_type == ("classic" if version >= 5 else "")


def check_delete_groups(world: World, version: int) -> None:
    check_offset_commit(world, 8)
    answer = world.wire.ask(DeleteGroupsRequest(groups_names=["commit-8", "none"]), version)
    assert {r.group_id: r.error_code for r in answer.results} == {"commit-8": 0, "none": 69}


def check_api_versions(world: World, version: int) -> None:
    request = ApiVersionsRequest(client_software_name="test", client_software_version="1.0")
    answer = world.wire.ask(request, version)
    ranges = {each.api_key: (each.min_version, each.max_version) for each in answer.api_keys}
    assert answer.error_code == 0
    assert ranges[0] == (0, 13)
    assert ranges[18] == (0, 5)
    assert not {4, 5, 6} & ranges.keys()


def check_init_producer_id(world: World, version: int) -> None:
    request = InitProducerIdRequest(transactional_id=None)
    first, second = world.wire.ask(request, version), world.wire.ask(request, version)
    assert (first.error_code, first.producer_epoch) == (0, 0)
    assert second.producer_id > first.producer_id >= 0


def check_offset_for_leader_epoch(world: World, version: int) -> None:
    topic = OffsetForLeaderTopic(
        topic=TOPIC, partitions=[OffsetForLeaderPartition(partition=0, leader_epoch=0)]
    )
    request = OffsetForLeaderEpochRequest(topics=[topic])
    partition = world.wire.ask(request, version).topics[0].partitions[0]
    assert (partition.error_code, partition.leader_epoch) == (0, 0)
    assert partition.end_offset > 0


def check_create_topics(world: World, version: int) -> None:
    request = CreateTopicsRequest(topics=[new_topic(f"create-{version}"), new_topic(TOPIC)])
    created, existing = world.wire.ask(request, version).topics
    assert (created.error_code, existing.error_code) == (0, 36)
    assert (created.topic_id != ZERO_ID) == (version >= 7)
    if version >= 5:
        assert "retention.ms" in {config.name for config in created.configs}


def check_delete_topics(world: World, version: int) -> None:
    name = f"delete-{version}"
    world.wire.ask(CreateTopicsRequest(topics=[new_topic(name)]), 5)
    request = DeleteTopicsRequest(
        topic_names=[name, "none"],
        topics=[DeleteTopicState(name=name), DeleteTopicState(name="none")],
        timeout_ms=5000,
    )
    answer = world.wire.ask(request, version)
    assert {r.name: r.error_code for r in answer.responses} == {name: 0, "none": 3}


def check_create_partitions(world: World, version: int) -> None:
    name = f"grow-{version}"
    world.wire.ask(CreateTopicsRequest(topics=[new_topic(name)]), 5)
    topics = [
        CreatePartitionsTopic(name=name, count=3, assignments=None),
        CreatePartitionsTopic(name=TOPIC, count=1, assignments=None),
    ]
    request = CreatePartitionsRequest(topics=topics, timeout_ms=5000)
    results = world.wire.ask(request, version).results
    assert {r.name: r.error_code for r in results} == {name: 0, TOPIC: 37}


def check_describe_configs(world: World, version: int) -> None:
    request = DescribeConfigsRequest(
        resources=[
            DescribeConfigsResource(resource_type=2, resource_name=TOPIC, configuration_keys=None),
            DescribeConfigsResource(
                resource_type=4, resource_name="1", configuration_keys=["log.retention.hours"]
            ),
        ],
        include_synonyms=True,
        include_documentation=True,
    )
    topic, broker = world.wire.ask(request, version).results
    assert (topic.error_code, broker.error_code) == (0, 0)
    retention = {config.name: config for config in topic.configs}["retention.ms"]
    assert (retention.value, retention.config_source) == ("604800000", 5)
    assert bool(retention.documentation) == (version >= 3)
    assert [config.value for config in broker.configs] == ["168"]


def check_incremental_alter_configs(world: World, version: int) -> None:
    def alter(value: str) -> Any:
        resource = AlterConfigsResource(
            resource_type=2,
            resource_name=TOPIC,
            configs=[AlterableConfig(name="retention.ms", config_operation=0, value=value)],
        )
        return world.wire.ask(IncrementalAlterConfigsRequest(resources=[resource]), version)

    assert alter("604800000").responses[0].error_code == 0
    refused = alter("soon").responses[0]
    assert refused.error_code == 40
    assert "retention.ms" in refused.error_message


def check_describe_cluster(world: World, version: int) -> None:
    answer = world.wire.ask(DescribeClusterRequest(), version)
    assert (answer.error_code, answer.controller_id) == (0, 1)
    assert [broker.broker_id for broker in answer.brokers] == [1]
    assert len(answer.cluster_id) == 22


CHECKS: dict[str, Callable[[World, int], None]] = {
    "Produce": check_produce,
    "Fetch": check_fetch,
    "ListOffsets": check_list_offsets,
    "Metadata": check_metadata,
    "OffsetCommit": check_offset_commit,
    "OffsetFetch": check_offset_fetch,
    "FindCoordinator": check_find_coordinator,
    "JoinGroup": check_join_group,
    "Heartbeat": check_heartbeat,
    "LeaveGroup": check_leave_group,
    "SyncGroup": check_sync_group,
    "DescribeGroups": check_describe_groups,
    "ListGroups": check_list_groups,
    "ApiVersions": check_api_versions,
    "CreateTopics": check_create_topics,
    "DeleteTopics": check_delete_topics,
    "InitProducerId": check_init_producer_id,
    "OffsetForLeaderEpoch": check_offset_for_leader_epoch,
    "DescribeConfigs": check_describe_configs,
    "CreatePartitions": check_create_partitions,
    "DeleteGroups": check_delete_groups,
    "IncrementalAlterConfigs": check_incremental_alter_configs,
    "DescribeCluster": check_describe_cluster,
    **administration.CHECKS,
}


def rows() -> list[tuple[str, int]]:
    return [
        (registry.API_NAMES[each.api_key], version)
        for each in advertised()
        for version in range(each.min_version, each.max_version + 1)
        if (each.api_key, version) not in {(0, 0), (0, 1), (0, 2)}
    ]


@pytest.mark.parametrize(("name", "version"), rows())
def test_every_version_is_answered(world: World, name: str, version: int) -> None:
    check = CHECKS[name]
    check(world, version)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_produce_below_3_is_advertised_and_refused_by_hanging_up(version: int) -> None:
    with Broker() as broker, Wire(broker.bootstrap) as wire:
        wire.socket.sendall(b"\0\0\0\x0a" + b"\0\0" + version.to_bytes(2, "big") + bytes(6))
        assert wire.is_hung_up()


def test_an_unknown_version_of_api_versions_is_answered_in_version_0() -> None:
    with Broker() as broker, Wire(broker.bootstrap) as wire:
        wire.socket.sendall(bytes.fromhex("0000000b 0012 0063 00000007 ffff 00"))
        frame = wire.receive_frame()
        answer: Any = registry.decode_response(18, 0, frame)
        assert (registry.read_correlation_id(frame), answer.error_code) == (7, 35)
        assert {(k.api_key, k.min_version, k.max_version) for k in answer.api_keys} >= {(18, 0, 5)}


def test_a_client_that_means_another_cluster_is_told_to_bootstrap_again(world: World) -> None:
    request = ApiVersionsRequest(
        client_software_name="test",
        client_software_version="1.0",
        cluster_id="AAAAAAAAAAAAAAAAAAAAAA",
    )
    assert world.wire.ask(request, 5).error_code == 129
    request.cluster_id, request.node_id = None, 7
    assert world.wire.ask(request, 5).error_code == 129


def message_types() -> list[type[Message]]:
    return [registry.api(key).request for key in registry.API_NAMES]


def test_the_ranges_in_the_registry_are_those_of_the_messages() -> None:
    for cls in message_types():
        assert registry.API_VERSIONS_RANGES[cls.__api_key__] == tuple(cls.__versions__)

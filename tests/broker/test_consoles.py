"""User interfaces for Kafka find what they ask for: the calls of each at its start, in the versions that it sends.

Read from their sources: kafbat's Kafka UI (``ReactiveAdminClient``, ``ScrapedClusterState``; Kafka's Java client
3.9), AKHQ (``AbstractKafkaWrapper``; Java client 3.x) and Redpanda Console (``backend/pkg/console``; franz-go).
Each test fails for a call that is not offered in its version, and for an answer that the tool takes for a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.messages.api_versions import ApiVersionsRequest
from ottla.messages.describe_acls import DescribeAclsRequest
from ottla.messages.describe_client_quotas import DescribeClientQuotasRequest
from ottla.messages.describe_cluster import DescribeClusterRequest
from ottla.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.messages.describe_groups import DescribeGroupsRequest
from ottla.messages.describe_log_dirs import DescribeLogDirsRequest
from ottla.messages.describe_producers import DescribeProducersRequest
from ottla.messages.describe_producers import TopicRequest as ProducersTopic
from ottla.messages.describe_topic_partitions import DescribeTopicPartitionsRequest, TopicRequest
from ottla.messages.describe_user_scram_credentials import DescribeUserScramCredentialsRequest
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsRequest
from ottla.messages.list_groups import ListGroupsRequest
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from ottla.testing import Broker
from ottla.wire.schema import Message
from tests.support.requests import create_topic, produce
from tests.support.wire import Wire, batch

TOPIC, GROUP = "weather", "readers"
TOPIC_RESOURCE, BROKER_RESOURCE = 2, 4
NONE, SECURITY_DISABLED = ErrorCode.NONE, ErrorCode.SECURITY_DISABLED


class Tool:
    """A user interface, which asks a broker with a topic, a record and a group."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.offered: dict[int, tuple[int, int]] = {}

    def starts(self, version: int) -> None:
        """Ask what the broker offers."""
        hello = ApiVersionsRequest(client_software_name="tool", client_software_version="1.0")
        answer = self.wire.ask(hello, version)
        assert answer.error_code == NONE
        self.offered = {
            each.api_key: (each.min_version, each.max_version) for each in answer.api_keys
        }

    def asks(self, request: Message, version: int) -> Any:
        """Ask in a version that the broker has to offer."""
        low, high = self.offered[type(request).__api_key__]
        assert low <= version <= high, type(request).__name__
        return self.wire.ask(request, version)


@pytest.fixture
def tool() -> Iterator[Tool]:
    with Broker() as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, TOPIC)
        assert produce(wire, TOPIC, batch(b"sunny")).error_code == NONE
        assert wire.ask(FindCoordinatorRequest(key=GROUP), 3).error_code == NONE
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=1)
        topic = OffsetCommitRequestTopic(name=TOPIC, partitions=[partition])
        request = OffsetCommitRequest(group_id=GROUP, topics=[topic])
        assert wire.ask(request, 8).topics[0].partitions[0].error_code == NONE
        yield Tool(wire)


def configs(kind: int, *names: str, keys: list[str] | None = None) -> DescribeConfigsRequest:
    resources = [
        DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
        for name in names
    ]
    return DescribeConfigsRequest(resources=resources, include_synonyms=True)


def any_acl() -> DescribeAclsRequest:
    return DescribeAclsRequest(
        resource_type_filter=1,
        resource_name_filter=None,
        pattern_type_filter=1,
        principal_filter=None,
        host_filter=None,
        operation=1,
        permission_type=1,
    )


def offsets(timestamp: int) -> ListOffsetsRequest:
    partition = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    topic = ListOffsetsTopic(name=TOPIC, partitions=[partition])
    return ListOffsetsRequest(replica_id=-1, topics=[topic])


def check_topics(tool: Tool, metadata_version: int) -> None:
    """All topics by name."""
    answer = tool.asks(
        MetadataRequest(topics=None, allow_auto_topic_creation=False), metadata_version
    )
    names = {topic.name: topic.error_code for topic in answer.topics}
    assert names == {TOPIC: NONE, "__consumer_offsets": NONE}
    assert answer.controller_id == 1


def check_groups(tool: Tool, list_version: int, describe_version: int) -> None:
    """Groups, their members, offsets and their coordinator."""
    listed = tool.asks(ListGroupsRequest(), list_version)
    assert [group.group_id for group in listed.groups] == [GROUP]
    found = tool.asks(FindCoordinatorRequest(key_type=0, coordinator_keys=[GROUP]), 6)
    assert [each.error_code for each in found.coordinators] == [NONE]
    (group,) = tool.asks(DescribeGroupsRequest(groups=[GROUP]), describe_version).groups
    assert (group.error_code, group.group_state) == (NONE, "Empty")
    wanted = OffsetFetchRequestGroup(group_id=GROUP, topics=None)
    (fetched,) = tool.asks(OffsetFetchRequest(groups=[wanted]), 9).groups
    assert fetched.error_code == NONE
    assert [p.committed_offset for t in fetched.topics for p in t.partitions] == [1]


def check_offsets(tool: Tool, version: int) -> None:
    """First and last offset of each partition."""
    for timestamp, offset in ((-1, 1), (-2, 0)):
        found = tool.asks(offsets(timestamp), version).topics[0].partitions[0]
        assert (found.error_code, found.offset) == (NONE, offset)


def check_log_dirs(tool: Tool, version: int) -> None:
    """What lies where."""
    (directory,) = tool.asks(DescribeLogDirsRequest(topics=None), version).results
    assert directory.error_code == NONE
    assert TOPIC in [topic.name for topic in directory.topics]


def check_java_start(tool: Tool) -> None:
    """What Kafka's Java admin client asks by itself; it asks for no telemetry where none is offered."""
    tool.starts(3)
    assert GetTelemetrySubscriptionsRequest.__api_key__ not in tool.offered
    cluster = tool.asks(DescribeClusterRequest(include_cluster_authorized_operations=False), 1)
    assert (cluster.error_code, cluster.controller_id) == (NONE, 1)


def test_kafka_ui_finds_what_it_asks_for(tool: Tool) -> None:
    check_java_start(tool)
    (broker,) = tool.asks(configs(BROKER_RESOURCE, "1"), 4).results
    values = {config.name: config.value for config in broker.configs}
    assert values["delete.topic.enable"] == "true"
    # From this it concludes what the broker can do: IncrementalAlterConfigs, documentation, quotas.
    assert values["inter.broker.protocol.version"] == "3.9-IV0"
    assert tool.asks(any_acl(), 3).error_code == SECURITY_DISABLED
    operations = tool.asks(DescribeClusterRequest(include_cluster_authorized_operations=True), 1)
    assert operations.error_code == NONE
    check_log_dirs(tool, 4)
    check_topics(tool, 12)
    names = [TopicRequest(name=name) for name in (TOPIC, "__consumer_offsets")]
    described = tool.asks(DescribeTopicPartitionsRequest(topics=names), 0)
    assert [topic.error_code for topic in described.topics] == [NONE, NONE]
    found = tool.asks(configs(TOPIC_RESOURCE, TOPIC, "__consumer_offsets"), 4)
    assert [result.error_code for result in found.results] == [NONE, NONE]
    check_offsets(tool, 9)
    check_groups(tool, 5, 5)
    assert tool.asks(DescribeClientQuotasRequest(), 1).entries == []
    wanted = ProducersTopic(name=TOPIC, partition_indexes=[0])
    producers = tool.asks(DescribeProducersRequest(topics=[wanted]), 0)
    assert producers.topics[0].partitions[0].error_code == NONE


def test_akhq_finds_what_it_asks_for(tool: Tool) -> None:
    check_java_start(tool)
    check_topics(tool, 12)
    names = [MetadataRequestTopic(name=TOPIC)]
    described = tool.asks(MetadataRequest(topics=names, allow_auto_topic_creation=False), 12)
    assert described.topics[0].error_code == NONE
    check_offsets(tool, 8)
    check_groups(tool, 5, 5)
    check_log_dirs(tool, 4)
    for request in (configs(BROKER_RESOURCE, "1"), configs(TOPIC_RESOURCE, TOPIC)):
        assert tool.asks(request, 4).results[0].error_code == NONE
    assert tool.asks(any_acl(), 3).error_code == SECURITY_DISABLED


def test_redpanda_console_finds_what_it_asks_for(tool: Tool) -> None:
    tool.starts(4)
    check_topics(tool, 13)
    assert tool.asks(any_acl(), 3).error_code == SECURITY_DISABLED
    check_log_dirs(tool, 4)
    brokers = tool.asks(configs(BROKER_RESOURCE, "1"), 4)
    topics = tool.asks(configs(TOPIC_RESOURCE, TOPIC, keys=["cleanup.policy"]), 4)
    assert brokers.results[0].error_code == NONE
    assert [config.value for config in topics.results[0].configs] == ["delete"]
    check_groups(tool, 5, 6)
    check_offsets(tool, 10)
    assert tool.asks(DescribeClientQuotasRequest(), 1).entries == []
    users = tool.asks(DescribeUserScramCredentialsRequest(users=None), 0)
    assert (users.error_code, users.results) == (NONE, [])
    assert tool.asks(ListPartitionReassignmentsRequest(topics=None), 0).topics == []
    # It shows a page where the broker offers all that the page may send (endpoint_compatibility.go).
    pages = {8, 15, 16, 21, 32, 42, 44, 45, 46, 47, 48, 50, 51}
    assert pages <= tool.offered.keys()

"""Topics and settings: created, described, altered and deleted, and what survives a restart."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from ottla.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.testing import Broker
from tests.support.requests import create_topic, fetch, list_offset, produce
from tests.support.wire import Wire, batch

TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)


def create(wire: Wire, topic: CreatableTopic, *, validate_only: bool = False) -> Any:
    request = CreateTopicsRequest(topics=[topic], timeout_ms=9000, validate_only=validate_only)
    return wire.ask(request, 7).topics[0]


def names(wire: Wire) -> list[str]:
    answer = wire.ask(MetadataRequest(topics=None), 9)
    return sorted(topic.name for topic in answer.topics)


def describe(wire: Wire, kind: int, name: str, *keys: str) -> Any:
    resource = DescribeConfigsResource(
        resource_type=kind, resource_name=name, configuration_keys=list(keys) or None
    )
    request = DescribeConfigsRequest(resources=[resource], include_synonyms=True)
    return wire.ask(request, 4).results[0]


def alter(wire: Wire, kind: int, name: str, *operations: tuple[str, int, str | None]) -> Any:
    configs = [AlterableConfig(name=n, config_operation=o, value=v) for n, o, v in operations]
    resource = AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)
    request = IncrementalAlterConfigsRequest(resources=[resource])
    return wire.ask(request, 1).responses[0]


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (CreatableTopic(name="a b", num_partitions=1, replication_factor=1), 17),
        (CreatableTopic(name="", num_partitions=1, replication_factor=1), 17),
        (CreatableTopic(name="..", num_partitions=1, replication_factor=1), 17),
        (CreatableTopic(name="x" * 250, num_partitions=1, replication_factor=1), 17),
        (CreatableTopic(name="taken_name", num_partitions=1, replication_factor=1), 17),
        (CreatableTopic(name="t", num_partitions=0, replication_factor=1), 37),
        (CreatableTopic(name="t", num_partitions=1, replication_factor=2), 38),
        (
            CreatableTopic(
                name="t",
                num_partitions=-1,
                replication_factor=-1,
                assignments=[CreatableReplicaAssignment(partition_index=0, broker_ids=[9])],
            ),
            39,
        ),
        (
            CreatableTopic(
                name="t",
                num_partitions=1,
                replication_factor=1,
                configs=[CreatableTopicConfig(name="retention.ms", value="soon")],
            ),
            40,
        ),
        (
            CreatableTopic(
                name="t",
                num_partitions=1,
                replication_factor=1,
                configs=[CreatableTopicConfig(name="no.such.setting", value="1")],
            ),
            40,
        ),
    ],
)
def test_a_topic_that_cannot_be_is_refused_with_a_reason(
    wire: Wire, topic: CreatableTopic, code: int
) -> None:
    create_topic(wire, "taken.name")
    refused = create(wire, topic)
    assert refused.error_code == code, refused.error_message
    assert refused.error_message
    assert names(wire) == ["taken.name"]


@pytest.mark.ottla({"num.partitions": 3})
def test_minus_one_means_the_brokers_defaults(wire: Wire) -> None:
    topic = CreatableTopic(name="t", num_partitions=-1, replication_factor=-1)
    created = create(wire, topic)
    assert (created.num_partitions, created.replication_factor) == (3, 1)


def test_validate_only_writes_nothing(wire: Wire) -> None:
    topic = CreatableTopic(name="t", num_partitions=1, replication_factor=1)
    assert create(wire, topic, validate_only=True).error_code == 0
    assert names(wire) == []


def test_a_name_given_twice_is_refused(wire: Wire) -> None:
    topic = CreatableTopic(name="t", num_partitions=1, replication_factor=1)
    request = CreateTopicsRequest(topics=[topic, topic], timeout_ms=9000)
    assert [t.error_code for t in wire.ask(request, 7).topics] == [ErrorCode.INVALID_REQUEST]
    assert names(wire) == []


def metadata_of(wire: Wire, name: str, version: int = 12, **how: Any) -> Any:
    request = MetadataRequest(topics=[MetadataRequestTopic(name=name)], **how)
    return wire.ask(request, version).topics[0]


def test_asking_for_a_topic_makes_it_where_both_sides_allow(wire: Wire) -> None:
    refused = metadata_of(wire, "t", allow_auto_topic_creation=False)
    assert refused.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    made = metadata_of(wire, "t")
    assert (made.error_code, made.partitions[0].leader_id) == (0, 1)
    assert metadata_of(wire, "bad name").error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert names(wire) == ["t"]


@pytest.mark.ottla({"auto.create.topics.enable": "false"})
def test_no_topic_makes_itself_where_the_broker_forbids_it(wire: Wire) -> None:
    assert metadata_of(wire, "t").error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert names(wire) == []


def test_topics_records_and_settings_survive_a_restart(ottla_broker: Broker) -> None:
    with Wire(ottla_broker.bootstrap) as wire:
        topic_id = create_topic(wire, "t", partitions=2, retention_ms=12345678)
        produce(wire, "t", batch(b"kept"))
        cluster = wire.ask(MetadataRequest(topics=None), 9).cluster_id
    ottla_broker.restart()
    with Wire(ottla_broker.bootstrap) as wire:
        answer = wire.ask(MetadataRequest(topics=None), 12)
        assert answer.cluster_id == cluster
        assert [(t.name, t.topic_id, len(t.partitions)) for t in answer.topics] == [
            ("t", topic_id, 2)
        ]
        assert b"kept" in bytes(fetch(wire, "t").records)
        assert describe(wire, TOPIC, "t", "retention.ms").configs[0].value == "12345678"


def test_a_topic_is_deleted_by_name_or_by_id_with_its_files(ottla_broker: Broker) -> None:
    with Wire(ottla_broker.bootstrap) as wire:
        create_topic(wire, "a")
        by_id = create_topic(wire, "b")
        for name in ("a", "b"):
            produce(wire, name, batch(b"x"))
        request = DeleteTopicsRequest(
            topics=[
                DeleteTopicState(name="a"),
                DeleteTopicState(topic_id=by_id),
                DeleteTopicState(name="none"),
                DeleteTopicState(topic_id=b"?" * 16),
            ],
            timeout_ms=9000,
        )
        codes = [response.error_code for response in wire.ask(request, 6).responses]
        assert codes == [
            0,
            0,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode.UNKNOWN_TOPIC_ID,
        ]
        assert names(wire) == []
    left = [path.name for path in ottla_broker.data.iterdir() if path.is_dir()]
    assert all(name.endswith("-delete") for name in left)


@pytest.mark.ottla({"delete.topic.enable": "false"})
def test_deletion_can_be_disabled(wire: Wire) -> None:
    create_topic(wire, "t")
    request = DeleteTopicsRequest(topics=[DeleteTopicState(name="t")], timeout_ms=9000)
    answer = wire.ask(request, 6).responses[0]
    assert answer.error_code == ErrorCode.TOPIC_DELETION_DISABLED
    assert names(wire) == ["t"]


def test_settings_are_altered_one_by_one_and_told_with_their_source(wire: Wire) -> None:
    create_topic(wire, "t", cleanup_policy="delete")
    answer = alter(
        wire,
        TOPIC,
        "t",
        ("retention.ms", SET, "1000"),
        ("cleanup.policy", APPEND, "compact"),
    )
    assert answer.error_code == 0, answer.error_message
    found = {c.name: c for c in describe(wire, TOPIC, "t").configs}
    assert (found["retention.ms"].value, found["retention.ms"].config_source) == ("1000", 1)
    assert found["cleanup.policy"].value == "delete,compact"
    assert found["segment.bytes"].config_source == 5
    sources = [(s.name, s.source) for s in found["retention.ms"].synonyms]
    assert sources[0] == ("retention.ms", 1)
    alter(wire, TOPIC, "t", ("retention.ms", DELETE, None), ("cleanup.policy", SUBTRACT, "delete"))
    found = {c.name: c.value for c in describe(wire, TOPIC, "t").configs}
    assert (found["retention.ms"], found["cleanup.policy"]) == ("604800000", "compact")


def test_a_brokers_setting_changes_topics_that_have_none_of_their_own(wire: Wire) -> None:
    create_topic(wire, "t")
    create_topic(wire, "own", max_message_bytes=5000)
    assert alter(wire, BROKER, "", ("message.max.bytes", SET, "200")).error_code == 0
    config = describe(wire, TOPIC, "t", "max.message.bytes").configs[0]
    assert (config.value, config.config_source) == ("200", 3)
    assert produce(wire, "t", batch(bytes(300))).error_code == ErrorCode.MESSAGE_TOO_LARGE
    assert produce(wire, "own", batch(bytes(300))).error_code == 0
    refused = alter(wire, BROKER, "1", ("log.dirs", SET, "/elsewhere"))
    assert refused.error_code == ErrorCode.INVALID_REQUEST
    other = alter(wire, BROKER, "7", ("message.max.bytes", SET, "200"))
    assert other.error_code == ErrorCode.INVALID_REQUEST


def test_settings_of_nothing_are_refused(wire: Wire) -> None:
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert describe(wire, TOPIC, "none").error_code == unknown
    assert alter(wire, TOPIC, "none", ("retention.ms", SET, "1")).error_code == unknown
    assert describe(wire, 8, "1").error_code == ErrorCode.INVALID_REQUEST


def wait_for_log_start(wire: Wire, topic: str, offset: int) -> None:
    import threading
    from time import monotonic

    end, pause = monotonic() + 20, threading.Event()
    while list_offset(wire, topic, -2).offset < offset:
        assert monotonic() < end, "retention did not come"
        pause.wait(0.02)


RETENTION_SOON = {"log.retention.check.interval.ms": 50, "log.initial.task.delay.ms": 0}


@pytest.mark.ottla(RETENTION_SOON)
def test_retention_by_size_removes_whole_segments_below_the_high_watermark(wire: Wire) -> None:
    create_topic(wire, "t", segment_bytes=2000, retention_bytes=4000)
    for _ in range(12):
        produce(wire, "t", batch(bytes(900)))
    wait_for_log_start(wire, "t", 6)
    assert fetch(wire, "t", 0).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert list_offset(wire, "t", -1).offset == 12


@pytest.mark.ottla(RETENTION_SOON)
def test_retention_that_is_set_while_it_runs_takes_effect(wire: Wire) -> None:
    create_topic(wire, "t", segment_bytes=2000, retention_ms=-1)
    for _ in range(6):
        produce(wire, "t", batch(bytes(900)))  # of the year 2023
    assert list_offset(wire, "t", -2).offset == 0
    assert alter(wire, TOPIC, "t", ("retention.ms", SET, "1000")).error_code == 0
    wait_for_log_start(wire, "t", 6)
    assert produce(wire, "t", batch(b"next")).base_offset == 6


def test_the_groups_topic_is_made_when_it_is_first_needed(wire: Wire) -> None:
    assert names(wire) == []
    assert wire.ask(FindCoordinatorRequest(key="g"), 3).error_code == 0
    topic = metadata_of(wire, "__consumer_offsets")
    assert (len(topic.partitions), topic.is_internal) == (50, True)
    found = {c.name: c.value for c in describe(wire, TOPIC, "__consumer_offsets").configs}
    assert (found["cleanup.policy"], found["segment.bytes"]) == ("compact", "104857600")


def test_a_transactions_coordinator_is_refused_for_good(wire: Wire) -> None:
    answer = wire.ask(FindCoordinatorRequest(key="mine", key_type=1), 3)
    assert answer.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert "not supported" in answer.error_message


def test_a_resource_is_described_once_however_often_it_is_asked_for(wire: Wire) -> None:
    create_topic(wire, "t")
    resources = [
        DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
        for kind, name, keys in ((TOPIC, "t", None), (TOPIC, "t", []), (BROKER, "1", None)) * 500
    ]
    results = wire.ask(DescribeConfigsRequest(resources=resources), 4).results
    assert [(r.resource_type, r.resource_name) for r in results] == [(TOPIC, "t"), (BROKER, "1")]
    assert all(result.configs for result in results)


def test_a_broker_that_is_not_the_controller_says_so_for_each_topic(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ottla_broker.server is not None
    controller = ottla_broker.server.controller

    async def no_election() -> None:
        """Nor does a look at the office that was still to be taken give it back."""

    monkeypatch.setattr(controller, "_check_office", no_election)
    create_topic(wire, "t")
    controller._state = None  # as when its session has ended
    new = CreatableTopic(name="new", num_partitions=1, replication_factor=1)
    deletion = DeleteTopicsRequest(topics=[DeleteTopicState(name="t")], timeout_ms=9000)
    growth = CreatePartitionsRequest(topics=[CreatePartitionsTopic(name="t", count=2)])
    codes = [
        create(wire, new).error_code,
        wire.ask(deletion, 6).responses[0].error_code,
        wire.ask(growth, 3).results[0].error_code,
        alter(wire, TOPIC, "t", ("retention.ms", SET, "1000")).error_code,
    ]
    assert codes == [ErrorCode.NOT_CONTROLLER] * 4

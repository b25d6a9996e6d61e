"""What everybody asks at first, and what admin tools ask of topics: ApiVersions, Metadata, topics, partitions."""

from __future__ import annotations

import struct
from typing import Any

from ottla.messages import registry
from ottla.messages.api_versions import ApiVersionsRequest
from ottla.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from ottla.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.messages.describe_cluster import DescribeClusterRequest
from ottla.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.interop.answers.asking import Asker

NOBODYS_ID = b"\x07" * 16


def api_versions(asker: Asker) -> None:
    for key, (lo, hi) in sorted(asker.ranges.items()):
        if key in registry.API_NAMES and key not in registry.BETWEEN_BROKERS:
            asker.note(f"the versions of {registry.API_NAMES[key]}", f"{lo}-{hi}")
    for name, version in (("", "1"), ("a client", ""), ("-x", "1"), ("x", "1 2"), ("a.b-c", "1")):
        hello = ApiVersionsRequest(client_software_name=name, client_software_version=version)
        answer = asker.ask_unkept(hello, 3)
        asker.note(f"software {name!r} {version!r}", answer.error_code)


def api_versions_that_are_unknown(asker: Asker) -> None:
    header = struct.pack(">hhih", 18, 99, 1, -1) + b"\0"
    answer = asker.ask_bytes(18, 0, header)
    asker.note("ApiVersions 99", (answer.error_code, [key.api_key for key in answer.api_keys]))
    for key, version in ((0, 99), (3, 99), (999, 0), (-1, 0), (3, -1), (1, 3), (19, 1), (11, 42)):
        frame = struct.pack(">hhih", key, version, 1, -1) + bytes(20)
        asker.note(f"key {key} version {version}", asker.ask_bytes(None, 0, frame))
    asker.note("an empty frame", asker.ask_bytes(None, 0, b""))
    asker.note("a frame of one byte", asker.ask_bytes(None, 0, b"\0"))
    asker.note(
        "Metadata with too many topics",
        asker.ask_bytes(None, 0, struct.pack(">hhihi", 3, 1, 1, -1, 2**31 - 1)),
    )
    asker.note(
        "Metadata with bytes to spare",
        asker.ask_bytes(None, 0, struct.pack(">hhihi", 3, 1, 1, -1, 0) + b"spare") is not None,
    )


def metadata(asker: Asker) -> None:
    topic = asker.topic("metadata", 2)

    def of(*names: str | None, **fields: Any) -> MetadataRequest:
        topics = [MetadataRequestTopic(name=name) for name in names]
        return MetadataRequest(**{"topics": topics, "allow_auto_topic_creation": False, **fields})

    asker.ask_every("a topic", of(topic), range(1, 14))
    asker.ask_every("a topic that is not there", of("not.there"), range(4, 14))
    asker.ask_every("impossible names", of("no spaces", "", ".", "..", "x" * 250), range(4, 14))
    asker.ask_every("no topics", of(), range(1, 14))
    asker.ask_every("one twice", of(topic, topic), range(4, 14))
    for version in (10, 11, 12, 13):
        by_id = [MetadataRequestTopic(name=None, topic_id=asker.ids[topic])]
        asker.ask(f"by id, version {version}", of(topics=by_id), version)
        nobody = [MetadataRequestTopic(name=None, topic_id=NOBODYS_ID)]
        asker.ask(f"by an id that is none, version {version}", of(topics=nobody), version)
        both = [MetadataRequestTopic(name=topic, topic_id=asker.ids[topic])]
        asker.ask(f"by name and id, version {version}", of(topics=both), version)
        neither = [MetadataRequestTopic(name=None)]
        asker.ask(f"by neither, version {version}", of(topics=neither), version)
    for version in (8, 9, 10, 12):
        asker.ask(
            f"with what is allowed, version {version}",
            of(
                topic,
                include_topic_authorized_operations=True,
                include_cluster_authorized_operations=True,
            ),
            version,
        )


def cluster(asker: Asker) -> None:
    for allowed in (False, True):
        asker.ask_every(
            f"the cluster, allowed={allowed}",
            DescribeClusterRequest(include_cluster_authorized_operations=allowed),
        )
    for endpoint in (0, 2, 3):
        asker.ask(f"endpoint {endpoint}", DescribeClusterRequest(endpoint_type=endpoint), 1)


def topic_partitions(asker: Asker) -> None:
    topic = asker.topic("partitions.described", 3)

    def of(*names: str, limit: int = 2000) -> DescribeTopicPartitionsRequest:
        topics = [TopicRequest(name=name) for name in names]
        return DescribeTopicPartitionsRequest(topics=topics, response_partition_limit=limit)

    asker.ask("a topic", of(topic), 0)
    asker.ask("two partitions of it", of(topic, limit=2), 0)
    asker.ask("none of it", of(topic, limit=0), 0)
    asker.ask("topics that are not there", of("not.there", topic, "no spaces"), 0)


def new(name: str, partitions: int = 1, replicas: int = 1, **fields: Any) -> CreatableTopic:
    """A topic to be made."""
    return CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=replicas, **fields
    )


def create_topics(asker: Asker) -> None:
    def make(words: str, *topics: CreatableTopic, **fields: Any) -> None:
        # The settings that come with a success are those of settings.describe_topics.
        answer = asker.ask_unkept(CreateTopicsRequest(topics=list(topics), **fields), 7)
        for topic in answer.topics:
            topic.configs = []
        asker.note(words, answer)

    def setting(name: str, value: str | None) -> CreatableTopic:
        return new("make.setting", configs=[CreatableTopicConfig(name=name, value=value)])

    for version in range(2, 8):
        topic = new(f"make.{version}", 2)
        answer = asker.ask_unkept(CreateTopicsRequest(topics=[topic]), version)
        (made,) = answer.topics
        made.configs = [c for c in made.configs if c.name in ("retention.ms", "segment.bytes")]
        asker.note(f"one, version {version}", answer)
    make("one that is there", new("make.7"))
    make("only to see", new("make.see", 3), validate_only=True)
    make("one that is there, only to see", new("make.7"), validate_only=True)
    for name in ("", ".", "..", "no spaces", "ä", "x" * 249, "x" * 250, "a/b", "_", "__x"):
        make(f"the name {name!r}", new(name), validate_only=True)
    make("a name that collides", new("make_7"), validate_only=True)
    make("__consumer_offsets", new("__consumer_offsets"), validate_only=True)
    for partitions in (0, -1, -2, 1_000_000_000):
        make(f"{partitions} partitions", new("make.n", partitions), validate_only=True)
    for replicas in (0, -1, -2, 2):
        make(f"{replicas} replicas", new("make.r", 1, replicas), validate_only=True)
    make("twice the same", new("make.twice"), new("make.twice"))
    make("nothing")
    for ids in ([[1]], [[1], [1]], [[7]], [[]], [[1, 1]]):
        assignments = [
            CreatableReplicaAssignment(partition_index=i, broker_ids=brokers)
            for i, brokers in enumerate(ids)
        ]
        assigned = new("make.assigned", -1, -1, assignments=assignments)
        make(f"assigned to {ids}", assigned, validate_only=True)
        both = new("make.assigned", len(ids), 1, assignments=assignments)
        make(f"assigned to {ids} and counted", both, validate_only=True)
    gap = [CreatableReplicaAssignment(partition_index=i, broker_ids=[1]) for i in (0, 2)]
    make("assigned with a gap", new("make.gap", -1, -1, assignments=gap), validate_only=True)
    for name, value in (
        ("retention.ms", "1000"),
        ("retention.ms", "many"),
        ("retention.ms", "-2"),
        ("retention.ms", None),
        ("retention.ms", ""),
        ("no.such.setting", "1"),
        ("cleanup.policy", "compact,delete"),
        ("cleanup.policy", "shred"),
        ("compression.type", "uncompressed"),
        ("compression.type", "brotli"),
        ("min.insync.replicas", "0"),
        ("min.insync.replicas", "2"),
        ("segment.bytes", "13"),
        ("max.message.bytes", "-1"),
        ("message.timestamp.type", "Now"),
        ("unclean.leader.election.enable", "perhaps"),
        ("message.format.version", "2.0"),
        ("remote.storage.enable", "true"),
        ("leader.replication.throttled.replicas", "0:1"),
        ("leader.replication.throttled.replicas", "x"),
    ):
        topic = setting(name, value)
        make(f"{name}={value!r}", topic, validate_only=True)
    make(
        "one setting twice",
        new(
            "make.double",
            configs=[CreatableTopicConfig(name="retention.ms", value=v) for v in ("1", "2")],
        ),
        validate_only=True,
    )


def delete_topics(asker: Asker) -> None:
    for version in range(1, 7):
        topic = asker.topic(f"delete.{version}")
        states = [
            DeleteTopicState(name=name) for name in (topic, "not.there", "no spaces", topic + "x")
        ]
        request = DeleteTopicsRequest(
            topics=states, topic_names=[topic, "not.there", "no spaces"], timeout_ms=10_000
        )
        asker.ask(f"topics, version {version}", request, version)
    topic = asker.topic("delete.id")

    def states(words: str, *topics: DeleteTopicState) -> None:
        asker.ask(words, DeleteTopicsRequest(topics=list(topics), timeout_ms=10_000), 6)

    states("by an id that is none", DeleteTopicState(topic_id=NOBODYS_ID))
    states("by name and id", DeleteTopicState(name=topic, topic_id=asker.ids[topic]))
    states("by neither", DeleteTopicState())
    states("twice", DeleteTopicState(name=topic), DeleteTopicState(name=topic))
    states("by id", DeleteTopicState(topic_id=asker.ids[topic]))
    states("by id again", DeleteTopicState(topic_id=asker.ids[topic]))


def create_partitions(asker: Asker) -> None:
    topic = asker.topic("grow", 2)

    def grow(words: str, count: int, name: str = topic, **fields: Any) -> None:
        assignments = fields.pop("assignments", None)
        asker.ask_every(
            words,
            CreatePartitionsRequest(
                topics=[CreatePartitionsTopic(name=name, count=count, assignments=assignments)],
                timeout_ms=10_000,
                validate_only=True,
            ),
        )

    for count in (-1, 0, 1, 2, 3):
        grow(f"to {count}", count)
    grow("a topic that is not there", 3, "not.there")
    grow("an impossible name", 3, "no spaces")
    for ids in ([[1]], [[1], [1]], [[7]], [[]], [[1, 1]], []):
        assignments = [CreatePartitionsAssignment(broker_ids=brokers) for brokers in ids]
        grow(f"to 3 on {ids}", 3, assignments=assignments)
    same = CreatePartitionsTopic(name=topic, count=3, assignments=None)
    asker.ask("twice", CreatePartitionsRequest(topics=[same, same], timeout_ms=10_000), 3)


QUESTIONS = (
    api_versions,
    api_versions_that_are_unknown,
    metadata,
    cluster,
    topic_partitions,
    create_topics,
    delete_topics,
    create_partitions,
)

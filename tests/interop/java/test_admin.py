"""Each call of the Java Admin client that one broker can answer, and the errors of those that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.java import adapter
from tests.interop.raw import RawClient
from tests.interop.samples import BASE_MS, Sample
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("java")]


class JavaAdmin:
    """The Admin client of a broker."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def __call__(self, verb: str, **fields: Any) -> Any:
        return adapter.JAVA.admin(self._bootstrap, verb, **fields)


@pytest.fixture(scope="module")
def admin(bootstrap: str) -> Any:
    """The client, closed at the end of the module."""
    made = JavaAdmin(bootstrap)
    made("describe_cluster")
    yield made
    made("close")


@pytest.fixture
def topic(bootstrap: str, unused: str, raw: RawClient) -> str:
    """A topic of two partitions with three records, times out of order, in the first."""
    raw.create_topic(unused, 2)
    records = [
        adapter.record(unused, Sample(b"k", b"v", (), BASE_MS + delta), 0)
        for delta in (1000, 3000, 2000)
    ]
    adapter.send(bootstrap, records)
    return unused


def error(outcome: Any) -> str:
    """The Java name of an outcome's error."""
    assert isinstance(outcome, dict), outcome
    return str(outcome["error"])


def test_topics_are_made_described_grown_and_deleted(admin: JavaAdmin, unused: str) -> None:
    configs = {"retention.ms": "1000"}
    seen = admin("create_topic", name=unused, partitions_count=2, configs={}, validate_only=True)
    assert seen["outcome"] is None
    assert unused not in admin("list_topics")
    made = admin("create_topic", name=unused, partitions_count=2, configs=configs)
    assert (made["outcome"], made["partitions"]) == (None, 2)
    entries = {each["name"]: each for each in made["config"]["entries"]}
    assert entries["retention.ms"]["value"] == "1000"
    assert entries["retention.ms"]["source"] == "DYNAMIC_TOPIC_CONFIG"
    topic_id = made["topic_id"]
    assert admin("list_topics")[unused]["topicId"] == topic_id
    assert admin("create_partitions", name=unused, partitions_count=3) == {unused: None}
    described = admin("describe_topics", topics=[unused])[unused]
    assert [each["partition"] for each in described["partitions"]] == [0, 1, 2]
    assert [each["leader"]["id"] for each in described["partitions"]] == [1, 1, 1]
    assert admin("describe_topic_ids", ids=[topic_id])[topic_id]["name"] == unused
    again = admin("create_topic", name=unused, partitions_count=2, configs={})
    assert error(again["outcome"]) == "TopicExistsException"
    fewer = admin("create_partitions", name=unused, partitions_count=1)
    assert error(fewer[unused]) == "InvalidPartitionsException"
    assert admin("delete_topic_ids", id=topic_id) == {topic_id: None}
    gone = admin("delete_topics", topics=[unused])
    assert error(gone[unused]) == "UnknownTopicOrPartitionException"


def test_settings_are_changed_and_described(admin: JavaAdmin, topic: str) -> None:
    about = {"type": "TOPIC", "name": topic}
    place = f"TOPIC:{topic}"

    def alter(*changes: list[str]) -> Any:
        return admin("alter_configs", **about, changes=list(changes))[place]

    assert alter(["SET", "retention.ms", "5000"], ["APPEND", "cleanup.policy", "compact"]) is None

    def settings() -> dict[str, Any]:
        entries = admin("describe_configs", **about)[place]["entries"]
        return {entry["name"]: entry for entry in entries}

    eventually(lambda: settings()["retention.ms"]["value"] == "5000", "the change")
    found = settings()
    assert found["retention.ms"]["type"] == "LONG"
    assert found["retention.ms"]["documentation"]
    assert found["cleanup.policy"]["value"] == "delete,compact"
    assert [s["source"] for s in found["segment.bytes"]["synonyms"]] == ["DEFAULT_CONFIG"]
    assert alter(["DELETE", "retention.ms", ""], ["SUBTRACT", "cleanup.policy", "delete"]) is None
    eventually(lambda: settings()["cleanup.policy"]["value"] == "compact", "the change back")
    assert settings()["retention.ms"]["value"] == "604800000"
    assert error(alter(["SET", "retention.ms", "x"])) == "InvalidConfigurationException"
    missing = admin("describe_configs", type="TOPIC", name="not.there")["TOPIC:not.there"]
    assert error(missing) == "UnknownTopicOrPartitionException"
    broker = admin("describe_configs", type="BROKER", name="1")["BROKER:1"]["entries"]
    assert {e["name"]: e["value"] for e in broker}["num.partitions"] == "1"
    assert "BROKER:1" in admin("list_config_resources")


def test_offsets_are_found_by_every_spec(admin: JavaAdmin, topic: str) -> None:
    def at(spec: str) -> tuple[int, int]:
        (found,) = admin("list_offsets", partitions=[[topic, 0]], spec=spec).values()
        return found["offset"], found["timestamp"]

    assert at("earliest") == (0, -1)
    assert at("latest") == (3, -1)
    assert at("max_timestamp") == (1, BASE_MS + 3000)
    assert at("earliest_local") == (0, -1)
    assert at("latest_tiered") == (-1, -1)
    assert at("earliest_pending_upload") == (-1, -1)
    assert at(str(BASE_MS + 1500)) == (1, BASE_MS + 3000)
    assert at(str(BASE_MS + 9000)) == (-1, -1)


def test_records_are_deleted(admin: JavaAdmin, topic: str) -> None:
    place = f"{topic}-0"
    deleted = admin("delete_records", partitions=[[topic, 0]], offset=2)
    assert deleted[place]["lowWatermark"] == 2
    beyond = admin("delete_records", partitions=[[topic, 0]], offset=9)
    assert error(beyond[place]) == "OffsetOutOfRangeException"
    (earliest,) = admin("list_offsets", partitions=[[topic, 0]], spec="earliest").values()
    assert earliest["offset"] == 2


def test_groups_are_looked_after(admin: JavaAdmin, topic: str, bootstrap: str) -> None:
    group = f"{topic}.group"
    with adapter.consumer(bootstrap, group, client_id="me", group_instance_id="i") as member:
        member("subscribe", topics=[topic])
        adapter.settled([member], 2)
        described = admin("describe_groups", groups=[group])[group]
        assert (described["groupState"], described["partitionAssignor"]) == ("STABLE", "range")
        (listed,) = [g for g in admin("list_groups") if g["groupId"] == group]
        assert (listed["groupState"], listed["type"]) == ("STABLE", "CLASSIC")
        (one,) = described["members"]
        assert (one["clientId"], one["groupInstanceId"], one["host"]) == ("me", "i", "/127.0.0.1")
        assert sorted(one["assignment"]["topicPartitions"]) == [f"{topic}-0", f"{topic}-1"]
        refused = admin("alter_group_offsets", group=group, offsets=[[topic, 0, 1, ""]])
        assert error(refused) == "UnknownMemberIdException"
        assert error(admin("delete_groups", groups=[group])[group]) == "GroupNotEmptyException"
        in_use = admin("delete_group_offsets", group=group, partitions=[[topic, 0]])
        assert error(in_use[f"{topic}-0"]) == "GroupSubscribedToTopicException"
        classic = admin("describe_classic_groups", groups=[group])[group]
        assert (classic["protocol"], classic["protocolData"]) == ("consumer", "range")
        assert admin("remove_members", group=group, instances=["i"]) is None
    empty = eventually(
        lambda: admin("describe_groups", groups=[group])[group]["groupState"] == "EMPTY", "empty"
    )
    assert empty
    assert admin("alter_group_offsets", group=group, offsets=[[topic, 0, 1, "why"]]) is None
    offsets = admin("group_offsets", group=group)
    assert (offsets[f"{topic}-0"]["offset"], offsets[f"{topic}-0"]["metadata"]) == (1, "why")
    forgotten = admin("delete_group_offsets", group=group, partitions=[[topic, 0]])
    assert forgotten == {f"{topic}-0": None}
    assert admin("group_offsets", group=group) == {}
    assert admin("delete_groups", groups=[group, "not.there"])[group] is None
    gone = admin("delete_groups", groups=[group])[group]
    assert error(gone) == "GroupIdNotFoundException"


def test_the_cluster_is_described(admin: JavaAdmin) -> None:
    cluster = admin("describe_cluster")
    assert [node["id"] for node in cluster["nodes"]] == [1]
    assert cluster["controller"]["id"] == 1
    assert len(cluster["clusterId"]) == 22
    assert "DESCRIBE" in cluster["authorizedOperations"]


def test_log_directories_and_replicas_are_described(admin: JavaAdmin, topic: str) -> None:
    ((_, directory),) = admin("describe_log_dirs", broker=1)["1"].items()
    assert directory["error"] is None
    assert directory["replicaInfos"][f"{topic}-0"]["size"] > 0
    assert directory["totalBytes"] > directory["usableBytes"] > 0
    (where,) = admin("describe_replica_log_dirs", partitions=[[topic, 0]], broker=1).values()
    assert where["getCurrentReplicaOffsetLag"] == 0


def test_producers_and_leaders_are_told(admin: JavaAdmin, topic: str) -> None:
    ((_, found),) = admin("describe_producers", partitions=[[topic, 0]]).items()
    (producer,) = found["activeProducers"]
    assert (producer["producerEpoch"], producer["lastSequence"]) == (0, 2)
    place = f"{topic}-0"
    elected = admin("elect_leaders", election="PREFERRED", partitions=[[topic, 0]])
    assert error(elected[place]) == "ElectionNotNeededException"
    assert admin("list_reassignments") == {}
    assert admin("reassign", partitions=[[topic, 0]], replicas=[1]) == {place: None}
    elsewhere = admin("reassign", partitions=[[topic, 0]], replicas=[7])
    assert error(elsewhere[place]) == "InvalidReplicaAssignmentException"


def test_what_is_not_here_has_a_defined_answer(admin: JavaAdmin, only_ottla: None) -> None:
    features = admin("describe_features")
    assert (features["finalizedFeatures"], features["supportedFeatures"]) == ({}, {})
    assert admin("list_transactions") == []
    assert error(admin("describe_acls")) == "SecurityDisabledException"
    assert admin("describe_quotas") == {}
    assert admin("describe_scram") == {}
    assert error(admin("describe_tokens")) == "DelegationTokenDisabledException"
    refused = admin("describe_transactions", name="x")
    assert error(refused) == "TransactionalIdAuthorizationException"
    ((_, outcome),) = admin("update_features", name="metadata.version").items()
    assert error(outcome)


def test_a_client_is_known_by_an_id_where_somebody_wants_its_metrics(
    admin: JavaAdmin, unused: str, only_ottla: None
) -> None:
    about = {"type": "CLIENT_METRICS", "name": unused[:100]}
    wanted = [["SET", "metrics", "org.apache."], ["SET", "interval.ms", "10000"]]
    altered = admin("alter_configs", **about, changes=wanted)
    assert list(altered.values()) == [None]
    try:
        admin("close")  # the next call is that of a new client, which asks what is offered
        (instance,) = admin("client_instance_id")
        assert len(instance) == 22
    finally:
        gone = [["DELETE", name, ""] for _, name, _ in wanted]
        admin("alter_configs", **about, changes=gone)

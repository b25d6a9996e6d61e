"""The command-line tools of Apache Kafka 3.9 against a cluster, and what ZooKeeper holds after each.

``kafka-topics``, ``kafka-reassign-partitions``, ``kafka-leader-election``, ``kafka-configs`` and ``kafka-log-dirs``, as
their scripts run them; all in one JVM. What is read back is the znodes' own JSON, in Kafka 3.9's layout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from ottla import Producer
from tests.cluster.processes import BROKERS, ClusterProcesses
from tests.interop.java.host import Done, host
from tests.support.java import TOOLS_3_9
from tests.support.waiting import eventually
from tests.support.zookeeper import Ensemble

TOOLS = {
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "kafka-leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-log-dirs": "org.apache.kafka.tools.LogDirsCommand",
}
SETTINGS = {
    "auto.leader.rebalance.enable": "false",  # an election is what a test asks for
    "min.insync.replicas": 1,
    "unclean.leader.election.enable": "false",
}

Tool = Callable[..., Done]


class Znodes:
    """What ZooKeeper holds of a cluster, through a session of its own."""

    def __init__(self, cluster: ClusterProcesses) -> None:
        self._client = KazooClient(cluster.zookeeper.connect, timeout=10.0)
        self._client.start(30)

    def __call__(self, path: str) -> Any:
        """A znode's JSON; None where there is none."""
        if self._client.exists(path) is None:
            return None
        data, _ = self._client.get(path)
        return json.loads(data)

    def children(self, path: str) -> list[str]:
        """A znode's children."""
        return sorted(self._client.get_children(path))

    def state(self, topic: str, partition: int) -> Any:
        """A partition's state."""
        return self(f"/brokers/topics/{topic}/partitions/{partition}/state")

    def leader(self, topic: str, partition: int) -> int:
        """Who leads it, or -1."""
        return int(self.state(topic, partition)["leader"])

    def in_sync(self, topic: str, partition: int) -> set[int]:
        """Who is in sync."""
        return set(self.state(topic, partition)["isr"])

    def close(self) -> None:
        """End the session."""
        self._client.stop()
        self._client.close()


@pytest.fixture(scope="module")
def cluster(
    ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterProcesses]:
    """Three brokers for all tests here; whoever stops one starts it again."""
    host(TOOLS_3_9)  # leaves the tests out where there is no Java
    with ClusterProcesses(tmp_path_factory.mktemp("tools"), ensemble, SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def znodes(cluster: ClusterProcesses) -> Iterator[Znodes]:
    """What ZooKeeper holds."""
    found = Znodes(cluster)
    yield found
    found.close()


@pytest.fixture(scope="module")
def tool(cluster: ClusterProcesses) -> Tool:
    """A tool against the cluster; its exit code must be ``status``."""

    def call(name: str, *arguments: object, status: int = 0) -> Done:
        given = ["--bootstrap-server", cluster.bootstrap, *map(str, arguments)]
        done = host(TOOLS_3_9).tool(TOOLS[name], given)
        told = f"{name} {given} ended with {done.status}:\n{done.out}\n{done.err}"
        assert done.status == status, told
        return done

    return call


@pytest.fixture
def topic(tool: Tool, cluster: ClusterProcesses, request: pytest.FixtureRequest) -> str:
    """A topic of two partitions with three replicas each: 1,2,3 and 2,3,1."""
    name = re.sub("[^a-z]", "-", request.node.name)[:60]
    tool("kafka-topics", "--create", "--topic", name, "--replica-assignment", "1:2:3,2:3:1")
    cluster.wait_until_whole([name])
    return name


def written(path: Path, content: Any) -> Path:
    """A JSON file for a tool."""
    path.write_text(json.dumps(content))
    return path


def plan(topic: str, *replicas: list[int]) -> dict[str, Any]:
    """A plan of reassignments: the replicas of each partition."""
    return {
        "version": 1,
        "partitions": [
            {"topic": topic, "partition": number, "replicas": each}
            for number, each in enumerate(replicas)
        ],
    }


def assignment(znodes: Znodes, topic: str) -> dict[str, list[int]]:
    """What ``/brokers/topics`` says."""
    found: dict[str, list[int]] = znodes(f"/brokers/topics/{topic}")["partitions"]
    return found


# kafka-topics


def test_a_topic_is_made_with_replicas_on_every_broker(
    tool: Tool, znodes: Znodes, cluster: ClusterProcesses
) -> None:
    done = tool(
        "kafka-topics",
        *("--create", "--topic", "made", "--partitions", 3, "--replication-factor", 3),
        *("--config", "retention.ms=70000", "--config", "cleanup.policy=compact"),
    )
    assert done.out == "Created topic made.\n"
    found = znodes("/brokers/topics/made")
    assert found["version"] == 3
    assert found.keys() == {
        "version", "partitions", "adding_replicas", "removing_replicas", "topic_id",
    }  # fmt: skip
    assert {number: set(r) for number, r in found["partitions"].items()} == {
        str(number): set(BROKERS) for number in range(3)
    }
    assert {replicas[0] for replicas in found["partitions"].values()} == set(BROKERS)
    assert znodes("/config/topics/made") == {
        "version": 1,
        "config": {"retention.ms": "70000", "cleanup.policy": "compact"},
    }
    cluster.wait_until_whole(["made"])
    for number, replicas in found["partitions"].items():
        state = znodes.state("made", int(number))
        assert state["version"] == 1
        assert state["leader"] == replicas[0]
        assert state["isr"] == replicas
        assert state["controller_epoch"] == cluster.zookeeper.controller_epoch()
    described = tool("kafka-topics", "--describe", "--topic", "made").out
    assert "PartitionCount: 3\tReplicationFactor: 3" in described
    for number, replicas in found["partitions"].items():
        listed = ",".join(map(str, replicas))
        line = f"Partition: {number}\tLeader: {replicas[0]}\tReplicas: {listed}\tIsr: {listed}"
        assert line in described


def test_a_topic_is_made_as_it_is_laid_out_by_hand(tool: Tool, znodes: Znodes) -> None:
    tool("kafka-topics", "--create", "--topic", "by-hand", "--replica-assignment", "3:1,2:3")
    assert assignment(znodes, "by-hand") == {"0": [3, 1], "1": [2, 3]}
    eventually(lambda: znodes.state("by-hand", 0), "it has a leader")
    assert znodes.leader("by-hand", 0) == 3


def test_what_cannot_be_made_leaves_no_znode(tool: Tool, znodes: Znodes) -> None:
    for arguments in (
        ("--replication-factor", 4, "--partitions", 1),
        ("--replica-assignment", "1:2,9:1"),
        ("--config", "retention.ms=soon"),
    ):
        tool("kafka-topics", "--create", "--topic", "impossible", *arguments, status=1)
        assert znodes("/brokers/topics/impossible") is None
        assert znodes("/config/topics/impossible") is None


def test_a_topic_gets_more_partitions(
    tool: Tool, znodes: Znodes, topic: str, cluster: ClusterProcesses
) -> None:
    tool("kafka-topics", "--alter", "--topic", topic, "--partitions", 5)
    found = assignment(znodes, topic)
    assert found.keys() == {"0", "1", "2", "3", "4"}
    assert (found["0"], found["1"]) == ([1, 2, 3], [2, 3, 1])
    cluster.wait_until_whole([topic])
    tool(
        "kafka-topics",
        *("--alter", "--topic", topic, "--partitions", 6),
        *("--replica-assignment", "1:2:3,2:3:1,1:2:3,1:2:3,1:2:3,3:2:1"),
    )
    assert assignment(znodes, topic)["5"] == [3, 2, 1]
    tool("kafka-topics", "--alter", "--topic", topic, "--partitions", 2, status=1)
    assert len(assignment(znodes, topic)) == 6


def test_a_topic_is_deleted_with_its_znodes_and_its_logs(
    tool: Tool, znodes: Znodes, topic: str, cluster: ClusterProcesses
) -> None:
    directories = [cluster.log_directory(node, (topic, 0)) for node in BROKERS]
    with Producer(cluster.bootstrap) as producer:
        producer.send(topic, value=b"x", partition=0)
    eventually(lambda: all(d.exists() for d in directories), "its logs are there")
    tool("kafka-topics", "--delete", "--topic", topic)
    eventually(lambda: znodes(f"/brokers/topics/{topic}") is None, "its znode is gone")
    assert znodes(f"/config/topics/{topic}") is None
    eventually(lambda: not znodes.children("/admin/delete_topics"), "nothing is left to delete")
    eventually(lambda: not any(d.exists() for d in directories), "its logs are gone")
    assert topic not in tool("kafka-topics", "--list").out.splitlines()


def test_partitions_in_trouble_are_found(
    tool: Tool, znodes: Znodes, cluster: ClusterProcesses
) -> None:
    settings = ("--config", "min.insync.replicas=3")
    laid_out = "--replica-assignment"
    tool("kafka-topics", "--create", "--topic", "lonely", laid_out, "3")
    tool("kafka-topics", "--create", "--topic", "troubled", laid_out, "3:2:1", *settings)
    cluster.wait_until_whole(["troubled", "lonely"])

    def found(what: str) -> set[str]:
        told = tool("kafka-topics", "--describe", f"--{what}-partitions").out
        return set(re.findall(r"Topic: (troubled|lonely)\t", told))

    assert found("under-replicated") == found("unavailable") == set()
    assert found("at-min-isr") == {"troubled", "lonely"}
    cluster.stop_broker(3)
    try:
        eventually(lambda: znodes.leader("lonely", 0) == -1, "a partition has no leader")
        eventually(lambda: 3 not in znodes.in_sync("troubled", 0), "it is out of the ISR")
        eventually(lambda: "lonely" in found("unavailable"), "the brokers know that, too")
        assert "troubled" in found("under-replicated")
        assert "troubled" in found("under-min-isr")
        assert znodes.state("lonely", 0)["isr"] == [3]
    finally:
        cluster.start_broker(3)
    cluster.wait_until_whole()


# kafka-reassign-partitions


def test_a_reassignment_is_proposed(tool: Tool, topic: str, tmp_path: Path) -> None:
    topics = written(tmp_path / "topics.json", {"version": 1, "topics": [{"topic": topic}]})
    done = tool(
        "kafka-reassign-partitions",
        *("--topics-to-move-json-file", topics, "--broker-list", "1,2,3", "--generate"),
    )
    now, proposed = (json.loads(line) for line in done.out.splitlines() if line.startswith("{"))
    assert [each["replicas"] for each in now["partitions"]] == [[1, 2, 3], [2, 3, 1]]
    assert {len(each["replicas"]) for each in proposed["partitions"]} == {3}


def test_replicas_are_moved_and_the_throttle_goes_when_that_is_seen(
    tool: Tool, znodes: Znodes, cluster: ClusterProcesses, tmp_path: Path
) -> None:
    tool("kafka-topics", "--create", "--topic", "moved", "--replica-assignment", "1:2,2:1")
    cluster.wait_until_whole(["moved"])
    with Producer(cluster.bootstrap) as producer:
        for number in range(200):
            producer.send("moved", value=b"%d" % number * 100, partition=number % 2)
    wanted = written(tmp_path / "plan.json", plan("moved", [3, 2], [2, 3]))
    file = ("--reassignment-json-file", wanted)
    done = tool("kafka-reassign-partitions", *file, "--execute", "--throttle", 50_000_000)
    assert "Successfully started partition reassignments for moved-0,moved-1" in done.out
    assert znodes("/config/topics/moved")["config"] == {
        "leader.replication.throttled.replicas": "0:1,0:2,1:1,1:2",
        "follower.replication.throttled.replicas": "0:3,1:3",
    }
    for node in BROKERS:
        assert znodes(f"/config/brokers/{node}")["config"] == {
            "leader.replication.throttled.rate": "50000000",
            "follower.replication.throttled.rate": "50000000",
        }

    def is_complete() -> bool:
        return tool("kafka-reassign-partitions", *file, "--verify").out.count("is completed") == 2

    eventually(is_complete, "the reassignment is complete")
    assert assignment(znodes, "moved") == {"0": [3, 2], "1": [2, 3]}
    found = znodes("/brokers/topics/moved")
    assert found["adding_replicas"] == found["removing_replicas"] == {}
    eventually(lambda: znodes.in_sync("moved", 0) == {2, 3}, "its ISR is what is wanted")
    assert znodes.leader("moved", 0) in (2, 3)
    assert znodes("/config/topics/moved") == {"version": 1, "config": {}}
    for node in BROKERS:
        assert znodes(f"/config/brokers/{node}")["config"] == {}
    gone = cluster.log_directory(1, ("moved", 0))
    eventually(lambda: not gone.exists(), "the replica that was left is gone")
    assert "No partition reassignments found" in tool("kafka-reassign-partitions", "--list").out


def test_a_reassignment_that_takes_long_is_listed_and_cancelled(
    tool: Tool, znodes: Znodes, cluster: ClusterProcesses, tmp_path: Path
) -> None:
    tool("kafka-topics", "--create", "--topic", "long", "--replica-assignment", "1:2")
    cluster.wait_until_whole(["long"])
    with Producer(cluster.bootstrap) as producer:
        sent = [producer.send("long", value=bytes(100_000)) for _ in range(80)]
        assert [each.result().offset for each in sent] == list(range(80))
    wanted = written(tmp_path / "plan.json", plan("long", [2, 3]))
    file = ("--reassignment-json-file", wanted)
    tool("kafka-reassign-partitions", *file, "--execute", "--throttle", 1_000)
    found = znodes("/brokers/topics/long")
    assert found["partitions"] == {"0": [2, 3, 1]}
    assert found["adding_replicas"] == {"0": [3]}
    assert found["removing_replicas"] == {"0": [1]}
    listed = tool("kafka-reassign-partitions", "--list").out
    assert "long-0: replicas: 2,3,1. adding: 3. removing: 1." in listed
    assert "is still in progress" in tool("kafka-reassign-partitions", *file, "--verify").out
    rates = znodes("/config/brokers/3")["config"]
    assert rates["follower.replication.throttled.rate"] == "1000"
    done = tool("kafka-reassign-partitions", *file, "--cancel")
    assert "Successfully cancelled partition reassignment for: long-0" in done.out
    found = znodes("/brokers/topics/long")
    assert set(found["partitions"]["0"]) == {1, 2}
    assert found["adding_replicas"] == found["removing_replicas"] == {}
    assert znodes("/config/brokers/3")["config"] == {}
    cluster.wait_until_whole()
    assert znodes.in_sync("long", 0) == {1, 2}


def test_an_impossible_reassignment_changes_nothing(
    tool: Tool, znodes: Znodes, topic: str, tmp_path: Path
) -> None:
    wanted = written(tmp_path / "plan.json", plan(topic, [1, 2, 9]))
    done = tool(
        "kafka-reassign-partitions", "--reassignment-json-file", wanted, "--execute", status=1
    )
    assert "Unknown broker id 9" in done.out + done.err
    assert assignment(znodes, topic) == {"0": [1, 2, 3], "1": [2, 3, 1]}


# kafka-leader-election


def test_preferred_replicas_are_elected_when_they_are_back(
    tool: Tool, znodes: Znodes, topic: str, cluster: ClusterProcesses
) -> None:
    cluster.stop_broker(1)
    eventually(lambda: znodes.leader(topic, 0) == 2, "another leads")
    epoch = znodes.state(topic, 0)["leader_epoch"]
    refused = tool(
        "kafka-leader-election",
        *("--election-type", "preferred", "--topic", topic, "--partition", 0),
        status=1,
    )
    assert "PreferredLeaderNotAvailable" in refused.out + refused.err
    cluster.start_broker(1)
    cluster.wait_until_whole()
    assert znodes.leader(topic, 0) == 2
    done = tool(
        "kafka-leader-election",
        *("--election-type", "preferred", "--topic", topic, "--partition", 0),
    )
    assert (
        f"Successfully completed leader election (PREFERRED) for partitions {topic}-0" in done.out
    )
    state = znodes.state(topic, 0)
    assert (state["leader"], set(state["isr"])) == (1, {1, 2, 3})
    assert state["leader_epoch"] > epoch
    again = tool("kafka-leader-election", "--election-type", "preferred", "--all-topic-partitions")
    assert topic not in again.out


def test_an_unclean_election_gives_a_partition_whose_isr_is_gone_a_leader(
    tool: Tool, znodes: Znodes, cluster: ClusterProcesses, tmp_path: Path
) -> None:
    tool("kafka-topics", "--create", "--topic", "unclean", "--replica-assignment", "2:3")
    cluster.wait_until_whole(["unclean"])
    cluster.stop_broker(3)
    eventually(lambda: znodes.in_sync("unclean", 0) == {2}, "only one is in sync")
    cluster.stop_broker(2)
    eventually(lambda: znodes.leader("unclean", 0) == -1, "nobody leads")
    cluster.start_broker(3)
    try:
        assert znodes.leader("unclean", 0) == -1
        partitions = {"partitions": [{"topic": "unclean", "partition": 0}]}
        file = written(tmp_path / "elect.json", partitions)
        tool("kafka-leader-election", "--election-type", "unclean", "--path-to-json-file", file)
        state = znodes.state("unclean", 0)
        assert (state["leader"], state["isr"]) == (3, [3])
    finally:
        cluster.start_broker(2)
    cluster.wait_until_whole()
    assert znodes.leader("unclean", 0) == 3


# kafka-configs


def test_a_topics_settings_are_altered_and_described(
    tool: Tool, znodes: Znodes, topic: str
) -> None:
    entity = ("--entity-type", "topics", "--entity-name", topic)
    before = len(znodes.children("/config/changes"))
    tool(
        "kafka-configs", *entity, "--alter", "--add-config", "retention.ms=9000,segment.bytes=20000"
    )
    wanted = {"retention.ms": "9000", "segment.bytes": "20000"}
    assert znodes(f"/config/topics/{topic}") == {"version": 1, "config": wanted}
    changes = znodes.children("/config/changes")
    assert len(changes) > before
    assert znodes(f"/config/changes/{changes[-1]}") == {
        "version": 2,
        "entity_path": f"topics/{topic}",
    }
    described = tool("kafka-configs", *entity, "--describe").out
    assert (
        "retention.ms=9000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms" in described
    )
    tool("kafka-configs", *entity, "--alter", "--delete-config", "retention.ms")
    assert znodes(f"/config/topics/{topic}")["config"] == {"segment.bytes": "20000"}
    tool("kafka-configs", *entity, "--alter", "--add-config", "retention.ms=soon", status=1)
    assert znodes(f"/config/topics/{topic}")["config"] == {"segment.bytes": "20000"}


def test_a_brokers_settings_and_those_of_all_are_altered(tool: Tool, znodes: Znodes) -> None:
    one = ("--entity-type", "brokers", "--entity-name", 2)
    everyone = ("--entity-type", "brokers", "--entity-default")
    tool("kafka-configs", *one, "--alter", "--add-config", "log.cleaner.threads=2")
    tool("kafka-configs", *everyone, "--alter", "--add-config", "log.retention.ms=80000000")
    assert znodes("/config/brokers/2")["config"] == {"log.cleaner.threads": "2"}
    assert znodes("/config/brokers/<default>")["config"] == {"log.retention.ms": "80000000"}
    assert "log.cleaner.threads=2" in tool("kafka-configs", *one, "--describe").out
    assert "log.retention.ms=80000000" in tool("kafka-configs", *everyone, "--describe").out

    def known_by(node: int) -> bool:
        about = ("--entity-type", "brokers", "--entity-name", node)
        told = tool("kafka-configs", *about, "--describe", "--all").out
        return "log.retention.ms=80000000" in told

    for node in BROKERS:
        eventually(lambda node=node: known_by(node), f"broker {node} has heard of it")
    tool("kafka-configs", *one, "--alter", "--delete-config", "log.cleaner.threads")
    tool("kafka-configs", *everyone, "--alter", "--delete-config", "log.retention.ms")
    assert znodes("/config/brokers/2")["config"] == {}
    assert znodes("/config/brokers/<default>")["config"] == {}


# kafka-log-dirs


def test_log_directories_of_all_brokers_are_described(
    tool: Tool, znodes: Znodes, topic: str, cluster: ClusterProcesses
) -> None:
    with Producer(cluster.bootstrap) as producer:
        producer.send(topic, value=b"x" * 1_000, partition=0).result()

    def found(*arguments: object) -> dict[int, dict[str, Any]]:
        done = tool("kafka-log-dirs", "--describe", "--topic-list", topic, *arguments)
        told = json.loads(done.out.splitlines()[-1])
        assert told["version"] == 1
        replicas: dict[int, dict[str, Any]] = {}
        for broker in told["brokers"]:
            (directory,) = broker["logDirs"]
            assert directory["error"] is None
            assert directory["logDir"] == str(cluster.brokers[broker["broker"]].data)
            replicas[broker["broker"]] = {p["partition"]: p for p in directory["partitions"]}
        return replicas

    def all_the_same() -> bool:
        sizes = {broker[f"{topic}-0"]["size"] for broker in found().values()}
        return len(sizes) == 1 and sizes.pop() > 1_000

    eventually(all_the_same, "every replica has the record")
    assert found().keys() == {int(node) for node in znodes.children("/brokers/ids")}
    assert found("--broker-list", "2,3").keys() == {2, 3}
    (replica,) = {(p["offsetLag"], p["isFuture"]) for b in found().values() for p in b.values()}
    assert replica == (0, False)

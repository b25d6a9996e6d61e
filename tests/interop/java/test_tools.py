"""Every command-line tool of Apache Kafka 4 that applies to one broker, as its script runs it.

What a tool prints and its exit code are looked at; ``tools.py`` says which scripts there are and which do not apply.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ottla
from ottla.testing import Broker
from tests.interop.java.host import Done
from tests.interop.java.tools import NOT_HERE, TOOLS, run
from tests.support.java import java
from tests.support.segment_files import without_room

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("java")]

Tool = Callable[..., Done]
PARTITIONS = 3


@pytest.fixture
def tool(bootstrap: str) -> Tool:
    """A tool against the broker."""

    def call(name: str, *arguments: object, stdin: str = "", status: int = 0) -> Done:
        given = [str(argument) for argument in arguments]
        # Its verbs take the server behind them.
        first = given[:1] if name == "kafka-cluster" else []
        server = ("--bootstrap-server", bootstrap)
        return run(name, *first, *server, *given[len(first) :], stdin=stdin.encode(), status=status)

    return call


@pytest.fixture
def topic(tool: Tool, unused: str) -> str:
    """A topic with three records in partition 1, of three partitions."""
    tool("kafka-topics", "--create", "--topic", unused, "--partitions", PARTITIONS)
    send(tool, unused, "one", "two", "three")
    return unused


def send(tool: Tool, topic: str, *values: str, partition: int = 1) -> None:
    """Write lines into one partition."""
    tool(
        "kafka-console-producer",
        *("--topic", topic, "--command-property", "partitioner.class=OnePartition"),
        *("--command-property", f"ottla.partition={partition}"),
        stdin="".join(f"{value}\n" for value in values),
    )


def consumed(tool: Tool, topic: str, group: str, count: int) -> list[str]:
    """Read as a group that commits when it ends."""
    done = tool(
        "kafka-console-consumer",
        *("--topic", topic, "--group", group, "--from-beginning"),
        *("--max-messages", count, "--timeout-ms", 20_000),
    )
    return done.out.splitlines()


def table(text: str) -> list[list[str]]:
    """The rows of a printed table, its head and blank lines left out."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return rows[1:]


def written(path: Path, content: Any) -> Path:
    """A JSON file for a tool."""
    path.write_text(json.dumps(content))
    return path


def test_every_script_is_known_once() -> None:
    assert not set(TOOLS) & set(NOT_HERE)
    assert all(NOT_HERE.values())


def test_topics_are_made_listed_described_grown_and_deleted(tool: Tool, unused: str) -> None:
    name = ("--topic", unused)
    made = tool("kafka-topics", "--create", *name, "--partitions", 2, "--config", "retention.ms=7")
    assert made.out.endswith(f"Created topic {unused}.\n")
    assert unused in tool("kafka-topics", "--list").out.splitlines()
    tool("kafka-topics", "--alter", *name, "--partitions", 3)
    lines = tool("kafka-topics", "--describe", *name).out.splitlines()
    assert "PartitionCount: 3" in lines[0]
    assert "retention.ms=7" in lines[0]
    assert [re.findall(r"Partition: (\d)\tLeader: (\d)", line)[0] for line in lines[1:]] == [
        ("0", "1"),
        ("1", "1"),
        ("2", "1"),
    ]
    for troubled in ("under-replicated", "unavailable", "under-min-isr", "at-min-isr"):
        found = tool("kafka-topics", "--describe", *name, f"--{troubled}-partitions").out
        assert len(found.splitlines()) == (3 if troubled == "at-min-isr" else 0), troubled
    assert "TopicExistsException" in tool("kafka-topics", "--create", *name, status=1).err
    fewer = tool("kafka-topics", "--alter", *name, "--partitions", 1, status=1)
    assert "InvalidPartitionsException" in fewer.err
    tool("kafka-topics", "--delete", *name)
    assert unused not in tool("kafka-topics", "--list").out.splitlines()
    assert "does not exist" in tool("kafka-topics", "--delete", *name, status=1).out


def test_an_impossible_topic_is_refused_with_kafkas_words(tool: Tool) -> None:
    done = tool("kafka-topics", "--create", "--topic", "no spaces", status=1)
    assert "InvalidTopicException" in done.err
    done = tool(
        "kafka-topics", "--create", "--topic", "x", "--config", "retention.ms=many", status=1
    )
    assert "Invalid value many for configuration retention.ms" in done.err
    done = tool("kafka-topics", "--create", "--topic", "x", "--replication-factor", 3, status=1)
    assert "InvalidReplicationFactorException" in done.err


def test_lines_go_in_and_come_out(tool: Tool, topic: str) -> None:
    done = tool(
        "kafka-console-consumer",
        *("--topic", topic, "--from-beginning", "--max-messages", 3, "--timeout-ms", 20_000),
        *("--formatter-property", "print.partition=true"),
        *("--formatter-property", "print.offset=true"),
    )
    assert done.out.splitlines() == [
        "Partition:1\tOffset:0\tone",
        "Partition:1\tOffset:1\ttwo",
        "Partition:1\tOffset:2\tthree",
    ]
    assert "Processed a total of 3 messages" in done.err


@pytest.mark.parametrize("acks", ["0", "1", "-1"])
def test_the_console_producer_writes_under_every_level_of_acks(
    acks: str, tool: Tool, unused: str
) -> None:
    tool(
        "kafka-console-producer",
        *("--topic", unused, "--request-required-acks", acks, "--sync"),
        stdin="a\nb\n",
    )
    assert consumed(tool, unused, unused, 2) == ["a", "b"]


def test_groups_are_listed_and_described(tool: Tool, topic: str, bootstrap: str) -> None:
    group = f"{topic}.group"
    assert consumed(tool, topic, group, 3) == ["one", "two", "three"]
    groups = "kafka-consumer-groups"
    assert group in tool(groups, "--list").out.splitlines()
    assert [group, "Empty"] in table(tool(groups, "--list", "--state", "Empty").out)
    assert group not in tool(groups, "--list", "--state", "Stable").out
    assert [group, "Classic", "consumer"] in table(tool("kafka-groups", "--list").out)
    about = ("--describe", "--group", group)
    rows = {row[2]: row[1:6] for row in table(tool(groups, *about).out)}
    assert rows["1"] == [topic, "1", "3", "3", "0"]
    assert set(rows) == {"0", "1", "2"}
    (state,) = table(tool(groups, *about, "--state").out)
    assert state[1:] == [bootstrap, "(1)", "-", "Empty", "0"]
    assert table(tool(groups, *about, "--members", "--verbose").out) == []
    unknown = tool(groups, "--describe", "--group", "not.there")
    assert "GroupIdNotFoundException" in unknown.out + unknown.err


def test_a_groups_offsets_are_reset_and_forgotten(tool: Tool, topic: str, tmp_path: Path) -> None:
    group = f"{topic}.group"
    consumed(tool, topic, group, 3)
    reset = ("--reset-offsets", "--group", group, "--topic", f"{topic}:1")

    def becomes(*how: object) -> str:
        rows = table(tool("kafka-consumer-groups", *reset, *how, "--execute").out)
        assert rows[-1][:3] == [group, topic, "1"]
        return rows[-1][3]

    assert becomes("--to-earliest") == "0"
    assert becomes("--to-latest") == "3"
    assert becomes("--shift-by", -2) == "1"
    assert becomes("--to-offset", 2) == "2"
    assert becomes("--to-offset", 99) == "3"
    assert becomes("--to-current") == "3"
    assert becomes("--to-datetime", "2020-01-01T00:00:00.000") == "0"
    assert becomes("--by-duration", "PT0S") == "3"
    dry = tool("kafka-consumer-groups", *reset, "--to-earliest", "--export", "--dry-run").out
    assert dry.strip() == f'"{topic}",1,0'
    plan = tmp_path / "plan.csv"
    plan.write_text(f"{topic},1,1\n")
    assert becomes("--from-file", plan) == "1"
    forget = ("--delete-offsets", "--group", group, "--topic", f"{topic}:1")
    assert table(tool("kafka-consumer-groups", *forget).out)[-1] == [topic, "1", "Successful"]
    described = tool("kafka-consumer-groups", "--describe", "--group", group).out
    assert [row[2] for row in table(described)] == ["0", "2"]


def test_groups_are_deleted(tool: Tool, topic: str) -> None:
    group = f"{topic}.group"
    consumed(tool, topic, group, 3)
    done = tool("kafka-consumer-groups", "--delete", "--group", group, "--group", "not.there")
    assert "'not.there' could not be deleted" in done.out
    assert f"deleted successfully: '{group}'" in done.out
    assert group not in tool("kafka-consumer-groups", "--list").out.splitlines()


def test_settings_of_topics_are_changed_and_described(tool: Tool, topic: str) -> None:
    about = ("--entity-type", "topics", "--entity-name", topic)
    change = "retention.ms=5000,cleanup.policy=[compact,delete]"
    tool("kafka-configs", "--alter", *about, "--add-config", change)
    shown = tool("kafka-configs", "--describe", *about).out
    assert "retention.ms=5000 " in shown
    assert "cleanup.policy=compact,delete " in shown
    tool("kafka-configs", "--alter", *about, "--delete-config", "retention.ms")
    assert "retention.ms=" not in tool("kafka-configs", "--describe", *about).out
    assert "retention.ms=604800000" in tool("kafka-configs", "--describe", *about, "--all").out
    bad = tool("kafka-configs", "--alter", *about, "--add-config", "retention.ms=x", status=1)
    assert "InvalidConfigurationException" in bad.out + bad.err


def test_settings_of_brokers_are_changed_and_described(tool: Tool) -> None:
    about = ("--entity-type", "brokers", "--entity-name", "1")
    everyone = ("--entity-type", "brokers", "--entity-default")
    for who in (about, everyone):
        tool("kafka-configs", "--alter", *who, "--add-config", "log.retention.ms=50000000")
        assert "log.retention.ms=50000000 " in tool("kafka-configs", "--describe", *who).out
        tool("kafka-configs", "--alter", *who, "--delete-config", "log.retention.ms")
        assert "log.retention.ms=" not in tool("kafka-configs", "--describe", *who).out
    assert "log.retention.hours=168" in tool("kafka-configs", "--describe", *about, "--all").out
    bad = tool("kafka-configs", "--alter", *about, "--add-config", "log.dirs=/x", status=1)
    assert "InvalidRequestException" in bad.out + bad.err


def test_users_and_clients_have_no_settings(tool: Tool) -> None:
    for kind in ("users", "clients", "ips"):
        assert tool("kafka-configs", "--describe", "--entity-type", kind).out.strip() == ""


def test_client_metrics_are_asked_for(tool: Tool, unused: str) -> None:
    name = ("--name", unused[:100])
    tool("kafka-client-metrics", "--alter", *name, "--metrics", "org.apache.", "--interval", 10_000)
    assert unused[:100] in tool("kafka-client-metrics", "--list").out
    shown = tool("kafka-client-metrics", "--describe", *name).out
    assert "interval.ms=10000" in shown
    assert "metrics=org.apache." in shown
    tool("kafka-client-metrics", "--delete", *name)
    assert unused[:100] not in tool("kafka-client-metrics", "--list").out


def test_offsets_are_asked_for(tool: Tool, topic: str) -> None:
    def at(*how: object) -> list[str]:
        return tool("kafka-get-offsets", "--topic", topic, *how).out.split()

    assert at() == [f"{topic}:0:0", f"{topic}:1:3", f"{topic}:2:0"]
    assert at("--time", "earliest") == [f"{topic}:0:0", f"{topic}:1:0", f"{topic}:2:0"]
    assert at("--time", "max-timestamp", "--partitions", "1")[0].startswith(f"{topic}:1:")
    assert at("--time", 0, "--partitions", 1) == [f"{topic}:1:0"]
    assert f"{topic}:1:3" in tool("kafka-get-offsets", "--exclude-internal-topics").out.split()
    missing = tool("kafka-get-offsets", "--topic", "not.there", status=1)
    assert "Could not match any topic-partitions" in missing.out + missing.err


def test_records_are_deleted(tool: Tool, topic: str, tmp_path: Path) -> None:
    def plan(offset: int) -> Path:
        partition = {"topic": topic, "partition": 1, "offset": offset}
        return written(tmp_path / "plan.json", {"version": 1, "partitions": [partition]})

    done = tool("kafka-delete-records", "--offset-json-file", plan(2))
    assert f"partition: {topic}-1\tlow_watermark: 2" in done.out
    done = tool("kafka-delete-records", "--offset-json-file", plan(9))
    assert "OffsetOutOfRangeException" in done.out
    assert consumed(tool, topic, topic, 1) == ["three"]


def test_log_directories_are_described(tool: Tool, topic: str) -> None:
    done = tool("kafka-log-dirs", "--describe", "--topic-list", topic, "--broker-list", 1)
    found = json.loads(done.out.splitlines()[-1])
    (directory,) = found["brokers"][0]["logDirs"]
    sizes = {each["partition"]: each["size"] for each in directory["partitions"]}
    assert set(sizes) == {f"{topic}-{index}" for index in range(PARTITIONS)}
    assert sizes[f"{topic}-1"] > 0
    assert directory["error"] is None


def test_versions_are_told(tool: Tool) -> None:
    shown = tool("kafka-broker-api-versions").out
    assert "Produce(0): 0 to 13 [usable: 13]" in shown
    assert "Fetch(1): 4 to 18 [usable: 18]" in shown


def test_the_cluster_is_told(tool: Tool, bootstrap: str) -> None:
    assert re.fullmatch(r"Cluster ID: [\w-]{22}\n", tool("kafka-cluster", "cluster-id").out)
    ((number, host, port, *_),) = table(tool("kafka-cluster", "list-endpoints").out)
    assert (number, f"{host}:{port}") == ("1", bootstrap)


def test_brokers_are_not_unregistered_by_hand(tool: Tool, only_ottla: None) -> None:
    gone = tool("kafka-cluster", "unregister", "--id", 7)
    assert "does not support the broker unregistration API" in gone.out


def test_there_are_no_features(tool: Tool, only_ottla: None) -> None:
    assert tool("kafka-features", "describe").out == ""
    asked = ("upgrade", "--feature", "metadata.version=1")
    assert tool("kafka-features", *asked, status=1).status == 1


def test_leaders_are_elected(tool: Tool, topic: str) -> None:
    about = ("--topic", topic, "--partition", 0)
    done = tool("kafka-leader-election", "--election-type", "preferred", *about)
    assert f"Valid replica already elected for partitions {topic}-0" in done.out
    tool("kafka-leader-election", "--election-type", "preferred", "--all-topic-partitions")
    about = ("--topic", "not.there", "--partition", 0)
    done = tool("kafka-leader-election", "--election-type", "preferred", *about, status=1)
    assert "UnknownTopicOrPartition" in done.out + done.err


def test_reassignments_to_where_they_are_are_done(tool: Tool, topic: str, tmp_path: Path) -> None:
    partition = {"topic": topic, "partition": 0, "replicas": [1]}
    plan = written(tmp_path / "plan.json", {"version": 1, "partitions": [partition]})
    moves = "kafka-reassign-partitions"
    assert "No partition reassignments found." in tool(moves, "--list").out
    done = tool(moves, "--verify", "--reassignment-json-file", plan)
    assert f"Reassignment of partition {topic}-0 is completed." in done.out
    done = tool(moves, "--execute", "--reassignment-json-file", plan)
    assert f"Successfully started partition reassignment for {topic}-0" in done.out
    topics = written(tmp_path / "topics.json", {"version": 1, "topics": [{"topic": topic}]})
    done = tool(moves, "--generate", "--topics-to-move-json-file", topics, "--broker-list", 1)
    assert len(json.loads(done.out.splitlines()[-1])["partitions"]) == PARTITIONS
    partition["replicas"] = [7]
    plan = written(tmp_path / "plan.json", {"version": 1, "partitions": [partition]})
    refused = tool(moves, "--execute", "--reassignment-json-file", plan, status=1)
    assert "Unknown broker id 7" in refused.out + refused.err


def test_transactions_have_a_defined_answer(tool: Tool, topic: str) -> None:
    assert table(tool("kafka-transactions", "list").out) == []
    assert table(tool("kafka-transactions", "find-hanging", "--broker-id", 1).out) == []
    about = ("--topic", topic, "--partition", 1)
    producers = table(tool("kafka-transactions", "describe-producers", *about).out)
    assert [(row[1], row[3]) for row in producers] == [("0", "2")]
    refused = tool("kafka-transactions", "describe", "--transactional-id", "x", status=1)
    assert "Failed to describe transaction state" in refused.err


def test_rights_and_tokens_have_a_defined_error(tool: Tool, tmp_path: Path) -> None:
    assert "SecurityDisabledException" in tool("kafka-acls", "--list", status=1).out
    empty = tmp_path / "empty.properties"
    empty.touch()
    tokens = ("--describe", "--command-config", empty)
    done = tool("kafka-delegation-tokens", *tokens, status=1)
    assert re.search("Delegation ?Token", done.err)


def test_perf_tools_write_and_read(tool: Tool, unused: str) -> None:
    count = ("--num-records", 2_000)
    done = tool(
        "kafka-producer-perf-test",
        *("--topic", unused, *count, "--record-size", 100, "--throughput", -1),
    )
    assert "2000 records sent" in done.out
    done = tool("kafka-consumer-perf-test", "--topic", unused, *count, "--timeout", 20_000)
    assert done.out.splitlines()[-1].split(", ")[4] == "2000"


def test_latency_is_measured_from_end_to_end(tool: Tool, unused: str) -> None:
    done = tool(
        "kafka-e2e-latency",
        *("--topic", unused, "--num-records", 20, "--producer-acks", "all", "--record-size", 50),
    )
    assert "Avg latency:" in done.out


def test_verifiable_clients_agree(tool: Tool, unused: str) -> None:
    done = tool("kafka-verifiable-producer", "--topic", unused, "--max-messages", 20)
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [e["value"] for e in events if e["name"] == "producer_send_success"] == [
        str(number) for number in range(20)
    ]
    assert events[-1]["name"] == "tool_data"
    done = tool(
        "kafka-verifiable-consumer",
        *("--topic", unused, "--group-id", unused, "--max-messages", 20, "--verbose"),
        *("--reset-policy", "earliest"),
    )
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [e["value"] for e in events if e["name"] == "record_data"] == [
        str(number) for number in range(20)
    ]
    assert [e["success"] for e in events if e["name"] == "offsets_committed"][-1]


def test_a_streams_applications_offsets_are_reset(tool: Tool, topic: str) -> None:
    consumed(tool, topic, "streams", 3)
    tool("kafka-streams-application-reset", "--application-id", "streams", "--input-topics", topic)
    rows = table(tool("kafka-consumer-groups", "--describe", "--group", "streams").out)
    assert {row[3] for row in rows if row[1] == topic} == {"0"}


def test_replicas_are_verified(bootstrap: str, topic: str) -> None:
    arguments = ("--broker-list", bootstrap, "--topics-include", topic, "--time", "-2")
    with subprocess.Popen(
        java(TOOLS["kafka-replica-verification"], *arguments, "--report-interval-ms", "100"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lags = (line for line in process.stdout if "max lag is" in line)
            assert f"max lag is 0 for partition {topic}-" in next(lags)
        finally:
            process.kill()


def test_our_files_are_read_by_kafkas_own_tool(tmp_path: Path) -> None:
    with Broker(data=tmp_path) as broker:
        server = ("--bootstrap-server", broker.bootstrap)
        with ottla.Admin(broker.bootstrap) as admin:  # the tool itself takes no segment so small
            admin.create_topic("t", 1, 1, {"index.interval.bytes": "100", "segment.bytes": "2000"})
        lines = "".join(f"k{number}\t{number}\n" for number in range(200)).encode()
        for codec in ("none", "zstd"):
            run(
                "kafka-console-producer",
                *(*server, "--topic", "t", "--reader-property", "parse.key=true"),
                *("--compression-codec", codec, "--batch-size", "400"),
                stdin=lines,
            )
        run(
            "kafka-console-consumer",
            *server,
            "--topic",
            "t",
            "--group",
            "g",
            "--from-beginning",
            "--max-messages",
            "400",
            "--timeout-ms",
            "20000",
        )
    logs = sorted((tmp_path / "t-0").glob("*.log"))
    assert len(logs) > 2
    done = run("kafka-dump-log", "--files", ",".join(map(str, logs)), "--print-data-log")
    payloads = re.findall(r"offset: (\d+) .* key: k(\d+) payload: (\d+)", done.out)
    assert [int(offset) for offset, _, _ in payloads] == list(range(400))
    assert [(key, value) for _, key, value in payloads] == 2 * [
        (str(n), str(n)) for n in range(200)
    ]
    assert "compresscodec: zstd" in done.out
    assert "isvalid: false" not in done.out
    indexes = [
        str(path)
        for kind in ("index", "timeindex", "snapshot")
        for path in sorted((tmp_path / "t-0").glob(f"*.{kind}"))
        if path.stat().st_size
    ]
    assert {path.rpartition(".")[2] for path in indexes} == {"index", "timeindex", "snapshot"}
    done = run("kafka-dump-log", "--files", ",".join(indexes))
    assert "Mismatches" not in done.out
    assert "producerEpoch: 0" in done.out
    (offsets,) = [
        path for path in tmp_path.glob("__consumer_offsets-*/*.log") if path.stat().st_size
    ]
    done = run("kafka-dump-log", "--files", str(offsets), "--offsets-decoder")
    assert '"group":"g","topic":"t","partition":0' in done.out
    assert '"offset":400' in done.out


def test_a_log_in_use_is_read_by_kafkas_own_tool_up_to_its_last_batch(tmp_path: Path) -> None:
    with Broker({"durability": "disk"}, data=tmp_path) as broker:
        with ottla.Producer(broker.bootstrap, linger_ms=0) as producer:
            for number in range(30):  # each of them synced, so that there is room ahead
                producer.send("t", str(number)).result()
        (log,) = (tmp_path / "t-0").glob("*.log")
        content = log.read_bytes()
        assert len(content) > len(without_room(content))
        # It ends at the zeros with an error, as it does for a log that Apache Kafka has preallocated.
        done = run("kafka-dump-log", "--files", str(log), "--print-data-log", status=1)
    assert re.findall(r"payload: (\d+)", done.out) == [str(number) for number in range(30)]
    assert "isvalid: false" not in done.out
    assert "Found record size 0" in done.out + done.err

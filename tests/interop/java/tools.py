"""The command-line tools of Apache Kafka 4: which there are, which apply to one broker, and how a test runs one."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tests.interop.java.host import CALL_TIMEOUT_S, Done, host
from tests.support.java import java

# The scripts of ``bin/`` that apply, and the class that each runs.
TOOLS = {
    "kafka-acls": "org.apache.kafka.tools.AclCommand",
    "kafka-broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "kafka-client-metrics": "org.apache.kafka.tools.ClientMetricsCommand",
    "kafka-cluster": "org.apache.kafka.tools.ClusterTool",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
    "kafka-delegation-tokens": "org.apache.kafka.tools.DelegationTokenCommand",
    "kafka-delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "kafka-dump-log": "org.apache.kafka.tools.DumpLogSegments",
    "kafka-e2e-latency": "org.apache.kafka.tools.EndToEndLatency",
    "kafka-features": "org.apache.kafka.tools.FeatureCommand",
    "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-groups": "org.apache.kafka.tools.GroupsCommand",
    "kafka-leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "kafka-log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "kafka-producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "kafka-replica-verification": "org.apache.kafka.tools.ReplicaVerificationTool",
    "kafka-streams-application-reset": "org.apache.kafka.tools.StreamsResetter",
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-transactions": "org.apache.kafka.tools.TransactionsCommand",
    "kafka-verifiable-consumer": "org.apache.kafka.tools.VerifiableConsumer",
    "kafka-verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
}

# The others, and why they do not apply. ``connect-standalone`` has a test of its own.
NOT_HERE = {
    "connect-distributed": "a cluster of workers; one worker is connect-standalone",
    "connect-mirror-maker": "copies between clusters, with workers of Connect",
    "connect-plugin-path": "looks at files of Connect, asks no broker",
    "kafka-console-share-consumer": "share groups (KIP-932)",
    "kafka-jmx": "asks a JVM",
    "kafka-metadata-quorum": "a KRaft quorum; the controller here keeps its state in ZooKeeper's contract",
    "kafka-metadata-shell": "a KRaft quorum's files",
    "kafka-run-class": "runs a class",
    "kafka-server-start": "Apache Kafka's own broker",
    "kafka-server-stop": "Apache Kafka's own broker",
    "kafka-share-consumer-perf-test": "share groups (KIP-932)",
    "kafka-share-groups": "share groups (KIP-932)",
    "kafka-storage": "formats a KRaft node's directories",
    "kafka-streams-groups": "streams groups (KIP-1071)",
    "kafka-verifiable-share-consumer": "share groups (KIP-932)",
    "trogdor": "agents that plant faults in Apache Kafka's own tests",
}


# What ends the JVM itself, or tells the rest of its story while the JVM ends.
ALONE = {"kafka-verifiable-consumer", "kafka-verifiable-producer"}


def run(tool: str, *arguments: str, stdin: bytes = b"", status: int = 0) -> Done:
    """Run a tool to its end; its exit code must be ``status``."""
    main = TOOLS[tool]
    done = _alone(main, arguments) if tool in ALONE else host().tool(main, arguments, stdin)
    assert done.status == status, f"{tool} ended with {done.status}:\n{done.out}\n{done.err}"
    return done


def _alone(main: str, arguments: Sequence[str]) -> Done:
    """Run a class in a JVM of its own."""
    host()  # leaves the test out where there is no Java
    done = subprocess.run(
        java(main, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)

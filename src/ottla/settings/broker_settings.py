"""Every broker setting that Ottla implements: Kafka's names, types, ranges and defaults.

Where the default is ours, ``OUR_DEFAULTS`` says why. Settings of Kafka's that are not here stand in
``known``. Sources: ``SocketServerConfigs``, ``ServerConfigs``, ``ServerLogConfigs``, ``ReplicationConfigs``,
``GroupCoordinatorConfig``, ``TransactionLogConfig``, ``KRaftConfigs``; modes of change:
``DynamicBrokerConfig``.
"""

from __future__ import annotations

from ottla.settings.setting import (
    BOOLEAN,
    CLUSTER_WIDE,
    DOUBLE,
    DOUBLE_MAX,
    HIGH,
    INT,
    INT_MAX,
    LIST,
    LONG,
    LONG_MAX,
    LOW,
    MEDIUM,
    SHORT,
    STRING,
    Range,
    Setting,
)
from ottla.settings.topic_settings import (
    AT_LEAST_0,
    AT_LEAST_1,
    BROKER_SYNONYMS,
    CLEANUP_POLICIES,
    COMPRESSION_TYPES,
    GZIP_LEVELS,
    HOUR_MS,
    LZ4_LEVELS,
    MESSAGE_BYTES_DEFAULT,
    MINUTE_MS,
    SEGMENT_BYTES_MIN,
    TIMESTAMP_TYPES,
    TOPIC_SETTINGS,
    ZSTD_LEVELS,
)

# fmt: off
_ROWS = (
    # Who this broker is, where its data lies, how strictly it keeps it.
    Setting("node.id", INT, 1, AT_LEAST_0, HIGH,
        "The broker's number in the cluster; broker.id is the same setting by its older name."),
    Setting("broker.id", INT, 1, Range(-1), HIGH,
        "The older name of node.id; when both are set they must agree. -1, Kafka's \"choose one\", is node 1."),
    Setting("broker.rack", STRING, None, None, MEDIUM,
        "The rack or zone that the broker stands in, told to clients in metadata."),
    Setting("process.roles", LIST, (), ("broker", "controller"), HIGH,
        "Kafka's KRaft roles. A broker here holds its controller, so that the list must be empty or name broker."),
    Setting("log.dir", STRING, "./data", None, HIGH,
        "The directory for the partitions' logs, used when log.dirs is not set."),
    Setting("log.dirs", STRING, None, None, HIGH,
        "The directories for the partitions' logs, comma-separated."),
    Setting("durability", STRING, "disk", ("disk", "os"), HIGH,
        "When acks=all is answered: disk after the records are synced to disk, os once the system's page cache has them, as Kafka does."),

    # Listeners, connections, requests.
    Setting("listeners", STRING, "PLAINTEXT://127.0.0.1:9092", None, HIGH,
        "Where the broker listens: NAME://host:port, comma-separated. No host is every interface, port 0 a free one."),
    Setting("advertised.listeners", STRING, None, None, HIGH,
        "The addresses that clients are told to connect to, by listener name, when they differ from listeners."),
    Setting("listener.security.protocol.map", STRING,
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL", None, LOW,
        "Each listener name's security protocol, as NAME:PROTOCOL, comma-separated. PLAINTEXT is implemented."),
    Setting("controller.listener.names", STRING, None, None, HIGH,
        "Names among the listeners that Kafka keeps for its controllers; none of them is opened here."),
    Setting("inter.broker.listener.name", STRING, None, None, MEDIUM,
        "The listener that brokers use among themselves; must be one of the advertised listeners."),
    Setting("socket.send.buffer.bytes", INT, 100 * 1024, None, HIGH,
        "SO_SNDBUF of the connections; -1 leaves it to the system. In bytes."),
    Setting("socket.receive.buffer.bytes", INT, 100 * 1024, None, HIGH,
        "SO_RCVBUF of the connections; -1 leaves it to the system. In bytes."),
    Setting("socket.request.max.bytes", INT, 100 * 1024 * 1024, AT_LEAST_1, HIGH,
        "The largest request; a connection that announces a larger one is closed. In bytes."),
    Setting("socket.listen.backlog.size", INT, 512, AT_LEAST_1, MEDIUM,
        "Connections that may wait to be accepted."),
    Setting("queued.max.request.bytes", LONG, 256 * 1024 * 1024, None, MEDIUM,
        "Bytes of requests that may be held at a time over all connections before none is read; -1 for no bound. At least socket.request.max.bytes."),
    Setting("max.connections", INT, INT_MAX, AT_LEAST_1, MEDIUM,
        "Connections that the broker holds at a time; further ones wait to be accepted."),
    Setting("max.connections.per.ip", INT, INT_MAX, AT_LEAST_1, MEDIUM,
        "Connections from one address at a time; one above is closed."),
    Setting("connections.max.idle.ms", LONG, 600_000, None, MEDIUM,
        "A connection that is silent for this long is closed; negative for never. In milliseconds."),
    Setting("requests.in.flight.max", INT, 100, AT_LEAST_1, LOW,
        "Requests of one connection that are taken before the first of them is answered. Ottla's own setting."),
    Setting("write.buffer.bytes", INT, 1024 * 1024, AT_LEAST_1, LOW,
        "Answers that may wait for a peer to read them before its requests are left waiting. In bytes. Ottla's own setting."),
    Setting("write.stall.ms", INT, 60_000, AT_LEAST_1, LOW,
        "A peer that takes nothing of its answers for so long is cut off. In milliseconds. Ottla's own setting."),
    Setting("fetch.max.bytes", INT, 55 * 1024 * 1024, Range(1024), MEDIUM,
        "The most that one Fetch is answered with, whatever it asks for. In bytes."),
    Setting("max.incremental.fetch.session.cache.slots", INT, 1000, AT_LEAST_0, MEDIUM,
        "Fetch sessions that the broker holds at a time."),
    Setting("max.request.partition.size.limit", INT, 2000, AT_LEAST_1, MEDIUM,
        "Partitions that one DescribeTopicPartitions is answered with; a cursor tells the client where to go on."),
    Setting("telemetry.max.bytes", INT, 1024 * 1024, AT_LEAST_1, LOW,
        "The most that a client may push of its metrics at a time (KIP-714). In bytes, compressed."),

    # Topics and their logs.
    Setting("num.partitions", INT, 1, AT_LEAST_1, MEDIUM,
        "Partitions of a topic that is created without saying how many."),
    Setting("default.replication.factor", INT, 1, AT_LEAST_1, MEDIUM,
        "Replicas of a topic that is created without saying how many."),
    Setting("auto.create.topics.enable", BOOLEAN, True, None, HIGH,
        "Whether a topic is created when a client asks for its metadata."),
    Setting("delete.topic.enable", BOOLEAN, True, None, HIGH,
        "Whether topics can be deleted."),
    Setting("log.retention.check.interval.ms", LONG, 300_000, AT_LEAST_1, MEDIUM,
        "How often logs are looked at for segments to remove. In milliseconds."),
    Setting("log.initial.task.delay.ms", LONG, 30_000, AT_LEAST_0, LOW,
        "How long after the start the logs' background work begins. In milliseconds."),
    Setting("log.flush.offset.checkpoint.interval.ms", INT, 60_000, AT_LEAST_0, HIGH,
        "How often the logs' recovery points and first offsets are written down. In milliseconds."),
    Setting("replica.high.watermark.checkpoint.interval.ms", LONG, 5000, None, HIGH,
        "How often the high watermarks are written down. In milliseconds."),
    Setting("log.flush.scheduler.interval.ms", LONG, LONG_MAX, None, HIGH,
        "log.flush.interval.ms where that is not set. In milliseconds."),
    Setting("log.flush.interval.ms", LONG, None, None, HIGH, "", CLUSTER_WIDE),
    Setting("log.flush.interval.messages", LONG, LONG_MAX, AT_LEAST_1, HIGH, "", CLUSTER_WIDE),
    Setting("log.retention.bytes", LONG, -1, None, HIGH, "", CLUSTER_WIDE),
    Setting("log.retention.ms", LONG, None, None, HIGH, "", CLUSTER_WIDE),
    Setting("log.retention.minutes", INT, None, None, HIGH,
        "log.retention.ms in minutes, used where that is not set."),
    Setting("log.retention.hours", INT, 168, None, HIGH,
        "log.retention.ms in hours, used where neither it nor log.retention.minutes is set."),
    Setting("log.roll.ms", LONG, None, None, HIGH, "", CLUSTER_WIDE),
    Setting("log.roll.hours", INT, 168, AT_LEAST_1, HIGH,
        "log.roll.ms in hours, used where that is not set."),
    Setting("log.roll.jitter.ms", LONG, None, None, HIGH, "", CLUSTER_WIDE),
    Setting("log.roll.jitter.hours", INT, 0, AT_LEAST_0, HIGH,
        "log.roll.jitter.ms in hours, used where that is not set."),
    Setting("log.segment.bytes", INT, 1 << 30, Range(SEGMENT_BYTES_MIN), HIGH, "", CLUSTER_WIDE),
    Setting("log.segment.delete.delay.ms", LONG, MINUTE_MS, AT_LEAST_0, HIGH, "", CLUSTER_WIDE),
    Setting("log.index.interval.bytes", INT, 4096, AT_LEAST_0, MEDIUM, "", CLUSTER_WIDE),
    Setting("log.index.size.max.bytes", INT, 10 << 20, Range(4), MEDIUM, "", CLUSTER_WIDE),
    Setting("log.cleanup.policy", LIST, ("delete",), CLEANUP_POLICIES, MEDIUM, "", CLUSTER_WIDE),
    Setting("log.cleaner.delete.retention.ms", LONG, 24 * HOUR_MS, AT_LEAST_0, MEDIUM, "", CLUSTER_WIDE),
    Setting("log.cleaner.min.cleanable.ratio", DOUBLE, 0.5, Range(0, 1), MEDIUM, "", CLUSTER_WIDE),
    Setting("log.cleaner.min.compaction.lag.ms", LONG, 0, AT_LEAST_0, MEDIUM, "", CLUSTER_WIDE),
    Setting("log.cleaner.max.compaction.lag.ms", LONG, LONG_MAX, AT_LEAST_1, MEDIUM, "", CLUSTER_WIDE),
    Setting("log.cleaner.enable", BOOLEAN, True, None, MEDIUM,
        "Whether compacted topics, __consumer_offsets among them, are compacted; otherwise they only grow."),
    Setting("log.cleaner.threads", INT, 1, AT_LEAST_0, MEDIUM,
        "How many logs are compacted at a time, each by a process of its own that ends when it has been idle.", CLUSTER_WIDE),
    Setting("log.cleaner.dedupe.buffer.size", LONG, 128 << 20, None, MEDIUM,
        "The most memory for the keys of the logs being compacted, over all log.cleaner.threads; 24 bytes a key. In bytes.", CLUSTER_WIDE),
    Setting("log.cleaner.io.buffer.load.factor", DOUBLE, 0.9, None, MEDIUM,
        "How full the memory for the keys may become: the closer to 1, the more keys in one go and the slower.", CLUSTER_WIDE),
    Setting("log.cleaner.io.buffer.size", INT, 512 << 10, AT_LEAST_0, MEDIUM,
        "How much is read and written at a time, over all log.cleaner.threads. In bytes.", CLUSTER_WIDE),
    Setting("log.cleaner.io.max.bytes.per.second", DOUBLE, DOUBLE_MAX, None, MEDIUM,
        "The most that one compaction reads and writes, on average. In bytes a second.", CLUSTER_WIDE),
    Setting("log.cleaner.backoff.ms", LONG, 15_000, AT_LEAST_0, MEDIUM,
        "How long to wait when there was nothing to compact. In milliseconds.", CLUSTER_WIDE),
    Setting("log.message.timestamp.type", STRING, "CreateTime", TIMESTAMP_TYPES, MEDIUM, "", CLUSTER_WIDE),
    Setting("log.message.timestamp.difference.max.ms", LONG, LONG_MAX, AT_LEAST_0, MEDIUM, "", CLUSTER_WIDE),
    Setting("log.message.timestamp.before.max.ms", LONG, LONG_MAX, AT_LEAST_0, MEDIUM, "", CLUSTER_WIDE),
    Setting("log.message.timestamp.after.max.ms", LONG, LONG_MAX, AT_LEAST_0, MEDIUM, "", CLUSTER_WIDE),
    Setting("message.max.bytes", INT, MESSAGE_BYTES_DEFAULT, AT_LEAST_0, HIGH, "", CLUSTER_WIDE),
    Setting("min.insync.replicas", INT, 1, AT_LEAST_1, HIGH, "", CLUSTER_WIDE),
    Setting("unclean.leader.election.enable", BOOLEAN, False, None, HIGH, "", CLUSTER_WIDE),
    Setting("compression.type", STRING, "producer", COMPRESSION_TYPES, HIGH, "", CLUSTER_WIDE),
    Setting("compression.gzip.level", INT, -1, GZIP_LEVELS, MEDIUM, "", CLUSTER_WIDE),
    Setting("compression.lz4.level", INT, 9, LZ4_LEVELS, MEDIUM, "", CLUSTER_WIDE),
    Setting("compression.zstd.level", INT, 3, ZSTD_LEVELS, MEDIUM, "", CLUSTER_WIDE),

    # Producers' state.
    Setting("producer.id.expiration.ms", INT, 86_400_000, AT_LEAST_1, LOW,
        "How long a partition remembers a silent idempotent producer. In milliseconds.", CLUSTER_WIDE),
    Setting("producer.id.expiration.check.interval.ms", INT, 600_000, AT_LEAST_1, LOW,
        "How often partitions look for producers to forget. In milliseconds."),

    # Groups and their offsets.
    Setting("group.min.session.timeout.ms", INT, 6000, None, MEDIUM,
        "The shortest session timeout that a group's member may ask for. In milliseconds."),
    Setting("group.max.session.timeout.ms", INT, 1_800_000, None, MEDIUM,
        "The longest session timeout that a group's member may ask for. In milliseconds."),
    Setting("group.initial.rebalance.delay.ms", INT, 0, None, MEDIUM,
        "How long a new group waits for more members before its first assignment. In milliseconds."),
    Setting("group.max.size", INT, INT_MAX, AT_LEAST_1, MEDIUM,
        "Members that one group may have."),
    Setting("group.max.pending.members", INT, 10_000, AT_LEAST_1, LOW,
        "New members of one group that were told their id and have not come back with it. Ottla's own setting."),
    Setting("group.members.max.bytes", LONG, 128 * 1024 * 1024, AT_LEAST_1, LOW,
        "Memory that the members of all groups may take together; beyond it new ones are told to try again. In bytes. Ottla's own setting."),
    Setting("group.new.member.join.timeout.ms", INT, 300_000, AT_LEAST_1, LOW,
        "How long a new member may wait in its first rebalance. In milliseconds. Ottla's own setting; a constant in Kafka."),
    Setting("offset.metadata.max.bytes", INT, 4096, None, HIGH,
        "The longest text that a client may store with a committed offset. In bytes."),
    Setting("offsets.retention.minutes", INT, 10_080, AT_LEAST_1, HIGH,
        "How long the offsets of an empty group are kept (KIP-211). In minutes."),
    Setting("offsets.retention.check.interval.ms", LONG, 600_000, AT_LEAST_1, HIGH,
        "How often groups are looked at for offsets to remove. In milliseconds."),
    Setting("offsets.topic.num.partitions", INT, 50, AT_LEAST_1, HIGH,
        "Partitions of __consumer_offsets; fixed once the topic exists."),
    Setting("offsets.topic.replication.factor", SHORT, 3, AT_LEAST_1, HIGH,
        "Replicas of __consumer_offsets, or as many as there are brokers when they are fewer."),
    Setting("offsets.topic.segment.bytes", INT, 100 * 1024 * 1024, AT_LEAST_1, HIGH,
        "segment.bytes of __consumer_offsets: small, so that groups load quickly."),
    Setting("offsets.commit.timeout.ms", INT, 5000, AT_LEAST_1, HIGH,
        "How long a group's coordinator waits for what it wrote to be committed. In milliseconds."),
)
# fmt: on

BROKER_SETTINGS: dict[str, Setting] = {setting.name: setting for setting in _ROWS}

# Broker setting -> the topic setting whose default it is.
TOPIC_SYNONYMS: dict[str, str] = {
    broker_names[0][0]: topic_name for topic_name, broker_names in BROKER_SYNONYMS.items()
}

# Broker settings of which the first that is set wins. Setting one in a later source (the command line,
# say) hides the whole family in the earlier ones (the file), so that the later source does win.
FAMILIES: tuple[tuple[str, ...], ...] = (
    *(tuple(name for name, _ in names) for names in BROKER_SYNONYMS.values() if len(names) > 1),
    ("log.dirs", "log.dir"),
    ("node.id", "broker.id"),
)

OUR_DEFAULTS: dict[str, str] = {
    "node.id": "1 instead of a required number: a single broker needs no thought about it",
    "broker.id": "1, as node.id",
    "log.dir": "./data instead of /tmp/kafka-logs: data outlives a reboot",
    "listeners": "PLAINTEXT://127.0.0.1:9092 instead of every interface: nobody is authenticated yet",
    "queued.max.request.bytes": "256 MiB instead of no bound: memory stays bounded whatever arrives",
    "group.initial.rebalance.delay.ms": "0 instead of 3000: there is no cluster whose start it eases, "
    "and a new group reads at once",
    "durability": "disk; Kafka has no such setting and behaves as os",
    "requests.in.flight.max": "Kafka takes one request of a connection at a time",
    "write.buffer.bytes": "Kafka has no such setting",
    "write.stall.ms": "Kafka has no such setting",
    "group.max.pending.members": "Kafka has no such bound",
    "group.members.max.bytes": "Kafka has no such bound",
    "group.new.member.join.timeout.ms": "300000, a constant in Kafka",
}


def documentation(setting: Setting) -> str:
    """The description of a broker setting; one that only gives a topic setting's default says that."""
    if setting.doc:
        return setting.doc
    topic_name = TOPIC_SYNONYMS[setting.name]
    return f"The default of the topic setting {topic_name}. {TOPIC_SETTINGS[topic_name].doc}"

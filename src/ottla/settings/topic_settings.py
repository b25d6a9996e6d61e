"""Every topic setting: Kafka 3.9's names, types, ranges and defaults, and the broker settings behind them.

Sources: ``LogConfig``, ``TopicConfig``, ``ServerTopicConfigSynonyms``. A setting whose description says
"kept" is stored, described and checked, but changes nothing here.
"""

from __future__ import annotations

from ottla.settings.setting import (
    BOOLEAN,
    DOUBLE,
    INT,
    LIST,
    LONG,
    LONG_MAX,
    LOW,
    MEDIUM,
    STRING,
    LevelRange,
    Range,
    Setting,
)

HOUR_MS = 3_600_000
WEEK_MS = 168 * HOUR_MS
MINUTE_MS = 60_000

AT_LEAST_0 = Range(0)
AT_LEAST_1 = Range(1)
AT_LEAST_MINUS_2 = Range(-2)
GZIP_LEVELS = LevelRange(1, 9, -1)
LZ4_LEVELS = Range(1, 17)
ZSTD_LEVELS = Range(-131072, 22)
COMPRESSION_TYPES = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")
CLEANUP_POLICIES = ("compact", "delete")
TIMESTAMP_TYPES = ("CreateTime", "LogAppendTime")
SEGMENT_BYTES_MIN = 14  # a record of message format 0 (LegacyRecord.RECORD_OVERHEAD_V0)
MESSAGE_BYTES_DEFAULT = 1024 * 1024 + 12  # 1 MiB and the batch's offset and length

# fmt: off
_ROWS = (
    Setting("cleanup.policy", LIST, ("delete",), CLEANUP_POLICIES, MEDIUM,
        "What happens to old segments: delete removes them by age and size; compact keeps the newest record of every key; both do both."),
    Setting("compression.gzip.level", INT, -1, GZIP_LEVELS, MEDIUM,
        "Level for compression.type=gzip: 1 (fast) to 9 (small), -1 for the codec's own. Kept: the codec's own level is used."),
    Setting("compression.lz4.level", INT, 9, LZ4_LEVELS, MEDIUM,
        "Level for compression.type=lz4: 1 (fast) to 17 (small). Kept: the codec's own level is used."),
    Setting("compression.type", STRING, "producer", COMPRESSION_TYPES, MEDIUM,
        "Codec of the batches on disk; producer keeps whatever each producer chose."),
    Setting("compression.zstd.level", INT, 3, ZSTD_LEVELS, MEDIUM,
        "Level for compression.type=zstd: up to 22; negative levels are faster still. Kept: the codec's own level is used."),
    Setting("delete.retention.ms", LONG, 24 * HOUR_MS, AT_LEAST_0, MEDIUM,
        "How long a compacted topic keeps a tombstone, so that a reader from the start sees it. In milliseconds."),
    Setting("file.delete.delay.ms", LONG, MINUTE_MS, AT_LEAST_0, MEDIUM,
        "How long the file of a removed segment stays on disk for readers that are in it. In milliseconds."),
    Setting("flush.messages", LONG, LONG_MAX, AT_LEAST_1, MEDIUM,
        "Sync the log to disk after this many records. What durability=disk syncs for acks=all comes on top."),
    Setting("flush.ms", LONG, LONG_MAX, AT_LEAST_0, MEDIUM,
        "Sync the log to disk when a record has waited this long for it. In milliseconds."),
    Setting("follower.replication.throttled.replicas", LIST, (), None, MEDIUM,
        "Replicas whose fetching as followers is throttled to follower.replication.throttled.rate: partition:broker, ... or *."),
    Setting("index.interval.bytes", INT, 4096, AT_LEAST_0, MEDIUM,
        "Bytes of log between two entries of the offset index and the time index."),
    Setting("leader.replication.throttled.replicas", LIST, (), None, MEDIUM,
        "Replicas whose serving to followers that are not in sync is throttled to leader.replication.throttled.rate: partition:broker, ... or *."),
    Setting("local.retention.bytes", LONG, -2, AT_LEAST_MINUS_2, MEDIUM,
        "Bytes that a tiered log keeps locally; -2 is retention.bytes. Kept: there are no tiers."),
    Setting("local.retention.ms", LONG, -2, AT_LEAST_MINUS_2, MEDIUM,
        "Time that a tiered log stays local; -2 is retention.ms. Kept: there are no tiers."),
    Setting("max.compaction.lag.ms", LONG, LONG_MAX, AT_LEAST_1, MEDIUM,
        "The longest that a record of a compacted topic may stay uncompacted. In milliseconds."),
    Setting("max.message.bytes", INT, MESSAGE_BYTES_DEFAULT, AT_LEAST_0, MEDIUM,
        "The largest record batch that is taken, after compression. In bytes."),
    Setting("message.downconversion.enable", BOOLEAN, True, None, LOW,
        "Whether batches are rewritten for clients older than Kafka 0.11. Kept: there is one batch format."),
    Setting("message.format.version", STRING, "3.0-IV1", None, MEDIUM,
        "Batch format by Kafka version. Kept, as in Kafka since 3.0: batches are always of format 2."),
    Setting("message.timestamp.after.max.ms", LONG, LONG_MAX, AT_LEAST_0, MEDIUM,
        "How far a record's time may lie in the future of the broker's clock. In milliseconds."),
    Setting("message.timestamp.before.max.ms", LONG, LONG_MAX, AT_LEAST_0, MEDIUM,
        "How far a record's time may lie in the past of the broker's clock. In milliseconds."),
    Setting("message.timestamp.difference.max.ms", LONG, LONG_MAX, AT_LEAST_0, MEDIUM,
        "The older name for the two limits around it, used where they are not set. In milliseconds."),
    Setting("message.timestamp.type", STRING, "CreateTime", TIMESTAMP_TYPES, MEDIUM,
        "Whose time a record carries: CreateTime is its producer's, LogAppendTime is the broker's."),
    Setting("min.cleanable.dirty.ratio", DOUBLE, 0.5, Range(0, 1), MEDIUM,
        "Share of a compacted log that must be uncompacted before it is compacted again."),
    Setting("min.compaction.lag.ms", LONG, 0, AT_LEAST_0, MEDIUM,
        "How long a record of a compacted topic stays uncompacted at least. In milliseconds."),
    Setting("min.insync.replicas", INT, 1, AT_LEAST_1, MEDIUM,
        "In-sync replicas without which acks=all is refused."),
    Setting("preallocate", BOOLEAN, False, None, MEDIUM,
        "Give a new segment's file its full size at once. Kept: files grow as they are written."),
    Setting("remote.log.copy.disable", BOOLEAN, False, ("false",), MEDIUM,
        "Whether a tiered topic becomes read-only in the remote tier. There are no tiers: false only."),
    Setting("remote.log.delete.on.disable", BOOLEAN, False, ("false",), MEDIUM,
        "Whether leaving the remote tier deletes what is there. There are no tiers: false only."),
    Setting("remote.storage.enable", BOOLEAN, False, ("false",), MEDIUM,
        "Whether old segments move to a remote tier. There are no tiers: false only."),
    Setting("retention.bytes", LONG, -1, None, MEDIUM,
        "Bytes that a partition keeps before its oldest segments go; -1 for no limit."),
    Setting("retention.ms", LONG, WEEK_MS, Range(-1), MEDIUM,
        "Age at which a segment goes, by its newest record's time; -1 for never. In milliseconds."),
    Setting("segment.bytes", INT, 1 << 30, Range(SEGMENT_BYTES_MIN), MEDIUM,
        "Size at which a log rolls to a new segment. In bytes."),
    Setting("segment.index.bytes", INT, 10 << 20, Range(4), MEDIUM,
        "The largest size of a segment's offset index; a full index rolls the log. In bytes."),
    Setting("segment.jitter.ms", LONG, 0, AT_LEAST_0, MEDIUM,
        "Up to how much earlier than segment.ms a log rolls, by chance, so that not all roll at once. In milliseconds."),
    Setting("segment.ms", LONG, WEEK_MS, AT_LEAST_1, MEDIUM,
        "Age at which a log rolls to a new segment even when it is not full. In milliseconds."),
    Setting("unclean.leader.election.enable", BOOLEAN, False, None, MEDIUM,
        "Whether a replica that is not in sync may lead when no other can, and records may be lost."),
)
# fmt: on

TOPIC_SETTINGS: dict[str, Setting] = {setting.name: setting for setting in _ROWS}

# Topic setting -> the broker settings that give its default, the first that is set wins, each with the
# factor that makes its unit the topic setting's.
BROKER_SYNONYMS: dict[str, tuple[tuple[str, int], ...]] = {
    "cleanup.policy": (("log.cleanup.policy", 1),),
    "compression.gzip.level": (("compression.gzip.level", 1),),
    "compression.lz4.level": (("compression.lz4.level", 1),),
    "compression.type": (("compression.type", 1),),
    "compression.zstd.level": (("compression.zstd.level", 1),),
    "delete.retention.ms": (("log.cleaner.delete.retention.ms", 1),),
    "file.delete.delay.ms": (("log.segment.delete.delay.ms", 1),),
    "flush.messages": (("log.flush.interval.messages", 1),),
    "flush.ms": (("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)),
    "index.interval.bytes": (("log.index.interval.bytes", 1),),
    "max.compaction.lag.ms": (("log.cleaner.max.compaction.lag.ms", 1),),
    "max.message.bytes": (("message.max.bytes", 1),),
    "message.timestamp.after.max.ms": (("log.message.timestamp.after.max.ms", 1),),
    "message.timestamp.before.max.ms": (("log.message.timestamp.before.max.ms", 1),),
    "message.timestamp.difference.max.ms": (("log.message.timestamp.difference.max.ms", 1),),
    "message.timestamp.type": (("log.message.timestamp.type", 1),),
    "min.cleanable.dirty.ratio": (("log.cleaner.min.cleanable.ratio", 1),),
    "min.compaction.lag.ms": (("log.cleaner.min.compaction.lag.ms", 1),),
    "min.insync.replicas": (("min.insync.replicas", 1),),
    "retention.bytes": (("log.retention.bytes", 1),),
    "retention.ms": (
        ("log.retention.ms", 1),
        ("log.retention.minutes", MINUTE_MS),
        ("log.retention.hours", HOUR_MS),
    ),
    "segment.bytes": (("log.segment.bytes", 1),),
    "segment.index.bytes": (("log.index.size.max.bytes", 1),),
    "segment.jitter.ms": (("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)),
    "segment.ms": (("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)),
    "unclean.leader.election.enable": (("unclean.leader.election.enable", 1),),
}

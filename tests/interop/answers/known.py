"""Where Ottla answers otherwise than Apache Kafka 4.3, each with its reason.

``place`` is a pattern as of file names; ``ours`` and ``theirs`` are what either has there, as
Python writes it.
"""

from __future__ import annotations

from typing import NamedTuple

ANYTHING = "*"


class Difference(NamedTuple):
    """What one broker answers, what the other, and why."""

    question: str
    place: str
    ours: str
    theirs: str
    reason: str


TRANSACTIONS = "Transactions are refused for good until they come (docs/decisions/0005)."
STRICT = "Bytes that are no batch are damage on the way, which a producer may send again."
NOT_DECOMPRESSED = (
    "A batch is not decompressed to be stored; an unknown codec is named, not a server error."
)
OLD_SEQUENCE = "A sequence that lies behind was appended (docs/decisions/0007)."
OF_THE_RECORDS = (
    "A duplicate's answer has the time that its topic gave it; the record's own is the producer's."
)
BY_HEADER = "Times are judged by the batch's header, so no single record is named."
OF_3_9 = "The topic settings are those of Apache Kafka 3.9, which has this one."
DEFAULTS_OF_4 = "Apache Kafka 4 raised this bound (KIP-1030); Ottla keeps that of 3.9."
SERVER_ERROR = "Apache Kafka says UNKNOWN_SERVER_ERROR to what no client sends."
NOT_MADE = "What is not made has no id."
NO_LIST = "No list and an empty one mean the same to clients."
SYNONYMS = "The synonyms name all that the value could come from."
NEWER = "A version newer than Apache Kafka 4.3.1, from its development line."

DIFFERENCES: tuple[Difference, ...] = (
    # Producing
    Difference(
        "producing.produce_in_odd_ways",
        "acks=2 and no topic/*/error_code",
        "21",
        "3",
        "The whole request is wrong, whatever the topic.",
    ),
    Difference("producing.produce_damaged_batches", "half a batch*/error_code", "2", "87", STRICT),
    Difference(
        "producing.produce_damaged_batches",
        "a batch that lacks its last byte*/error_code",
        "2",
        "87",
        STRICT,
    ),
    Difference(
        "producing.produce_damaged_batches", "a batch and a byte*/error_code", "87", "0", STRICT
    ),
    Difference(
        "producing.produce_damaged_batches",
        "magic [01]/*/error_code",
        "43",
        "87",
        "An old message format is named as such.",
    ),
    Difference(
        "producing.produce_untrue_headers",
        "a header with {'attributes': [57]}/*/error_code",
        "76",
        "-1",
        NOT_DECOMPRESSED,
    ),
    Difference(
        "producing.produce_untrue_headers",
        "a header with {'attributes': 1}/*/error_code",
        "0",
        "-1",
        NOT_DECOMPRESSED,
    ),
    Difference(
        "producing.produce_untrue_headers",
        "a header with {'attributes': 8}/*/error_code",
        "32",
        "0",
        "Only the broker may say that a time is the broker's.",
    ),
    Difference(
        "producing.produce_untrue_headers",
        "a header with {'attributes': *}/*/base_offset",
        ANYTHING,
        ANYTHING,
        "The two records before were stored by one broker only.",
    ),
    Difference(
        "producing.produce_in_time",
        "a record from */record_errors/0",
        "'absent'",
        ANYTHING,
        BY_HEADER,
    ),
    Difference(
        "producing.produce_in_sequence",
        "* again/*/log_append_time_ms",
        "-1",
        ANYTHING,
        OF_THE_RECORDS,
    ),
    Difference(
        "producing.six_batches_and_each_again",
        "* again/*/log_append_time_ms",
        "-1",
        ANYTHING,
        OF_THE_RECORDS,
    ),
    Difference(
        "producing.produce_in_sequence",
        "a part of the first/*/error_code",
        "46",
        "45",
        OLD_SEQUENCE,
    ),
    Difference(
        "producing.six_batches_and_each_again",
        "batch [01] again/*/error_code",
        "46",
        "45",
        OLD_SEQUENCE,
    ),
    Difference("producing.transactions", "its coordinator/error_code", "53", "0", TRANSACTIONS),
    Difference("producing.transactions", "a transactional id/error_code", "53", "0", TRANSACTIONS),
    Difference(
        "producing.transactions", "a transactional batch/*/error_code", "53", ANYTHING, TRANSACTIONS
    ),
    Difference(
        "producing.transactions",
        "a transactional batch without an id/*/error_code",
        "48",
        "53",
        TRANSACTIONS,
    ),
    Difference(
        "producing.produce_damaged_batches",
        "two batches*/log_start_offset",
        "0",
        "-1",
        "Apache Kafka looks at the number of batches before it looks for the log.",
    ),
    # Reading
    Difference(
        "reading.fetch_with_epochs",
        "leader epoch -2/*/error_code",
        "74",
        "0",
        "An epoch below none is fenced in Fetch as in ListOffsets.",
    ),
    Difference(
        "reading.fetch_within_limits", "a negative number */error_code", "0", "-1", SERVER_ERROR
    ),
    Difference(
        "reading.fetch_with_epochs", "leader epoch 1/*/aborted_transactions", "[]", "None", NO_LIST
    ),
    Difference(
        "reading.fetch_as_a_follower", "replica 7/*/aborted_transactions", "[]", "None", NO_LIST
    ),
    Difference(
        "reading.fetch_within_limits",
        "an isolation level that is none/error_code",
        "0",
        "-1",
        SERVER_ERROR,
    ),
    Difference(
        "reading.list_offsets_that_are_not_there",
        "an isolation level that is none/*/error_code",
        "0",
        "-1",
        SERVER_ERROR,
    ),
    # Topics
    Difference("topics.api_versions", "the versions of ApiVersions", "'0-5'", "'0-4'", NEWER),
    Difference("topics.api_versions", "the versions of DeleteGroups", "'0-3'", "'0-2'", NEWER),
    Difference(
        "groups.lists_and_deletions", "deleted, not there, version 3", ANYTHING, "'hung up'", NEWER
    ),
    Difference("topics.metadata", "by neither, version 1[23]/*", ANYTHING, ANYTHING, SERVER_ERROR),
    Difference(
        "topics.topic_partitions",
        "topics that are not there/*/topic_authorized_operations",
        "-2147483648",
        "3576",
        "Nothing is allowed with a topic that does not exist.",
    ),
    Difference("topics.create_topics", "*/topic_id", "'none'", ANYTHING, NOT_MADE),
    Difference("topics.create_topics", "message.format.version=*/error_code", "0", "40", OF_3_9),
    Difference(
        "topics.create_topics",
        "leader.replication.throttled.replicas='x'/*/error_code",
        "0",
        "40",
        "The setting is kept and used for nothing; its form is not looked at.",
    ),
    Difference(
        "topics.delete_topics",
        "twice/responses",
        ANYTHING,
        ANYTHING,
        "Each mention is answered; Apache Kafka answers once.",
    ),
    # Settings
    Difference(
        "settings.describe_topics",
        "all of a topic/*/message.downconversion.enable",
        ANYTHING,
        "'absent'",
        OF_3_9,
    ),
    Difference(
        "settings.describe_topics",
        "all of a topic/*/message.format.version",
        ANYTHING,
        "'absent'",
        OF_3_9,
    ),
    Difference(
        "settings.describe_topics",
        "all of a topic/*/message.timestamp.difference.max.ms",
        ANYTHING,
        "'absent'",
        OF_3_9,
    ),
    Difference(
        "settings.describe_topics",
        "all of a topic/*/message.timestamp.after.max.ms/value",
        "'9223372036854775807'",
        "'3600000'",
        DEFAULTS_OF_4,
    ),
    Difference(
        "settings.describe_topics",
        "all of a topic/*/min.insync.replicas/config_source",
        "5",
        "3",
        "Eligible leader replicas make it a setting of the cluster there.",
    ),
    Difference(
        "settings.describe_others",
        "log.retention.ms *log.retention.hours",
        ANYTHING,
        "'absent'",
        SYNONYMS,
    ),
    Difference(
        "settings.describe_topics",
        "*/retention.ms/synonyms/log.retention.hours",
        ANYTHING,
        "'absent'",
        SYNONYMS,
    ),
    Difference(
        "settings.describe_others",
        "background.threads of a broker/*",
        "'absent'",
        ANYTHING,
        "What has no meaning here is no setting.",
    ),
    Difference(
        "settings.describe_others",
        "client metrics/results/x/configs/*",
        "'absent'",
        ANYTHING,
        "What nobody has set is not there; Apache Kafka shows its defaults.",
    ),
    Difference(
        "settings.describe_others",
        "a group/*/error_code",
        "42",
        "0",
        "Groups have no settings yet.",
    ),
    Difference(
        "settings.alter_topics",
        "(*[91], 'retention.ms', '1')*/error_code",
        "42",
        "-1",
        SERVER_ERROR,
    ),
    Difference(
        "settings.alter_topics", "*'segment.bytes', '1048575'*/error_code", "0", "40", DEFAULTS_OF_4
    ),
    Difference("settings.alter_topics", "*difference.max.ms'*/error_code", "0", "40", OF_3_9),
    Difference(
        "settings.alter_topics",
        "a topic twice*/responses",
        ANYTHING,
        ANYTHING,
        "What is mentioned twice is answered once.",
    ),
    Difference(
        "settings.alter_others",
        "broker * (0, 'no.such.setting', '1')/*/error_code",
        "42",
        "0",
        "A name that is no setting of a broker is refused as one of a topic is.",
    ),
    Difference(
        "settings.list_resources",
        "brokers and their loggers/config_resources",
        ANYTHING,
        ANYTHING,
        "Loggers are no settings here.",
    ),
    # Administering
    Difference(
        "administering.elections_and_moves",
        "election 2 of *, version [12]/replica_election_results/*",
        "'absent'",
        ANYTHING,
        "An election of no kind is refused as a whole.",
    ),
    Difference(
        "administering.rights_and_secrets",
        "quotas, version [01]/error_message",
        "None",
        "''",
        "No text and an empty one mean the same to clients.",
    ),
    Difference(
        "administering.rights_and_secrets",
        "secrets, version 0/error_message",
        "None",
        "''",
        "No text and an empty one mean the same to clients.",
    ),
    Difference(
        "administering.rights_and_secrets",
        "tokens, version [123]/error_code",
        "61",
        "64",
        "Apache Kafka looks at the connection before it looks whether tokens are on.",
    ),
)

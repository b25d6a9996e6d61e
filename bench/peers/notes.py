"""What has to be known to read a table, by the work: what its units count, and what is not alike on both sides.

What is said of single cells is theirs (``Cell.notes``). These are by the cells' names, and go with the report, so that
kept figures have them, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch

UNLIKE = (
    "Not the same work: Apache Kafka unpacks each batch that is produced and looks at every record in it; Ottla looks at the "
    "batch's header and checksum, and keeps it as it came ([compatibility.md](compatibility.md), Producing). That is in every "
    "figure of producing, most of all in those of compressed and of small records."
)
BATCHES = (
    "MB are 10^6 bytes of record batches as they are sent and as they lie in the log: with lz4 the compressed ones, some third "
    "of the records' own."
)
LATENCIES = (
    "Latencies count from when a request was to be sent. `late` is by how much the generator itself missed that: it is in the "
    "latency, and is none of the broker's."
)
WAYS = (
    "With 12 partitions Ottla is run in two ways. `--brokers 2` is `ottla serve --brokers 2`, a process for each of two "
    "processors, each of which leads half of the partitions; Apache Kafka's threads have both processors in any case. Producers "
    "and consumers have a connection to each process that leads what they ask for. Goals are judged for both ways, and counted "
    "for one of them: the first that meets all goals of its row, or one process where neither does."
)
BY_WORK: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("start/*",),
        "Not measured: Apache Kafka's native image (`apache/kafka-native`), and class data sharing (AppCDS) as the image of its "
        "JVM has it. Both start sooner than a plain JVM does.",
    ),
    (
        ("memory/*",),
        "PSS is of all processes, in MB of 2^20 bytes. A page that n processes share counts 1/n, so that of the interpreter's own "
        "text (5 MB) half or less counts for Ottla, since this benchmark has it mapped, too. Apache Kafka's mapped index files are in its "
        "figure as far as they were touched; Ottla maps no files, and its indexes are in the page cache, which is in "
        "nobody's. The anonymous part is nobody else's in any case.",
    ),
    (
        ("memory/*",),
        "The load is light, and the JVM has just started: what is held after a warm-up, with all the load that a broker takes, is in "
        "the tables of saturation.",
    ),
    (
        ("saturation/produce/*", "saturation/defaults/*"),
        "Four producers, a connection each, five requests on their way on each, acks=1 where the table does not say otherwise. A "
        "request has a batch for each partition.",
    ),
    (
        ("saturation/fetch/*",),
        "Four consumers, a connection each, one Fetch on its way, with consumers' default sizes (1 MiB a partition, 50 MiB in "
        "all), out of the page cache. They share the partitions; of one partition each reads all.",
    ),
    (("saturation/*", "replication/*"), BATCHES),
    (("saturation/produce/*p/*", "saturation/fetch/*p/*"), WAYS),
    (
        ("saturation/defaults/*", "small/defaults/*", "latency/defaults/*"),
        "acks=all, as producers have it by default, and one replica. Shown, and judged by no goal.",
    ),
    (
        ("programs/*",),
        "MB are 10^6 bytes of values, before compression, by what the program itself says; the broker's CPU seconds are of as many.",
    ),
    (
        ("small/*",),
        "Depth: requests on their way on each connection, sent as soon as there is room for one; p50 and p99 are from then to the answer.",
    ),
    (("latency/*", "crowd/*"), LATENCIES),
    (
        ("latency/*/end-to-end/*", "crowd/*"),
        "p50, p99 and p99.9 are to the consumer, ack to the producer. acks=1 where nothing is synced, else acks=all.",
    ),
    (
        ("crowd/*",),
        "The members send Heartbeats and commit offsets, and fetch nothing. Their process has a lower priority (nice 10) than the "
        "generator and the brokers.",
    ),
    (
        ("replication/*",),
        "acks=all, min.insync.replicas=2. Bytes are counted once, not for each replica. CPU seconds and PSS are those of all brokers, "
        "and of Ottla's three ZooKeeper servers, whose part stands beside. These have a heap of 96 MB at most, the serial "
        "collector and the first compiler alone, where Debian's package leaves all that to the JVM; they sync as always. Each "
        "of Apache Kafka's nodes is broker and controller with a heap of 1 GB.",
    ),
    (
        ("partitions/create/*",),
        "Apache Kafka makes a partition's files when it is created, Ottla with the first record in it; so the time of both "
        "together is a goal of its own.",
    ),
    (("partitions/*", "clients/*"), "PSS is in MB of 2^20 bytes."),
    (
        (
            "saturation/produce/*",
            "saturation/defaults/*",
            "programs/*",
            "small/*",
            "latency/*",
            "crowd/*",
            "replication/*",
            "partitions/spread/*",
            "clients/*/produce",
        ),
        UNLIKE,
    ),
)
LEFT_OUT = (
    "noida-db (PyPI, 0.2.3), a tool for local tests: its Fetch ignores `max_bytes` and answers with all that a partition holds, so "
    'that librdkafka refuses what it gets after 100 MB ("Invalid response size"), and it writes all of its log anew each second, '
    "as JSON, without a sync.",
    "Tansu where what is acknowledged has to be kept, since the only storage built into its wheel is memory, and at rates that it does not "
    "take. Where it stands beside it is judged by no goal.",
)


def notes_for(cell: str) -> Iterator[str]:
    """What is said beneath the table of a cell of that name, besides its own notes."""
    for patterns, note in BY_WORK:
        if any(fnmatch(cell, pattern) for pattern in patterns):
            yield note

"""kafka-console-producer and kafka-console-consumer as the matrix of clients uses them: lines of text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby

from tests.interop.java.adapter import sample_of
from tests.interop.java.tools import run
from tests.interop.samples import Sample

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
NULL = "<null>"
WRITABLE: tuple[Sample, ...] = (
    Sample(b"JFK", b"21.5", (("unit", b"C"),)),
    Sample(b"LGA", b"a value", (("null", None), ("twice", b"1"), ("twice", b"2"))),
    Sample("Ähre".encode(), "größer".encode(), (("Straße", "weiß".encode()),)),
    Sample(None, b"a value without a key"),
    Sample(b"a tombstone", None),
    Sample(b"", b""),
    Sample(b"long", b"long " * 2_000),
)


def write(
    bootstrap: str, topic: str, partition: int, codec: str, samples: Sequence[Sample]
) -> None:
    """Write the samples: ``headers key value``, where it writes into the one partition that its key gives."""
    for _, same in groupby(samples, key=lambda sample: bool(sample.headers)):
        lines = list(same)
        with_headers = bool(lines[0].headers)
        run(
            "kafka-console-producer",
            *("--bootstrap-server", bootstrap, "--topic", topic, "--compression-codec", codec),
            *("--command-property", "linger.ms=20"),
            *("--command-property", "partitioner.class=OnePartition"),
            *("--command-property", f"ottla.partition={partition}"),
            *("--reader-property", "parse.key=true", "--reader-property", f"null.marker={NULL}"),
            *("--reader-property", f"parse.headers={str(with_headers).lower()}"),
            stdin=b"".join(_line(sample) for sample in lines),
        )


def _line(sample: Sample) -> bytes:
    headers = ",".join(f"{name}:{_text(value)}" for name, value in sample.headers)
    parts = [headers] if sample.headers else []
    return "\t".join([*parts, _text(sample.key), _text(sample.value)]).encode() + b"\n"


def _text(value: bytes | None) -> str:
    return NULL if value is None else value.decode()


def read(bootstrap: str, topic: str, partition: int, count: int) -> list[Sample]:
    """The first ``count`` records of a partition."""
    done = run(
        "kafka-console-consumer",
        *("--bootstrap-server", bootstrap, "--topic", topic, "--partition", str(partition)),
        *("--offset", "earliest", "--max-messages", str(count), "--timeout-ms", "20000"),
        *("--formatter", "JsonFormatter"),
    )
    return [sample_of(json.loads(line)) for line in done.out.splitlines()]

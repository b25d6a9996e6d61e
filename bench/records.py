"""What the records room costs: a broker's per-batch calls and a client's per-record codec, on one core.

    python bench/records.py [--seconds 4]

Prints the median and the range of several rounds. A broker's figures are per call, a client's are per
record, in batches of 1,000 records with values of 100 bytes; each call of a codec is for a whole batch.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from ottla.client.record import Record
from ottla.records.batch import (
    CompressionType,
    iter_batches,
    read_header,
    stamp,
    verify_crc,
)
from ottla.records.builder import BatchBuilder, build_batch
from ottla.records.chosen_loops import choice
from ottla.records.codec import (
    NewRecord,
    decode_batch,
    decode_in_chunks,
    encode_records,
    offset_of_timestamp,
    require_keys,
)
from ottla.records.compression import compress, decompress

ROUNDS = 9
COUNT = 1000
NOW_MS = 1_700_000_000_000


def measure(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds a call, sorted: one figure a round, each of about ``seconds / ROUNDS``."""
    started = time.perf_counter()
    call()
    once = max(time.perf_counter() - started, 1e-7)
    calls = max(int(seconds / ROUNDS / once), 1)
    figures = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        figures.append((time.perf_counter() - started) / calls)
    return sorted(figures)


def line(name: str, figures: list[float], scale: float, unit: str) -> None:
    """One row: the median, and the best and the worst round."""
    middle, best, worst = median(figures), figures[0], figures[-1]
    print(
        f"{name:<42}{middle * scale:>10.2f} {unit:<4}  ({best * scale:.2f} - {worst * scale:.2f})"
    )


def rate(name: str, figures: list[float]) -> None:
    """One row in millions of records a second."""
    middle, best, worst = (
        COUNT / figure / 1e6 for figure in (median(figures), figures[0], figures[-1])
    )
    print(f"{name:<42}{middle:>10.2f} M/s   ({worst:.2f} - {best:.2f})")


def sample_records(seed: int) -> dict[str, list[NewRecord]]:
    """Batches of one shape each."""
    dice = random.Random(seed)
    return {
        "100 B values": [(NOW_MS, None, dice.randbytes(100), ()) for _ in range(COUNT)],
        "50-150 B values, times": [
            (NOW_MS + index // 5, None, dice.randbytes(dice.randrange(50, 150)), ())
            for index in range(COUNT)
        ],
        "keys": [
            (NOW_MS + index // 5, b"key %d" % index, dice.randbytes(100), ())
            for index in range(COUNT)
        ],
        "keys and a header": [
            (NOW_MS + index // 5, b"key %d" % index, dice.randbytes(100), [("trace", b"x" * 16)])
            for index in range(COUNT)
        ],
    }


def build_singly(records: list[NewRecord]) -> bytearray:
    """What a producer does: records come one by one."""
    builder = BatchBuilder(max_bytes=1 << 30)
    for record in records:
        builder.append(*record)
    return builder.build()


def consumed(batch: bytearray) -> int:
    """What a consumer does: the records as an application gets them."""
    parts = decode_in_chunks(batch, kind=Record, topic="topic", partition=0)
    return sum(len(records) for records, _ in parts)


def measure_broker(seconds: float) -> None:
    """What happens once for each batch."""
    batch = memoryview(build_batch([(NOW_MS, None, bytes(100), ())] * 10))
    header = read_header(batch)
    stored = bytes(batch) * 100
    print("A broker, per batch of 10 x 100 B")
    line("read_header", measure(lambda: read_header(batch), seconds), 1e6, "us")
    line("stamp", measure(lambda: stamp(batch, 123456, 7), seconds), 1e6, "us")
    line("verify_crc", measure(lambda: verify_crc(batch, header), seconds), 1e6, "us")
    walk = measure(lambda: list(iter_batches(stored)), seconds)
    line("iter_batches, a batch", walk, 1e4, "us")


def measure_client(seconds: float) -> None:
    """What happens once for each record."""
    print(f"A client, batches of {COUNT:,} records; our record codec: {choice}")
    for name, records in sample_records(20240229).items():
        batch = build_batch(records)
        rate(f"encode, {name}", measure(partial(encode_records, records, NOW_MS), seconds))
        rate(f"decode, {name}", measure(partial(decode_batch, batch), seconds))
        rate(f"decode for a consumer, {name}", measure(partial(consumed, batch), seconds))
        rate(f"append and build, {name}", measure(partial(build_singly, records), seconds))
    keyed = build_batch(sample_records(1)["keys"])
    rate("require_keys", measure(lambda: require_keys(keyed), seconds))
    rate(
        "offset_of_timestamp, the last", measure(lambda: offset_of_timestamp(keyed, 2**62), seconds)
    )


def measure_codecs(seconds: float) -> None:
    """Megabytes a second of a mebibyte of JSON-like text."""
    dice = random.Random(7)
    text = b"".join(
        b'{"id": %d, "name": "user-%d", "score": %f}\n' % (n, dice.randrange(5000), dice.random())
        for n in range(18_000)
    )[: 1 << 20]
    print("Codecs, per MiB of JSON lines")
    for kind in CompressionType:
        if kind is CompressionType.NONE:
            continue
        packed = compress(kind, text)
        ratio = f"to {100 * len(packed) // len(text)} %"
        name = kind.name.lower()
        line(
            f"{name} compress {ratio}",
            measure(partial(compress, kind, text), seconds),
            1e3,
            "ms",
        )
        figures = measure(partial(decompress, kind, packed, max_bytes=1 << 21), seconds)
        line(f"{name} decompress", figures, 1e3, "ms")


def main() -> None:
    """Run everything in about the seconds that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="about how long it may take")
    each = parser.parse_args().seconds / 30
    measure_broker(each)
    measure_client(each)
    measure_codecs(each)


if __name__ == "__main__":
    main()

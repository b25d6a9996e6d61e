"""What reads a batch that unpacks to millions of records takes its bytes and little more: no object for each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ottla.records.batch import CompressionType, pack_header, read_header
from ottla.records.builder import build_batch
from tests.hostile.abuse import KEYLESS, bomb

ROOT = Path(__file__).parents[2]
PLAIN_BYTES = 16 << 20
MEMORY_KIB_MAX = 5 * (PLAIN_BYTES >> 10)
"""A codec's buffers beside what comes of it; as objects the records would take thirty times their bytes."""

CONSUMER = """
from ottla.client.consumer.fetched import FetchedPartition, Reading
from ottla.client.consumer.positions import PartitionState
from ottla.client.types import TopicPartition
def read(path):
    state = PartitionState(TopicPartition("t", 0))
    state.position = 0
    with open(path, "rb") as file:
        content = file.read()
    fetched = FetchedPartition(state, memoryview(content), [], Reading(True, False, None, None))
    for _ in range(30):  # the position stays: all of its records say that they have offset 0
        assert len(fetched.take(500).records) == 500
"""
VERIFY = """
from ottla.log.verification.partitions import Expected, PartitionCheck
from ottla.log.verification.segments import Rules, Standing
def read(path):
    report = PartitionCheck(path.rpartition("/")[0], Expected(Rules(Standing.CLEAN, deep=True))).run()
    assert report.batches == 1, report
"""
DUMP = """
from itertools import islice
from ottla.log.dump import dump
def read(path):
    for _ in islice(dump(path, deep=True), 100_000):
        pass
"""
MEASURED = """
import resource, sys
import ottla.records.compression, ottla.records.codec, cramjam
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", list(CompressionType)[1:])
@pytest.mark.parametrize(
    "reader", [CONSUMER, VERIFY, DUMP], ids=["consumer", "verify --deep", "dump"]
)
def test_a_bomb_costs_its_bytes_and_not_its_records(
    tmp_path: Path, reader: str, kind: CompressionType
) -> None:
    path = tmp_path / "t-0" / "00000000000000000000.log"
    path.parent.mkdir()
    path.write_bytes(bomb(kind, KEYLESS, PLAIN_BYTES))
    command = [sys.executable, "-c", reader + MEASURED, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MEMORY_KIB_MAX


def test_one_record_of_very_many_headers_is_refused() -> None:
    from ottla.errors import KafkaError
    from ottla.records.codec import RECORD_HEADERS_MAX, decode_batch
    from ottla.wire.primitives import encode_varint

    headers = RECORD_HEADERS_MAX + 1
    body = bytes((0, 0, 0, 1, 1)) + encode_varint(headers) + b"\0\1" * headers
    record = encode_varint(len(body)) + body
    batch = bytearray(build_batch([(1, b"k", b"v", [])])[:61]) + record
    pack_header(batch, read_header(batch)._replace(length=49 + len(record)))
    with pytest.raises(KafkaError, match="record headers"):
        decode_batch(batch)

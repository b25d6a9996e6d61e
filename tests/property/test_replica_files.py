"""A follower's files are its leader's, however what it fetched was cut into answers (INVARIANTS 3)."""

from __future__ import annotations

import random

import pytest

from ottla.log.log import Log
from ottla.replication.copies import Limits
from tests.unit.log.samples import NOW_MS, batch, idempotent
from tests.unit.replication.leading import Leader
from tests.unit.replication.test_copying import Follower, a_log, follower_of, leading

SETTINGS = {
    "segment_bytes": 2000,
    "segment_ms": 5000,
    "segment_jitter_ms": 2000,
    "index_interval_bytes": 200,
    "segment_index_bytes": 64,
}


def files(log: Log) -> dict[str, bytes]:
    """The content of every file of the log that a reader goes by, indexes without what is only in memory."""
    for segment in log.segments:
        segment.write_indexes()
    disk = log._disk
    return {
        entry.name: disk.read_file(f"{log.directory}/{entry.name}", 1 << 20)
        for entry in disk.entries(log.directory)
        if entry.name.endswith((".log", ".index", ".timeindex", ".snapshot"))
    }


@pytest.mark.parametrize("seed", range(25))
def test_the_files_are_the_same_however_the_answers_were_cut(seed: int) -> None:
    chance = random.Random(seed)
    theirs = leading(a_log(**SETTINGS))
    leader = Leader(theirs)
    replica = follower_of(a_log(**SETTINGS))
    follower = Follower(replica)
    follower.limits = Limits(chance.choice((1, 700, 3000, 1 << 20)), 10 << 20, 1, 500, 1000)
    at_ms, sequence = NOW_MS, 0
    for _ in range(60):
        at_ms += chance.choice((1, 100, 3000))
        count = chance.randint(1, 5)
        if chance.random() < 0.3:
            content = idempotent(7, sequence, count)
            sequence += count
        else:
            content = batch(count, size=chance.choice((5, 60, 300)), timestamp_ms=at_ms)
        theirs.append_as_leader(memoryview(content), at_ms, required_acks=1)
        if chance.random() < 0.3:
            follower.fetch(leader)
    while replica.log.log_end_offset < theirs.log.log_end_offset:
        assert follower.fetch(leader)
    assert replica.high_watermark == theirs.high_watermark
    found, expected = files(replica.log), files(theirs.log)
    assert list(found) == list(expected)
    assert found == expected
    assert len([name for name in found if name.endswith(".log")]) > 3
    ours, known = replica.log.producers.producers[7], theirs.log.producers.producers[7]
    assert (ours.last_sequence, ours.last_offset) == (known.last_sequence, known.last_offset)

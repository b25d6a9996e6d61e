"""What a cut needs to know of the producers is read before it, and is what a cut would find out itself."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ottla.log import local_log
from ottla.log.log import Log
from tests.unit.log.samples import NOW_MS, append, batch, disk, idempotent, new_log


def filled(seed: int, count: int = 40) -> Log:
    """Batches of three producers and of none, in some segments."""
    chance = random.Random(seed)
    log = new_log(disk(), segment_bytes=1000)
    sequences = [0, 0, 0]
    for _ in range(count):
        producer, size = chance.randrange(4), chance.randrange(1, 4)
        if producer == 3:
            append(log, size)
            continue
        content = idempotent(producer, sequences[producer], size)
        sequences[producer] += size
        log.append_as_leader(content, 1, NOW_MS)
    return log


def known(log: Log) -> Any:
    entries = log.producers.producers.items()
    return {
        key: (entry.epoch, [tuple(one) for one in entry.batches]) for key, entry in entries
    }, log.producers.end_offset


def snapshots(log: Log) -> set[str]:
    return {path for path in log._disk.tree() if path.endswith(".snapshot")}  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _every_cut_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_log, "REPLAYED_AT_ONCE_BYTES", 0)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_the_cut_would_find(seed: int) -> None:
    end = filled(seed).log_end_offset
    for offset in range(1, end):
        cut, plain = filled(seed), filled(seed)
        replay = cut.replay_before_cut(offset)
        if replay is None:  # there is a snapshot of just that
            assert offset in [segment.base_offset for segment in cut.segments]
        else:
            replay.run()
            assert replay.state is not None
        assert cut.truncate_to(offset, NOW_MS, replay)
        assert plain.truncate_to(offset, NOW_MS)
        assert known(cut) == known(plain), offset
        assert cut.log_end_offset == plain.log_end_offset
        assert snapshots(cut) == snapshots(plain)


def test_nothing_is_read_for_producers_amid_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(1)
    replay = log.replay_before_cut(20)
    assert replay is not None
    replay.run()
    monkeypatch.setattr(local_log, "rebuild_producers", None)
    assert log.truncate_to(20, NOW_MS, replay)


def test_what_was_read_before_another_cut_counts_for_nothing() -> None:
    log, plain = filled(2), filled(2)
    replay = log.replay_before_cut(30)
    assert replay is not None
    replay.run()
    for one in (log, plain):
        one.truncate_to(10, NOW_MS)
        while one.log_end_offset < 40:
            append(one)
    assert log.truncate_to(30, NOW_MS, replay)
    assert plain.truncate_to(30, NOW_MS)
    assert known(log) == known(plain)


def test_a_log_that_cannot_be_read_tells_the_cut_itself() -> None:
    log = filled(1)
    segment = log.segments[1]
    replay = log.replay_before_cut(segment.base_offset + 1)
    assert replay is not None
    segment.log_file.truncate(10)
    replay.run()
    assert replay.state is None


def test_a_short_log_is_not_worth_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    log = new_log(disk())
    for _ in range(10):
        log.append_as_leader(bytearray(batch(1)), 1, NOW_MS)
    assert log.replay_before_cut(5) is None

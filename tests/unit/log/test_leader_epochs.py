"""Leader epochs and where they start."""

from __future__ import annotations

import pytest

from ottla.log.checkpoints import encode_epochs
from ottla.log.leader_epochs import EpochStart, LeaderEpochs
from tests.unit.log.samples import DIRECTORY, NOW_MS, batch, disk, new_log, reopened


def epochs(*entries: tuple[int, int]) -> LeaderEpochs:
    return LeaderEpochs([EpochStart(*entry) for entry in entries])


def test_epoch_keeps_its_first_start() -> None:
    of = epochs((1, 10), (2, 20))
    assert not of.assign(2, 25)
    assert of.assign(3, 30)
    assert of.entries == [(1, 10), (2, 20), (3, 30)]
    assert of.changed


def test_contradicted_entries_are_removed() -> None:
    of = epochs((1, 10), (2, 20), (4, 40))
    of.assign(3, 30)
    assert of.entries == [(1, 10), (2, 20), (3, 30)]
    of.assign(5, 15)
    assert of.entries == [(1, 10), (5, 15)]
    of.assign(5, 12)
    assert of.entries == [(1, 10), (5, 12)]


def test_leadership_without_records_is_replaced_by_the_next() -> None:
    of = epochs((1, 0), (2, 20))
    of.assign(3, 20)
    assert of.entries == [(1, 0), (3, 20)]


@pytest.mark.parametrize(
    ("epoch", "end"),
    [
        (-1, None),
        (0, (0, 10)),  # older than all that is known
        (1, (1, 20)),
        (2, (2, 40)),
        (3, (2, 40)),  # never led: the end of the one before
        (4, (4, 55)),
        (5, None),
    ],
)
def test_end_of_an_epoch(epoch: int, end: tuple[int, int] | None) -> None:
    assert epochs((1, 10), (2, 20), (4, 40)).end_offset_for(epoch, 55) == end


def test_no_epoch_no_end() -> None:
    assert epochs().end_offset_for(0, 5) is None
    assert epochs().latest == -1


def test_epoch_of_an_offset() -> None:
    of = epochs((1, 10), (2, 20))
    assert [of.epoch_for(offset) for offset in (9, 10, 19, 20, 99)] == [None, 1, 1, 2, 2]


def test_cutting_the_end() -> None:
    of = epochs((1, 10), (2, 20), (3, 30))
    of.truncate_from_end(31)
    assert len(of.entries) == 3
    assert not of.changed
    of.truncate_from_end(20)
    assert of.entries == [(1, 10)]
    assert of.latest == 1


def test_cutting_the_start() -> None:
    of = epochs((1, 10), (2, 20), (3, 30))
    of.truncate_from_start(10)
    assert not of.changed
    of.truncate_from_start(25)
    assert of.entries == [(2, 25), (3, 30)]
    of.truncate_from_start(30)
    assert of.entries == [(3, 30)]
    of.truncate_from_start(99)
    assert of.entries == [(3, 99)]


@pytest.mark.parametrize("entry", [(-1, 0), (0, -1)])
def test_negative_epochs_and_offsets_are_the_callers_bug(entry: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="epoch"):
        epochs().assign(*entry)


def test_batches_tell_the_epochs_again_where_the_checkpoint_is_gone() -> None:
    on = disk()
    log = new_log(on, segment_bytes=200)
    for epoch in (0, 0, 3, 3, 5):
        log.append_as_leader(batch(), epoch, NOW_MS)
    log.close(NOW_MS)
    expected = [(0, 0), (3, 2), (5, 4)]
    assert reopened(on, clean=True).epochs.entries == expected
    path = f"{DIRECTORY}/leader-epoch-checkpoint"
    assert on.tree()[path] == b"0\n3\n0 0\n3 2\n5 4\n"
    on.write_file(path, b"0\n2\nnonsense")
    assert reopened(on, clean=True).epochs.entries == expected
    on.unlink(path)
    assert reopened(on, clean=True).epochs.entries == expected
    on.unlink(path) if on.exists(path) else None
    assert reopened(on, clean=False, recovery_point=3).epochs.entries == expected


def test_stale_checkpoint_is_cut_to_the_log() -> None:
    on = disk()
    log = new_log(on)
    for epoch in (0, 1):
        log.append_as_leader(batch(), epoch, NOW_MS)
    log.close(NOW_MS)
    stale = encode_epochs([EpochStart(0, 0), EpochStart(1, 1), EpochStart(2, 7)])
    on.write_file(f"{DIRECTORY}/leader-epoch-checkpoint", stale)
    assert reopened(on, clean=True).epochs.entries == [(0, 0), (1, 1)]


def test_leader_without_records_answers_its_epoch() -> None:
    log = new_log(disk())
    log.append_as_leader(batch(3), 1, NOW_MS)
    log.begin_epoch(4)
    assert log.latest_epoch == 4
    assert log.end_offset_for_epoch(1) == (1, 3)
    assert log.end_offset_for_epoch(4) == (4, 3)

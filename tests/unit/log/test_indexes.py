"""The two indexes: their bytes, and what is found through them."""

from __future__ import annotations

import random
from errno import ENOSPC

import pytest

from ottla.log.files import File
from ottla.log.offset_index import OffsetIndex
from ottla.log.sparse_index import CorruptIndex
from ottla.log.time_index import TimeIndex
from ottla.simulation.disk import SimulatedDisk


def offset_index(
    entries: list[tuple[int, int]], base: int = 100
) -> tuple[OffsetIndex, SimulatedDisk]:
    on = SimulatedDisk()
    index = OffsetIndex(on.file("/00000000000000000100.index"), base, None)
    for entry in entries:
        index.append(*entry)
    return index, on


def time_index(entries: list[tuple[int, int]], base: int = 100) -> tuple[TimeIndex, SimulatedDisk]:
    on = SimulatedDisk()
    index = TimeIndex(on.file("/00000000000000000100.timeindex"), base, None)
    for entry in entries:
        index.maybe_append(*entry)
    return index, on


def test_offset_index_is_kafkas_to_the_byte() -> None:
    index, on = offset_index([(104, 4200), (111, 8500)])
    assert index.write_out()
    assert on.tree() == {
        "/00000000000000000100.index": bytes.fromhex("00000004 00001068 0000000b 00002134")
    }
    assert not index.write_out()


def test_time_index_is_kafkas_to_the_byte() -> None:
    index, on = time_index([(1_700_000_000_000, 104), (1_700_000_000_005, 111)])
    index.write_out()
    assert on.tree() == {
        "/00000000000000000100.timeindex": bytes.fromhex(
            "0000018bcfe56800 00000004 0000018bcfe56805 0000000b"
        )
    }


def test_empty_index_leaves_an_empty_file() -> None:
    index, on = offset_index([])
    assert index.write_out()
    assert on.tree() == {"/00000000000000000100.index": b""}
    assert index.last() == (100, 0)
    assert index.lookup(105) == 0


def test_time_index_takes_only_larger_timestamps() -> None:
    index, _ = time_index([(10, 101), (10, 102), (9, 103), (11, 104)])
    assert index.all_entries() == [(10, 1), (11, 4)]


def test_index_entries_are_found_in_memory_and_in_the_file() -> None:
    entries = [(100 + number * 3, number * 50) for number in range(1, 3000)]
    index, _ = offset_index(entries)
    assert index.entries == len(entries)
    for offset in range(100, 9100, 7):
        expected = max((position for last, position in entries if last <= offset), default=0)
        assert index.lookup(offset) == expected
    times = [(number * 5, 100 + number) for number in range(1, 3000)]
    by_time, _ = time_index(times)
    for timestamp in range(0, 15_100, 11):
        expected = max((offset for time, offset in times if time <= timestamp), default=100)
        assert by_time.lookup(timestamp)[1] == expected


@pytest.mark.parametrize("seed", range(5))
def test_what_is_found_in_the_file_depends_on_no_look_up_before(seed: int) -> None:
    rng = random.Random(seed)
    entries = [(100 + number * 3, number * 50) for number in range(1, rng.randrange(600, 5000))]
    index, _ = offset_index(entries)
    index.write_out()
    for _ in range(300):
        if rng.random() < 0.02:
            index.truncate_to(100 + rng.randrange(index.entries * 5 // 2, index.entries * 3 + 1))
            entries = entries[: index.entries]
        offset = rng.randrange(100, 120 + index.entries * 3)
        if rng.random() < 0.5:  # near an edge of a page
            offset = 100 + 3 * 512 * rng.randrange(12) + rng.randrange(-4, 5)
        expected = max((position for last, position in entries if last <= offset), default=0)
        assert index.lookup(offset) == expected


def test_who_reads_on_has_one_read_of_the_index_for_a_look_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It took as many as halve the file's pages, and one."""
    index, _ = offset_index([(100 + number * 3, number * 50) for number in range(1, 20_000)])
    index.write_out()
    reads: list[int] = []
    read_at = File.read_at

    def counted(file: File, size: int, position: int) -> bytes:
        reads.append(position)
        return read_at(file, size, position)

    monkeypatch.setattr(File, "read_at", counted)
    offsets = range(100, 60_000, 192)
    for offset in offsets:
        assert index.lookup(offset) == (offset - 100) // 3 * 50
    assert len(reads) < 2 * len(offsets)


def test_reopened_index_finds_the_same() -> None:
    entries = [(100 + number * 3, number * 50) for number in range(1, 700)]
    index, on = offset_index(entries)
    index.write_out()
    path = index.file.path
    again = OffsetIndex(on.file(path), 100, len(on.tree()[path]))
    assert again.last() == entries[-1]
    assert again.all_entries() == index.all_entries()
    assert [again.lookup(offset) for offset in range(100, 2300)] == [
        index.lookup(offset) for offset in range(100, 2300)
    ]


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("cut", [0, 100, 101, 103, 104, 1000, 2196, 2197, 2198, 9999])
def test_truncation_drops_the_entries_from_an_offset_on(cut: int, written: bool) -> None:
    entries = [(100 + number * 3, number * 50) for number in range(1, 700)]
    index, _ = offset_index(entries)
    if written:
        index.write_out()
    index.truncate_to(cut)
    kept = [(last - 100, position) for last, position in entries if last < cut]
    assert index.all_entries() == kept
    index.append(99_999, 99_999)
    index.write_out()
    assert index.all_entries() == [*kept, (99_899, 99_999)]


def test_fullness_leaves_room_for_the_rolls_entry() -> None:
    index, _ = offset_index([(101, 1), (102, 2)])
    assert index.is_full(16)
    assert not index.is_full(24)
    times, _ = time_index([(1, 101), (2, 102)])
    assert times.is_full(36)
    assert not times.is_full(48)


def test_relative_offsets_have_31_bits() -> None:
    index, _ = offset_index([])
    assert index.can_hold(100)
    assert index.can_hold(100 + 2**31 - 1)
    assert not index.can_hold(99)
    assert not index.can_hold(100 + 2**31)


@pytest.mark.parametrize("size", [1, 7, 9, 15])
def test_odd_size_is_corrupt(size: int) -> None:
    with pytest.raises(CorruptIndex):
        OffsetIndex(SimulatedDisk().file("/x"), 0, size)


def test_impossible_entries_are_corrupt() -> None:
    on = SimulatedDisk()
    on.write_file("/x", bytes.fromhex("00000004 00001068 fffffff0 00000001"))
    with pytest.raises(CorruptIndex):
        OffsetIndex(on.file("/x"), 100, 16).lookup(200)
    on.write_file("/y", bytes.fromhex("00000004 7fffffff 00000010 00000100"))
    with pytest.raises(CorruptIndex):
        OffsetIndex(on.file("/y"), 100, 16).lookup(105)


def test_index_that_finds_no_room_keeps_its_entries_in_memory() -> None:
    index, on = offset_index([])
    on.fail("open", ENOSPC, times=100)
    entries = [(100 + number, number) for number in range(1, 1000)]
    for entry in entries:
        index.append(*entry)
    assert on.tree() == {}
    assert index.lookup(600) == 500
    on.heal()
    index.write_out()
    assert len(on.tree()["/00000000000000000100.index"]) == 8 * 999
    assert index.lookup(600) == 500


def test_an_index_that_starts_over_writes_only_what_differs() -> None:
    entries = [(100 + number, number * 10) for number in range(1, 1200)]
    index, on = offset_index(entries)
    index.write_out()
    before, calls = on.tree(), dict(on.calls)
    index.start_over()
    assert index.last() == (100, 0)
    for entry in entries:
        index.append(*entry)
    index.write_out()
    assert on.tree() == before
    assert (on.calls["pwrite"], on.calls.get("ftruncate")) == (
        calls["pwrite"],
        calls.get("ftruncate"),
    )
    index.start_over()
    for entry in [*entries[:700], (1500, 99_999)]:
        index.append(*entry)
    assert index.lookup(1500) == 99_999
    assert index.lookup(1499) == 7000
    assert index.write_out()
    path = "/00000000000000000100.index"
    assert on.tree()[path] == before[path][: 700 * 8] + OffsetIndex.ENTRY.pack(1400, 99_999)
    assert not index.write_out()

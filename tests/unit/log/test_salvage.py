"""What a salvage finds and leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from ottla.log.directory import LogDirectory
from ottla.log.disk import Disk
from ottla.log.salvage import read_lost, salvage
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import NOW_MS, TOPIC_ID, append, offsets

CONFIG = TopicConfig.of(segment_bytes=200)
FIRST = "00000000000000000000.log"


@pytest.mark.parametrize("line", ["\u00b2 3", "1 " + "9" * 5000, "-1 2", "1", "a b", "\ufffd"])
def test_a_line_that_names_no_offsets_is_left_out(line: str) -> None:
    disk = SimulatedDisk()
    disk.make_directories("/logs/t-0")
    disk.write_file("/logs/t-0/salvaged", f"3 4\n{line}\n9 9\n".encode())
    assert read_lost(disk, "/logs/t-0") == [(3, 4), (9, 9)]


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    """A quarantined partition of three segments whose compaction was cut short: of 0 and 1, 1 is left."""
    directory = LogDirectory(str(tmp_path))
    directory.open()
    directory.load(lambda topic: CONFIG, NOW_MS)
    log = directory.create("orders", 0, TOPIC_ID, CONFIG, NOW_MS)
    for _ in range(6):
        append(log)
    assert len(log.segments) > 2
    assert log.segments.first.size_bytes == 2 * (log.size_bytes // 6)
    directory.close(NOW_MS)
    path = tmp_path / "orders-0"
    content = (path / FIRST).read_bytes()
    (path / f"{FIRST}.swap").write_bytes(content[len(content) // 2 :])
    (path / "quarantined").write_text("damaged\n")
    return path


def served(partition: Path) -> list[int]:
    """The offsets that the next start finds."""
    directory = LogDirectory(str(partition.parent))
    directory.open()
    directory.load(lambda topic: CONFIG, NOW_MS)
    assert not directory.quarantined
    found = offsets(directory.logs["orders", 0])
    directory.close(NOW_MS)
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def test_a_swap_that_was_cut_short_is_finished_before_a_salvage(partition: Path) -> None:
    flip(partition / FIRST)  # nobody would miss it: it is replaced
    done = salvage(Disk(), str(partition))
    assert (done.segments_rewritten, done.end_offset) == (0, 6)
    assert not list(partition.glob("*.swap"))
    assert served(partition) == [1, 2, 3, 4, 5]


def test_a_damaged_swap_replaces_nothing(partition: Path) -> None:
    flip(partition / f"{FIRST}.swap")
    done = salvage(Disk(), str(partition))
    assert (done.segments_rewritten, done.lost) == (0, ())
    assert (partition / f"{FIRST}.swap.damaged").exists()
    assert served(partition) == [0, 1, 2, 3, 4, 5]


def test_a_damaged_swap_whose_old_segments_are_gone_is_salvaged_like_any_segment(
    partition: Path,
) -> None:
    swap = partition / f"{FIRST}.swap"
    swap.write_bytes((partition / FIRST).read_bytes())
    (partition / FIRST).unlink()
    flip(swap)
    done = salvage(Disk(), str(partition))
    assert (done.segments_rewritten, done.lost) == (1, ((1, 1),))
    assert served(partition) == [0, 2, 3, 4, 5]

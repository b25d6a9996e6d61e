"""What an earlier salvage has left behind, whatever became of the file since."""

from __future__ import annotations

import pytest

from ottla.log.salvage import read_lost
from ottla.simulation.disk import SimulatedDisk


@pytest.mark.parametrize("line", ["\u00b2 3", "1 " + "9" * 5000, "-1 2", "1", "a b", "\ufffd"])
def test_a_line_that_names_no_offsets_is_left_out(line: str) -> None:
    disk = SimulatedDisk()
    disk.make_directories("/logs/t-0")
    disk.write_file("/logs/t-0/salvaged", f"3 4\n{line}\n9 9\n".encode())
    assert read_lost(disk, "/logs/t-0") == [(3, 4), (9, 9)]

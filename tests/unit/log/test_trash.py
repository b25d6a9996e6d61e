"""What waits to be removed, and for how long."""

from __future__ import annotations

from errno import EBUSY

from ottla.log.trash import Trash
from ottla.simulation.disk import SimulatedDisk

YEAR_MS = 365 * 86_400_000


def test_a_clock_that_is_set_back_keeps_nothing_waiting() -> None:
    trash = Trash(SimulatedDisk())
    trash.put("/later", YEAR_MS + 60_000)
    trash.put("/soon", YEAR_MS + 1_000)
    assert trash.take_due(YEAR_MS) == []
    assert trash.take_due(500) == []
    assert trash.take_due(1_500) == ["/soon"]
    assert trash.take_due(60_500) == ["/later"]
    assert len(trash) == 0


def test_what_cannot_be_removed_is_given_back() -> None:
    on = SimulatedDisk()
    for path in ("/a", "/b"):
        on.write_file(path, b"x")
    on.fail("unlink", EBUSY, path="/a")
    trash = Trash(on)
    assert trash.remove(["/a", "/b", "/gone"]) == ["/a"]
    assert list(on.tree()) == ["/a"]
    assert trash.remove(["/a"]) == []
    assert list(on.tree()) == []

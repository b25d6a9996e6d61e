"""What a copy on its way to another directory writes is what a start after a crash may believe."""

from __future__ import annotations

from ottla.log.directory import LogDirectory
from ottla.log.future_log import FutureLog
from ottla.log.log import Log
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import NOW_MS, batch, idempotent, new_log


class Directory(LogDirectory):
    """As much of the destination as a copy asks for."""

    def __init__(self, disk: SimulatedDisk) -> None:
        super().__init__("/other", disk)


def test_a_copy_that_rolls_while_it_catches_up_forgets_no_producer() -> None:
    disk = SimulatedDisk()
    for path in ("/logs", "/other"):
        disk.mkdir(path)
    disk.sync_directory("/")
    current = new_log(disk, segment_bytes=600)
    current.append_as_leader(idempotent(7, 0), 0, NOW_MS)  # and then it is silent for a while
    copy = FutureLog(current, Directory(disk), "0" * 32)
    copy.create()
    for segment in copy.next_round(NOW_MS):
        for step in copy.copy(segment):
            step()
    copy.open_log(NOW_MS)
    for number in range(4):
        current.append_as_leader(idempotent(8, number), 0, NOW_MS)
        current.append_as_leader(batch(size=300), 0, NOW_MS)
        while not copy.catch_up(NOW_MS):
            continue
    copy.publish()
    assert copy.log is not None
    copy.log.relocate(copy.path)
    moved = copy.take_over(NOW_MS)
    assert len(moved.segments) > 2
    end = moved.log_end_offset
    # The process ends here; all that is synced or not is there, and the log was synced up to its end.
    found = Log.open(
        disk, copy.path, current.config, NOW_MS, clean=False, recovery_point=end, sync=False
    )
    assert set(found.producers.producers) == {7, 8}
    again = found.append_as_leader(idempotent(7, 0), 0, NOW_MS)
    assert again.duplicate
    assert found.log_end_offset == end

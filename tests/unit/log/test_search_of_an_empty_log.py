"""A partition that nothing was ever written to has no files; looking into it must not be a disk failure."""

from __future__ import annotations

from tests.unit.log.samples import append, disk, new_log


def test_a_time_finds_nothing_in_a_log_without_files_and_the_log_stays_usable() -> None:
    log = new_log(disk())
    assert log.offset_for_timestamp(0) is None
    assert log.max_timestamp_offset() is None
    assert append(log, 2, timestamp_ms=7).base_offset == 0
    found = log.offset_for_timestamp(7)
    assert found is not None
    assert (found.offset, found.timestamp_ms) == (0, 7)

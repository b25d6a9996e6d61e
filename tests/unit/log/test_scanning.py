"""Walking over the batches of a segment's file."""

from __future__ import annotations

from ottla.log.scanning import find_batch, scan_headers
from ottla.records.batch import stamp
from tests.unit.log.samples import batch, disk


def test_the_last_batches_are_found_without_a_read_behind_the_end() -> None:
    on = disk()
    one = batch()
    size = len(one)
    content = bytearray()
    for offset in range(3):
        stamp(one, offset, 0)
        content += one
    on.write_file("/logs/x", bytes(content))
    file = on.file("/logs/x")
    file.read_at(1, 0)
    for wanted in range(3):
        on.calls.clear()
        place = find_batch(file, 0, len(content), wanted, wanted * size)
        assert place == (wanted * size, size, wanted, wanted)
        assert on.calls == {"pread": 1}
    on.calls.clear()
    assert find_batch(file, 0, len(content), 3, 2 * size) is None
    found = scan_headers(file, 0, len(content), 0)
    assert [header.base_offset for _, header in found] == [0, 1, 2]
    assert on.calls == {"pread": 2}


def test_what_lies_behind_the_segments_end_is_not_looked_at() -> None:
    on = disk()
    one = batch()
    on.write_file("/logs/x", bytes(one) + b"garbage" * 100)
    file = on.file("/logs/x")
    assert find_batch(file, 0, len(one), 0, 0) == (0, len(one), 0, 0)
    assert find_batch(file, 0, len(one), 1, 0) is None

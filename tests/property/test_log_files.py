"""Whatever lies in a partition's directory: a log that reads, or a refusal; and the same bytes again."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ottla.errors import KafkaError
from ottla.log.log import Log
from ottla.log.offset_index import OffsetIndex
from ottla.log.time_index import TimeIndex
from ottla.records.batch import iter_batches
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk

NOW_MS = 1_700_000_000_000
DIRECTORY = "/logs/t-0"
CONFIG = TopicConfig.of(segment_bytes=700, index_interval_bytes=120)
NAMES = (
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000009.log",
    "00000000000000000009.snapshot",
    "00000000000000000009.log.swap",
    "leader-epoch-checkpoint",
    "partition.metadata",
)


def written(batches: int) -> dict[str, bytes]:
    """The files of a log that was closed cleanly."""
    disk = SimulatedDisk()
    disk.mkdir("/logs")
    log = Log.create(disk, "/logs", "t", 0, bytes(range(16)), CONFIG, NOW_MS)
    for number in range(batches):
        records = [(NOW_MS + number, b"k", b"%d" % number * 20, [])] * (1 + number % 3)
        batch = build_batch(
            records, producer_id=5, producer_epoch=0, base_sequence=log.log_end_offset
        )
        log.append_as_leader(bytearray(batch), number // 7, NOW_MS)
    log.close(NOW_MS)
    return {path.rpartition("/")[2]: content for path, content in disk.tree().items()}


WHOLE = written(20)


def records_of(log: Log) -> list[tuple[int, bytes | None]]:
    offset, found = log.log_start_offset, []
    while offset < log.log_end_offset:
        read = log.read(offset, 500, log.log_end_offset)
        content = b"".join(region.read() for region in read.regions)
        for region in read.regions:
            region.close()
        before = offset
        for position, header in iter_batches(content):
            records = decode_batch(content, position=position)
            found += [(record.offset, record.value) for record in records]
            offset = header.next_offset
        if offset <= before:  # damage that nobody has looked for: a client finds the wrong checksum
            break
    return found


def directory_of(files: dict[str, bytes]) -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.mkdir("/logs")
    disk.mkdir(DIRECTORY)
    for name, content in files.items():
        disk.write_file(f"{DIRECTORY}/{name}", content)
    return disk


def opened(disk: SimulatedDisk, *, clean: bool, recovery_point: int = 0) -> Log | None:
    try:
        return Log.open(disk, DIRECTORY, CONFIG, NOW_MS, clean=clean, recovery_point=recovery_point)
    except KafkaError:
        return None


def check_every_use(log: Log) -> None:
    """Everything that is asked of a log either works or is refused."""
    for use in (
        lambda: records_of(log),
        lambda: log.offset_for_timestamp(NOW_MS + 5),
        log.max_timestamp_offset,
        lambda: log.end_offset_for_epoch(0),
        lambda: log.append_as_leader(bytearray(build_batch([(NOW_MS, b"k", b"v", [])])), 9, NOW_MS),
        lambda: log.delete_old_segments(NOW_MS, log.log_end_offset),
        lambda: log.truncate_to(3, NOW_MS),
        lambda: log.close(NOW_MS),
    ):
        try:
            use()
        except KafkaError:
            continue
    assert log.log_start_offset <= log.log_end_offset


def lasting(disk: SimulatedDisk) -> dict[str, bytes]:
    return {path: file for path, file in disk.tree().items() if not path.endswith(".deleted")}


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=300), max_size=6),
    st.booleans(),
    st.integers(0, 30),
)
@example({"00000000000000000000.log": bytes(200)}, False, 0)
@example({"00000000000000000000.log.swap": b""}, False, 0)
def test_any_files_are_a_log_or_are_refused(
    files: dict[str, bytes], clean: bool, recovery_point: int
) -> None:
    disk = directory_of(files)
    log = opened(disk, clean=clean, recovery_point=recovery_point)
    if log is not None:
        check_every_use(log)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(WHOLE)), st.integers(0, 2000), st.integers(0, 255)),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
    st.sampled_from((0, 5, 39)),
)
@example([("00000000000000000036.log", 4, 1)], True, 0)  # an offset is under no checksum
def test_changed_bytes_are_found_or_do_no_harm(
    changes: list[tuple[str, int, int]], clean: bool, recovery_point: int
) -> None:
    files = {name: bytearray(content) for name, content in WHOLE.items()}
    for name, at, value in changes:
        if files[name]:
            files[name][at % len(files[name])] = value
    disk = directory_of({name: bytes(content) for name, content in files.items()})
    log = opened(disk, clean=clean, recovery_point=recovery_point)
    if log is not None:
        check_every_use(log)


@settings(max_examples=200)
@given(
    st.sampled_from([name for name in sorted(WHOLE) if name.endswith(".log")]),
    st.integers(0, 2000),
    st.integers(1, 255),
    st.integers(0, 300),
)
def test_recovery_keeps_a_prefix_and_gives_the_same_bytes_twice(
    name: str, at: int, flip: int, cut: int
) -> None:
    expected = records_of(whole_log())
    files = {key: bytearray(content) for key, content in WHOLE.items()}
    files[name][at % len(files[name])] ^= flip
    last = max(key for key in files if key.endswith(".log"))
    del files[last][max(len(files[last]) - cut, 0) :]
    disk = directory_of({key: bytes(content) for key, content in files.items()})
    log = opened(disk, clean=False)
    assert log is not None
    found = records_of(log)
    # Offset and leader epoch of a batch are under no checksum: what they say may be wrong, not how many.
    assert [value for _, value in found] == [value for _, value in expected[: len(found)]]
    log.close(NOW_MS, clean=False)
    once = lasting(disk)
    again = opened(disk, clean=False)
    assert again is not None
    assert records_of(again) == found
    assert lasting(disk) == once


def whole_log() -> Log:
    log = opened(directory_of(WHOLE), clean=True)
    assert log is not None
    return log


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 5000)), max_size=700),
    st.lists(st.integers(0, 40_000), max_size=30),
    st.booleans(),
)
def test_offset_index_finds_what_a_scan_finds(
    steps: list[tuple[int, int]], targets: list[int], written_out: bool
) -> None:
    index = OffsetIndex(SimulatedDisk().file("/00000000000000000100.index"), 100, None)
    offset, position, entries = 100, 0, []
    for more_offsets, more_bytes in steps:
        offset, position = offset + more_offsets, position + more_bytes
        index.append(offset, position)
        entries.append((offset, position))
    if written_out:
        index.write_out()
    for target in targets:
        scanned = [place for last, place in entries if last <= target]
        assert index.lookup(target) == (scanned[-1] if scanned else 0)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(-5, 50), st.integers(1, 50)), max_size=700),
    st.lists(st.integers(-10, 20_000), max_size=30),
    st.booleans(),
)
def test_time_index_finds_what_a_scan_finds(
    steps: list[tuple[int, int]], targets: list[int], written_out: bool
) -> None:
    index = TimeIndex(SimulatedDisk().file("/00000000000000000100.timeindex"), 100, None)
    timestamp, offset, entries = 0, 100, []
    for later, more_offsets in steps:
        timestamp, offset = timestamp + later, offset + more_offsets
        index.maybe_append(timestamp, offset)
        if timestamp > max((time for time, _ in entries), default=-1):
            entries.append((timestamp, offset))
    if written_out:
        index.write_out()
    for target in targets:
        scanned = [last for time, last in entries if time <= target]
        assert index.lookup(target)[1] == (scanned[-1] if scanned else 100)

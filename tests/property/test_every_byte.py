"""Each byte of a small log directory in turn: another bit, cut off there, or the whole file gone or rubbish.

Whatever is opened after that holds what was written, or a whole beginning of it, or is left out with a reason;
it answers for every offset what a log without damage answers, and opening it again changes nothing.

Two things no reader can know (Apache Kafka's formats): a batch's own offset and leader epoch are under no
checksum, so a bit of those may come back changed where nothing else contradicts it; and a time index that ends
between two entries is a whole one, so that what it has lost is not found by time. After a clean stop no batch is read
before a client asks for it; the client finds the wrong checksum.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ottla.errors import KafkaError
from ottla.log.checkpoints import CorruptCheckpoint, MetaProperties
from ottla.log.directory import LogDirectory
from ottla.log.log import Log
from ottla.records.batch import CorruptBatch, iter_batches, verify_crc
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk

NOW_MS = 1_700_000_000_000
PATH = "/logs"
CONFIG = TopicConfig.of(segment_bytes=450, index_interval_bytes=100)
META = MetaProperties(1, "a-cluster-of-22-letters")
TIME_ENTRY_BYTES = 12
UNCHECKED = frozenset(range(8)) | frozenset(range(12, 16))
"""Of a batch's header: base offset and leader epoch."""

Held = list[tuple[int, bytes | None]]


class Whole(NamedTuple):
    """A directory without damage: its files, what its logs hold, and where its batches begin."""

    files: dict[str, bytes]
    held: dict[str, Held]
    starts: dict[str, list[int]]


def written(*, clean: bool) -> Whole:
    """Two logs of some segments, checkpointed on the way; stopped, or synced and killed."""
    disk = SimulatedDisk()
    directory = LogDirectory(PATH, disk)
    directory.open()
    directory.write_meta_properties(META)
    directory.load(lambda topic: CONFIG, NOW_MS)
    for topic, count in (("t", 9), ("u", 4)):
        log = directory.create(topic, 0, bytes(range(16)), CONFIG, NOW_MS)
        for number in range(count):
            records = [
                (NOW_MS + 10 * number + n, b"k", b"%s-%d-%d" % (topic.encode(), number, n), [])
                for n in range(1 + number % 3)
            ]
            batch = build_batch(
                records, producer_id=5, producer_epoch=0, base_sequence=log.log_end_offset
            )
            log.append_as_leader(bytearray(batch), number // 4, NOW_MS)
            if number == 4:
                log.flush(NOW_MS)
                checkpoint(directory)
        log.flush(NOW_MS)
    held = {key[0]: held_by(log) for key, log in directory.logs.items()}
    directory.close(NOW_MS, clean=clean)
    disk.lose_power()
    files = disk.tree()
    starts = {
        path: [at for at, _ in iter_batches(content)]
        for path, content in files.items()
        if path.endswith(".log")
    }
    return Whole(files, held, starts)


def checkpoint(directory: LogDirectory) -> None:
    """Write all checkpoints."""
    directory.write_checkpoints(directory.take_checkpoints())
    marks = {key: log.log_end_offset for key, log in directory.logs.items()}
    directory.write_high_watermarks(marks)


def held_by(log: Log) -> Held:
    """What a consumer finds that reads on and on and checks checksums, until it finds a wrong one."""
    offset, found = log.log_start_offset, []
    while offset < log.log_end_offset:
        content = read(log, offset)
        before = offset
        for position, header in iter_batches(content):
            try:
                verify_crc(content, header, position)
            except CorruptBatch:
                return found
            records = decode_batch(content, position=position)
            found += [
                (record.offset, record.value) for record in records if record.offset >= offset
            ]
            offset = header.next_offset
        if offset <= before:
            return found
    return found


def read(log: Log, offset: int) -> bytes:
    """The bytes that a fetch from ``offset`` on gets."""
    regions = log.read(offset, 300, log.log_end_offset).regions
    try:
        return b"".join(region.read() for region in regions)
    finally:
        for region in regions:
            region.close()


def disk_of(files: dict[str, bytes]) -> SimulatedDisk:
    """A disk that holds these files."""
    disk = SimulatedDisk()
    for path, content in files.items():
        disk.make_directories(path.rpartition("/")[0])
        disk.write_file(path, content, sync=True)
    return disk


def opened(disk: SimulatedDisk) -> LogDirectory:
    """The directory, loaded. Raises ``CorruptCheckpoint`` if it does not say whose it is."""
    directory = LogDirectory(PATH, disk)
    directory.open()
    try:
        directory.read_meta_properties()
        directory.load(lambda topic: CONFIG, NOW_MS)
    except CorruptCheckpoint:
        directory.close(NOW_MS, clean=False)
        raise
    return directory


def check(whole: Whole, path: str, damaged: bytes | None, *, clean: bool, lies: bool) -> None:
    """Open a directory with this one file changed. ``lies``: a batch's own offset or epoch was."""
    files = {name: content for name, content in whole.files.items() if name != path}
    if damaged is not None:
        files[path] = damaged
    disk = disk_of(files)
    try:
        directory = opened(disk)
    except CorruptCheckpoint:
        assert path.endswith("meta.properties")
        return
    for topic, expected in whole.held.items():
        log = directory.get(topic, 0)
        if log is None:
            assert (topic, 0) in directory.quarantined
            assert path.startswith(f"{PATH}/{topic}-0/")
        else:
            check_log(log, path, damaged, expected, lies=lies)
    for life in ("found", "recovered"):
        found = held_by_all(directory)
        directory.close(NOW_MS, clean=False)
        once = lasting(disk)
        directory = opened(disk)
        if life == "found" and clean and path.endswith(".log"):
            continue  # only the second life, after no clean stop, reads the batches
        assert held_by_all(directory) == found
        if life == "recovered" or not clean:
            assert lasting(disk) == once
    directory.close(NOW_MS, clean=False)


def held_by_all(directory: LogDirectory) -> dict[str, Held]:
    """What the logs hold that are in service."""
    held = {}
    for (topic, _), log in directory.logs.items():
        try:
            held[topic] = held_by(log)
        except KafkaError:
            continue
    return held


def check_log(log: Log, path: str, damaged: bytes | None, expected: Held, *, lies: bool) -> None:
    """A log holds a beginning of what was written, and answers so from every offset on."""
    expected_values = [value for _, value in expected]
    mine = path.startswith(f"{PATH}/{log.topic}-0/") and path.endswith(".log")
    try:
        found = held_by(log)
    except KafkaError:
        assert mine, "only damaged batches put a log out of service"
        return
    if lies:
        order = [expected_values.index(value) for _, value in found]
        assert order == sorted(order)
        return
    if mine and not path.endswith(last_segment(log)):
        # A hole where a segment ends early or is gone; a consumer goes on behind it, as with Kafka.
        assert found == [record for record in expected if record in found]
        return
    assert found == expected[: len(found)]
    if not mine:
        assert found == expected, f"{log}: nothing of the log itself is damaged"
        values = dict(expected)
        for offset, _ in expected:
            content = read(log, offset)
            first = decode_batch(content)
            assert offset in [record.offset for record in first]
            assert all(values[record.offset] == record.value for record in first)
        if path.endswith(".timeindex") and is_shorter(path, damaged):
            return
        for time in range(NOW_MS - 5, NOW_MS + 100, 5):
            assert log.offset_for_timestamp(time) == CORRECT[log.topic][time]
        assert log.max_timestamp_offset() == CORRECT[log.topic][0]


def is_shorter(path: str, damaged: bytes | None) -> bool:
    """Whether a time index has lost whole entries, and not all."""
    size = len(damaged or b"")
    return 0 < size < len(STOPS["clean"].files[path]) and size % TIME_ENTRY_BYTES == 0


def last_segment(log: Log) -> str:
    """The name of the file that the log ends in."""
    return log.segments.active.log_file.path.rpartition("/")[2]


def lasting(disk: SimulatedDisk) -> dict[str, bytes]:
    """The files of the partitions but those on their way out."""
    return {
        path: file
        for path, file in disk.tree().items()
        if path.count("/") == 3 and not path.endswith(".deleted")
    }


def answers(clean: Whole) -> dict[str, dict[int, object]]:
    """What searches by time find in a directory without damage."""
    directory = opened(disk_of(clean.files))
    found: dict[str, dict[int, object]] = {}
    for (topic, _), log in directory.logs.items():
        found[topic] = {
            time: log.offset_for_timestamp(time) for time in range(NOW_MS - 5, NOW_MS + 100, 5)
        }
        found[topic][0] = log.max_timestamp_offset()
    directory.close(NOW_MS, clean=False)
    return found


STOPS = {"clean": written(clean=True), "unclean": written(clean=False)}
CORRECT = answers(STOPS["clean"])
CASES = [(stop, path) for stop, whole in STOPS.items() for path in sorted(whole.files)]


def is_unchecked(whole: Whole, path: str, at: int) -> bool:
    """Whether this byte of a log is a batch's offset or leader epoch."""
    before = [start for start in whole.starts.get(path, []) if start <= at]
    return bool(before) and at - before[-1] in UNCHECKED


def flips(whole: Whole, path: str) -> Iterator[tuple[int, bytes]]:
    """Each byte of the file in turn with another one of its bits changed."""
    content = whole.files[path]
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << (at * 5 % 8)
        yield at, bytes(damaged)


@pytest.mark.parametrize(("stop", "path"), CASES, ids=lambda value: value.replace(f"{PATH}/", ""))
def test_a_changed_bit_in_any_byte_changes_no_record(stop: str, path: str) -> None:
    whole = STOPS[stop]
    for at, damaged in flips(whole, path):
        lies = is_unchecked(whole, path, at)
        try:
            check(whole, path, damaged, clean=stop == "clean", lies=lies)
        except Exception as error:
            raise AssertionError(f"byte {at} of {path} after a {stop} stop") from error


@pytest.mark.parametrize(("stop", "path"), CASES, ids=lambda value: value.replace(f"{PATH}/", ""))
def test_a_file_cut_at_any_byte_changes_no_record(stop: str, path: str) -> None:
    whole = STOPS[stop]
    content = whole.files[path]
    for size in range(len(content)):
        try:
            check(whole, path, content[:size], clean=stop == "clean", lies=False)
        except Exception as error:
            raise AssertionError(f"{path} cut to {size} after a {stop} stop") from error


@pytest.mark.parametrize(("stop", "path"), CASES, ids=lambda value: value.replace(f"{PATH}/", ""))
def test_a_file_that_is_gone_or_rubbish_changes_no_record(stop: str, path: str) -> None:
    whole = STOPS[stop]
    chance = random.Random(7)
    size = len(whole.files[path])
    rubbish = [None, bytes(size), b"\xff" * size, b"\n" * 100, bytes(5000)]
    rubbish += [chance.randbytes(chance.randrange(1, 600)) for _ in range(20)]
    for damaged in rubbish:
        try:
            check(whole, path, damaged, clean=stop == "clean", lies=False)
        except Exception as error:
            raise AssertionError(f"{path} as {damaged!r:.60} after a {stop} stop") from error

"""A log against a list: whatever is appended, rolled, read, cut, retained, and after every restart."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.log.log import Log
from ottla.records.batch import iter_batches
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk

NOW_MS = 1_700_000_000_000
DIRECTORY = "/logs/t-0"
CONFIG = TopicConfig.of(
    segment_bytes=600, index_interval_bytes=150, retention_bytes=1500, file_delete_delay_ms=0
)

Batch = list[bytes]

APPEND = st.tuples(
    st.just("append"),
    st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    st.integers(-500, 500),
)
ACTION = st.one_of(
    APPEND,
    APPEND,
    APPEND,
    st.tuples(st.just("read"), st.integers(0, 80), st.integers(0, 700), st.integers(0, 10)),
    st.tuples(st.just("time"), st.integers(-600, 600)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("roll")),
    st.tuples(st.just("truncate"), st.integers(0, 80)),
    st.tuples(st.just("retain"), st.integers(0, 80)),
    st.tuples(st.just("start"), st.integers(0, 80)),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(st.just("tear"), st.integers(1, 400)),
    st.tuples(st.just("power"), st.integers(0, 10**6)),
)


class Model:
    """The list, and the log that has to agree with it."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk()
        self.disk.mkdir("/logs")
        self.disk.sync_directory("/")
        self.batches: list[tuple[int, Batch, int]] = []  # base offset, values, first timestamp
        self.history: set[tuple[object, ...]] = set()
        self.cut_unsynced = False
        self.start = 0
        self.end = 0
        self.log = Log.create(self.disk, "/logs", "t", 0, bytes(range(16)), CONFIG, NOW_MS)

    def append(self, values: Batch, time: int) -> None:
        timestamp = NOW_MS + time
        content = build_batch([(timestamp + n, b"k", value, []) for n, value in enumerate(values)])
        info = self.log.append_as_leader(bytearray(content), 0, NOW_MS)
        assert info.base_offset == self.end
        self.batches.append((self.end, values, timestamp))
        self.history.add((self.end, *values))
        self.end += len(values)

    def read(self, at: int, max_bytes: int, back: int) -> None:
        """A read from anywhere with any limit gives the batches in between, whole but for the last."""
        if self.end == self.start:
            return
        offset = self.start + at % (self.end - self.start + 1)
        limit = max(self.end - back, self.start)
        read = self.log.read(offset, max_bytes, limit)
        content = b"".join(region.read() for region in read.regions)
        for region in read.regions:
            region.close()
        assert len(content) == read.size_bytes
        found = [
            (record.offset, record.value)
            for position, _ in iter_batches(content)
            for record in decode_batch(content, position=position)
        ]
        wanted = [
            (base + n, value)
            for base, values, _ in self.batches
            if base + len(values) > offset and base + len(values) <= limit
            for n, value in enumerate(values)
        ]
        assert found == wanted[: len(found)]
        if wanted and offset < limit:
            assert found, "at least one batch"
            assert len(content) <= max(max_bytes, 400)
        if max_bytes > len(content):
            assert found == wanted

    def time(self, time: int) -> None:
        wanted = next(
            (
                (timestamp + n, base + n)
                for base, values, timestamp in self.batches
                for n in range(len(values))
                if timestamp + n >= NOW_MS + time and base + n >= self.start
            ),
            None,
        )
        found = self.log.offset_for_timestamp(NOW_MS + time)
        assert (found and (found.timestamp_ms, found.offset)) == wanted

    def flush(self) -> None:
        self.log.flush(NOW_MS)
        self.cut_unsynced = False

    def truncate(self, at: int) -> None:
        offset = self.start + at % (self.end - self.start + 1)
        self.cut_unsynced |= self.log.truncate_to(offset, NOW_MS)
        while self.batches and self.batches[-1][0] + len(self.batches[-1][1]) > offset:
            self.end = self.batches.pop()[0]
        self.start = min(self.start, self.end)

    def retain(self, back: int) -> None:
        limit = max(self.end - back, self.start)
        self.log.delete_old_segments(NOW_MS, limit)
        assert self.log.log_start_offset <= max(limit, self.start)
        assert self.log.log_start_offset >= self.start
        self.start = self.log.log_start_offset
        self._forget()

    def move_start(self, at: int) -> None:
        self.start += at % (self.end - self.start + 1)
        self.log.increment_log_start_offset(self.start, self.end)

    def _forget(self) -> None:
        self.batches = [
            batch
            for batch in self.batches
            if batch[0] + len(batch[1]) > self.log.segments.first.base_offset
        ]

    def restart(self, clean: bool) -> None:
        self.log.close(NOW_MS, clean=clean)
        self._open(clean)

    def tear(self, size: int) -> None:
        """A crash, after which the last file lacks some bytes that were not flushed."""
        active = self.log.segments.active
        flushed, point = self.log.flushed_end_offset, self.log.recovery_point
        self.log.close(NOW_MS, clean=False)
        path = active.log_file.path
        if not self.disk.exists(path):
            return self._open(False)
        place = active.find(flushed) if flushed > active.base_offset else None
        least = 0
        if flushed > active.base_offset:
            least = place.position if place is not None else active.size_bytes
        active.close()
        content = self.disk.tree()[path]
        self.disk.write_file(path, content[: max(len(content) - size, least)])
        return self._open(False, flushed, point)

    def power(self, seed: int) -> None:
        """What was not flushed may be gone; what was cut off since may be back."""
        flushed, point = self.log.flushed_end_offset, self.log.recovery_point
        self.disk.lose_power(seed)
        if self.cut_unsynced:
            self._open_after_cut(flushed, point)
        else:
            self._open(False, flushed, point)

    def _open_after_cut(self, flushed: int, point: int) -> None:
        if not self.disk.exists(DIRECTORY):
            return self._open(False, flushed, point)
        self.log = Log.open(
            self.disk, DIRECTORY, CONFIG, NOW_MS, recovery_point=point, log_start_offset=self.start
        )
        assert self.log.log_end_offset >= flushed
        self.cut_unsynced = False
        self.batches, offset = [], self.log.segments.first.base_offset
        for segment in self.log.segments:
            for position, header in segment.headers():
                assert header.base_offset == offset
                offset = header.next_offset
                records = decode_batch(segment.read_batch(position, header.size_bytes))
                values = [record.value for record in records]
                assert (header.base_offset, *values) in self.history
                self.batches.append((header.base_offset, values, records[0].timestamp_ms))
        self.end = self.log.log_end_offset
        self.start = self.log.log_start_offset
        return None

    def _open(self, clean: bool, flushed: int = 0, point: int = 0) -> None:
        """Open again; what was not flushed may be gone from the end, and nothing else."""
        if not self.disk.exists(DIRECTORY):
            assert flushed == 0 or self.start == self.end
            self.batches, self.end = [], 0
            self.start = 0
            self.log = Log.create(self.disk, "/logs", "t", 0, bytes(range(16)), CONFIG, NOW_MS)
            return
        self.log = Log.open(
            self.disk,
            DIRECTORY,
            CONFIG,
            NOW_MS,
            clean=clean,
            recovery_point=point,
            log_start_offset=self.start,
        )
        self.cut_unsynced = False
        if self.log.log_start_offset > self.start:
            # The name of the first segment was lost and a later one's was not. Recovery can't tell that
            # from retention, and none of it was flushed.
            assert flushed <= self.start
            self.start = self.log.log_start_offset
        end = self.log.log_end_offset
        assert max(flushed, self.start) <= end <= self.end
        if clean:
            assert end == self.end
        while self.batches and self.batches[-1][0] + len(self.batches[-1][1]) > end:
            self.batches.pop()
        self.end = end
        self._forget()

    def check(self) -> None:
        log = self.log
        assert (log.log_start_offset, log.log_end_offset) == (self.start, self.end)
        assert log.log_start_offset <= log.log_end_offset
        assert log.flushed_end_offset <= log.log_end_offset
        assert log.size_bytes == sum(segment.size_bytes for segment in log.segments)


@settings(max_examples=400)
@given(st.lists(ACTION, max_size=40))
def test_log_agrees_with_a_list(actions: list[tuple]) -> None:  # type: ignore[type-arg]
    model = Model()
    for name, *arguments in actions:
        match name:
            case "append":
                model.append(*arguments)
            case "read":
                model.read(*arguments)
            case "time":
                model.time(*arguments)
            case "flush":
                model.flush()
            case "roll":
                model.log.roll(NOW_MS)
            case "truncate":
                model.truncate(*arguments)
            case "retain":
                model.retain(*arguments)
            case "start":
                model.move_start(*arguments)
            case "restart":
                model.restart(*arguments)
            case "tear":
                model.tear(*arguments)
            case "power":
                model.power(*arguments)
        model.check()
    for at in range(0, 81, 7):
        model.read(at, 1 << 20, 0)

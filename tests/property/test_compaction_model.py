"""Compaction against a dict: after any mix of appends, rolls, cleanings, tombstones, cuts, restarts and time steps.

What has to hold: the newest value of each key is the dict's; no record changes its offset, key, value or time; nothing
at or behind the dirty end is missing; below the clean end each key has one record; a tombstone stays for as long
as ``delete.retention.ms`` says.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.log.log import Log
from ottla.records.batch import CompressionType
from ottla.records.builder import build_batch
from ottla.records.codec import Record
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.compacting import LIMITS, clean
from tests.unit.log.samples import NOW_MS, all_records

DIRECTORY = "/logs/t-0"
RETENTION_MS = 500
CONFIG = TopicConfig.of(
    cleanup_policy="compact",
    delete_retention_ms=RETENTION_MS,
    segment_bytes=500,
    index_interval_bytes=120,
    file_delete_delay_ms=0,
)

PAIR = st.tuples(st.integers(0, 5), st.one_of(st.none(), st.binary(max_size=40)))
APPEND = st.tuples(
    st.just("append"),
    st.lists(PAIR, min_size=1, max_size=5),
    st.sampled_from([CompressionType.NONE, CompressionType.GZIP, CompressionType.LZ4]),
    st.booleans(),
)
ACTION = st.one_of(
    APPEND,
    APPEND,
    APPEND,
    st.tuples(st.just("roll")),
    st.tuples(st.just("clean"), st.sampled_from([1 << 20, 24 * 11])),
    st.tuples(st.just("clean"), st.just(1 << 20)),
    st.tuples(st.just("wait"), st.integers(1, 400)),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(st.just("power"), st.integers(0, 1000)),
    st.tuples(st.just("truncate"), st.integers(0, 12)),
    st.tuples(st.just("start"), st.integers(0, 12)),
)


class Model:
    """Everything that was ever appended and not cut off, and the log."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk()
        self.disk.mkdir("/logs")
        self.disk.sync_directory("/")
        self.log = Log.create(self.disk, "/logs", "t", 0, bytes(range(16)), CONFIG, NOW_MS)
        self.records: list[Record] = []
        self.now_ms = NOW_MS
        self.first_cleaned: dict[int, int] = {}
        self.clean_end = 0

    def append(
        self, pairs: list[tuple[int, bytes | None]], codec: CompressionType, idempotent: bool
    ) -> None:
        news = [(self.now_ms + n, b"k%d" % key, value, ()) for n, (key, value) in enumerate(pairs)]
        producer = {}
        if idempotent:
            producer = {"producer_id": 7, "producer_epoch": 0, "base_sequence": self.sequence}
        batch = build_batch(news, compression=codec, **producer)
        info = self.log.append_as_leader(batch, 0, self.now_ms)
        assert info.base_offset == self.end
        for n, (time_ms, key, value, _) in enumerate(news):
            self.records.append(Record(info.base_offset + n, time_ms, key, value, []))

    @property
    def end(self) -> int:
        return self.records[-1].offset + 1 if self.records else 0

    def clean(self, dedupe_bytes: int) -> None:
        first_dirty = max(self.log.clean_end_offset, self.log.log_start_offset)
        if first_dirty >= self.log.segments.active.base_offset:
            return
        self.log.flush(self.now_ms)
        done = clean(
            self.disk, self.log, self.now_ms, limits=LIMITS._replace(dedupe_bytes=dedupe_bytes)
        )
        assert first_dirty < done.clean_end_offset <= self.log.segments.active.base_offset
        self.clean_end = done.clean_end_offset
        for record in self.records:
            if record.offset < done.clean_end_offset:
                self.first_cleaned.setdefault(record.offset, self.now_ms)

    def restart(self, clean: bool) -> None:
        self.log.close(self.now_ms, clean=clean)
        self._open(clean)

    def power(self, seed: int) -> None:
        """All was flushed: what is lost is only what compaction did since."""
        self.log.flush(self.now_ms)
        self.disk.lose_power(seed)
        self._open(False)

    def _open(self, clean: bool) -> None:
        start = self.log.log_start_offset
        if not self.disk.exists(DIRECTORY):
            self.log = Log.create(self.disk, "/logs", "t", 0, bytes(range(16)), CONFIG, self.now_ms)
            return
        clean_end = self.log.clean_end_offset
        self.log = Log.open(
            self.disk, DIRECTORY, CONFIG, self.now_ms, clean=clean, log_start_offset=start
        )
        self.log.clean_end_offset = clean_end

    def truncate(self, back: int) -> None:
        """As a follower does: nothing that the high watermark has passed, so nothing that was cleaned."""
        offset = max(self.end - back, self.log.log_start_offset, self.log.clean_end_offset)
        self.log.truncate_to(offset, self.now_ms)
        end = self.log.log_end_offset
        self.records = [record for record in self.records if record.offset < end]
        self.first_cleaned = {o: t for o, t in self.first_cleaned.items() if o < end}

    @property
    def sequence(self) -> int:
        """What the producer's next batch has to begin with."""
        entry = self.log.producers.producers.get(7)
        return entry.last_sequence + 1 if entry is not None else 0

    def start(self, ahead: int) -> None:
        self.log.increment_log_start_offset(
            min(self.log.log_start_offset + ahead, self.end), self.end
        )

    def check(self) -> None:
        log = self.log
        found = {record.offset: record for record in all_records(log)}
        known = {record.offset: record for record in self.records}
        assert log.log_end_offset == self.end
        for offset, record in found.items():
            assert record == known[offset]
        visible = [record for record in self.records if record.offset >= log.log_start_offset]
        newest = {record.key: record for record in visible}
        left = {record.key: record for record in found.values()}
        for key, record in newest.items():
            if record.value is not None:
                assert found.get(record.offset) == record, f"the newest of {key!r}"
            else:
                cleaned_ms = self.first_cleaned.get(record.offset)
                if cleaned_ms is None or self.now_ms < cleaned_ms + RETENTION_MS:
                    assert record.offset in found, f"the tombstone of {key!r}"
                assert key not in left or left[key].value is None
        for record in visible:
            if record.offset >= max(self.clean_end, log.clean_end_offset):
                assert record.offset in found
        below = [r.key for o, r in found.items() if o < log.clean_end_offset]
        assert len(below) == len(set(below))


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTION, max_size=30))
def test_newest_values_of_a_compacted_log_are_those_of_a_dict(actions: list[tuple]) -> None:  # type: ignore[type-arg]
    model = Model()
    for name, *arguments in actions:
        match name:
            case "append":
                model.append(*arguments)
            case "roll":
                model.log.roll(model.now_ms)
            case "clean":
                model.clean(*arguments)
            case "wait":
                model.now_ms += arguments[0]
            case "restart":
                model.restart(*arguments)
            case "power":
                model.power(*arguments)
            case "truncate":
                model.truncate(*arguments)
            case "start":
                model.start(*arguments)
        model.check()

"""A broker that compacts: chosen, cleaned by a worker process, swapped in, and what can go wrong on the way."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ottla import Consumer, Producer
from ottla.broker import chores, log_cleaner
from ottla.broker.log_cleaner import DEATHS_MAX, LogCleaner
from ottla.errors import ErrorCode
from ottla.log.disk import Disk
from ottla.log.log import Log
from ottla.log.names import CLEANER_CHECKPOINT
from ottla.messages.delete_topics import DeleteTopicsRequest
from ottla.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from ottla.testing import Broker
from tests.broker.test_groups_topic import commit, committed, coordinator
from tests.support.requests import create_topic, fetch, list_offset, produce
from tests.support.waiting import eventually, wait_until
from tests.support.wire import Wire

SETTINGS = {
    "log.cleaner.backoff.ms": 20,
    "log.cleaner.min.cleanable.ratio": 0.01,
    "log.segment.bytes": 2_000,
    "offsets.topic.num.partitions": 1,
    "offsets.topic.segment.bytes": 1_000,
    "log.segment.delete.delay.ms": 0,
}
NOW_MS = 1_700_000_000_000
COMPACTED_DEADLINE_S = 150.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(SETTINGS, data=tmp_path) as started:
        yield started


@pytest.fixture
def client(broker: Broker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as connected:
        yield connected


def keyed(*pairs: tuple[str | None, str | None], **fields: Any) -> bytes:
    records = [(NOW_MS, key and key.encode(), value and value.encode(), ()) for key, value in pairs]
    return bytes(build_batch(records, **fields))


def fill(client: Wire, topic: str = "t", *, rounds: int = 60, keys: int = 5) -> dict[str, str]:
    """Write each key again and again, over several segments; the newest values."""
    newest = {}
    for number in range(rounds):
        key, value = f"k{number % keys}", f"value {number} " + "v" * 80
        assert produce(client, topic, keyed((key, value))).error_code == 0
        newest[key] = value
    return newest


def records(client: Wire, topic: str = "t") -> list[tuple[int, str, str | None]]:
    """Offset, key and value of every record, read as a client reads."""
    found, offset, end = [], 0, list_offset(client, topic, -1).offset
    while offset < end:
        content = fetch(client, topic, offset).records
        batches = list(_batches(content))
        for position, header in batches:
            for record in decode_batch(content, position=position):
                if record.offset >= offset:
                    value = record.value and record.value.decode()
                    found.append((record.offset, (record.key or b"").decode(), value))
            offset = header.next_offset
    return found


def _batches(content: Any) -> Any:
    from ottla.records.batch import iter_batches

    return iter_batches(content)


def cleaner(broker: Broker) -> LogCleaner:
    return eventually(lambda: broker.server and broker.server.cleaner, "there is a cleaner")


def log_of(broker: Broker, topic: str = "t") -> Log:
    assert broker.server is not None
    partition = broker.server.replicas.get(topic, 0)
    assert partition is not None
    return partition.log


def is_compacted(broker: Broker, topic: str = "t") -> Callable[[], bool]:
    """Whether all that can be is clean, and nothing is under way."""

    def answer() -> bool:
        one = log_of(broker, topic)
        return one.clean_end_offset == one.segments.active.base_offset > 0

    return answer


def await_compacted(broker: Broker, topic: str = "t") -> None:
    """Return once it is. A worker lets everybody else come first: beside busy tests it takes its time to start."""
    done = is_compacted(broker, topic)
    deadline = time.monotonic() + COMPACTED_DEADLINE_S
    while not done():
        one = cleaner(broker)
        state = (log_of(broker, topic), log_of(broker, topic).clean_end_offset, one.figures)
        assert time.monotonic() < deadline, (state, one.worker_pids, one.uncleanable)
        with suppress(AssertionError):
            wait_until(done, 1.0)


def test_compacted_topic_keeps_the_newest_value_of_each_key(broker: Broker, client: Wire) -> None:
    create_topic(client, "t", cleanup_policy="compact")
    newest = fill(client)
    await_compacted(broker)
    found = records(client)
    assert {key: value for _, key, value in found} == newest
    assert len(found) < 30, "60 were written"
    assert list_offset(client, "t", -1).offset == 60
    figures = cleaner(broker).figures
    assert figures.cleanings >= 1
    assert figures.bytes_written < figures.bytes_read
    checkpoint = broker.data / CLEANER_CHECKPOINT
    end = log_of(broker).clean_end_offset
    wait_until(lambda: f"t 0 {end}" in checkpoint.read_text())


def test_own_clients_read_a_compacted_topic_from_every_offset(broker: Broker, client: Wire) -> None:
    create_topic(client, "t", cleanup_policy="compact")
    with Producer(broker.bootstrap) as producer:
        for number in range(60):
            producer.send("t", key=f"k{number % 5}".encode(), value=b"v" * 100).result(30)
    await_compacted(broker)
    left = [offset for offset, _, _ in records(client)]
    assert len(left) < 30
    with Consumer(bootstrap=broker.bootstrap) as consumer:
        from ottla import TopicPartition

        place = TopicPartition("t", 0)
        consumer.assign([place])
        for start in (0, 1, 17, 33, 59):
            consumer.seek(place, start)
            expected = [offset for offset in left if offset >= start]
            got: list[int] = []
            while len(got) < len(expected):
                got += [record.offset for record in consumer.poll(1.0)]
            assert got == expected
            assert consumer.position(place) == 60


def test_nothing_is_compacted_where_the_cleaner_is_off_and_no_process_runs(tmp_path: Path) -> None:
    with (
        Broker({**SETTINGS, "log.cleaner.enable": "false"}, data=tmp_path) as broker,
        Wire(broker.bootstrap) as client,
    ):
        create_topic(client, "t", cleanup_policy="compact")
        fill(client)
        made = cleaner(broker)
        assert made.worker_pids == []
        assert len(records(client)) == 60


def test_groups_load_from_the_compacted_topic_with_the_same_offsets(broker: Broker) -> None:
    with Wire(broker.bootstrap) as client:
        create_topic(client, "t")
        assert coordinator(client, "a", "b") == [0, 0]
        for number in range(60):
            for group in ("a", "b"):
                assert commit(client, group, number) == 0
        await_compacted(broker, "__consumer_offsets")
        log = log_of(broker, "__consumer_offsets")
        assert log.config.cleanup_policy == ("compact",)
        assert log.config.segment_bytes == 1000
        assert log.size_bytes < 4000, "120 commits are more than that"
    broker.restart()
    with Wire(broker.bootstrap) as client:
        assert committed(client, "a") == 59
        assert committed(client, "b") == 59
        assert commit(client, "a", 100) == 0
        assert committed(client, "a") == 100


def test_worker_that_is_killed_is_told_of_and_tried_again(broker: Broker, client: Wire) -> None:
    create_topic(client, "t", cleanup_policy="compact")
    fill(client)
    await_compacted(broker)
    one = cleaner(broker)
    slow(broker, client, 5_000)
    newest = fill(client)
    (pid,) = eventually(lambda: one.worker_pids, "a worker")
    wait_until(lambda: _cleaned_files(broker), COMPACTED_DEADLINE_S)
    os.kill(pid, signal.SIGKILL)
    slow(broker, client, 1e9)
    await_compacted(broker)
    assert {key: value for _, key, value in records(client)} == newest
    wait_until(lambda: not _cleaned_files(broker))
    assert one.worker_pids != [pid]
    assert one.figures.worker_deaths == 1


def test_files_of_a_cleaning_that_cannot_be_removed_go_later(
    broker: Broker, client: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(client, "t", cleanup_policy="compact")
    fill(client)
    await_compacted(broker)
    slow(broker, client, 5_000)
    fill(client)
    (pid,) = eventually(lambda: cleaner(broker).worker_pids, "a worker")
    wait_until(lambda: _cleaned_files(broker), COMPACTED_DEADLINE_S)
    right, refused = Disk.remove, list[str]()

    def held(self: Disk, path: str) -> bool:
        if path.endswith(".cleaned") and len(refused) < 5:
            refused.append(path)
            raise OSError(errno.EBUSY, "held", path)
        return right(self, path)

    monkeypatch.setattr(Disk, "remove", held)
    monkeypatch.setattr(log_cleaner, "TRASH_RETRY_MS", 0)
    monkeypatch.setattr(chores, "TRASH_RETRY_MS", 0)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(refused) == 5)
    slow(broker, client, 1e9)
    await_compacted(broker)
    wait_until(lambda: not _cleaned_files(broker))
    assert cleaner(broker).figures.worker_deaths == 1


def test_another_rate_counts_for_the_cleaning_that_is_under_way(
    broker: Broker, client: Wire
) -> None:
    create_topic(client, "t", cleanup_policy="compact")
    slow(broker, client, 1)
    newest = fill(client)
    pids = eventually(lambda: cleaner(broker).worker_pids, "a worker")
    slow(broker, client, 1e9)
    await_compacted(broker)
    assert {key: value for _, key, value in records(client)} == newest
    assert cleaner(broker).worker_pids == pids
    assert cleaner(broker).figures.failures == 0


def slow(broker: Broker, client: Wire, bytes_per_second: float) -> None:
    """Change how fast the cleaner may be, while it runs."""
    config = AlterableConfig(
        name="log.cleaner.io.max.bytes.per.second", config_operation=0, value=str(bytes_per_second)
    )
    resource = AlterConfigsResource(resource_type=4, resource_name="", configs=[config])
    answer = client.ask(IncrementalAlterConfigsRequest(resources=[resource]), 1)
    assert answer.responses[0].error_code == 0, answer.responses[0].error_message
    wait_until(
        lambda: (
            broker.server is not None
            and broker.server.config.log_cleaner_io_max_bytes_per_second == bytes_per_second
        )
    )


def _cleaned_files(broker: Broker, topic: str = "t") -> list[Path]:
    return [path for path in broker.data.glob(f"{topic}-0*/*") if path.suffix == ".cleaned"]


def test_log_at_which_the_worker_always_dies_is_left_out_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ottla.log.compaction import process

    ended = "import sys; sys.stdin.readline(); sys.exit(9)"
    real = process.CleanerProcess._started

    async def started(self: process.CleanerProcess) -> Any:
        import asyncio
        import sys

        if not dying:
            return await real(self)
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ended, stdin=pipe, stdout=pipe
        )
        return self._process

    dying = [True]
    monkeypatch.setattr(process.CleanerProcess, "_started", started)
    with Broker(SETTINGS, data=tmp_path) as broker, Wire(broker.bootstrap) as client:
        create_topic(client, "t", cleanup_policy="compact")
        newest = fill(client)
        one = cleaner(broker)
        wait_until(lambda: one.uncleanable)
        assert one.figures.worker_deaths == DEATHS_MAX
        assert "exit code 9" in one.uncleanable["t", 0]
        assert {key: value for _, key, value in records(client)} == newest
        dying.clear()
        create_topic(client, "other", cleanup_policy="compact")
        fill(client, "other")
        await_compacted(broker, "other")
        assert ("t", 0) in one.uncleanable
        assert one.figures.uncleanable_partitions == 1


def test_topic_deleted_while_it_is_cleaned_is_gone_and_the_cleaner_goes_on(
    broker: Broker, client: Wire
) -> None:
    slow(broker, client, 5_000)
    create_topic(client, "t", cleanup_policy="compact")
    fill(client, rounds=120)
    wait_until(lambda: _cleaned_files(broker), COMPACTED_DEADLINE_S)
    answer = client.ask(DeleteTopicsRequest(topic_names=["t"], timeout_ms=9000), 5)
    assert answer.responses[0].error_code == 0
    slow(broker, client, 1e9)
    create_topic(client, "t", cleanup_policy="compact")
    newest = fill(client)
    await_compacted(broker)
    assert {key: value for _, key, value in records(client)} == newest
    wait_until(lambda: not list(broker.data.glob("*-delete")))


def test_damaged_batch_that_the_cleaner_meets_quarantines_its_partition_alone(
    broker: Broker, client: Wire
) -> None:
    create_topic(client, "damaged", cleanup_policy="compact")
    create_topic(client, "t", cleanup_policy="compact", min_cleanable_dirty_ratio="0.0")
    assert produce(client, "damaged", keyed(("a", "1" * 100))).error_code == 0
    path = next((broker.data / "damaged-0").glob("*.log"))
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"#")
    fill(client, "damaged")
    newest = fill(client)
    await_compacted(broker)
    wait_until(lambda: fetch(client, "damaged").error_code == ErrorCode.KAFKA_STORAGE_ERROR)
    assert (broker.data / "damaged-0" / "quarantined").exists()
    assert {key: value for _, key, value in records(client)} == newest


def test_topic_that_becomes_compacted_loses_its_records_without_keys(
    broker: Broker, client: Wire
) -> None:
    create_topic(client, "t")
    for _ in range(30):
        produce(client, "t", keyed((None, "no key " * 10), ("a", "v" * 100)))
    config = AlterableConfig(name="cleanup.policy", config_operation=0, value="compact")
    resource = AlterConfigsResource(resource_type=2, resource_name="t", configs=[config])
    client.ask(IncrementalAlterConfigsRequest(resources=[resource]), 1)
    await_compacted(broker)
    below = [found for found in records(client) if found[0] < log_of(broker).clean_end_offset]
    assert [key for _, key, _ in below] == ["a"]
    wait_until(lambda: cleaner(broker).figures.keyless_records > 0)


def test_compact_and_delete_does_both(broker: Broker, client: Wire) -> None:
    create_topic(client, "t", cleanup_policy="compact,delete", retention_ms="1000")
    fill(client)
    await_compacted(broker)
    one = log_of(broker)
    assert broker.server is not None
    assert one.config.delete
    partition = broker.server.replicas.get("t", 0)
    assert partition is not None
    on_loop(
        broker, lambda: partition.apply_retention(NOW_MS + 10_000_000, partition.high_watermark)
    )
    assert list_offset(client, "t", -2).offset == 60, "all records are years old"


def on_loop(broker: Broker, call: Callable[[], Any]) -> None:
    import asyncio

    assert broker.server is not None

    async def run() -> None:
        call()

    asyncio.run_coroutine_threadsafe(run(), broker.server.loop).result(30)


def test_stop_ends_the_worker_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    with Broker(SETTINGS, data=tmp_path) as broker, Wire(broker.bootstrap) as client:
        slow(broker, client, 10_000)
        create_topic(client, "t", cleanup_policy="compact")
        newest = fill(client)
        (pid,) = eventually(lambda: cleaner(broker).worker_pids, "a worker")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with Broker(SETTINGS, data=tmp_path) as broker, Wire(broker.bootstrap) as client:
        assert {key: value for _, key, value in records(client)} == newest


def test_several_threads_clean_several_logs_at_a_time(tmp_path: Path) -> None:
    topics = ["t0", "t1", "t2", "t3"]
    settings = {**SETTINGS, "log.cleaner.threads": 2, "log.cleaner.io.max.bytes.per.second": 100}
    with Broker(settings, data=tmp_path) as broker, Wire(broker.bootstrap) as client:
        newest = {}
        for topic in topics:
            create_topic(client, topic, cleanup_policy="compact")
            newest[topic] = fill(client, topic)
        wait_until(lambda: len(cleaner(broker).worker_pids) == 2)
        slow(broker, client, 1e9)
        for topic in topics:
            await_compacted(broker, topic)
            found = {key: value for _, key, value in records(client, topic)}
            assert found == newest[topic]


def test_idle_worker_ends(broker: Broker, client: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    from ottla.log.compaction import process

    monkeypatch.setattr(process.CleanerProcess.__init__, "__kwdefaults__", {"idle_s": 0.01})
    create_topic(client, "t", cleanup_policy="compact")
    fill(client)
    await_compacted(broker)
    wait_until(lambda: not cleaner(broker).worker_pids)
    newest = fill(client)
    await_compacted(broker)
    assert {key: value for _, key, value in records(client)} == newest
    assert cleaner(broker).figures.worker_deaths == 0

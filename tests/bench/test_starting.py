"""What starts brokers for the benchmark measures what it says, with ours alone and little data."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers import memory, partitions, starting
from bench.peers.products import Ottla
from bench.peers.starting import Starts

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    return Starts(Ottla(), "os", tmp_path)


@pytest.mark.parametrize("state", starting.STATES)
def test_a_start_ends_with_the_first_record(
    starts: Starts, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "DATA_BYTES", 1_000_000)
    for _ in range(2):  # the second one in another copy of the same directory
        found = starting.measure(starts, state=state)
        assert found["ms"] > 0
        assert found["CPU s"] > 0


def test_a_copy_of_a_directory_takes_no_more_room_than_it(tmp_path: Path) -> None:
    class WithHoles(Ottla):
        def prepare(self, directory: Path) -> None:
            with (directory / "index").open("wb") as file:
                file.truncate(100_000_000)

    starts = Starts(WithHoles(), "os", tmp_path)
    with starts.directory("new") as directory:
        found = (directory / "index").stat()
        assert found.st_size == 100_000_000
        assert found.st_blocks * 512 < 1_000_000


def test_a_broker_that_does_not_start_is_said_to_have_ended(starts: Starts) -> None:
    with starts.directory("new") as directory:
        (directory / "data").write_text("no directory")
        with starts.running(directory) as running, pytest.raises(RuntimeError, match="has ended"):
            starting.first_record(running, create=True)


def test_memory_is_taken_idle_and_under_load(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "IDLE_S", 0.0)
    monkeypatch.setattr(memory, "LOAD_S", 0.3)
    monkeypatch.setattr(memory, "REQUESTS_PER_S", 50)
    found = memory.measure(starts)
    assert 0 < found[memory.IDLE_OWN] < found[memory.IDLE]
    assert 0 < found[memory.LOADED_OWN] < found[memory.LOADED]
    assert found["MB/s in"] > 0
    assert found["MB/s out"] > 0


def test_many_partitions_are_created_started_with_and_produced_to(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "PRODUCE_S", 0.2)
    topics = partitions.topics_of(200)
    assert topics.count == 200
    found = partitions.measure_create(starts, topics=topics)
    assert found[partitions.CREATE_AND_FIRST] > found[partitions.CREATE] > 0
    for kill, metric in ((False, partitions.STOPPED), (True, partitions.KILLED)):
        assert partitions.measure_start(starts, topics=topics, kill=kill)[metric] > 0
    with starts.directory("new") as directory, starts.running(directory) as running:
        running.await_ready()
        partitions.make_and_warm(running, 0.2, topics=topics)
        for per_request in partitions.SPREADS:
            spread = partitions.measure_spread(running, topics=topics, per_request=per_request)
            assert spread["MB/s"] > 0

"""What starts brokers for the benchmark measures what it says, with ours alone and little data."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bench.peers import memory, partitions, requests, starting, tansu
from bench.peers.cells import Sample
from bench.peers.load import Outcome
from bench.peers.products import Ottla, Running
from bench.peers.starting import Starts
from bench.peers.tansu import NOTE, TANSU
from ottla.log.names import CLEAN_SHUTDOWN

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
    assert found[memory.LOADED_CPU] > 0
    assert found[memory.IDLE_CPU] > 0
    assert found["MB/s in"] > 0
    assert found["MB/s out"] > 0


def test_many_partitions_are_created_and_started_with_and_each_has_its_record(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = partitions.topics_of(200)
    assert topics.count == 200
    there: list[list[int]] = []
    real = Running.pss_mb

    def looked_at(running: Running) -> float:
        there.append(records_of(running, topics))
        return real(running)

    monkeypatch.setattr(Running, "pss_mb", looked_at)  # it is asked at the end of each
    found = partitions.measure_create(starts, topics=topics)
    both = found[partitions.CREATE] + found[partitions.FIRST]
    assert found[partitions.CREATE_AND_FIRST] == both > found[partitions.CREATE] > 0
    for kill, metric in ((False, partitions.STOPPED), (True, partitions.KILLED)):
        assert metric in partitions.measure_start(starts, topics=topics, kill=kill)
    assert there == [[1] * topics.count] * 3


def records_of(running: Running, topics: partitions.Topics) -> list[int]:
    """How many each partition has."""
    with closing(running.connection()) as connection:
        answer = connection.answer(topics.ends)
    assert not topics.errors(answer)
    return [one.offset for topic in answer.topics for one in topic.partitions]


def test_produce_is_spread_over_all_partitions_and_all_of_it_is_counted(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "PRODUCE_S", 0.2)
    topics = partitions.topics_of(200)
    moved: list[float] = []
    real = partitions.sample

    def noted(outcome: Outcome, size: float, cpu: float, running: Running) -> Sample:
        moved.append(size)
        return real(outcome, size, cpu, running)

    monkeypatch.setattr(partitions, "sample", noted)
    batch, records = requests.batch(100, 1_000), 9
    with starts.directory("new") as directory, starts.running(directory) as running:
        running.await_ready()
        partitions.make_and_warm(running, 0.2, topics=topics)
        before = records_of(running, topics)
        for per_request in partitions.SPREADS:
            partitions.measure_spread(running, topics=topics, per_request=per_request)
            after = records_of(running, topics)
            taken = [now - then for now, then in zip(after, before, strict=True)]
            assert sum(taken) / records * len(batch) == moved[-1] > 0
            at_once = partitions.CONNECTIONS * partitions.DEPTH * per_request
            assert sum(count > 0 for count in taken) >= min(topics.count, at_once)
            before = after


def test_what_was_created_is_what_is_started_with_later(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(*_: object, **__: object) -> None:
        raise AssertionError("there is one")

    monkeypatch.setattr(partitions, "make", make)
    topics = partitions.topics_of(2)
    for _ in range(3):
        assert partitions.measure_create(starts, topics=topics)[partitions.CREATE] > 0
    for kill in (False, True):
        with starts.directory(partitions.filled(topics, kill=kill)) as directory:
            assert (directory / "data" / CLEAN_SHUTDOWN).exists() is not kill
        found = partitions.measure_start(starts, topics=topics, kill=kill)
        assert found[partitions.KILLED if kill else partitions.STOPPED] > 0


def test_who_keeps_nothing_stands_beside_where_nothing_is_kept_and_no_goal_is_against_it() -> None:
    cells = [*starting.cells("os"), *starting.cells("defaults"), *memory.cells()]
    beside = {cell.name for cell in cells if TANSU in cell.contestants}
    assert beside == {"start/new/os", "memory/one-topic"}
    assert beside == {cell.name for cell in cells if NOTE in cell.notes}
    assert TANSU not in {goal.against for cell in cells for goal in cell.goals}


def test_a_product_that_is_not_to_be_had_is_left_out_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def program() -> Path:
        raise RuntimeError("no such wheel")

    monkeypatch.setattr(tansu, "program", program)
    assert tansu.if_to_be_had() == []
    assert capsys.readouterr().out == f"  without {TANSU}: no such wheel\n"

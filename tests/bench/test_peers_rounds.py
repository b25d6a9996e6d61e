"""A tiny turn of the works that the benchmark gives to brokers and clients, with ours alone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bench import client_programs
from bench.peers import brokers, clients, floors, latency, replication
from bench.peers.cells import CLIENT_BUSY, OURS
from bench.peers.clients import Client, Stock, require_written
from bench.peers.products import Ottla, Running
from ottla.testing import Broker

pytestmark = pytest.mark.skipif(
    not Path("/proc/buddyinfo").exists() or shutil.which("gcc") is None,
    reason="reads /proc, and the generator is compiled here",
)

BATCH = (100, 4_096, "none")
TINY = 500_000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a test wants, and nothing waits for the disk."""
    monkeypatch.setattr("os.sync", lambda: None)
    monkeypatch.setattr(brokers.at_hand, "want", lambda size: None)
    monkeypatch.setattr(replication, "VOLUME", TINY)
    for module, names in (
        (latency, ("SECONDS", "SECONDS_JUDGED", "SATURATING_S", "BEFORE_S")),
        (replication, ("BEFORE_S", "LATENCY_SECONDS")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, 0.1)
    monkeypatch.setattr(floors, "BLOCKS", 5)
    monkeypatch.setattr(latency, "SATURATING_TIMES", 1)
    monkeypatch.setattr(latency, "WORKS", (latency.SMALL, latency.END_TO_END))


@pytest.fixture(name="running")
def _running(tmp_path: Path) -> Iterator[Running]:
    with Broker({"log.segment.delete.delay.ms": 100}, data=tmp_path) as broker:
        yield Running(OURS, [broker.port], tmp_path)


def test_paces_are_found_before_anybodys_turn_and_kept(running: Running) -> None:
    paces = latency.Paces()
    paces.find({OURS: running}, acks=1)
    measure = partial(latency.measure, running, acks=1, load=0.1, paces=paces)
    for work in latency.WORKS:
        found = measure(cell=work.name, work=work)
        assert found[latency.RATE] == paces.rate(work.name, work, 0.1) > 0
        assert found["requests"] > 0
        assert found["p50 us"] <= found["p99 us"]
    paces.go_on({OURS: [{"p50 us": 1.0, latency.RATE: 123.0}]}, cell="small")
    assert measure(cell="small", work=latency.SMALL)[latency.RATE] == 123.0
    assert paces.rate("another", latency.SMALL, 0.1) != 123.0


def test_no_percentile_is_told_that_a_few_requests_decide() -> None:
    assert "p99.9 us" not in latency.percentiles(9_999, 1.0, 2.0, 3.0)
    assert latency.percentiles(10_000, 1.0, 2.0, 3.0)["p99.9 us"] == 3.0


def test_all_leaders_of_a_replicated_topic_are_given_work() -> None:
    with Ottla(brokers=3).running("os") as running:
        for partitions, batch in ((12, BATCH), (1, replication.SMALL)):
            found = replication.measure(running, batch=batch, partitions=partitions, seconds=0.2)
            assert found["requests/s"] > 0
        rates = replication.Rates()
        rates.go_on({OURS: [{latency.RATE: 200.0}]})
        found = rates.measure(running)
        assert (found[latency.RATE], found["requests"]) == (200.0, 20.0)


def test_floors_are_told_with_their_processor_time() -> None:
    found = floors.write_and_send()
    assert found["MB/s"] == pytest.approx(1000 / (found["write s/GB"] + found["send s/GB"]))
    assert {"write CPU s/GB", "send CPU s/GB"} <= found.keys()
    served = floors.serve()
    assert served["MB/s"] == max(served["sendfile MB/s"], served["read and send MB/s"])
    assert floors.synced_write_ms(count=3) > 0


def test_the_least_of_several_writes_is_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter([(3.0, 2.0), (0.5, 0.4), (1.0, 0.3)])
    monkeypatch.setattr(floors, "write", lambda: next(costs))
    found = floors.write_and_send()
    assert (found["write s/GB"], found["write CPU s/GB"]) == (0.5, 0.4)


def test_a_client_is_measured_by_what_the_broker_has_of_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = dict.fromkeys(clients.CONTESTANTS, 2_000)
    monkeypatch.setattr(clients, "COUNTS", {"produce": counts, "consume": counts})
    stock = Stock(running)
    for name, what in (
        (clients.SYNC, "produce"),
        (clients.SYNC + clients.AS_OTHERS_FETCH, "consume"),
    ):
        client = clients.client_of(name, stock)
        assert isinstance(client, Client)
        found = client.measure(what)
        assert found["records/s"] > 0
        assert CLIENT_BUSY in found


def test_a_client_is_looked_at_until_it_stops_its_clock(running: Running) -> None:
    seen: list[int] = []
    alive: list[bool] = []

    def stopped(taken: client_programs.Taken) -> None:
        assert taken.seconds > 0
        alive.extend(Path(f"/proc/{pid}").exists() for pid in seen)

    def run(name: str) -> client_programs.Taken:
        where = (running.bootstrap, "looked-at", 1_000)
        return client_programs.run("produce", name, *where, begun=seen.append, stopped=stopped)

    assert run(clients.SYNC).cpu_seconds > 0
    assert alive == [True]
    with pytest.raises(subprocess.CalledProcessError):
        run("nobody")
    assert alive == [True]


def test_records_that_were_lost_or_written_twice_fail_the_turn(running: Running) -> None:
    running.create_topic("written")
    require_written(running, "written", 0)
    with pytest.raises(RuntimeError, match="has 0 records where 5 were sent"):
        require_written(running, "written", 5)

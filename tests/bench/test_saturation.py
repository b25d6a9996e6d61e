"""What a broker takes at most is measured as it is said: ours alone in one process and in two, with little data."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers import requests, saturation
from bench.peers.cells import OURS, Sample
from bench.peers.load import Outcome
from bench.peers.products import Ottla, Product, Running
from tests.bench.peers_support import ends

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists() or shutil.which("gcc") is None,
    reason="reads /proc, and compiles its generator",
)

TOPIC = "at-most"
BATCH = (1_000, 16_384, "none")
RECORDS = 16
PARTITIONS = 12


@pytest.fixture(name="running", params=(Ottla(), saturation.SEVERAL), ids=lambda one: one.name)
def _running(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    monkeypatch.setattr(saturation, "VOLUME", 5_000_000)
    monkeypatch.setattr(saturation, "FETCH_SECONDS", 0.1)
    product: Product = request.param
    with product.running("os", place=tmp_path) as running:
        yield running


def test_all_partitions_of_all_brokers_are_produced_to_and_all_of_it_is_counted(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, list[int]]] = []
    real = saturation.sample

    def looked_at(outcome: Outcome, moved: float, cpu: float, running: Running) -> Sample:
        ports = running.leaders(TOPIC, PARTITIONS)
        assert {ports.count(port) for port in running.ports} == {PARTITIONS // len(running.ports)}
        seen.append((moved, ends(running, TOPIC, ports)))
        return real(outcome, moved, cpu, running)

    monkeypatch.setattr(saturation, "sample", looked_at)
    monkeypatch.setattr(saturation, "topic_name", lambda: TOPIC)
    found = saturation.measure_produce(running, batch=BATCH, partitions=PARTITIONS)
    ((moved, records),) = seen
    size = len(requests.batch(*BATCH))
    assert moved == sum(records) / RECORDS * size
    assert 0.9 * saturation.VOLUME < moved <= saturation.VOLUME
    assert min(records) > 0
    assert found["CPU s/GB"] > 0
    assert found["PSS MB"] > 0
    brokers = len(running.ports)
    assert len(running.pids()) == (1 if brokers == 1 else 1 + brokers)  # all of them are counted


def test_all_brokers_are_read_from_and_a_stock_is_made_once_for_each_kind_of_batch(
    running: Running,
) -> None:
    stock = saturation.Stock()
    found = saturation.measure_fetch(running, stock=stock, batch=BATCH, partitions=PARTITIONS)
    topic, ports = stock.topic(running, BATCH, PARTITIONS)
    assert sorted(set(ports)) == sorted(running.ports)
    filled = sum(ends(running, topic, ports)) / RECORDS * len(requests.batch(*BATCH))
    assert 0.9 * saturation.VOLUME < filled <= saturation.VOLUME
    assert found["MB/s"] > 0
    other, _ = stock.topic(running, (100, 16_384, "none"), PARTITIONS)
    assert other != topic
    again, _ = stock.topic(running, BATCH, PARTITIONS)
    assert again not in (topic, other)  # the stock before was deleted


@pytest.mark.parametrize(
    ("ports", "count"),
    [([1] * 12, 4), ([1, 2] * 6, 4), ([1] * 6 + [2] * 6, 8), ([7], 4)],
)
def test_consumers_share_the_partitions_and_ask_their_leaders(ports: list[int], count: int) -> None:
    frames = saturation.fetch_frames(TOPIC, ports)
    assert len(frames) == count
    asked = [(place.partition, frame.port) for frame in frames for place in frame.places]
    wanted = list(enumerate(ports)) * (saturation.CONNECTIONS if len(ports) == 1 else 1)
    assert sorted(asked) == sorted(wanted)


def test_a_request_goes_to_each_leader_and_they_are_of_a_size() -> None:
    batch = requests.batch(*BATCH)
    frames, size = saturation.produce_frames(TOPIC, [1, 2] * 6, batch)
    assert [frame.port for frame in frames] == [1, 2]
    assert size == 6 * len(batch)
    assert all(size < len(frame.bytes) < size + 1_000 for frame in frames)
    with pytest.raises(RuntimeError, match="not spread evenly"):
        saturation.produce_frames(TOPIC, [1, 1, 2], batch)


def test_two_processes_stand_beside_one_for_twelve_partitions_of_one_size_of_records() -> None:
    cells = saturation.cells()
    several = saturation.SEVERAL.name
    assert several == f"{OURS}, --brokers 2"
    for cell in cells:
        shown = [cell.parameters.get(name) for name in ("record bytes", "partitions")] == [
            1_000,
            12,
        ]
        assert cell.also == ((several,) if shown else ())
        assert (several in cell.contestants) == shown
        assert cell.contestants[0] == OURS
    assert not any(cell.goals for cell in saturation.cells_of_defaults())
    assert {cell.durability for cell in saturation.cells_of_defaults()} == {"defaults"}

"""Small requests are sent in the shape that is said, and each of them is counted; with ours alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.peers import latency, small
from bench.peers.load import Outcome, replay
from bench.peers.products import Ottla, Running
from bench.peers.small import Shape
from bench.peers.tansu import NOTE, TANSU
from tests.bench.peers_support import ends

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists() or shutil.which("gcc") is None,
    reason="reads /proc, and compiles its generator",
)

TOPIC = "small"


@pytest.fixture(name="running")
def _running(tmp_path: Path) -> Iterator[Running]:
    with Ottla().running("os", place=tmp_path) as running:
        yield running


@pytest.mark.parametrize("durability", small.FLOORS)
@pytest.mark.parametrize("shape", [Shape(1, 5), Shape(16, 2, partitions=12)], ids=str)
def test_every_request_is_one_record_and_all_partitions_have_some(
    running: Running, shape: Shape, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Outcome, dict[str, Any]]] = []
    records: list[int] = []

    def noted(*what: Any, **how: Any) -> Outcome:
        sent.append((replay(*what, **how), how))
        ports = running.leaders(TOPIC, shape.partitions)
        records[:] = ends(running, TOPIC, ports)
        return sent[-1][0]

    for name, value in (("SECONDS", 0.1), ("BEFORE_S", 0.05), ("replay", noted)):
        monkeypatch.setattr(small, name, value)
    monkeypatch.setattr(small, "topic_name", lambda: TOPIC)
    found = small.measure(running, shape=shape, durability=durability)
    assert sum(records) == sum(outcome.requests for outcome, _ in sent)
    assert min(records) > 0
    assert {(how["connections"], how["depth"]) for _, how in sent} == {shape[:2]}
    last = sent[-1][0]
    assert found["requests/s"] == last.requests / last.seconds
    assert found["CPU us/request"] > 0
    assert found["PSS MB"] > 10


@pytest.mark.parametrize("durability", small.FLOORS)
def test_a_floor_is_of_what_the_cells_measure(
    durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small, "FLOOR_WRITES", 100)
    for cell in small.cells(durability):
        assert cell.floor_name == small.FLOORS[durability][1]
    (value,) = small.FLOORS[durability][0]().values()
    assert value > 0


def test_who_keeps_nothing_stands_beside_a_few_shapes_and_no_goal_is_against_it() -> None:
    found = [cell for kind in small.FLOORS for cell in small.cells(kind)]
    found += [cell for kind in latency.SUFFIXES for cell in latency.cells(kind, latency.Paces())]
    beside = {cell.name for cell in found if TANSU in cell.contestants}
    assert beside == {
        "small/os/1c/depth-1",
        "small/os/16c/depth-1",
        "small/os/16c/depth-5",
        "latency/os/small/10%",
    }
    assert beside == {cell.name for cell in found if NOTE in cell.notes}
    assert TANSU not in {goal.against for cell in found for goal in cell.goals}
    assert len({cell.name for cell in found}) == len(found)


def test_what_is_unequal_is_judged_by_no_goal() -> None:
    (setting,) = latency.settings_of_defaults()
    assert {cell.durability for cell in setting.cells} == {"defaults"}
    assert not [goal for cell in setting.cells for goal in cell.goals]
    works = {cell.name.partition("/")[0] for cell in setting.cells}
    assert works == {"saturation", "small", "latency"}

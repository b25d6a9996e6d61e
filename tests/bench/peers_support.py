"""Contestants that only say what they are, and cells of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from bench.peers.cells import APACHE_KAFKA, OURS, Cell, Goal, Sample, Setting
from bench.peers.products import Running
from bench.peers.results import CellResult, Results
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic

Figures = Mapping[str, list[Sample]]


def cell(
    measure: Callable[[Any], Sample] = lambda contestant: {"MB/s": 1.0},
    name: str = "saturation/produce/1KB/1p/none",
    **what: Any,
) -> Cell:
    """One with what is not said made up."""
    chosen = {
        "table": "Saturation",
        "title": "1 KB records",
        "durability": "os",
        "contestants": (OURS, APACHE_KAFKA),
        "rounds": 3,
    }
    return Cell(name=name, measure=measure, **chosen | what)


def setting(*cells: Cell, **contestants: Any) -> Setting:
    """Its contestants are those named, or both by their names."""

    @contextmanager
    def opened() -> Iterator[Mapping[str, Any]]:
        yield contestants or {name: name for name in (OURS, APACHE_KAFKA)}

    opening: Callable[[], AbstractContextManager[Mapping[str, Any]]] = opened
    return Setting("a setting", opening, cells)


def measured(
    results: Results, wanted: Cell, figures: Figures, **floors: list[Sample]
) -> CellResult:
    """A cell with these figures, a sample a round and contestant."""
    count = len(next(iter(figures.values())))
    for number in range(count):
        samples = {name: samples[number] for name, samples in figures.items()}
        floor = floors["floors"][number] if floors else None
        results.add(wanted, samples, floor, 1.0)
    return results.cell(wanted)


def results_in(directory: Path) -> Results:
    """An empty file's."""
    return Results(directory / "figures.json")


def ends(running: Running, topic: str, ports: list[int]) -> list[int]:
    """How many records each partition has, as its leader says; ``ports`` has each one's."""
    found = []
    for index, port in enumerate(ports):
        asked = ListOffsetsPartition(partition_index=index, timestamp=-1)
        request = ListOffsetsRequest(
            replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[asked])]
        )
        answer = running.ask(request, 6, running.ports.index(port))
        found.append(answer.topics[0].partitions[0].offset)
    return found


AT_LEAST = Goal("MB/s", at_least=1.3)

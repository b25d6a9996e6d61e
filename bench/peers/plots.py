"""The report's plots, as small PNG files: medians with the range of their rounds.

Without matplotlib (the extra ``bench``) there are none, and the report is written all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench.peers.cells import APACHE_KAFKA, OURS
from bench.peers.results import CellResult

COLOURS = {OURS: "#c2410c", APACHE_KAFKA: "#1d4ed8"}
OTHER_COLOURS = ("#15803d", "#7e22ce", "#57534e", "#0e7490")
DPI = 90
PANEL_INCHES = (4.8, 3.6)
DASHES = ("-", "--", ":")


class Plot(NamedTuple):
    """One that was made."""

    title: str
    file: str


@dataclass
class Line:
    """One contestant's figures of one kind: places on the x axis, medians, and their ranges."""

    label: str
    contestant: str
    dash: str = "-"
    points: list[tuple[float, float, float, float]] = field(default_factory=list)


@dataclass
class Panel:
    """One pair of axes."""

    title: str
    x: str
    y: str
    lines: list[Line]
    log_y: bool = False
    log_x: bool = True
    ticks: dict[float, str] = field(default_factory=dict)


def write(cells: Sequence[CellResult], directory: Path, machine: str) -> list[Plot]:
    """Make those that there are figures for; the names of the files."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plots: pip install 'ottla[bench]' has matplotlib", file=sys.stderr)
        return []
    mpl.use("agg")
    made = []
    for file, title, make in PLOTS:
        panels = [panel for panel in make(cells) if any(line.points for line in panel.lines)]
        if panels:
            _draw(panels, f"{title} ({machine})", directory / file)
            made.append(Plot(f"{title} ({machine})", file))
    return made


def line(
    label: str, contestant: str, dash: str, cells: Sequence[CellResult], x: str, metric: str
) -> Line:
    """A metric of one contestant in some cells, by one of their parameters."""
    found = Line(label, contestant, dash)
    for cell in sorted(cells, key=lambda one: one.kept["parameters"][x]):
        values = cell.values(contestant, metric)
        middle = cell.median(contestant, metric)
        if middle is not None:
            found.points.append((cell.kept["parameters"][x], middle, min(values), max(values)))
    return found


def _of(cells: Sequence[CellResult], prefix: str, *parameters: str) -> list[CellResult]:
    """Cells whose names begin so and that have these parameters and figures."""
    return [
        cell
        for cell in cells
        if cell.name.startswith(prefix)
        and cell.samples
        and all(name in cell.kept.get("parameters", {}) for name in parameters)
    ]


def _contestants(cells: Sequence[CellResult]) -> list[str]:
    return list(dict.fromkeys(name for cell in cells for name in cell.contestants))


def throughput(cells: Sequence[CellResult]) -> list[Panel]:
    """MB/s against the size of the records: produce and fetch, by partitions; both codecs in one."""
    panels = []
    ticks = {100.0: "100 B", 1_000.0: "1 KB", 10_000.0: "10 KB"}
    for what in ("produce", "fetch"):
        found = _of(cells, f"saturation/{what}/", "record bytes", "partitions", "lz4")
        for partitions in sorted({cell.kept["parameters"]["partitions"] for cell in found}):
            lines = []
            for codec, dash in ((0.0, "-"), (1.0, "--")):
                alike = [
                    cell
                    for cell in found
                    if cell.kept["parameters"]["partitions"] == partitions
                    and cell.kept["parameters"]["lz4"] == codec
                ]
                lines += [
                    line(
                        f"{who}, {'lz4' if codec else 'none'}",
                        who,
                        dash,
                        alike,
                        "record bytes",
                        "MB/s",
                    )
                    for who in _contestants(alike)
                ]
            title = f"{what}, {partitions:g} partition{'s' if partitions > 1 else ''}"
            panels.append(Panel(title, "size of a record", "MB/s", lines, ticks=ticks))
    return panels


def latency(cells: Sequence[CellResult]) -> list[Panel]:
    """Percentiles against load, for each work that was done at several loads."""
    groups: dict[str, list[CellResult]] = {}
    for cell in _of(cells, "latency/", "load"):
        groups.setdefault(cell.name.rpartition("/")[0], []).append(cell)
    panels = []
    for alike in groups.values():
        if len(alike) < 2:
            continue
        lines = [
            line(f"{who}, {percentile}", who, dash, alike, "load", f"{percentile} us")
            for who in _contestants(alike)
            for percentile, dash in zip(("p50", "p99", "p99.9"), DASHES, strict=True)
        ]
        ticks = {cell.kept["parameters"]["load"]: _percent(cell) for cell in alike}
        words = {"os": "page cache on both sides", "disk": "synced on both sides"}
        durability = alike[0].kept["durability"]
        title = f"{alike[0].kept['title'].rpartition(',')[0]}\n{words.get(durability, durability)}"
        x = "load, of what the slower one takes at most"
        panels.append(Panel(title, x, "latency, µs", lines, log_y=True, log_x=False, ticks=ticks))
    return panels


def _percent(cell: CellResult) -> str:
    return f"{cell.kept['parameters']['load']:.0%}"


def partitions(cells: Sequence[CellResult]) -> list[Panel]:
    """Memory and start against the number of partitions."""
    found = _of(cells, "partitions/", "partitions")
    metrics = {name for cell in found for each in cell.samples.values() for s in each for name in s}
    panels = []
    for title, y, wanted in (
        ("memory", "proportional set size, MB", "PSS MB"),
        ("start until all partitions are served", "s", "start s"),
    ):
        chosen = sorted(name for name in metrics if name.startswith(wanted))
        lines = [
            line(_named(who, metric, wanted), who, dash, found, "partitions", metric)
            for who in _contestants(found)
            for metric, dash in zip(chosen, DASHES, strict=False)
        ]
        ticks = {cell.kept["parameters"]["partitions"]: _count(cell) for cell in found}
        panels.append(Panel(title, "partitions", y, lines, log_y=True, ticks=ticks))
    return panels


def _named(who: str, metric: str, common: str) -> str:
    return f"{who}{', ' + rest if (rest := metric.removeprefix(common).strip(', ')) else ''}"


def _count(cell: CellResult) -> str:
    return f"{cell.kept['parameters']['partitions']:,.0f}"


PLOTS: tuple[tuple[str, str, Callable[[Sequence[CellResult]], list[Panel]]], ...] = (
    ("throughput.png", "Throughput against record size", throughput),
    ("latency.png", "Latency against load", latency),
    ("partitions.png", "Memory and start against partitions", partitions),
)


def _colour(contestant: str, others: list[str]) -> str:
    if contestant in COLOURS:
        return COLOURS[contestant]
    if contestant not in others:
        others.append(contestant)
    return OTHER_COLOURS[others.index(contestant) % len(OTHER_COLOURS)]


def _draw(panels: Sequence[Panel], title: str, path: Path) -> None:
    """The panels, two in a row."""
    from matplotlib.figure import Figure

    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(PANEL_INCHES[0] * across, PANEL_INCHES[1] * down + 0.4))
    others: list[str] = []
    for index, panel in enumerate(panels):
        _axes(figure.add_subplot(down, across, index + 1), panel, others)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _axes(axes: Any, panel: Panel, others: list[str]) -> None:
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    for each in panel.lines:
        if not each.points:
            continue
        x, middle, least, most = zip(*each.points, strict=True)
        below = [m - low for m, low in zip(middle, least, strict=True)]
        above = [high - m for m, high in zip(middle, most, strict=True)]
        axes.errorbar(
            x,
            middle,
            yerr=[below, above],
            label=each.label,
            color=_colour(each.contestant, others),
            linestyle=each.dash,
            marker="o",
            markersize=3.5,
            capsize=2.5,
            linewidth=1.4,
        )
    if not panel.log_y:
        axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    if panel.ticks:
        axes.set_xticks(list(panel.ticks), list(panel.ticks.values()))
        axes.minorticks_off()
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    axes.title.set_fontsize(10)
    axes.grid(visible=True, alpha=0.3, which="both")
    axes.legend(fontsize=7)

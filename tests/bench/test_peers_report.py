"""The report says what was measured, what was missed and what failed, and how; its plots are made."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from bench.peers import plots, report, tables
from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, FLOOR, OURS, Goal, Sample
from bench.peers.notes import BY_WORK, UNLIKE, notes_for
from bench.peers.results import CellResult, Results
from bench.peers.settings import all_settings
from bench.peers.tables import number
from tests.bench.peers_support import AT_LEAST, cell, measured, results_in

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

ROOT = Path(__file__).parents[2]
CPU = Goal("CPU s/GB", at_most=0.5)


def sample(rate: float, cpu: float, busy: float = 0.2) -> Sample:
    return {"MB/s": rate, "CPU s/GB": cpu, CLIENT_BUSY: busy, "PSS MB": 40.0}


def full(tmp_path: Path) -> Results:
    """A missed goal, a failed cell, one bound by its client, one that was not measured, and floors."""
    results = results_in(tmp_path)
    results.kept["machine"] |= {"cpus": 2}
    results.kept["versions"] = {"Ottla": "0.1.0, revision abc1234", "Apache Kafka": "4.3.1"}
    results.kept["started_with"] = {OURS: {"saturation": "python -m ottla serve"}}
    three = (OURS, APACHE_KAFKA, "Tansu")
    one = cell(
        contestants=three,
        goals=(AT_LEAST, CPU, Goal("MB/s", at_least=0.5, against=FLOOR)),
        notes=("With a note.",),
    )
    figures = {
        OURS: [sample(100, 1.0), sample(110, 1.0), sample(120, 1.0)],
        APACHE_KAFKA: [sample(100, 4.0, 0.95), sample(100, 4.0, 0.95), sample(100, 4.0, 0.95)],
    }
    measured(results, one, figures, floors=[{"MB/s": 150.0, "send s/GB": 0.5}] * 3)
    failed = cell(name="saturation/fetch/x", title="10 KB records", goals=(CPU,))
    results.failed(failed, "RuntimeError: 3 answers\nwith errors | first 87")
    results.cell(cell(name="small/disk/1c", table="Small", durability="disk", goals=(AT_LEAST,)))
    results.cell(cell(name="start/new/defaults", table="Start", durability="defaults"))
    results.kept["cells"]["old"] = {"gone": True, "samples": {}}
    results.write()
    return results


def test_the_report_says_what_came_out_and_what_did_not(tmp_path: Path) -> None:
    document = tmp_path / "docs" / "benchmarks.md"
    report.write(full(tmp_path), document)
    text = document.read_text()
    assert "**2 cores**" in text
    assert "## Saturation (2 cores)" in text
    assert "**2 of 5 goals are met**; missed: 1; not measured in full: 2." in text
    assert "1 of 11 kinds of work meet all of theirs." in text
    missed = "`saturation/produce/1KB/1p/none` MB/s: 1.10 x for ≥ 1.3 x"
    assert f"| 2 | 1 of 3 | 1 | {missed}<br>`saturation/fetch/x` CPU s/GB: failed |" in text
    assert "| 1 | 0 of 1 | 0 | not measured: `small/disk/1c` MB/s |" in text
    assert "| **all** |  |  | 3 | 2 of 5 | 1 |  |" in text
    assert text.index("| **all** |") < text.index("## How to read it") < text.index("## Saturation")
    assert "Failed cells: `saturation/fetch/x`." in text
    rows = [line for line in text.splitlines() if line.startswith("| 1 KB records | MB/s")]
    assert rows[0] == (
        "| 1 KB records | MB/s | 110 | 100 "
        "| 1.10 x (1.00 - 1.20) to Apache Kafka<br>0.73 x (0.67 - 0.80) to the machine itself "
        "| ≥ 1.3 x<br>≥ 0.5 x | **missed**<br>met<br>client-bound: Apache Kafka (95%)<br>not here: Tansu"
        "<br>3 rounds |"
    )
    assert "|  | CPU s/GB | 1.00 | 4.00 | 0.25 x (0.25 - 0.25) | ≤ 0.5 x | met |" in text
    assert "|  | PSS MB | 40.0 | 40.0 |" in text
    assert "|  | MB/s, the machine itself: 150 | 0.73 x of it | 0.67 x of it |" in text
    assert "|  | the machine itself: send s/GB 0.500 |  |  |  |  | floor |" in text
    assert (
        "| 10 KB records |  |  |  |  |  | **failed**: RuntimeError: 3 answers with errors \\| first 87 |"
        in text
    )
    assert "- 1 KB records: With a note." in text
    assert "- Client-bound: the client took 90% of a processor" in text
    assert "Synced on both sides" in text
    assert "- Not measured: 1 KB records." in text
    assert "**Unequal**" in text
    assert "| Apache Kafka | 4.3.1 |" in text
    assert "python -m ottla serve" in text
    assert "old" not in {
        row.split("|")[1].strip() for row in text.splitlines() if row.startswith("|")
    }
    copy = json.loads((tmp_path / "docs" / "benchmarks" / "figures.json").read_text())
    assert copy["cells"].keys() >= {"saturation/fetch/x", "old"}


def test_both_ways_to_run_ours_are_judged_and_one_is_counted(tmp_path: Path) -> None:
    several = "Ottla, --brokers 2"
    results = results_in(tmp_path)
    for name, cpu in (("1KB", 0.4), ("10KB", 0.6)):
        one = cell(
            name=f"saturation/produce/{name}/12p/none",
            title=f"{name} records",
            contestants=(OURS, APACHE_KAFKA, several),
            also=(several,),
            goals=(AT_LEAST, CPU),
            rounds=1,
        )
        figures = {
            OURS: sample(100, 0.4),
            APACHE_KAFKA: sample(100, 1.0),
            several: sample(150, cpu),
        }
        measured(results, one, {who: [figure] for who, figure in figures.items()})
    document = tmp_path / "benchmarks.md"
    report.write(results, document)
    text = document.read_text()
    both = (
        "1.00 x (1.00 - 1.00) to Apache Kafka<br>1.50 x (1.50 - 1.50) Ottla, --brokers 2 to Apache Kafka "
        "| ≥ 1.3 x | **missed**<br>met (Ottla, --brokers 2)<br>"
    )
    assert f"| 1KB records | MB/s | 100 | 100 | 150 | {both}goals counted by: {several}" in text
    assert f"| 10KB records | MB/s | 100 | 100 | 150 | {both}1 rounds |" in text
    assert "**3 of 4 goals are met**; missed: 1;" in text
    assert f"another way than one process: `saturation/produce/1KB/12p/none` ({several})." in text
    assert "By one process alone 2 goals are met in the place of 3." in text
    assert "`saturation/produce/10KB/12p/none` MB/s: 1.00 x for ≥ 1.3 x" in text


def table_of(tmp_path: Path, result: CellResult) -> dict[str, list[str]]:
    """A cell's table: its row's parts by the figure."""
    rows = [line[2:-2].split(" | ") for line in tables.table([result])]
    return {parts[1]: parts for parts in rows if len(parts) > 1}


def test_figures_without_a_goal_are_compared_with_whom_the_cell_is_about_or_not_at_all(
    tmp_path: Path,
) -> None:
    figures = {"p99 us": 100.0, "p50 us": 30.0, "late p99 us": 20.0, "rate": 5.0}
    slow = figures | {"p99 us": 30.0, "p50 us": 60.0}
    for place, (names, goals, against) in enumerate(
        (
            (("a", "a, bare", "b", "c"), (Goal("p99 us", at_most=1.0, against="b"),), "b"),
            (("a", "c", APACHE_KAFKA), (), APACHE_KAFKA),
            (("a", "c", "b"), (), "c"),
        )
    ):
        wanted = cell(name=f"latency/{place}", contestants=names, goals=goals, rounds=1)
        result = measured(
            results_in(tmp_path), wanted, {n: [slow if n == against else figures] for n in names}
        )
        rows = {name: " ".join(parts) for name, parts in table_of(tmp_path, result).items()}
        assert f"0.50 x (0.50 - 0.50) to {against}" in rows["p50 us"]
        assert " x (" not in rows["late p99 us"]
        assert " x (" not in rows["rate"]
        assert f"p99 is the generator's by half or more: {against}" in " ".join(rows.values())


def test_a_verdict_that_some_rounds_contradict_says_so(tmp_path: Path) -> None:
    figures = {
        OURS: [sample(rate, 0.4) for rate in (120, 140, 150)],
        APACHE_KAFKA: [sample(100, 1.0)] * 3,
    }
    result = measured(results_in(tmp_path), cell(goals=(AT_LEAST, CPU)), figures)
    rows = table_of(tmp_path, result)
    assert rows["MB/s"][-1] == "met, not in all rounds<br>3 rounds"
    assert rows["CPU s/GB"][-1] == "met"


def test_floors_have_the_names_of_what_they_are(tmp_path: Path) -> None:
    wanted = cell(floor_name="one thread's write, then its send", rounds=1)
    figures = {OURS: [sample(100, 0.4)], APACHE_KAFKA: [sample(100, 1.0)]}
    result = measured(results_in(tmp_path), wanted, figures, floors=[{"MB/s": 50.0, "s": 1.0}])
    text = "\n".join(tables.table([result]))
    assert (
        "|  | MB/s, one thread's write, then its send: 50.0 | 2.00 x of it | 2.00 x of it |" in text
    )
    assert "|  | one thread's write, then its send: s 1.00 |" in text
    assert FLOOR not in text


def test_every_table_says_what_it_counts_and_every_one_of_producing_what_is_not_alike() -> None:
    found = [each for setting in all_settings() for each in setting.cells]
    for each in found:
        said = [*each.notes, *notes_for(each.name)]
        assert said, each.name
        produces = not each.name.startswith(
            ("start/", "memory/", "saturation/fetch/", "partitions/")
        ) and not each.name.endswith("/consume")
        produces |= each.name.startswith("partitions/spread/")
        assert (UNLIKE in said) == produces, each.name
    for patterns, _ in BY_WORK:
        for pattern in patterns:
            assert any(fnmatch(each.name, pattern) for each in found), pattern


def test_all_lines_of_a_table_have_as_many_columns(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    report.write(full(tmp_path), document)
    for block in re.findall(r"(?:^\|.*\n)+", document.read_text(), re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_the_report_is_written_from_the_file_alone(tmp_path: Path) -> None:
    results = full(tmp_path)
    document = tmp_path / "alone.md"
    command = [sys.executable, "-m", "bench.peers.report"]
    command += ["--results", str(results.path), "--document", str(document)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    report.write(results, tmp_path / "again.md")
    assert document.read_text() == (tmp_path / "again.md").read_text().replace("again/", "alone/")


def test_plots_are_made_with_their_machine_and_are_small(tmp_path: Path) -> None:
    if os.environ.get("OTTLA_TEST_REQUIRE_ALL") != "1":
        pytest.importorskip("matplotlib")
    results = results_in(tmp_path)
    for what in ("produce", "fetch"):
        for size in (100, 1_000, 10_000):
            shape = {"record bytes": size, "partitions": 1, "lz4": 0.0}
            one = cell(name=f"saturation/{what}/{size}", parameters=shape)
            measured(
                results, one, {OURS: [sample(size, 1.0)], APACHE_KAFKA: [sample(size / 2, 1.0)]}
            )
    for load in (0.1, 0.5):
        slow = {"p50 us": 100.0, "p99 us": 300.0, "p99.9 us": 900.0}
        one = cell(name=f"latency/os/small/{load}", parameters={"load": load})
        measured(results, one, {OURS: [slow], APACHE_KAFKA: [slow]})
    for count in (100, 10_000):
        figures = {"PSS MB, started": 50.0, "start s, after kill -9": 1.0}
        one = cell(name=f"partitions/{count}", parameters={"partitions": count})
        measured(results, one, {OURS: [figures], APACHE_KAFKA: [figures]})
    document = tmp_path / "benchmarks.md"
    report.write(results, document)
    for name in ("throughput", "latency", "partitions"):
        content = (tmp_path / "benchmarks" / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", content[16:24])
        assert width >= 400
        assert height >= 300
        assert len(content) < 120_000
        assert f"(benchmarks/{name}.png)" in document.read_text()


def lines_of(panel: plots.Panel) -> dict[str, list[tuple[float, float, float, float]]]:
    return {line.label: line.points for line in panel.lines if line.points}


def test_plots_have_a_line_a_contestant_with_its_medians_and_their_ranges(tmp_path: Path) -> None:
    results = results_in(tmp_path)
    found = []
    for size, rates in ((1_000, (20.0, 10.0, 30.0)), (100, (2.0, 1.0, 4.0))):
        shape = {"record bytes": size, "partitions": 12, "lz4": 1.0}
        one = cell(name=f"saturation/produce/{size}", parameters=shape)
        figures = {
            OURS: [sample(rate, 1.0) for rate in rates],
            APACHE_KAFKA: [sample(5.0, 1.0)] * 3,
        }
        found.append(measured(results, one, figures))
    (panel,) = plots.throughput(found)
    assert panel.title == "produce, 12 partitions"
    assert lines_of(panel) == {
        "Ottla, lz4": [(100, 2.0, 1.0, 4.0), (1_000, 20.0, 10.0, 30.0)],
        "Apache Kafka, lz4": [(100, 5.0, 5.0, 5.0), (1_000, 5.0, 5.0, 5.0)],
    }


def test_memory_and_starts_are_plotted_apart_by_what_they_are(tmp_path: Path) -> None:
    figures = {"PSS MB, created": 90.0, "PSS MB, killed": 95.0, "start s, after kill -9": 4.0}
    one = cell(name="partitions/x/100", parameters={"partitions": 100}, rounds=1)
    memory, start = plots.partitions([measured(results_in(tmp_path), one, {OURS: [figures]})])
    assert lines_of(memory) == {
        "Ottla, created": [(100, 90.0, 90.0, 90.0)],
        "Ottla, killed": [(100, 95.0, 95.0, 95.0)],
    }
    assert lines_of(start) == {"Ottla, after kill -9": [(100, 4.0, 4.0, 4.0)]}


def test_latencies_at_one_load_are_no_plot(tmp_path: Path) -> None:
    results = results_in(tmp_path)
    figures = {"p50 us": 100.0, "p99 us": 300.0, "p99.9 us": 900.0}
    found = []
    for work, load in (("small", 0.1), ("small", 0.5), ("16KiB", 0.5)):
        one = cell(name=f"latency/os/{work}/{load}", parameters={"load": load}, title=f"{work}, x")
        found.append(measured(results, one, {OURS: [figures]}))
    (panel,) = plots.latency(found)
    assert panel.title == "small\npage cache on both sides"
    assert lines_of(panel) == {
        f"Ottla, {name.removesuffix(' us')}": [
            (0.1, value, value, value),
            (0.5, value, value, value),
        ]
        for name, value in figures.items()
    }


def test_without_matplotlib_the_report_is_written_without_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    document = tmp_path / "benchmarks.md"
    report.write(full(tmp_path), document)
    assert "![" not in document.read_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1,234"),
        (123.4, "123"),
        (12.34, "12.3"),
        (0.12345, "0.123"),
        (2e-9, "0.000000"),
    ],
)
def test_figures_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text

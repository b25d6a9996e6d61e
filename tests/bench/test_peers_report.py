"""The report says what was measured, what was missed and what failed, and how; its plots are made."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers import report
from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, FLOOR, OURS, Goal, Sample
from bench.peers.results import Results
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
    assert "1 of 11 met, 1 missed, 9 not measured in full." in text
    missed = "`saturation/produce/1KB/1p/none` MB/s: 1.10 x for ≥ 1.3 x"
    assert f"| 1 of 3 | {missed}<br>`saturation/fetch/x` CPU s/GB: failed |" in text
    assert "| 0 of 1 | not measured: `small/disk/1c` MB/s |" in text
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

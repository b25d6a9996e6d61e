"""Every benchmark runs to its end and prints its figures; the report says which goals are met."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.figures import JSON_LINES, Goal, table
from tests.support.zookeeper import require_zookeeper

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240

TINY = {
    "first_record": (("--rounds", "1"), {"ms", "MB"}),
    "throughput": (
        ("--rounds", "1", "--seconds", "0.2"),
        {"GB/s", "CPU s/GB", "requests/s", "us"},
    ),
    "recovery": (("--rounds", "1", "--megabytes", "2"), {"s/GB", "CPU s/GB"}),
    "partitions": (("--rounds", "1", "--topics", "2", "--partitions", "3"), {"s", "CPU s", "MB"}),
    "clients": (("--rounds", "1", "--records", "2000"), {"records/s", "CPU s", "x"}),
}

TINY_BY_NAME = {
    "several_brokers": (
        ("--rounds", "1", "--seconds", "0.2"),
        {"requests/s", "us/request", "processors"},
    ),
}
"""Without goals."""

TINY_CLUSTER = {
    "cluster_failover": (("--rounds", "1", "--clients", "raw"), {"ms"}),
    "cluster_partitions": (
        ("--counts", "100", "--rounds", "1", "--starts", "0"),
        {"s", "CPU s", "MB"},
    ),
    "cluster_throughput": (
        ("--rounds", "1", "--seconds", "0.2"),
        {"ms", "GB/s", "CPU s/GB", "requests/s", "us/request", "MB"},
    ),
}

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@linux
@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_runs_and_notes_its_figures(name: str, tmp_path: Path) -> None:
    if name == "clients" and os.environ.get("OTTLA_TEST_REQUIRE_ALL") != "1":
        pytest.importorskip("aiokafka")
        pytest.importorskip("confluent_kafka")
    figures = run(name, *TINY[name], tmp_path)
    assert any(figure["met"] is not None for figure in figures)


@linux
@pytest.mark.parametrize("name", TINY_BY_NAME)
def test_a_benchmark_that_is_run_by_name_notes_its_figures(name: str, tmp_path: Path) -> None:
    run(name, *TINY_BY_NAME[name], tmp_path)


@linux
@pytest.mark.parametrize("name", TINY_CLUSTER)
def test_a_benchmark_of_a_cluster_runs_and_notes_its_figures(name: str, tmp_path: Path) -> None:
    require_zookeeper()
    figures = run(name, *TINY_CLUSTER[name], tmp_path)
    assert name != "cluster_failover" or sum(figure["met"] is not None for figure in figures) == 4


def run(name: str, arguments: tuple[str, ...], units: set[str], tmp_path: Path) -> list[Any]:
    notes = tmp_path / "figures"
    environment = {**os.environ, JSON_LINES: str(notes), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in notes.read_text().splitlines()]
    # How much memory a broker takes after a gigabyte is noted where one has come: on a quick machine, in any time.
    assert {figure["unit"] for figure in figures} - units <= {"MB"}
    assert units <= {figure["unit"] for figure in figures}
    assert all(figure["least"] <= figure["median"] <= figure["most"] for figure in figures)
    return figures


def test_a_figure_says_whether_its_goal_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"quick": [3.0, 1.0, 2.0], "slow": [9.0], "other": [5.0]}
    table("Time", figures, "s", goals={"quick": Goal(at_most=2), "slow": Goal(at_most=2)})
    _, quick, slow, other = capsys.readouterr().out.splitlines()
    assert quick.split() == ["quick", "2.0", "s", "(1.0", "-", "3.0);", "<=", "2:", "met"]
    assert slow.endswith("<= 2: MISSED")
    assert other.endswith("(5.0 - 5.0)")


def test_a_goal_bounds_from_both_sides() -> None:
    goal = Goal(at_least=3, at_most=5)
    assert [goal.met_by(value) for value in (2.9, 3, 5, 5.1)] == [False, True, True, False]
    assert str(Goal(at_least=60_000)) == ">= 60,000"

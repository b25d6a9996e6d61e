"""Ratios are of one round's figures; verdicts are of their median, and know whose client was the limit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, FLOOR, OURS, Goal
from bench.peers.goals import outcomes
from bench.peers.results import Ratio, Results
from tests.bench.peers_support import AT_LEAST, cell, measured, results_in

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

BOUND = Goal("MB/s", at_least=1.0, when_client_bound=Goal("CPU s/GB", at_most=0.5))


def test_a_ratio_is_of_the_rounds_and_not_of_the_medians(tmp_path: Path) -> None:
    ours, theirs = (10.0, 40.0, 90.0), (20.0, 20.0, 30.0)
    result = measured(
        results_in(tmp_path),
        cell(goals=(AT_LEAST,)),
        {OURS: [{"MB/s": v} for v in ours], APACHE_KAFKA: [{"MB/s": v} for v in theirs]},
    )
    assert result.ratio("MB/s", APACHE_KAFKA) == Ratio(2.0, 0.5, 3.0)
    assert result.median(OURS, "MB/s") == 40.0
    verdict = result.verdict(AT_LEAST)
    assert verdict is not None
    assert verdict.met
    assert result.ratio("CPU s/GB", APACHE_KAFKA) is None
    assert result.verdict(Goal("CPU s/GB", at_most=1.0)) is None


def test_a_goal_may_be_between_two_others_and_against_the_machine(tmp_path: Path) -> None:
    result = measured(
        results_in(tmp_path),
        cell(contestants=(OURS, "ours, bare", "aiokafka")),
        {OURS: [{"MB/s": 50.0}], "ours, bare": [{"MB/s": 20.0}], "aiokafka": [{"MB/s": 10.0}]},
        floors=[{"MB/s": 80.0}],
    )
    other = result.verdict(Goal("MB/s", at_least=5.0, against="aiokafka", ours="ours, bare"))
    assert other is not None
    assert (other.ratio.median, other.met) == (2.0, False)
    machine = result.verdict(Goal("MB/s", at_least=0.5, against=FLOOR))
    assert machine is not None
    assert (machine.ratio.median, machine.met) == (0.625, True)


@pytest.mark.parametrize(
    ("ours_busy", "theirs_busy", "cpu", "bound", "met"),
    [
        (0.95, 0.92, 0.4, True, True),
        (0.95, 0.92, 0.6, True, False),
        (0.95, 0.60, 0.4, False, False),
        (0.50, 0.60, 0.4, False, False),
    ],
)
def test_less_is_enough_where_the_client_was_the_limit_on_both_sides(
    tmp_path: Path, ours_busy: float, theirs_busy: float, cpu: float, bound: bool, met: bool
) -> None:
    result = measured(
        results_in(tmp_path),
        cell(goals=(BOUND,)),
        {
            OURS: [{"MB/s": 90.0, "CPU s/GB": cpu, CLIENT_BUSY: ours_busy}],
            APACHE_KAFKA: [{"MB/s": 100.0, "CPU s/GB": 1.0, CLIENT_BUSY: theirs_busy}],
        },
    )
    verdict = result.verdict(BOUND)
    assert verdict is not None
    assert (verdict.client_bound, verdict.met) == (bound, met)


def test_goals_come_back_from_the_file(tmp_path: Path) -> None:
    wanted = (BOUND, Goal("MB/s", at_least=5.0, against="aiokafka", ours="ours, bare"))
    measured(results_in(tmp_path), cell(goals=wanted), {OURS: [{"MB/s": 1.0}]})
    read = Results(tmp_path / "figures.json")
    read.arrange([cell(goals=wanted)])
    assert tuple(read.cell(cell(goals=wanted)).goals) == wanted


def test_a_line_of_goals_is_met_when_all_its_cells_are(tmp_path: Path) -> None:
    results = results_in(tmp_path)
    fast = {OURS: [{"MB/s": 2.0}], APACHE_KAFKA: [{"MB/s": 1.0}]}
    slow = {OURS: [{"MB/s": 1.0}], APACHE_KAFKA: [{"MB/s": 1.0}]}
    goals = (AT_LEAST,)
    one = partial(cell, rounds=1)
    cells = [
        measured(results, one(name="saturation/produce/a", goals=goals), fast),
        measured(results, one(name="saturation/produce/b", title="10 KB", goals=goals), slow),
        measured(results, one(name="small/os/1c", goals=goals), fast),
        results.cell(one(name="small/os/16c", goals=goals)),
        measured(results, one(name="replication/os/small", goals=goals), fast),
        measured(results, one(name="something/else", goals=goals), fast),
        measured(results, cell(name="clients/x", goals=goals, rounds=2), fast),
    ]
    told = {each.work.title.split(",")[0]: each for each in outcomes(cells)}
    saturation = told["saturation produce and fetch"]
    assert saturation.missed == ["`saturation/produce/b` MB/s: 1.00 x for ≥ 1.3 x"]
    assert saturation.word == "**missed**"
    assert len(saturation.met) == 1
    assert told["small produce requests"].word == "not measured"
    assert told["RF 3"].word == "met"
    assert told["others"].is_met
    assert told["our producer and consumer"].word == "not measured"  # one round of two
    assert told["start to first acknowledged record"].word == "not measured"


def test_figures_of_another_machine_are_refused(tmp_path: Path) -> None:
    results = results_in(tmp_path)
    results.kept["machine"]["cpus"] += 1
    results.write()
    with pytest.raises(ValueError, match="another machine"):
        Results(results.path)
    assert Results(results.path, anywhere=True).kept["cells"] == {}

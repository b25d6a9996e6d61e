"""Ratios are of one round's figures; verdicts are of their median, and know whose client was the limit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from bench.peers import revision
from bench.peers.cells import APACHE_KAFKA, CLIENT_BUSY, FLOOR, MACHINE_BUSY, OURS, Goal
from bench.peers.goals import outcomes
from bench.peers.results import Ratio, Results, otherwise_measured
from bench.peers.tables import remarks_of
from tests.bench.peers_support import AT_LEAST, cell, measured, results_in

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

SEVERAL = "Ottla, --brokers 2"
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


@pytest.mark.parametrize(
    ("one", "several", "counts"),
    [
        ((2.0, 0.4), (1.0, 0.9), OURS),
        ((1.0, 0.4), (1.4, 0.5), SEVERAL),
        (
            (1.0, 0.4),
            (1.4, 0.9),
            OURS,
        ),  # the bytes of the one and the CPU of the other are no one's
        ((1.0, 0.9), (1.2, 0.9), OURS),
        ((1.5, 0.5), (1.9, 0.3), OURS),
    ],
)
def test_all_goals_of_a_cell_are_counted_for_one_way_to_run_ours(
    tmp_path: Path, one: tuple[float, float], several: tuple[float, float], counts: str
) -> None:
    goals = (AT_LEAST, Goal("CPU s/GB", at_most=0.5))
    wanted = cell(
        name="saturation/produce/1KB/12p/none",
        contestants=(OURS, APACHE_KAFKA, SEVERAL),
        also=(SEVERAL,),
        goals=goals,
        rounds=1,
    )
    figures = {OURS: one, APACHE_KAFKA: (1.0, 1.0), SEVERAL: several}
    result = measured(
        results_in(tmp_path),
        wanted,
        {name: [{"MB/s": rate, "CPU s/GB": cpu}] for name, (rate, cpu) in figures.items()},
    )
    assert result.ways == [OURS, SEVERAL]
    assert result.way_that_counts == counts
    rate, cpu = figures[counts]
    (outcome,) = [each for each in outcomes([result]) if each.count]
    assert len(outcome.met) == (rate >= 1.3) + (cpu <= 0.5)
    assert outcome.cells == {wanted.name}
    (alone,) = [each for each in outcomes([result], one_way=True) if each.count]
    assert len(alone.met) == (one[0] >= 1.3) + (one[1] <= 0.5)


def test_a_way_that_was_not_run_is_none(tmp_path: Path) -> None:
    wanted = cell(contestants=(OURS, APACHE_KAFKA, SEVERAL), also=(SEVERAL,), goals=(AT_LEAST,))
    figures = {OURS: [{"MB/s": 1.0}], APACHE_KAFKA: [{"MB/s": 1.0}]}
    result = measured(results_in(tmp_path), wanted, figures)
    assert (result.ways, result.way_that_counts) == ([OURS], OURS)


@pytest.mark.parametrize(
    ("rounds", "met", "sure"),
    [
        ((1.3, 1.4, 1.5), True, True),
        ((1.2, 1.4, 1.5), True, False),
        ((1.0, 1.2, 1.5), False, False),
        ((1.0, 1.1, 1.2), False, True),
    ],
)
def test_a_verdict_is_the_medians_and_says_whether_all_rounds_agree(
    tmp_path: Path, rounds: tuple[float, ...], met: bool, sure: bool
) -> None:
    figures = {OURS: [{"MB/s": each} for each in rounds], APACHE_KAFKA: [{"MB/s": 1.0}] * 3}
    verdict = measured(results_in(tmp_path), cell(goals=(AT_LEAST,)), figures).verdict(AT_LEAST)
    assert verdict is not None
    assert (verdict.met, verdict.sure) == (met, sure)


def test_a_floor_that_someone_is_better_than_judges_nothing(tmp_path: Path) -> None:
    against_the_machine = Goal("MB/s", at_least=0.5, against=FLOOR)
    results = results_in(tmp_path)
    one = cell(goals=(against_the_machine, AT_LEAST))
    figures = {OURS: [{"MB/s": 50.0}], APACHE_KAFKA: [{"MB/s": 90.0}]}
    result = measured(results, one, figures, floors=[{"MB/s": 80.0}])
    assert result.verdict(against_the_machine) is None
    assert result.above_floor == [APACHE_KAFKA]
    assert result.verdict(AT_LEAST) is not None
    assert any(f"slower than {APACHE_KAFKA}: {FLOOR}" in each for each in remarks_of(result))


def test_a_full_machine_is_no_bound_client(tmp_path: Path) -> None:
    busy = {CLIENT_BUSY: 0.6, MACHINE_BUSY: 0.95}
    result = measured(
        results_in(tmp_path),
        cell(goals=(BOUND,)),
        {
            OURS: [{"MB/s": 90.0, "CPU s/GB": 0.4} | busy],
            APACHE_KAFKA: [{"MB/s": 100.0, "CPU s/GB": 1.0} | busy],
        },
    )
    verdict = result.verdict(BOUND)
    assert verdict is not None
    assert (verdict.client_bound, verdict.met) == (False, False)
    assert f"machine-bound: {OURS} (95%), {APACHE_KAFKA} (95%)" in remarks_of(result)


def test_figures_of_other_versions_are_not_added_to_and_are_told(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    ours = {OURS: "0.1.0, revision abc1234"}
    before = Results(path, versions=ours | {APACHE_KAFKA: "4.0.0"})
    one, other = cell(name="a"), cell(name="b")
    figures = {OURS: [{"MB/s": 1.0}], APACHE_KAFKA: [{"MB/s": 1.0}]}
    measured(before, one, figures)
    of_another_revision = Results(
        path, versions={OURS: "0.1.0, revision def5678", APACHE_KAFKA: "4.0.0"}
    )
    assert of_another_revision.is_of_these_sources(one)
    results = Results(path, versions=ours | {APACHE_KAFKA: "4.1.0"})
    assert not results.is_of_these_sources(one)
    assert results.kept["versions"][APACHE_KAFKA] == "4.0.0"  # of the figures that there are
    assert otherwise_measured(results.kept, [results.cell(one)]) == []
    measured(results, other, figures)
    assert results.kept["versions"][APACHE_KAFKA] == "4.1.0"
    assert otherwise_measured(results.kept, [results.cell(one), results.cell(other)]) == [
        "Of other sources or measured in another way, with Apache Kafka 4.0.0: `a`."
    ]


def test_figures_are_of_the_way_in_which_they_were_taken(tmp_path: Path) -> None:
    room = tmp_path / "bench" / "peers"
    (room / "load").mkdir(parents=True)
    for name in revision.MEASURING[1:]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (room / "small.py").write_text("SECONDS = 2")
    (room / "load" / "load.c").write_text("")
    (room / "tables.py").write_text("")

    def digest() -> str:
        revision.measuring_digest.cache_clear()
        return revision.measuring_digest(tmp_path)

    first = digest()
    (room / "tables.py").write_text("# only tells")
    assert digest() == first
    seen = {first}
    for changed in (
        room / "small.py",
        room / "load" / "load.c",
        tmp_path / "bench/client_programs.py",
    ):
        changed.write_text("/* another */")
        seen.add(digest())
    assert len(seen) == 4


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

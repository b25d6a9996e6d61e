"""Cells are run in alternating rounds, a run goes on where another ended, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest

from bench.peers import results as results_module
from bench.peers.beside import WAITING
from bench.peers.cells import APACHE_KAFKA, OURS, Cell, Sample, Setting
from bench.peers.products import Running
from bench.peers.results import Results
from bench.peers.runner import OPENING_GUESS_S, Run, chosen, order_of
from tests.bench.peers_support import AT_LEAST, cell, results_in, setting

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60


def run(results: Results, *settings: Setting, rounds: int = 9, budget_s: float = 600.0) -> Run:
    picked = chosen(settings, ())
    made = Run(picked, results, rounds=rounds, budget_s=budget_s, settle=lambda: None)
    made.all()
    return made


class Recorder:
    """Measures by noting who was asked."""

    def __init__(self, fails_at: int = -1) -> None:
        self.asked: list[str] = []
        self.fails_at = fails_at

    def __call__(self, contestant: str) -> Sample:
        self.asked.append(contestant)
        if len(self.asked) == self.fails_at:
            raise RuntimeError("no luck")
        return {"MB/s": float(len(self.asked))}


def test_each_round_begins_with_another_contestant(tmp_path: Path) -> None:
    three = (OURS, APACHE_KAFKA, "Tansu")
    recorder = Recorder()
    one = cell(recorder, contestants=three)
    run(results_in(tmp_path), setting(one, **{name: name for name in three}))
    rounds = [recorder.asked[at : at + 3] for at in (0, 3, 6)]
    assert [each[0] for each in rounds] == list(three)
    assert [set(each) for each in rounds] == [set(three)] * 3


def test_no_contestant_always_follows_the_same_one() -> None:
    names = ["a", "b", "c", "d"]
    orders = [order_of(names, "a cell", number) for number in range(40)]
    pairs = {pair for order in orders for pair in pairwise(order)}
    assert pairs == set(permutations(names, 2))
    assert orders == [order_of(names, "a cell", number) for number in range(40)]
    assert order_of(names[:2], "a cell", 1) == ["b", "a"]


def test_what_a_turn_leaves_to_the_disk_is_done_before_the_next(tmp_path: Path) -> None:
    recorder = Recorder()
    results = results_in(tmp_path)
    picked = chosen([setting(cell(recorder))], ())
    settle = partial(recorder.asked.append, "settled")
    Run(picked, results, rounds=1, budget_s=600.0, settle=settle).all()
    assert recorder.asked == [OURS, "settled", APACHE_KAFKA, "settled"]


def test_a_cell_is_told_of_its_rounds_before_others_are_added(tmp_path: Path) -> None:
    told: list[dict[str, int]] = []

    def resumed(samples: Mapping[str, Sequence[Sample]]) -> None:
        told.append({name: len(each) for name, each in samples.items()})

    one = cell(resumed=resumed)
    run(results_in(tmp_path), setting(one), rounds=1)
    assert told == []
    run(Results(tmp_path / "figures.json"), setting(one))
    assert told == [{OURS: 1, APACHE_KAFKA: 1}]


def test_a_round_keeps_what_else_took_processor_time(tmp_path: Path) -> None:
    class Broker:
        spent = 0.0

        def cpu_seconds(self) -> float:
            return self.spent

    ours, theirs = Broker(), Broker()

    def measure(contestant: Broker) -> Sample:
        ours.spent += 1000.0
        return {"MB/s": 1.0}

    results = results_in(tmp_path)
    one = cell(measure)
    run(results, setting(one, **{OURS: ours, APACHE_KAFKA: theirs}), rounds=2)
    beside = results.cell(one).kept["beside"]
    assert [each[WAITING] > 1.0 for each in beside[APACHE_KAFKA]] == [True, True]
    assert [each[WAITING] for each in beside[OURS]] == [0.0, 0.0]
    told = [text for text in results.cell(one).disturbed if WAITING in text]
    assert [text.partition(":")[0] for text in told] == [
        f"{APACHE_KAFKA}, round 1",
        f"{APACHE_KAFKA}, round 2",
    ]


def test_an_ended_run_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Recorder(fails_at=4)  # amid the second round
    failed = run(results_in(tmp_path), setting(cell(first)))
    assert failed.failed == ["saturation/produce/1KB/1p/none"]
    kept = Results(tmp_path / "figures.json").cell(cell())
    assert kept.rounds == 1
    assert kept.failed == "RuntimeError: no luck"
    second = Recorder()
    run(Results(tmp_path / "figures.json"), setting(cell(second)))
    assert second.asked == [APACHE_KAFKA, OURS, OURS, APACHE_KAFKA]
    kept = Results(tmp_path / "figures.json").cell(cell())
    assert kept.rounds == 3
    assert kept.failed == ""
    third = Recorder()
    run(Results(tmp_path / "figures.json"), setting(cell(third)))
    assert third.asked == []


def test_a_cell_that_fails_holds_up_no_other(tmp_path: Path) -> None:
    other = Recorder()
    results = results_in(tmp_path)
    done = run(
        results, setting(cell(Recorder(fails_at=1), name="a"), cell(other, name="b")), rounds=2
    )
    assert done.failed == ["a"]
    assert len(other.asked) == 4


def test_a_setting_that_does_not_open_fails_its_cells_and_no_others(tmp_path: Path) -> None:
    def broken() -> Any:
        raise OSError("no such program")

    other = Recorder()
    results = results_in(tmp_path)
    done = run(
        results, Setting("broken", broken, (cell(name="a"),)), setting(cell(other, name="b"))
    )
    assert done.failed == ["a"]
    assert results.cell(cell(name="a")).failed == "OSError: no such program"
    assert len(other.asked) == 6


def test_a_setting_is_opened_anew_where_a_contestant_has_ended(tmp_path: Path) -> None:
    class Ended:
        def poll(self) -> int:
            return 1

    class Broker:
        processes: list[Ended] = []  # noqa: RUF012

    def dies(broker: Broker) -> Sample:
        if not opened[-1]:
            opened[-1] = True
            broker.processes = [Ended()]
            raise ConnectionError("the broker hung up")
        return {"MB/s": 1.0}

    opened: list[bool] = []

    def opening() -> Any:
        opened.append(len(opened) > 0)
        return setting(**{OURS: Broker(), APACHE_KAFKA: Broker()}).open()

    done = run(results_in(tmp_path), Setting("s", opening, (cell(dies, "a"), cell(dies, "b"))))
    assert done.failed == ["a"]
    assert len(opened) == 2


def test_figures_of_other_sources_are_not_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = results_in(tmp_path)
    run(results, setting(cell()), rounds=2)
    assert results.is_of_these_sources(cell())
    monkeypatch.setattr(results_module, "source_digest", lambda: "another")
    assert not results.is_of_these_sources(cell())
    results.forget(cell())
    assert results.is_of_these_sources(cell())
    assert results.cell(cell()).rounds == 0
    run(results, setting(cell()))
    assert results.cell(cell()).rounds == 3
    assert results.cell(cell()).kept["source"] == results.digest()


def test_who_joins_later_has_the_cell_measured_anew(tmp_path: Path) -> None:
    three = (OURS, APACHE_KAFKA, "Tansu")
    results = results_in(tmp_path)
    one = cell(contestants=three)
    run(results, setting(one), rounds=2)
    assert results.cell(one).absent == ["Tansu"]
    run(results, setting(one, **{name: name for name in three}))
    assert {name: len(each) for name, each in results.cell(one).samples.items()} == dict.fromkeys(
        three, 3
    )


def test_no_cell_begins_that_would_not_be_done_in_time(tmp_path: Path) -> None:
    recorder = Recorder()
    results = results_in(tmp_path)
    results.kept["settings"]["a setting"] = {"ready_s": 20.0}
    results.cell(cell()).kept["took"] = 30.0  # 110 s in all, three rounds and what comes before
    run(results, setting(cell(recorder)), budget_s=100.0)
    assert recorder.asked == []
    run(results, setting(cell(recorder)), budget_s=130.0)
    assert len(recorder.asked) == 6


def test_what_goals_hang_on_is_measured_first(tmp_path: Path) -> None:
    asked: list[str] = []

    def noting(name: str, **what: Any) -> Cell:
        def measure(contestant: str) -> Sample:
            asked.append(name)
            return {"MB/s": 1.0}

        return cell(measure, name, rounds=1, **what)

    run(results_in(tmp_path), setting(noting("shown"), noting("judged", goals=(AT_LEAST,))))
    assert asked == ["judged", "judged", "shown", "shown"]


def test_what_is_left_is_estimated_from_what_was(tmp_path: Path) -> None:
    results = results_in(tmp_path)
    cells: list[Cell] = [cell(name="a"), cell(name="b")]
    picked = chosen([setting(*cells)], ())
    results.add(cells[0], {OURS: {}, APACHE_KAFKA: {}}, None, 10.0)
    left = Run(picked, results, rounds=3, budget_s=60.0)
    assert left.remaining_s(within=picked[0][0]) == 2 * 10.0 + 3 * 10.0
    assert left.remaining_s() == 50.0 + OPENING_GUESS_S
    results.kept["settings"]["a setting"] = {"ready_s": 7.0}
    assert left.remaining_s() == 50.0 + 7.0


def test_files_that_go_while_they_are_looked_for_are_still_there(tmp_path: Path) -> None:
    class Vanishing(type(Path())):  # type: ignore[misc]
        def rglob(self, pattern: str) -> Any:
            raise FileNotFoundError(pattern)

    assert Running("one", [1], Vanishing(tmp_path))._has_files("topic")
    assert not Running("one", [1], tmp_path)._has_files("topic")


def test_cells_are_chosen_by_patterns_and_kept_in_order(tmp_path: Path) -> None:
    one = setting(cell(name="a/1"), cell(name="b/1"))
    assert [[c.name for c in cells] for _, cells in chosen([one], ["b/*"])] == [["b/1"]]
    results = results_in(tmp_path)
    for name in ("old", "b/1", "a/1"):
        results.cell(cell(name=name))
    results.arrange(one.cells)
    assert list(results.kept["cells"]) == ["a/1", "b/1", "old"]
    assert results.kept["cells"]["old"]["gone"] is True


def test_a_run_that_is_interrupted_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    program = """
        import subprocess, sys, time
        from pathlib import Path
        from bench.peers import __main__ as program
        from tests.bench.peers_support import cell, setting

        def measure(contestant):
            # In a session of its own, as brokers are: the terminal's SIGINT does not reach it.
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            print("child", child.pid, flush=True)
            child.wait()

        program.all_settings = lambda: [setting(cell(measure))]
        program.versions = dict
        sys.exit(program.main())
    """
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(program)]
    process = subprocess.Popen(
        [*command, "--results", str(tmp_path / "results" / "figures.json")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        child = next(int(line.split()[1]) for line in process.stdout if line.startswith("child"))
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 130, rest
    assert not Path(f"/proc/{child}").exists()
    assert list(scratch.iterdir()) == []
    assert (tmp_path / "results" / "benchmarks.md").exists()

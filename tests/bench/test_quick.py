"""The counts of ``make bench-quick`` see a slow-down, and say nothing of another environment's figures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bench.quick import __main__ as program
from bench.quick import broker, comparing, counting
from tests.support.java import MissingTool

SOURCES = Path(__file__).parents[2] / "src"
WORK = "api versions"
PLANTED = """
_handle = handle


def handle(*arguments):
    sum(range(2_000))
    return _handle(*arguments)
"""


def test_a_slow_down_that_is_planted_is_seen_and_where(tmp_path: Path) -> None:
    if counting.missing():
        if os.environ.get("OTTLA_TEST_REQUIRE_ALL") == "1":
            raise MissingTool("valgrind", "valgrind")
        pytest.skip("wants valgrind and gcc")
    sources = tmp_path / "src"
    shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("__pycache__"))
    handler = sources / "ottla" / "broker" / "handlers" / "api_versions.py"
    handler.write_text(f"{handler.read_text()}\n\n{PLANTED}")
    before, after = broker.measure(WORK, None), broker.measure(WORK, sources)
    worse = worse_of(before, after)
    if worse != [WORK]:  # as the program does: one in ten processes takes more for one of the works
        worse = worse_of(before, program.least(after, broker.measure(WORK, sources)))
    assert worse == [WORK]


@pytest.mark.parametrize("words", ["fault of ours", broker.VALGRINDS_FAILURE])
def test_what_valgrind_does_wrong_is_done_again_and_what_the_broker_does_is_told(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def command(counts: Path, arguments: list[str]) -> list[str]:
        asked.append(str(counts))
        return ["sh", "-c", 'echo "$0" >&2; exit 3', words]

    def hung_up(port: int) -> None:
        raise ConnectionError("the broker hung up")

    monkeypatch.setattr(counting, "command", command)
    monkeypatch.setattr(broker, "Client", hung_up)
    monkeypatch.setattr(counting, "library", lambda: "none")
    with pytest.raises(RuntimeError, match=f"hung up; the broker ended with .* and said: {words}"):
        broker.measure(WORK, None)
    assert len(asked) == (2 if words == broker.VALGRINDS_FAILURE else 1)


def worse_of(before: dict[str, float], after: dict[str, float]) -> list[str]:
    return [change.name for change in comparing.changes(before, after) if change.worse]


def test_what_changed_by_more_than_the_threshold_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = {"produce": 1_000.0, "fetch": 1_000.0, "start, modules imported": 100.0, "gone": 1.0}
    now = {"produce": 1_020.0, "fetch": 950.0, "start, modules imported": 103.0, "new": 1.0}
    assert program.compared(kept, now, "0.1.0") == 1
    told = capsys.readouterr().out
    assert "better: fetch\nworse: start, modules imported\nnot measured: gone\n" in told
    assert program.compared(kept, {**now, "start, modules imported": 101.0}, "0.1.0") == 0


@pytest.mark.parametrize("same", [True, False])
def test_figures_of_another_environment_are_not_compared(
    same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = tmp_path / "reference.json"
    monkeypatch.setattr(comparing, "environment", lambda: {"python": "3.11.7"})
    comparing.keep(reference, {"produce": 1_000.0}, "0.1.0")
    if not same:
        monkeypatch.setattr(comparing, "environment", lambda: {"python": "3.13.0"})
    worse = program.compared_with_kept(reference, {"produce": 1_100.0})
    assert worse == (1 if same else 2)
    assert program.compared_with_kept(tmp_path / "none.json", {}) == 2


def test_the_kept_figures_are_of_all_works() -> None:
    kept = comparing.read(program.REFERENCE)
    named = [work.name for work in broker.WORKS]
    assert set(named) <= kept["figures"].keys()
    assert kept["of"]

"""Each invariant that is called closed has tests, and they see the mistakes that would break it.

``tests/invariants.toml`` names, for each number of ``docs/invariants.md``, the tests and the bugs. Here each bug
is planted in a copy of the project, and the tests that it names have to fail; without it they have to pass.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.meta.planting import ALL_TIMEOUT_S, PLANTED_DEADLINE_S, Copy, is_of, with_bug
from tools.invariants import NUMBERS, PAGE, PARTS, ROOT, Bug, read_map, sentences, written

MAP = read_map()
PLANTED = [pytest.param(bug, id=f"{number}: {bug.what}") for number, bug in MAP.bugs]
CLOSED = {*range(1, 38), 42}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """A copy of the project, for one bug at a time."""
    root = tmp_path_factory.mktemp("copy") / "project"
    root.mkdir()
    yield Copy(root)
    shutil.rmtree(root)


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_seen(bug: Bug, copy: Copy) -> None:
    with copy.planted(bug):
        run = copy.run(bug.red, deadline_s=PLANTED_DEADLINE_S)
    assert not run.broken, f"it breaks the tests' collection:\n{run.broken[0]}"
    for test in bug.red:
        outcomes = run.of(test)
        assert outcomes, f"{test} was not run"
        assert any(one.is_red(bug.raises) for one in outcomes.values()), (
            f"{test} does not see it, or fails by another cause than an assertion: {outcomes}"
        )


def test_without_a_bug_the_same_tests_pass(copy: Copy) -> None:
    tests = {test for _, bug in MAP.bugs for test in bug.red}
    run = copy.run(tests, timeout_s=ALL_TIMEOUT_S)
    assert not run.broken, run.broken[0]
    missing = [test for test in tests if not run.of(test)]
    assert not missing
    assert {name: one for name, one in run.outcomes.items() if one.outcome != "passed"} == {}


def test_every_bug_has_one_place() -> None:
    for number, bug in MAP.bugs:
        assert bug.file.startswith("src/ottla/"), number
        assert bug.red, f"{number}: no test is named that sees: {bug.what}"
        with_bug((ROOT / bug.file).read_text(), bug)
    assert len({bug.what for _, bug in MAP.bugs}) == len(MAP.bugs)


def test_every_test_that_is_named_is_there(copy: Copy) -> None:
    files = {test.partition("::")[0] for test in MAP.tests}
    run = copy.run(files, "--collect-only")
    assert not run.broken, run.broken[0]
    gone = [test for test in MAP.tests if not any(is_of(name, test) for name in run.collected)]
    assert not gone


def test_every_invariant_is_accounted_for() -> None:
    assert [one.number for one in MAP.invariants] == list(NUMBERS)
    assert list(sentences((ROOT / PAGE).read_text())) == list(NUMBERS)
    for one in MAP.invariants:
        if one.is_closed:
            assert one.kept, f"{one.number}: where in the code is it kept?"
            assert one.tests, f"{one.number}: which tests hold it?"
            assert one.bugs, f"{one.number}: what would its tests see?"
        else:
            assert one.part in PARTS, f"{one.number}: {one.part}"
    assert {one.number for one in MAP.invariants if one.is_closed} >= CLOSED
    for path in {path for one in MAP.invariants for path in one.kept}:
        assert (ROOT / path).is_file(), path


def test_every_trap_has_a_test_or_a_later_part() -> None:
    assert len({trap.issue for trap in MAP.traps}) == len(MAP.traps)
    for trap in MAP.traps:
        assert bool(trap.tests) != bool(trap.part), trap.issue
        assert not trap.part or trap.part in PARTS, trap.issue


def test_the_page_says_what_the_map_says() -> None:
    page = (ROOT / PAGE).read_text()
    assert written(page, MAP) == page, "python -m tools.invariants writes it anew"


# That the meta-test itself sees what it is to see.


def test_a_bug_whose_place_has_changed_is_told() -> None:
    bug = Bug("a bug", "src/ottla/x.py", "a = 1", "a = 2", ("tests/x.py::test_x",))
    for source in ("b = 1\n", "a = 1\na = 1\n"):
        with pytest.raises(ValueError, match="has changed"):
            with_bug(source, bug)
    assert with_bug("a = 1\n", bug) == "a = 2\n"
    with pytest.raises(ValueError, match="nothing is changed"):
        with_bug("a = 1\n", bug._replace(replace="a = 1"))
    with pytest.raises(SyntaxError):
        with_bug("a = 1\n", bug._replace(replace="a ="))


def test_a_harmless_change_an_import_error_and_a_skip_are_no_failures(copy: Copy) -> None:
    test = "tests/unit/log/test_leader_epochs.py::test_no_epoch_no_end"
    place = "UNDEFINED_EPOCH = -1"
    path = "src/ottla/log/leader_epochs.py"
    harmless = Bug("harmless", path, place, f"{place}\nNOBODYS = 0", (test,))
    with copy.planted(harmless):
        run = copy.run(harmless.red)
    assert [one.outcome for one in run.of(test).values()] == ["passed"]
    with copy.planted(harmless._replace(replace="UNDEFINED_EPOCH = nobodys")):
        run = copy.run(harmless.red)
    assert run.broken
    assert not run.outcomes
    error = harmless._replace(
        find="if epoch == UNDEFINED_EPOCH or not self.entries:",
        replace="if epoch == UNDEFINED_EPOCH or not self.entries():",
    )
    with copy.planted(error):
        run = copy.run(error.red)
    (outcome,) = run.of(test).values()
    assert (outcome.outcome, outcome.is_red()) == ("failed", False)
    assert outcome.is_red(["TypeError"])

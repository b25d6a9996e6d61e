"""The compiled record loops run where they are of the source that is there, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ottla.records import chosen_loops
from ottla.records.chosen_loops import Choice, choose, find_compiled
from tests.support.record_codec import require_compiled

ASK = "from ottla.records.chosen_loops import choice, loops; print(choice.compiled, loops.__name__)"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the source that the compiled copy is compared with."""
    require_compiled()
    monkeypatch.delenv("OTTLA_INTERPRETED", raising=False)
    copy = tmp_path / "record_loops.py"
    copy.write_bytes(Path(chosen_loops.SOURCE).read_bytes())
    monkeypatch.setattr(chosen_loops, "SOURCE", str(copy))
    return copy


def test_the_compiled_copy_of_the_present_source_runs(source: Path) -> None:
    assert choose() == Choice(True, "")
    assert str(choose()) == "compiled"


def test_an_edited_source_runs_as_it_is(source: Path) -> None:
    text = source.read_text()
    source.write_text(text.replace("p != end", "p < end", 1))
    assert source.read_text() != text
    assert choose() == Choice(False, "record_loops.py has been changed since it was compiled")


def test_without_its_source_the_compiled_copy_runs(source: Path) -> None:
    source.unlink()
    assert choose() == Choice(True, "")


@pytest.mark.parametrize(
    ("value", "compiled"), [("1", False), ("yes", False), ("0", True), ("", True)]
)
def test_the_environment_asks_for_the_interpreted_copy(
    source: Path, monkeypatch: pytest.MonkeyPatch, value: str, compiled: bool
) -> None:
    monkeypatch.setenv("OTTLA_INTERPRETED", value)
    assert choose().compiled is compiled


def test_without_a_compiled_copy_the_source_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTTLA_INTERPRETED", raising=False)
    monkeypatch.setattr(chosen_loops, "COMPILED", "ottla.records.not_there")
    assert choose() == find_compiled()
    assert str(choose()) == "interpreted: there was no C compiler when it was installed"


def test_a_process_runs_the_copy_that_was_asked_for() -> None:
    environment = {
        "OTTLA_INTERPRETED": "1",
        "PYTHONPATH": str(Path(chosen_loops.SOURCE).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "ottla.records.record_loops"]

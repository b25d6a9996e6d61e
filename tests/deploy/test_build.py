"""An installation compiles the record loops where it can, and is whole where it can't."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def build() -> ModuleType:
    """setup.py, as a module."""
    spec = importlib.util.spec_from_file_location("ottla_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def asked_of_setuptools(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py gives to ``setup``."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(build, "setup", lambda **options: asked.update(options))
    build.main()
    return asked


@pytest.mark.parametrize("compiler", ["/bin/false", "/not/there/cc"])
def test_without_a_compiler_nothing_is_asked_for_and_nothing_compiled(
    build: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    compiler: str,
) -> None:
    monkeypatch.setenv("CC", compiler)
    asked = asked_of_setuptools(build, monkeypatch)
    assert (asked["setup_requires"], asked["ext_modules"]) == ([], [])
    assert "the record codec will be interpreted" in capfd.readouterr().err


def test_with_a_compiler_mypyc_is_asked_for(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not build.compiles():
        if os.environ.get("OTTLA_TEST_REQUIRE_ALL") == "1":
            pytest.fail("no C compiler, or no headers of Python")
        pytest.skip("no C compiler, or no headers of Python")
    monkeypatch.setattr(build, "has_mypyc", lambda: False)
    asked = asked_of_setuptools(build, monkeypatch)
    assert (asked["setup_requires"], asked["ext_modules"]) == ([build.MYPYC], [])
    monkeypatch.setattr(build, "has_mypyc", lambda: True)
    extensions = asked_of_setuptools(build, monkeypatch)["ext_modules"]
    assert [extension.name for extension in extensions] == [
        "ottla.records.record_loops_compiled",
        "ottla.client.producer.intake_compiled",
    ]


@pytest.mark.parametrize("failure", [SystemExit(1), RuntimeError("a compiler's bug")])
def test_a_build_that_fails_leaves_the_package_pure(
    build: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    failure: BaseException,
) -> None:
    def fail(name: str, directory: Path) -> None:
        raise failure

    monkeypatch.setattr(build, "translated", fail)
    extension = build.Extension("ottla.records.record_loops_compiled", [], optional=True)
    command = build.CompileLoops(build._distribution())
    command.distribution.ext_modules = [extension]
    command.build_lib, command.build_temp = str(tmp_path / "lib"), str(tmp_path / "temp")
    command.ensure_finalized()
    command.run()
    assert "compiling failed" in capfd.readouterr().err
    assert not list(tmp_path.rglob("*.so"))

"""Compiles the record loops where there is a C compiler and Python's headers; all else is in pyproject.toml.

The extension ``ottla.records.record_loops_compiled`` is made by mypyc of ``record_loops.py`` as it is, with the
CRC-32 of that source in it (``chosen_loops`` compares it). mypyc is asked for, from the package index, only
where its C could be compiled. Nothing here fails an installation: without a compiler, without mypyc or after
an error the package is complete, pure Python, and says so (``ottla --version``).
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

if TYPE_CHECKING:
    from setuptools import Distribution

ROOT = Path(__file__).parent.resolve()
SOURCES = {
    "ottla.records.record_loops_compiled": ROOT / "src/ottla/records/record_loops.py",
    "ottla.client.producer.intake_compiled": ROOT / "src/ottla/client/producer/intake.py",
}
"""What is compiled, by the extension's name."""
MYPYC = "mypy[mypyc]>=1.18"
# Types of other modules are for `make lint`: read here, they would take four seconds, and what follows from
# them would be compiled in.
MYPY_INI = """
[mypy]
follow_imports = skip
ignore_missing_imports = True
[mypy-mypy_extensions]
follow_imports = normal
"""


def compiles() -> bool:
    """Whether a C program that includes Python.h can be compiled."""
    if platform.python_implementation() != "CPython":
        return False
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "probe.c"
        source.write_text("#include <Python.h>\nint probe(void) { return PY_MAJOR_VERSION; }\n")
        try:
            command = build_ext(_distribution())
            command.ensure_finalized()
            from setuptools._distutils.ccompiler import new_compiler
            from setuptools._distutils.sysconfig import customize_compiler

            compiler = new_compiler()
            customize_compiler(compiler)
            compiler.compile([str(source)], output_dir=directory, include_dirs=command.include_dirs)
        except Exception as error:  # there are many ways to have no compiler
            tell(f"no C compiler and headers of Python here ({error})")
            return False
    return True


def _distribution() -> Distribution:
    from setuptools import Distribution

    return Distribution({"name": "probe", "ext_modules": [Extension("probe", ["probe.c"])]})


def has_mypyc() -> bool:
    """Whether mypyc can be used now: not yet when pip asks what a build needs."""
    try:
        import mypyc.build  # noqa: F401
    except ImportError:
        return False
    return True


def tell(what: str) -> None:
    """Say on stderr why the record loops will be interpreted; ``pip install -v`` shows it."""
    print(f"ottla: {what}: the record codec will be interpreted", file=sys.stderr)


class CompileLoops(build_ext):
    """Builds the extension from what mypyc writes."""

    def build_extension(self, ext: Extension) -> None:
        """Compile; an error leaves the package pure."""
        try:
            with tempfile.TemporaryDirectory() as directory:
                made = translated(ext.name, Path(directory))
                ext.sources = made.sources
                ext.include_dirs = made.include_dirs
                ext.extra_compile_args = [
                    option for option in made.extra_compile_args if option not in ("-Werror", "/WX")
                ]
                self.build_temp = directory
                super().build_extension(ext)
        except (Exception, SystemExit) as error:  # mypyc exits where it does not compile
            tell(f"compiling failed ({error!r})")


def translated(name: str, directory: Path) -> Extension:
    """What mypyc makes of an extension's source, as an extension without a package, in ``directory``."""
    from mypyc.build import mypycify

    source = SOURCES[name].read_bytes()
    copy = directory / f"{name.rpartition('.')[2]}.py"
    copy.write_bytes(source + f"\nSOURCE_CRC: Final = {crc32(source)}\n".encode())
    (directory / "mypy.ini").write_text(MYPY_INI)
    with chdir(directory):
        [extension] = mypycify(
            [
                "--config-file=mypy.ini",
                f"--cache-dir={os.devnull}",
                copy.name,
            ],
            opt_level="1",
            debug_level="0",
            target_dir=str(directory / "c"),
        )
    return extension


def main() -> None:
    """What setuptools calls."""
    wanted = compiles()
    there = wanted and has_mypyc()
    setup(
        setup_requires=[MYPYC] if wanted else [],
        ext_modules=[Extension(name, [], optional=True) for name in SOURCES] if there else [],
        cmdclass={"build_ext": CompileLoops},
    )


if __name__ == "__main__":
    main()

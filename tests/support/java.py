"""Java for tests: Apache Kafka's jars, fetched once, our own Java sources, compiled once, and how a JVM is run.

Rules: jars and classes lie outside the tree, in ``$XDG_CACHE_HOME/ottla-tests``, under a name made of what they
came from, so that a changed version or source is another directory; a directory appears there whole or not at
all, and test processes that run at the same time make it once. What this machine lacks is a ``MissingTool``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOM = Path(__file__).resolve().parents[1] / "interop" / "java"
POM = ROOM / "pom.xml"
TOOLS_3_9 = ROOM / "tools-3.9.xml"
"""The jars of the command-line tools of the last Apache Kafka with ZooKeeper."""
SOURCES = ROOM / "src"
LOGGING = ROOM / "log4j2.properties"
PREPARE_TIMEOUT_S = 300.0

# For a JVM that lives for seconds: no optimizing compiler, one thread to collect garbage, a small heap.
JVM_OPTIONS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-Xshare:auto",
    "-Xms32m",
    "-Xmx256m",
    f"-Dlog4j2.configurationFile={LOGGING}",
)


class MissingTool(Exception):
    """A program that this machine lacks, and the Debian package that has it."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(f"the program {program} (Debian package {package}) is not installed")
        self.program = program
        self.package = package


def program(name: str, package: str) -> str:
    """The path of a program; raises ``MissingTool``."""
    path = shutil.which(name)
    if path is None:
        raise MissingTool(name, package)
    return path


@cache
def jars(pom: Path = POM) -> Path:
    """The directory with the jars that a POM names and all that they need."""

    def fetch(directory: Path) -> None:
        _run(
            program("mvn", "maven"),
            *("--batch-mode", "--quiet", "--file", str(pom)),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={directory}",
            "-DincludeScope=runtime",
        )

    return _made_once("jars", [pom], fetch)


@cache
def classes() -> Path:
    """The directory with the compiled ``src/*.java``."""
    sources = sorted(SOURCES.glob("*.java"))

    def compile_sources(directory: Path) -> None:
        _run(
            program("javac", "default-jdk-headless"),
            *("-proc:none", "-cp", f"{jars()}/*", "-d", str(directory)),
            *map(str, sources),
        )

    return _made_once("classes", [POM, *sources], compile_sources)


def java(main: str, *arguments: str, options: tuple[str, ...] = (), pom: Path = POM) -> list[str]:
    """The command that runs a class with the jars of ``pom``; ``options`` come after ours, so they win.

    Our own classes are compiled against ``POM``: of them only those run with other jars that need no more.
    """
    classpath = f"{classes()}:{jars(pom)}/*"
    return [
        program("java", "default-jdk-headless"),
        *JVM_OPTIONS,
        *options,
        *("-cp", classpath, main),
        *arguments,
    ]


def version() -> str:
    """The version of Apache Kafka that is used, as the jars have it."""
    (clients,) = jars().glob("kafka-clients-*.jar")
    return clients.stem.removeprefix("kafka-clients-")


def _made_once(kind: str, sources: list[Path], make: Callable[[Path], None]) -> Path:
    """The directory of ``kind`` that ``make`` fills from ``sources``; made by the first who asks."""
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ottla-tests"
    directory = home / f"{kind}-{digest[:16]}"
    if directory.exists():
        return directory
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / f"{kind}.lock"):
        if not directory.exists():
            with tempfile.TemporaryDirectory(prefix=f".{kind}-", dir=home) as making:
                made = Path(making) / "made"
                made.mkdir()
                make(made)
                made.rename(directory)
    return directory


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PREPARE_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    classes()
    jars(TOOLS_3_9)
    print(f"Apache Kafka {version()} is in {jars()}")

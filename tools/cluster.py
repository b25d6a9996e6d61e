"""A cluster on this machine: a ZooKeeper ensemble of three and three brokers, until Ctrl-C. ``make cluster``.

Everything lies below one directory and is there again the next time: the servers' data, the brokers' data, and what
each process prints. A process that ends by itself, or is killed to see what the others do, is named with the command
that starts it again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

COUNT = 3
JARS = Path("/usr/share/java")
CLASS_PATH = ("zookeeper.jar", "slf4j-simple.jar", "netty-handler.jar")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
JAVA = (
    *("java", "-Xms16m", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    *("-Dzookeeper.admin.enableServer=false", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"),
    *("-cp", ":".join(str(JARS / jar) for jar in CLASS_PATH)),
)
HOW_TO_INSTALL = "apt-get install zookeeper default-jre-headless"
READY_S = 60.0
STOP_S = 30.0
LOOK_S = 0.1


class Ports(NamedTuple):
    """Three of each kind."""

    brokers: Sequence[int] = (9092, 9093, 9094)
    clients: Sequence[int] = (2181, 2182, 2183)
    peers: Sequence[int] = (2888, 2889, 2890)
    elections: Sequence[int] = (3888, 3889, 3890)


class Part:
    """One process of the cluster."""

    def __init__(self, name: str, command: Sequence[str], output: Path) -> None:
        self.name = name
        self.command = command
        self.output = output
        self._begins = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.missed = False
        """Its end has been told."""

    def start(self) -> None:
        """Start it; Ctrl-C is for us alone."""
        self._begins = self.output.stat().st_size if self.output.exists() else 0
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def printed(self) -> str:
        """What it has printed since its start."""
        with self.output.open("rb") as file:
            file.seek(self._begins)
            return file.read().decode(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for who does not heed it."""
        if self.process is None or not self.is_running:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Failed(Exception):
    """Something did not come up; the message says what to do."""


def zookeeper(number: int, home: Path, ports: Ports) -> Part:
    """A server of the ensemble."""
    directory = home / f"zookeeper-{number}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "myid").write_text(f"{number}\n")
    lines = [
        "tickTime=500",
        "initLimit=20",
        "syncLimit=10",
        "maxClientCnxns=0",
        "standaloneEnabled=false",
        "4lw.commands.whitelist=srvr,ruok,mntr",
        "clientPortAddress=127.0.0.1",
        f"clientPort={ports.clients[number - 1]}",
        f"dataDir={directory.resolve()}",
        *(
            f"server.{other}=127.0.0.1:{ports.peers[other - 1]}:{ports.elections[other - 1]}"
            for other in range(1, COUNT + 1)
        ),
    ]
    config = directory / "zoo.cfg"
    config.write_text("\n".join(lines) + "\n")
    command = (*JAVA, MAIN, str(config))
    return Part(f"zookeeper-{number}", command, home / f"zookeeper-{number}.log")


def broker(number: int, home: Path, ports: Ports) -> Part:
    """One of the brokers: its own settings are on the command line, and no others."""
    servers = ",".join(f"127.0.0.1:{port}" for port in ports.clients)
    command = (
        *(sys.executable, "-m", "ottla", "serve", "--zookeeper", servers),
        *("--node-id", str(number), "--data", str(home / f"broker-{number}")),
        *("--listen", f"127.0.0.1:{ports.brokers[number - 1]}"),
        *("--set", "default.replication.factor=3", "--set", "min.insync.replicas=2"),
        *("--set", "zookeeper.session.timeout.ms=6000"),
    )
    return Part(f"broker-{number}", command, home / f"broker-{number}.log")


class Stopped(Exception):
    """SIGINT or SIGTERM."""


def run(home: Path, ports: Ports) -> None:
    """Start everything, say where it is, and stop it in the end. Raises ``Failed``."""
    require_zookeeper()
    home.mkdir(parents=True, exist_ok=True)
    numbers = range(1, COUNT + 1)
    servers = [zookeeper(number, home, ports) for number in numbers]
    brokers = [broker(number, home, ports) for number in numbers]

    def stop(*_: object) -> None:
        raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        for part in servers:
            part.start()
        for port, part in zip(ports.clients, servers, strict=True):
            wait_for(part, lambda port=port: serves(port))
        for part in brokers:
            part.start()
        for part in brokers:
            wait_for(part, lambda part=part: " ready: node " in part.printed())
        say(home, ports, [*servers, *brokers])
        watch([*servers, *brokers])
    except Stopped:
        print("stopping", flush=True)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # everything is on its way out
        end(brokers)
        end(servers)


def end(parts: Sequence[Part]) -> None:
    """Stop some processes, all at once."""
    for part in parts:
        if part.process is not None and part.is_running:
            part.process.send_signal(signal.SIGTERM)
    for part in parts:
        part.stop()


def require_zookeeper() -> None:
    """Raise ``Failed`` with how to install what is missing."""
    if shutil.which("java") is None or not (JARS / CLASS_PATH[0]).exists():
        raise Failed(f"Java or Apache ZooKeeper is not installed. On Debian: {HOW_TO_INSTALL}")


def serves(port: int) -> bool:
    """Whether a ZooKeeper server has found its place in the ensemble."""
    import socket

    try:
        with socket.create_connection(("127.0.0.1", port), 2.0) as sock:
            sock.sendall(b"srvr")
            answer = b""
            while data := sock.recv(65536):
                answer += data
    except OSError:
        return False
    return b"Mode: " in answer


def wait_for(part: Part, condition: Callable[[], bool]) -> None:
    """Return once a process is ready. Raises ``Failed`` if it ends or takes too long."""
    deadline = time.monotonic() + READY_S
    while not condition():
        if not part.is_running or time.monotonic() > deadline:
            raise Failed(f"{part.name} does not come up; {part.output} says:\n{part.printed()}")
        time.sleep(LOOK_S)


def say(home: Path, ports: Ports, parts: Sequence[Part]) -> None:
    """Where everything is."""
    bootstrap = ",".join(f"127.0.0.1:{port}" for port in ports.brokers)
    servers = ",".join(f"127.0.0.1:{port}" for port in ports.clients)
    print(f"brokers    {bootstrap}")
    print(f"ZooKeeper  {servers}")
    for part in parts:
        assert part.process is not None
        print(f"           {part.name}: process {part.process.pid}, log in {part.output}")
    print(f"data       {home}")
    print(f"\n  export OTTLA_BOOTSTRAP={bootstrap}")
    print("  ottla cluster status --watch")
    print(
        "\nCtrl-C stops all of it. Kill one of the processes to see what the others do.", flush=True
    )


def watch(parts: Sequence[Part]) -> None:
    """Tell of processes that end, until stopped."""
    while True:
        for part in parts:
            if not part.is_running and not part.missed:
                part.missed = True
                assert part.process is not None
                print(
                    f"{part.name} has ended ({part.process.returncode}); to start it again:\n"
                    f"  {shlex.join(part.command)}",
                    flush=True,
                )
        time.sleep(LOOK_S)


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.cluster", description=__doc__)
    parser.add_argument("--data", default="./data-cluster", help="directory for everything")
    parser.add_argument(
        "--ports",
        help="12 ports in place of the usual ones, separated by commas: the brokers', then the"
        " ZooKeeper servers' for clients, for each other, and for elections",
    )
    arguments = parser.parse_args()
    ports = Ports()
    if arguments.ports:
        numbers = [int(port) for port in arguments.ports.split(",")]
        ports = Ports(*(numbers[start : start + COUNT] for start in range(0, 4 * COUNT, COUNT)))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        run(Path(arguments.data), ports)
    except Failed as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

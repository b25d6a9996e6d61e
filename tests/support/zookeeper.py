"""A real Apache ZooKeeper for tests: one server or an ensemble, on ports and in a directory of its own.

Rules: the servers come from Debian's package ``zookeeper``. Who lacks it or Java skips with that reason, or fails
where ``OTTLA_TEST_REQUIRE_ALL=1`` says that nothing may be left out. Every method that starts or stops something
returns once that is seen to hold. A server that is killed, stopped or paused keeps its ports and its data.

    with Ensemble(3) as ensemble:
        ensemble.connect            # "127.0.0.1:20011,127.0.0.1:20014,127.0.0.1:20017"
        ensemble.fresh_chroot()     # the same with "/test-..." behind it: an empty ZooKeeper for a test
        ensemble.leader().kill()
        ensemble.wait_for_leader()
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support.ports import HeldPorts
from tests.support.waiting import eventually

TICK_MS = 500
"""ZooKeeper's unit of time. Sessions expire at its multiples; the shortest that is granted is ``2 * TICK_MS``."""
SESSION_TIMEOUT_MAX_MS = 60_000
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
ASK_TIMEOUT_S = 2.0
REQUIRE_ALL = "OTTLA_TEST_REQUIRE_ALL"

# The first names the others that it needs, but one; netty-codec is for TLS.
_JARS = ("zookeeper.jar", "slf4j-simple.jar", "netty-codec.jar")
_JAR_HOME = Path("/usr/share/java")
_OPTIONS = (
    "-Xms16m",
    "-Xmx96m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Xshare:auto",
    "-Dzookeeper.admin.enableServer=false",
    "-Dzookeeper.preAllocSize=1024",  # kB; 64 MB for each log otherwise
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


def what_is_missing() -> str | None:
    """Why no ZooKeeper can be started here; None if one can."""
    if shutil.which("java") is None:
        return "the program java (Debian package default-jdk-headless) is not installed"
    if not (_JAR_HOME / _JARS[0]).exists():
        return "the Debian package zookeeper is not installed"
    return None


def require_zookeeper() -> None:
    """Skip, or fail with ``OTTLA_TEST_REQUIRE_ALL=1``, where no ZooKeeper can be started."""
    reason = what_is_missing()
    if reason is None:
        return
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{reason}, and {REQUIRE_ALL}=1 wants every test")
    pytest.skip(reason)


class Server:
    """One ZooKeeper server; ``port`` is the one for clients."""

    def __init__(
        self, number: int, directory: Path, port: int, options: tuple[str, ...] = ()
    ) -> None:
        self.number = number
        self.port = port
        self.directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._is_paused = False

    @property
    def connect(self) -> str:
        """``host:port`` of this server alone."""
        return f"127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether there is a process (a paused one counts)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process; only while it is running."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start the process, and don't wait for it to serve."""
        assert not self.is_running
        with (self.directory / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *("java", *_OPTIONS, *self._options),
                    *("-cp", ":".join(str(_JAR_HOME / jar) for jar in _JARS)),
                    *(_MAIN, str(self.directory / "zoo.cfg")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._is_paused = False

    def start(self) -> None:
        """Start and wait until it serves; in an ensemble that takes a quorum."""
        self.launch()
        self.wait_until_serving()

    def wait_until_serving(self) -> None:
        """Return once it knows its role."""
        try:
            eventually(self._serves, f"ZooKeeper server {self.number} serves", START_TIMEOUT_S)
        except (AssertionError, ChildProcessError) as error:
            raise RuntimeError(f"ZooKeeper did not start:\n{self.log()}") from error

    def stop(self) -> None:
        """SIGTERM: what a service manager does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: its connections stay open and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        self._is_paused = True

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self._is_paused = False

    def restart(self) -> None:
        """Stop it if it is running, and start it on the same data."""
        if self.is_running:
            self.stop()
        self.start()

    def role(self) -> str | None:
        """``standalone``, ``leader``, ``follower``; None while it serves nobody."""
        if not self.is_running or self._is_paused:
            return None
        for line in self.ask("srvr").splitlines():
            name, _, value = line.partition(": ")
            if name == "Mode":
                return value
        return None

    def ask(self, word: str) -> str:
        """The answer to one of ZooKeeper's four-letter words; empty if there is none."""
        try:
            address = ("127.0.0.1", self.port)
            with socket.create_connection(address, ASK_TIMEOUT_S) as sock:
                sock.sendall(word.encode())
                answer = bytearray()
                while data := sock.recv(65536):
                    answer += data
        except OSError:
            return ""
        return answer.decode("utf-8", "replace")

    def log(self) -> str:
        """What it has printed so far."""
        path = self.directory / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _serves(self) -> bool:
        if not self.is_running:
            raise ChildProcessError("the process has ended")
        return self.role() is not None

    def _end(self, number: signal.Signals) -> None:
        if not self.is_running:
            return
        assert self._process is not None
        if self._is_paused and number is not signal.SIGKILL:
            self.resume()
        self._process.send_signal(number)
        self._process.wait(STOP_TIMEOUT_S)
        self._is_paused = False


class Ensemble:
    """``count`` servers (1: a standalone one) that run as long as the context.

    ``settings`` are lines of ``zoo.cfg`` beside ours; ``options`` go to Java. Log writes are not forced to the disk
    unless ``forces_sync``: a killed process loses nothing by that, only a machine would.
    """

    _chroots = itertools.count()

    def __init__(
        self,
        count: int = 1,
        *,
        tick_ms: int = TICK_MS,
        settings: Mapping[str, object] | None = None,
        options: tuple[str, ...] = (),
        forces_sync: bool = False,
    ) -> None:
        self._count = count
        self._settings: dict[str, object] = {
            "tickTime": tick_ms,
            "initLimit": 20,
            "syncLimit": 6,
            "minSessionTimeout": 2 * tick_ms,
            "maxSessionTimeout": SESSION_TIMEOUT_MAX_MS,
            "maxClientCnxns": 0,
            "4lw.commands.whitelist": "*",
            "clientPortAddress": "127.0.0.1",
            **(settings or {}),
        }
        self._options = (*options, f"-Dzookeeper.forceSync={'yes' if forces_sync else 'no'}")
        self._held: HeldPorts | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self.servers: list[Server] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start all servers; ``__enter__`` does it."""
        self._directory = tempfile.TemporaryDirectory(prefix="ottla-zookeeper-")
        try:
            self._lay_out(Path(self._directory.name))
            for server in self.servers:
                server.launch()
            for server in self.servers:
                server.wait_until_serving()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kill whatever runs and remove its data; ``__exit__`` does it."""
        for server in self.servers:
            with contextlib.suppress(ProcessLookupError):
                server.kill()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None
        if self._held is not None:
            self._held.release()
            self._held = None

    @property
    def connect(self) -> str:
        """What a client is given: all servers, no chroot."""
        return ",".join(server.connect for server in self.servers)

    def fresh_chroot(self) -> str:
        """``connect`` with a path behind it that nobody has used."""
        return f"{self.connect}/test-{os.getpid()}-{next(self._chroots)}"

    def leader(self) -> Server:
        """Who leads (the standalone server leads itself); waits until somebody does."""
        found: list[Server] = []

        def look() -> bool:
            found[:] = [s for s in self.servers if s.role() in ("leader", "standalone")]
            return len(found) == 1

        eventually(look, "one server leads the ensemble")
        return found[0]

    def followers(self) -> list[Server]:
        """Who follows now."""
        return [server for server in self.servers if server.role() == "follower"]

    def wait_for_leader(self) -> Server:
        """Return once there is a leader and every running server that isn't paused serves."""
        leader = self.leader()
        for server in self.servers:
            if server.is_running and not server._is_paused:
                server.wait_until_serving()
        return leader

    def _lay_out(self, directory: Path) -> None:
        self._held = HeldPorts(self._count * 3)
        ports = self._held.ports
        members = {
            f"server.{number}": f"127.0.0.1:{ports[number * 3 - 2]}:{ports[number * 3 - 1]}"
            for number in range(1, self._count + 1)
        }
        self.servers = []
        for number in range(1, self._count + 1):
            home = directory / f"zookeeper-{number}"
            home.mkdir()
            port = ports[number * 3 - 3]
            lines: dict[str, object] = {**self._settings, "dataDir": home, "clientPort": port}
            if self._count > 1:
                lines |= {"standaloneEnabled": "false", **members}
                (home / "myid").write_text(f"{number}\n")
            (home / "zoo.cfg").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
            self.servers.append(Server(number, home, port, self._options))


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[Ensemble]:
    """One standalone server for all tests of this process. Import it in a ``conftest.py``; leave it running."""
    require_zookeeper()
    with Ensemble(1) as ensemble:
        yield ensemble


@pytest.fixture(scope="module")
def ensemble() -> Iterator[Ensemble]:
    """Three servers for the tests of a module, which may do what they want to them and leave them running."""
    require_zookeeper()
    with Ensemble(3) as servers:
        yield servers

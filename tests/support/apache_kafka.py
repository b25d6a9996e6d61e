"""One node of Apache Kafka, broker and controller in one, on free ports in a directory of its own.

``python -m tests.support.apache_kafka COMMAND...`` runs a command with ``OTTLA_TEST_BOOTSTRAP`` naming such a node,
so that tests of ours run against it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.java import MissingTool, java
from tests.support.waiting import wait_until
from tests.support.wire import Wire

BOOTSTRAP = "OTTLA_TEST_BOOTSTRAP"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"

# What the tests need of a broker (tests/interop/README.md), and what makes a single small node.
SETTINGS: dict[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "true",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "100",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "num.partitions": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
}


class Node:
    """A node that runs as long as the context; ``settings`` are added to ours."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._settings = {**SETTINGS, **(settings or {})}
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def bootstrap(self) -> str:
        """``host:port`` for a client's bootstrap servers."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="ottla-apache-kafka-")
        try:
            self._start(Path(self._directory.name))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self, directory: Path) -> None:
        self.port, controller_port = free_ports(2)
        listener = f"PLAINTEXT://{self.bootstrap}"
        settings = {
            **self._settings,
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": f"{listener},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": listener,
            "log.dirs": str(directory / "logs"),
        }
        properties = directory / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        log = directory / "node.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                java("KafkaNode", CLUSTER_ID, str(properties)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(self._answers, START_TIMEOUT_S)
        except (AssertionError, ChildProcessError) as error:
            raise RuntimeError(f"Apache Kafka did not start:\n{log.read_text()}") from error

    def _answers(self) -> bool:
        """Whether it lists itself as a broker that is not fenced."""
        from ottla.messages.metadata import MetadataRequest

        assert self._process is not None
        if self._process.poll() is not None:
            raise ChildProcessError(f"exit code {self._process.returncode}")
        try:
            with Wire(self.bootstrap) as wire:
                return bool(wire.ask(MetadataRequest(topics=[]), 9).brokers)
        except OSError:
            return False

    def _stop(self) -> None:
        try:
            if self._process is not None:
                # Nobody needs what it has: there is nothing to leave in order.
                self._process.kill()
                self._process.wait(STOP_TIMEOUT_S)
                self._process = None
        finally:
            if self._directory is not None:
                self._directory.cleanup()
                self._directory = None


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that are free now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def main(command: list[str]) -> int:
    """Run a command beside a node; returns its exit code."""
    if not command:
        print("what is to be run against Apache Kafka?", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the node ends with us
    try:
        with Node() as node:
            environment = {**os.environ, BOOTSTRAP: node.bootstrap}
            return subprocess.run(command, env=environment, check=False).returncode
    except MissingTool as missing:
        print(missing, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A real broker in this process, on a free port, for tests.

It runs on an event loop of its own in a thread, so that blocking clients and asyncio clients alike can use
it. Rule: leaving the context stops it cleanly and leaves no thread, no socket and, unless the caller gave
the directory, no file behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ottla.testing.loop_thread import LoopThread, UntilStopped

if TYPE_CHECKING:
    from ottla.broker.broker import Broker as Server

START_TIMEOUT_S = 30.0


class Broker:
    """A broker for a test::

        with Broker() as broker:
            producer = Producer(broker.bootstrap)

    ``settings`` are Kafka's names (``{"num.partitions": 3}``). ``data`` keeps the log in a directory of
    yours, so that a second broker can take it up; else it is a temporary one. Durability is ``os`` unless
    set otherwise: a test has no use for waiting for the disk.
    """

    def __init__(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        data: str | Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._settings = dict(settings or {})
        self._data = Path(data) if data is not None else None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._host = host
        self._port = port
        self._thread = LoopThread("ottla-broker", self._serve, start_timeout_s=START_TIMEOUT_S)
        self.server: Server | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port`` for a client's bootstrap servers."""
        return f"{self._host}:{self._port}"

    @property
    def host(self) -> str:
        """Where it listens."""
        return self._host

    @property
    def port(self) -> int:
        """The port that it listens on, once it is started."""
        return self._port

    @property
    def data(self) -> Path:
        """Its data directory."""
        assert self._data is not None, "the broker is not started"
        return self._data

    def start(self) -> Broker:
        """Start it and wait until it takes connections. Raises what the start raised."""
        if self._data is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="ottla-")
            self._data = Path(self._temporary.name)
        try:
            self._thread.start()
        finally:
            if not self._thread.is_there:
                self._remove_temporary()
        return self

    def stop(self) -> None:
        """Stop it cleanly and wait for that; a second call does nothing."""
        try:
            self._thread.stop()
        finally:
            self._remove_temporary()

    def restart(self) -> None:
        """Stop it and start it again on the same port with the same data."""
        kept, self._temporary = self._temporary, None
        try:
            self.stop()
        finally:
            self._temporary = kept
        self.start()

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None
            self._data = None

    async def _serve(self, until_stopped: UntilStopped) -> None:
        from ottla.broker.broker import Broker as Server
        from ottla.settings.broker_config import BrokerConfig

        config = BrokerConfig.of(
            {
                "durability": "os",
                "listeners": f"PLAINTEXT://{self._host}:{self._port}",
                "log.dirs": str(self._data),
                **self._settings,
            }
        )
        self.server = Server(config)
        try:
            await self.server.start()
            self._port = self.server.address[1]
            await until_stopped()
        finally:
            await self.server.stop()

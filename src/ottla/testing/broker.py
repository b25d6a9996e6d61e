"""A real broker in this process, on a free port, for tests.

It runs on an event loop of its own in a thread, so that blocking clients and asyncio clients alike can use
it. Rule: leaving the context stops it cleanly and leaves no thread, no socket and, unless the caller gave
the directory, no file behind.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

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
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._started = threading.Event()
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
        self._started.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="ottla-broker", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise TimeoutError(f"the broker did not start within {START_TIMEOUT_S} s")
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            self._remove_temporary()
            raise self._failure
        return self

    def stop(self) -> None:
        """Stop it cleanly and wait for that; a second call does nothing."""
        try:
            if self._thread is not None and self._loop is not None and self._stop is not None:
                if self._thread.is_alive():
                    self._loop.call_soon_threadsafe(self._stop.set)
                self._thread.join()
                self._thread = None
                if self._failure is not None:
                    raise self._failure
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

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        from ottla.broker.broker import Broker as Server
        from ottla.settings.broker_config import BrokerConfig

        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
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
            self._started.set()
            await self._stop.wait()
        finally:
            await self.server.stop()

"""The HTTP port: ``/ready`` and ``/metrics``, for machines that watch the broker. Off unless ``http.listener`` is set.

``/ready`` is 200 while the broker answers requests, and 503 with the reasons while it starts or stops or a log
directory is offline. It has no authentication: it tells names of topics and groups, and no records.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.broker.exposition import CONTENT_TYPE
from ottla.broker.listening import let_go
from ottla.logs import logger
from ottla.network.http import HttpServer, Reply
from ottla.network.meter import RequestMeter
from ottla.settings.listeners import format_address

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from ottla.broker.broker import Broker
    from ottla.network.server import Listener

log = logger(__name__)

LISTENER = "HTTP"


async def observe(broker: Broker, exits: AsyncExitStack) -> Observation:
    """Open the broker's HTTP port, and have its requests counted; ``exits`` ends it. Raises ``OSError``."""
    assert broker.config.http_endpoint is not None
    host, port = broker.config.http_endpoint
    listener = await broker.server.bind(host or None, port, name=LISTENER)
    exits.callback(let_go, [listener])
    observation = Observation(broker, listener)
    exits.push_async_callback(observation.stop)
    await observation.start()
    broker.server.meter = RequestMeter()
    log.info("/ready and /metrics are answered", address=format_address(*observation.address))
    return observation


class Observation:
    """The HTTP side of one broker."""

    def __init__(self, broker: Broker, listener: Listener) -> None:
        self._broker = broker
        self._listener = listener
        self._http = HttpServer(self._answer)
        self._collecting: asyncio.Task[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it really listens."""
        return self._listener.host or "0.0.0.0", self._listener.port

    async def start(self) -> None:
        """Answer from here on, while the broker still starts. Raises ``OSError``."""
        await self._http.serve(self._listener.sockets)

    async def stop(self) -> None:
        """Answer nobody any more."""
        await self._http.stop()
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.gather(self._collecting, return_exceptions=True)

    async def _answer(self, path: str) -> Reply | None:
        if path == "/ready":
            return self._ready()
        if path == "/metrics":
            return Reply(200, CONTENT_TYPE, await self._metrics())
        return None

    def _ready(self) -> Reply:
        import json

        reasons = self._why_not_ready()
        body: dict[str, object] = {"ready": not reasons, "node": self._broker.node_id}
        if reasons:
            body["reasons"] = reasons
        text = json.dumps(body) + "\n"
        return Reply(503 if reasons else 200, "application/json", text.encode())

    def _why_not_ready(self) -> list[str]:
        broker = self._broker
        if broker.is_stopping:
            return ["the broker is stopping"]
        if not broker.is_ready:
            return ["the broker is starting"]
        return [
            f"log directory {directory.path} is offline"
            for directory in broker.directories.all
            if directory.offline is not None
        ]

    async def _metrics(self) -> bytes:
        """One taking of the metrics serves all who ask meanwhile."""
        from ottla.broker.metrics import collect

        task = self._collecting
        if task is None or task.done():
            task = self._collecting = asyncio.create_task(collect(self._broker))
        return await asyncio.shield(task)

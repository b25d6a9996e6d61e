"""/ready is 200 exactly while the broker answers requests."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ottla.broker.broker import Broker as Server
from ottla.log.directory import LogDirectory
from ottla.log.disk import Disk
from ottla.settings.broker_config import BrokerConfig
from ottla.testing import Broker
from tests.support.http import get
from tests.support.requests import create_topic, produce
from tests.support.wire import Wire, batch

HTTP = {"http.listener": "127.0.0.1:0"}


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds; the test's deadline bounds it."""
    while not condition():
        await _turn()


async def _turn() -> None:
    await asyncio.sleep(0)


def ready(address: tuple[str, int]) -> tuple[int, Any]:
    answer = get(address, "/ready")
    assert answer.content_type == "application/json"
    return answer.status, json.loads(answer.text)


def test_ready_is_503_while_the_broker_starts_and_stops_and_200_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading and closing are held up in their threads meanwhile."""
    may_load, may_close = threading.Event(), threading.Event()
    for name, event in (("load", may_load), ("close", may_close)):
        real = getattr(LogDirectory, name)

        def held(*args: Any, _real: Any = real, _event: Any = event, **named: Any) -> Any:
            assert _event.wait(30)
            return _real(*args, **named)

        monkeypatch.setattr(LogDirectory, name, held)

    async def run() -> None:
        settings = {"listeners": "PLAINTEXT://127.0.0.1:0", "log.dirs": str(tmp_path)}
        broker = Server(BrokerConfig.of(settings | HTTP))
        starting = asyncio.create_task(broker.start())
        await until(lambda: broker.observation)
        address = broker.observation.address
        await until((tmp_path / "meta.properties").exists)
        status, body = await asyncio.to_thread(ready, address)
        assert (status, body["reasons"]) == (503, ["the broker is starting"])
        assert (await asyncio.to_thread(get, address, "/metrics")).status == 200
        may_load.set()
        await starting
        assert await asyncio.to_thread(ready, address) == (200, {"ready": True, "node": 1})
        stopping = asyncio.create_task(broker.stop())
        await until(lambda: broker.is_stopping)
        status, body = await asyncio.to_thread(ready, address)
        assert (status, body["reasons"]) == (503, ["the broker is stopping"])
        may_close.set()
        await stopping
        with pytest.raises(ConnectionError):
            await asyncio.to_thread(ready, address)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_ready_names_the_log_directory_that_is_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directories = [str(tmp_path / name) for name in ("a", "b")]
    settings = {"durability": "disk", "log.dirs": ",".join(directories)}
    with Broker(settings | HTTP) as broker, Wire(broker.bootstrap) as wire:
        assert broker.server is not None
        assert broker.server.observation is not None
        address = broker.server.observation.address
        create_topic(wire, "t")

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(Disk, "fdatasync", fail)
        produce(wire, "t", batch(b"lost"))
        monkeypatch.undo()
        status, body = ready(address)
    assert status == 503
    assert body["reasons"][0] in [f"log directory {path} is offline" for path in directories]


def test_a_taken_http_port_is_told_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = {"http.listener": f"127.0.0.1:{port}"}
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already"):
            Broker(settings, data=tmp_path / "data").start()
        assert not (tmp_path / "data").exists()

"""Coming up and going down: what a start that failed, or a stop at any moment, leaves behind."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ottla.broker.broker import Broker as Server
from ottla.broker.store_place import STORE_FILE
from ottla.coordination.sqlite_file import SqliteFile
from ottla.errors import KafkaError
from ottla.log.directory import LogDirectory
from ottla.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.messages.metadata import MetadataRequest
from ottla.settings.broker_config import BrokerConfig
from ottla.testing import Broker
from tests.support.requests import create_topic, fetch, fetch_request, produce
from tests.support.waiting import wait_until
from tests.support.wire import Wire, batch

CLEAN_SHUTDOWN = ".kafka_cleanshutdown"


def server(data: Path, **settings: object) -> Server:
    own = {name.replace("_", "."): value for name, value in settings.items()}
    listeners = {"listeners": "PLAINTEXT://127.0.0.1:0", "log.dirs": str(data), "durability": "os"}
    return Server(BrokerConfig.of({**listeners, **own}))


def nothing(data: Path) -> dict[str, object]:
    return {}


def another_node(data: Path) -> dict[str, object]:
    return {"node_id": 7}


def damaged_store(data: Path) -> dict[str, object]:
    (data / STORE_FILE).write_bytes(b"not a database, whatever the name says" * 100)
    return {}


def damaged_meta_properties(data: Path) -> dict[str, object]:
    (data / "meta.properties").write_text("version=what")
    return {}


@pytest.mark.parametrize("spoil", [another_node, damaged_store, damaged_meta_properties])
def test_a_start_that_fails_leaves_the_directory_to_the_next_one(
    tmp_path: Path, spoil: Callable[[Path], dict[str, object]]
) -> None:
    async def run() -> None:
        first = server(tmp_path)
        await first.start()
        await first.stop()
        sound = {name: (tmp_path / name).read_bytes() for name in (STORE_FILE, "meta.properties")}
        second = server(tmp_path, **spoil(tmp_path))
        with pytest.raises(Exception, match=r".+"):
            await second.start()
        await second.stop()
        for name, content in sound.items():
            (tmp_path / name).write_bytes(content)
        third = server(tmp_path)
        await third.start()
        await third.stop()

    asyncio.run(run())
    assert not [t.name for t in threading.enumerate() if t.name.startswith("ottla")]


def test_a_port_that_is_taken_leaves_the_directory_to_the_next_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = Broker(data=tmp_path, port=port)
        with pytest.raises(OSError, match="cannot listen"):
            broker.start()
        broker.stop()
    with Broker(data=tmp_path) as again, Wire(again.bootstrap) as wire:
        create_topic(wire, "t")


def test_a_broker_for_a_test_that_does_not_start_leaves_no_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    broker = Broker({"log.retention.ms": 0})
    with pytest.raises(Exception, match=r"log\.retention\.ms"):
        broker.start()
    broker.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_is_cancelled_while_logs_load_is_no_clean_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, go_on = threading.Event(), threading.Event()
    order: list[str] = []
    load, close = LogDirectory.load, LogDirectory.close

    def slow_load(self: LogDirectory, *how: Any, **more: Any) -> None:
        loading.set()
        assert go_on.wait(20)
        order.append("loaded")
        raise KafkaError(56, "the recovery was cut short")  # type: ignore[arg-type]

    def told_close(self: LogDirectory, *how: Any, **more: Any) -> None:
        order.append("closed")
        close(self, *how, **more)

    async def run() -> None:
        broker = server(tmp_path)
        starting = asyncio.create_task(broker.start())
        assert await asyncio.to_thread(loading.wait, 20)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        stopping = asyncio.create_task(broker.stop())
        await asyncio.wait((stopping,), timeout=0.05)
        go_on.set()
        await stopping

    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        produce(wire, "t", batch(b"x"))
    assert (tmp_path / CLEAN_SHUTDOWN).exists()
    (tmp_path / CLEAN_SHUTDOWN).unlink()  # as after a crash
    monkeypatch.setattr(LogDirectory, "load", slow_load)
    monkeypatch.setattr(LogDirectory, "close", told_close)
    asyncio.run(run())
    assert order == ["loaded", "closed"]
    assert not (tmp_path / CLEAN_SHUTDOWN).exists()
    monkeypatch.setattr(LogDirectory, "load", load)
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        assert b"x" in bytes(fetch(wire, "t").records)


def test_a_broker_whose_store_failed_stops_and_lets_go_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: SqliteFile, changes: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        monkeypatch.setattr(SqliteFile, "commit", fail)
        topic = CreatableTopic(name="t", num_partitions=1, replication_factor=1)
        request = CreateTopicsRequest(topics=[topic])
        assert wire.ask(request, 7).topics[0].error_code != 0
        monkeypatch.undo()
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        assert wire.ask(MetadataRequest(topics=None), 12).topics == []


def test_what_stands_behind_a_parked_fetch_is_not_waited_for_when_the_broker_stops() -> None:
    broker = Broker()
    broker.start()
    with Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        request = fetch_request("t", 0, max_wait_ms=3_600_000)
        numbers = [wire.send(request, 12) for _ in range(2)]
        server = broker.server
        assert server is not None
        wait_until(lambda: server.parked_fetches)
        broker.stop()
        for number in numbers:
            partition = wire.receive(request, 12, number).responses[0].partitions[0]
            assert partition.error_code == 0
        assert wire.is_hung_up()

"""What only sessions with a real ZooKeeper promise: to outlive connections and servers, and to know their end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from ottla.clock import boottime
from ottla.coordination import zookeeper_requests, zookeeper_watches
from ottla.coordination.store import (
    BadVersion,
    Check,
    ConnectionLoss,
    Create,
    EventType,
    NoNode,
    SessionExpired,
    SessionState,
    Set,
    WatchEvent,
)
from ottla.coordination.zookeeper import ZooKeeper, ZooKeeperStore
from tests.support.port_proxy import PortProxy
from tests.support.zookeeper import Ensemble, Server

T = TypeVar("T")
TIMEOUT_MS = 2_000


@asynccontextmanager
async def sessions(connect: str, timeout_ms: int = TIMEOUT_MS) -> AsyncIterator[ZooKeeper]:
    ensemble = ZooKeeper(connect, session_timeout_ms=timeout_ms)
    try:
        yield ensemble
    finally:
        await ensemble.close()


def behind(proxy: PortProxy, connect: str) -> str:
    """The same store by way of a proxy to its only server."""
    address, _, chroot = connect.partition("/")
    host, _, port = address.partition(":")
    proxy.target = (host, int(port))
    return f"127.0.0.1:{proxy.port}/{chroot}"


async def until(condition: Any) -> None:
    """The test's deadline bounds it."""
    while not condition():  # noqa: ASYNC110 - a condition of any kind
        await asyncio.sleep(0.002)


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, asked for again where it was lost: a late packet of an old connection may move the session."""
    while True:
        try:
            return await ask()
        except ConnectionLoss:
            continue


async def deleted(store: ZooKeeperStore, path: str) -> asyncio.Future[float]:
    """Resolves with the moment at which ``store`` is told that the znode at ``path`` has gone."""
    gone: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    assert await store.exists(path, watch=lambda event: gone.set_result(boottime())) is not None
    return gone


def server_of(store: ZooKeeperStore, ensemble: Ensemble) -> Server:
    """The server that a session is connected to."""
    port = store._link._client._connection._socket.getpeername()[1]
    (server,) = [each for each in ensemble.servers if each.port == port]
    return server


# Connections


async def test_a_lost_connection_keeps_session_watches_and_ephemerals(zookeeper: Ensemble) -> None:
    connect = zookeeper.fresh_chroot()
    with PortProxy() as proxy:
        async with sessions(connect) as direct, sessions(behind(proxy, connect)) as proxied:
            other, mine = await direct.connect(), await proxied.connect()
            states: list[SessionState] = []
            mine.on_state(states.append)
            events: list[WatchEvent] = []
            for path in ("/data", "/gone", "/parent"):
                await mine.create(path)
            await mine.create("/mine", ephemeral=True)
            await mine.get("/data", watch=events.append)
            await mine.get("/gone", watch=events.append)
            await mine.exists("/later", watch=events.append)
            await mine.children("/parent", watch=events.append)
            await mine.get("/mine", watch=events.append)
            proxy.hold()
            asked = asyncio.ensure_future(mine.set("/data", b"lost"))
            await other.set("/data", b"1")
            await other.delete("/gone")
            await other.create("/later")
            await other.create("/parent/child")
            with pytest.raises(ConnectionLoss):
                await asked
            assert mine.state is SessionState.SUSPENDED
            reading = asyncio.create_task(patiently(lambda: mine.get("/data")))
            reading.add_done_callback(
                lambda _: events.append(WatchEvent(EventType.DELETED, "read"))
            )
            assert events == []
            proxy.reset()
            proxy.release()
            assert (await reading).data in (b"1", b"lost")
            await asyncio.sleep(0)
            assert events[-1].path == "read"
            assert {(event.type, event.path) for event in events[:-1]} == {
                (EventType.DATA_CHANGED, "/data"),
                (EventType.DELETED, "/gone"),
                (EventType.CREATED, "/later"),
                (EventType.CHILDREN_CHANGED, "/parent"),
            }
            await patiently(lambda: mine.set("/mine", b"1"))  # its watch was put back and stands
            await patiently(lambda: mine.get("/mine"))
            assert events[-1] == (EventType.DATA_CHANGED, "/mine")
            assert states[:2] == [SessionState.SUSPENDED, SessionState.CONNECTED]
            stat = await other.exists("/mine")
            assert stat is not None
            assert stat.ephemeral_owner == mine.session_id


async def test_thousands_of_watches_are_put_back(
    zookeeper: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zookeeper_watches, "_BYTES_IN_ONE", 1000)
    connect = zookeeper.fresh_chroot()
    with PortProxy() as proxy:
        async with sessions(connect) as direct, sessions(behind(proxy, connect)) as proxied:
            other, mine = await direct.connect(), await proxied.connect()
            paths = [f"/{index}" for index in range(300)]
            await other.multi([Create(path) for path in paths])
            seen: list[str] = []
            await asyncio.gather(
                *(mine.get(path, watch=lambda event: seen.append(event.path)) for path in paths)
            )
            await asyncio.gather(
                *(
                    mine.exists(f"{path}x", watch=lambda event: seen.append(event.path))
                    for path in paths
                )
            )
            proxy.reset()
            await until(lambda: mine.state is SessionState.SUSPENDED)
            await mine.exists("/")
            await other.multi([Set(path, b"1") for path in paths])
            await other.multi([Create(f"{path}x") for path in paths])
            await mine.set("/0", b"2")
            assert sorted(seen) == sorted([*paths, *(f"{path}x" for path in paths)])


async def test_what_is_asked_while_out_of_reach_waits_no_longer_than_a_session_timeout(
    zookeeper: Ensemble,
) -> None:
    with PortProxy() as proxy:
        connect = behind(proxy, zookeeper.fresh_chroot())
        async with sessions(connect) as ensemble:
            store = await ensemble.connect()
            proxy.hold()
            await until(lambda: store.state is SessionState.SUSPENDED)
            asked_at = boottime()
            with pytest.raises(ConnectionLoss):
                await store.get("/")
            assert boottime() >= asked_at + TIMEOUT_MS / 1000 / 2
            proxy.reset()


async def test_no_server_is_a_connection_loss_in_the_time_that_was_given() -> None:
    with PortProxy() as proxy:
        proxy.hold()
        ensemble = ZooKeeper(f"127.0.0.1:{proxy.port}", connection_timeout_ms=300)
        with pytest.raises(ConnectionLoss, match="300 ms"):
            await ensemble.connect()
        await until(lambda: not threads())
        await ensemble.close()


async def test_a_closed_session_leaves_no_thread_and_no_socket(zookeeper: Ensemble) -> None:
    def descriptors() -> set[str]:
        return {f"{each}:{_target(each)}" for each in os.listdir("/proc/self/fd")}

    async with sessions(zookeeper.fresh_chroot()) as ensemble:
        await (await ensemble.connect()).close()  # what is loaded once is loaded now
        before = descriptors()
        for _ in range(3):
            store = await ensemble.connect()
            await store.create("/e", ephemeral=True)
            await store.close()
            await store.close()
        assert {each for each in descriptors() if "socket" in each} <= before
        await until(lambda: not threads())
        last = await ensemble.connect()
        assert await last.exists("/e") is None
        with pytest.raises(SessionExpired):
            await store.get("/")


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if "zookeeper" in each.name]


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""  # the listing's own


async def test_closing_does_not_wait_for_a_server_that_does_not_answer(zookeeper: Ensemble) -> None:
    with PortProxy() as proxy:
        async with sessions(behind(proxy, zookeeper.fresh_chroot()), 60_000) as ensemble:
            store = await ensemble.connect()
            proxy.hold()
            started = boottime()
            await store.close()
            assert boottime() - started < 30  # not the session's minute
            proxy.reset()


# The end of a session


async def test_no_session_outlives_its_word(zookeeper: Ensemble) -> None:
    """``lives_until`` is over before ZooKeeper ends a session that it can't hear, and goes on while it can."""
    connect = zookeeper.fresh_chroot()
    with PortProxy() as proxy:
        async with sessions(connect) as direct, sessions(behind(proxy, connect)) as proxied:
            witness, mine = await direct.connect(), await proxied.connect()
            assert mine.session_timeout_ms == TIMEOUT_MS
            await mine.create("/mine", ephemeral=True)
            gone = await deleted(witness, "/mine")
            first = mine.lives_until
            await until(lambda: mine.lives_until > first + 0.5)
            assert not gone.done()
            proxy.hold()
            gone_at = await gone
            assert mine.lives_until < gone_at
            assert mine.state is SessionState.SUSPENDED
            proxy.reset()
            proxy.release()
            await until(lambda: mine.state is SessionState.EXPIRED)
            with pytest.raises(SessionExpired):
                await mine.create("/never")
            assert await witness.exists("/never") is None
            again = await proxied.connect()
            await again.create("/mine", ephemeral=True)


async def test_timeouts_are_what_the_ensemble_grants(zookeeper: Ensemble) -> None:
    async with sessions(zookeeper.fresh_chroot(), 10) as ensemble:
        ensemble.connection_timeout_ms = 10_000
        store = await ensemble.connect()
        assert store.session_timeout_ms == 1000
        first = store.lives_until
        assert boottime() < first < boottime() + 1
        await until(lambda: store.lives_until > first + 0.5)


# Servers


async def test_a_server_that_is_killed_and_started_again_has_our_session() -> None:
    with Ensemble(1) as servers:
        (server,) = servers.servers
        async with sessions(servers.fresh_chroot(), 6_000) as ensemble:
            store = await ensemble.connect()
            await store.create("/e", b"mine", ephemeral=True)
            server.kill()
            await until(lambda: store.state is SessionState.SUSPENDED)
            reading = asyncio.ensure_future(store.get("/e"))
            await asyncio.to_thread(server.start)
            assert (await reading).data == b"mine"
            assert store.state is SessionState.CONNECTED
            first = store.lives_until
            await until(lambda: store.lives_until > first)


async def test_a_session_outlives_its_server_and_the_ensembles_leader(ensemble: Ensemble) -> None:
    async with sessions(ensemble.fresh_chroot(), 6_000) as connector:
        store, witness = await connector.connect(), await connector.connect()
        await store.create("/e", ephemeral=True)
        await store.create("/counter")
        for turn in ("own server paused", "own server killed", "leader killed", "leader paused"):
            server = server_of(store, ensemble) if "own" in turn else ensemble.leader()
            await asyncio.to_thread(server.pause if "paused" in turn else server.kill)
            data = turn.encode()
            stat = await patiently(lambda data=data: store.set("/counter", data))
            after = boottime()
            await until(lambda moment=after: store.lives_until > moment + 3)
            assert (await store.get("/counter")).data == data
            assert stat.version > 0
            await asyncio.to_thread(server.resume if "paused" in turn else server.start)
            await asyncio.to_thread(ensemble.wait_for_leader)
        found = await witness.exists("/e")
        assert found is not None
        assert found.ephemeral_owner == store.session_id


# Requests


async def test_an_ensemble_without_multi_reads_is_read_one_by_one(
    zookeeper: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zookeeper_requests, "_MULTI_READ", 1022)  # what it has never heard of
    async with sessions(zookeeper.fresh_chroot()) as ensemble:
        store = await ensemble.connect()
        await store.create("/a", b"1")
        for _ in range(2):
            # Who asks for what a server does not know loses the connection (UnimplementedRequestProcessor).
            first, second = await patiently(lambda: store.get_many(["/a", "/missing"]))
            assert first is not None
            assert (first.data, second) == (b"1", None)
        assert not store._can_read_many


async def test_pipelined_multis_are_done_in_order_and_fail_alone(zookeeper: Ensemble) -> None:
    async with sessions(zookeeper.fresh_chroot()) as ensemble:
        store = await ensemble.connect()
        await store.create("/a")
        outcomes = await asyncio.gather(
            *(
                store.multi([Check("/a", turn if turn != 7 else 99), Set("/b", b"%d" % turn)])
                if turn == 7
                else store.multi([Set("/a", b"%d" % turn)])
                for turn in range(200)
            ),
            return_exceptions=True,
        )
        failed = [index for index, each in enumerate(outcomes) if isinstance(each, Exception)]
        assert failed == [7]
        assert isinstance(outcomes[7], BadVersion)
        assert (await store.get("/a")).data == b"199"
        assert await store.multi([]) == []


async def test_a_chroot_is_made_and_hides_what_is_outside(zookeeper: Ensemble) -> None:
    connect = f"{zookeeper.fresh_chroot()}/deeper/still"
    chroot = "/" + connect.partition("/")[2]
    async with sessions(connect) as below, sessions(zookeeper.connect) as above:
        inner, outer = await below.connect(), await above.connect()
        events: list[WatchEvent] = []
        await inner.children("/", watch=events.append)
        created = await inner.create("/seq-", sequential=True)
        assert created.path == "/seq-0000000000"
        await inner.exists("/")
        assert events == [(EventType.CHILDREN_CHANGED, "/")]
        assert await inner.multi([Create("/x"), Create("/x/y")]) == ["/x", "/x/y"]
        assert sorted(await outer.children(chroot)) == ["seq-0000000000", "x"]
        with pytest.raises(NoNode):
            await inner.get(chroot)
        again = await below.connect()  # it is there already
        assert await again.exists("/x/y") is not None


async def test_a_znode_without_data_has_none_as_kafka_makes_them(zookeeper: Ensemble) -> None:
    from kazoo.client import KazooClient

    connect = zookeeper.fresh_chroot()
    async with sessions(connect) as ensemble:
        store = await ensemble.connect()
        await store.create("/a")
        await store.multi([Create("/b")])
        assert (await store.get("/a")).data == b""

        def raw() -> list[bytes | None]:
            client = KazooClient(connect)
            client.start()
            try:
                return [client.get("/a")[0], client.get("/b")[0]]
            finally:
                client.stop()
                client.close()

        assert await asyncio.to_thread(raw) == [None, None]

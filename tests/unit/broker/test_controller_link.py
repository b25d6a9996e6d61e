"""The way to the controller: one attempt for all who wait, no longer than each of them waits, to whoever it is now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.broker import controller_link
from ottla.broker.controller_link import ControllerLink
from ottla.coordination import znodes
from ottla.coordination.bootstrap import initial_layout, register_broker
from ottla.coordination.embedded import EmbeddedStore, Keeper
from ottla.coordination.znodes import BrokerRegistration, ControllerZnode, Endpoint
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse
from ottla.network.channel import Channel
from tests.support.waiting import become

REQUEST = AlterPartitionRequest()


class Line:
    """A channel to a controller."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.closed = False
        self.sent = 0

    async def send(self, request: Any, *, timeout: float) -> AlterPartitionResponse:
        self.sent += 1
        return AlterPartitionResponse()

    def abort(self, reason: str) -> None:
        self.closed = True


class Setting:
    """Brokers 1 and 2, of which the first is the controller, and the link of a third; ``silent`` hosts swallow all."""

    def __init__(self) -> None:
        self.silent: set[str] = set()
        self.called: list[str] = []
        self.lines: list[Line] = []
        self.watches: list[Any] = []
        self.hand: EmbeddedStore
        self.link: ControllerLink
        self.session = SimpleNamespace()

    async def connect(self, host: str, port: int, **options: Any) -> Line:
        self.called.append(host)
        if host in self.silent:
            await asyncio.Event().wait()
        self.lines.append(Line(host))
        return self.lines[-1]

    async def office(self, broker_id: int) -> None:
        """This broker is the controller from now on."""
        if await self.hand.exists(znodes.CONTROLLER) is not None:
            await self.hand.delete(znodes.CONTROLLER)
        await self.hand.create(znodes.CONTROLLER, ControllerZnode(broker_id, 0).encode())

    async def ask(self, timeout_s: float = 3600.0) -> Any:
        return await self.link.send(REQUEST, timeout_s=timeout_s)


def run(play: Callable[[Setting], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        setting = Setting()
        keeper = await Keeper.open(initial=initial_layout("cluster-id-of-the-test"))
        store = setting.session.store = await keeper.connect()
        get = store.get

        async def watched_get(path: str, *, watch: Any = None) -> Any:
            if path == znodes.CONTROLLER:
                setting.watches.append(watch)
            return await get(path, watch=watch)

        monkeypatch.setattr(store, "get", watched_get)
        setting.hand = await keeper.connect()
        for broker_id in (1, 2):
            endpoint = Endpoint("PLAINTEXT", "PLAINTEXT", f"host-{broker_id}", 9092)
            await register_broker(setting.hand, BrokerRegistration(broker_id, (endpoint,)))
        await setting.office(1)
        monkeypatch.setattr(Channel, "connect", setting.connect)
        broker: Any = SimpleNamespace(
            node_id=3,
            session=setting.session,
            controller=SimpleNamespace(is_active=False),
            config=SimpleNamespace(inter_broker_listener="PLAINTEXT"),
        )
        setting.link = ControllerLink(broker)
        setting.session.connect = keeper.connect
        try:
            async with asyncio.timeout(20):
                await play(setting)
        finally:
            setting.link.close()
            await keeper.close()

    monkeypatch.setattr(controller_link, "CONNECT_TIMEOUT_S", 3600.0)
    asyncio.run(main())


async def outcome(asking: Any) -> ErrorCode:
    try:
        await asking
    except KafkaError as error:
        return error.code
    return ErrorCode.NONE


def test_who_asks_waits_no_longer_than_it_said_for_a_controller_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(setting: Setting) -> None:
        setting.silent = {"host-1"}
        assert await outcome(setting.ask(0.01)) is ErrorCode.REQUEST_TIMED_OUT

    run(play, monkeypatch)


def test_those_who_ask_together_share_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who gives up does not end it for the others."""

    async def play(setting: Setting) -> None:
        setting.silent = {"host-1"}
        patient = [asyncio.create_task(setting.ask()) for _ in range(3)]
        assert await outcome(setting.ask(0.01)) is ErrorCode.REQUEST_TIMED_OUT
        assert setting.called == ["host-1"]
        setting.silent.clear()
        await setting.office(2)
        await asyncio.gather(*patient)
        assert setting.called == ["host-1", "host-2"]
        assert [line.sent for line in setting.lines] == [3]

    run(play, monkeypatch)


def test_a_connection_under_way_is_given_up_when_another_controller_is_elected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(setting: Setting) -> None:
        setting.silent = {"host-1"}
        asking = asyncio.create_task(setting.ask())
        await become(lambda: setting.called == ["host-1"])
        znode = ControllerZnode(2, 0).encode()
        await setting.hand.set(znodes.CONTROLLER, znode)
        assert await outcome(asking) is ErrorCode.NONE
        assert [line.host for line in setting.lines] == ["host-2"]

    run(play, monkeypatch)


def test_where_nobody_is_elected_that_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(setting: Setting) -> None:
        setting.silent = {"host-1"}
        asking = asyncio.create_task(setting.ask())
        await become(lambda: setting.called == ["host-1"])
        await setting.hand.delete(znodes.CONTROLLER)
        assert await outcome(asking) is ErrorCode.NOT_CONTROLLER

    run(play, monkeypatch)


def test_attempts_leave_one_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(setting: Setting) -> None:
        for _ in range(5):
            assert await outcome(setting.ask()) is ErrorCode.NONE
            setting.lines[-1].closed = True  # the connection breaks
        assert len(setting.watches) == 5
        assert len(set(setting.watches)) == 1, "a store keeps each of them until one change"

    run(play, monkeypatch)


def test_a_connection_to_a_controller_of_before_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(setting: Setting) -> None:
        await setting.ask()
        await setting.office(2)
        await become(lambda: setting.lines[0].closed)
        await setting.ask()
        assert [line.host for line in setting.lines] == ["host-1", "host-2"]

    run(play, monkeypatch)


def test_by_another_session_the_controller_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The session before it may have missed that there is another one."""

    async def play(setting: Setting) -> None:
        await setting.ask()
        await setting.session.store.close()
        await setting.office(2)
        setting.session.store = await setting.session.connect()
        await setting.ask()
        assert [line.host for line in setting.lines] == ["host-1", "host-2"]
        assert setting.lines[0].closed

    run(play, monkeypatch)


def test_a_link_that_is_closed_tells_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(setting: Setting) -> None:
        setting.silent = {"host-1"}
        asking = asyncio.create_task(setting.ask())
        await become(lambda: setting.called == ["host-1"])
        setting.link.close()
        assert await outcome(asking) is ErrorCode.NOT_CONTROLLER

    run(play, monkeypatch)

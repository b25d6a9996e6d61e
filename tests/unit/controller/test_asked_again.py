"""What the controller is asked for again, and what it missed once: nothing stays stuck by it."""

from __future__ import annotations

import asyncio
from typing import Any

from ottla.coordination import znodes
from ottla.coordination.bootstrap import register_broker
from ottla.coordination.store import NoNode
from ottla.coordination.znodes import BrokerRegistration, Endpoint
from ottla.errors import ErrorCode
from tests.support.waiting import become
from tests.unit.controller.test_isr_changes import orders


class Flaky:
    """A session whose first read of a broker's registration misses it: it went and came in between."""

    def __init__(self, store: Any, path: str) -> None:
        self._store, self._path, self.missed = store, path, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get(self, path: str, **options: Any) -> Any:
        if path == self._path and not self.missed:
            self.missed = True
            raise NoNode(path)
        return await self._store.get(path, **options)


async def test_a_broker_whose_registration_was_missed_once_is_watched_all_the_same(
    cluster: Any,
) -> None:
    """Its ``unclean`` flag is taken back, and the controller has to hear of it: else it joins no ISR."""
    await cluster.start(1, 2)
    controller = await cluster.started(1, store=Flaky(cluster.sessions[1], znodes.broker_path(3)))
    session = await cluster.keeper.connect()
    await register_broker(session, BrokerRegistration(3, (), unclean=True))  # read as missing
    await become(lambda: controller._store.missed)
    await session.close()
    session = await cluster.keeper.connect()
    endpoint = Endpoint("PLAINTEXT", "PLAINTEXT", "host-3", 9092)
    registration = BrokerRegistration(3, (endpoint,), unclean=True)
    await register_broker(session, registration)
    await become(lambda: 3 in controller.state.brokers and controller.state.is_unclean(3))
    await session.set(znodes.broker_path(3), registration._replace(unclean=False).encode())
    await become(lambda: not controller.state.is_unclean(3))


async def test_an_isr_change_asked_for_again_before_its_turn_came_is_a_success(
    cluster: Any,
) -> None:
    """The first answer is lost with its connection; were the second a refusal, the leader would wait for ever."""
    subject = await orders(cluster)
    request = subject.asked([1])
    first, second = await asyncio.gather(
        subject.controller.alter_partition(request), subject.controller.alter_partition(request)
    )
    assert subject.now.isr == (1,)
    for answer in (first, second):
        (partition,) = answer.topics[0].partitions
        assert ErrorCode(partition.error_code) is ErrorCode.NONE
        assert partition.isr == [1]

"""What the controller does about faults of its own: it looks at everything again, later and later, or leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ottla.controller import second_look
from ottla.controller.second_look import SecondLook
from ottla.controller.topics import NewTopic
from ottla.coordination import znodes
from ottla.coordination.store import ConnectionLoss
from ottla.errors import ErrorCode, KafkaError
from tests.support.waiting import become


class Faulty:
    """A step of the controller's that fails the first times."""

    def __init__(self, step: Callable[..., Any], times: float) -> None:
        self._step = step
        self._left = times
        self.calls = 0

    async def __call__(self, *args: Any) -> Any:
        self.calls += 1
        if self._left > 0:
            self._left -= 1
            raise RuntimeError("a fault of ours")
        return await self._step(*args)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_look, "RETRY_S", 0.001)
    monkeypatch.setattr(second_look, "RETRY_S_MAX", 0.1)


async def test_a_change_that_was_not_taken_in_for_a_fault_is_taken_in_later(cluster: Any) -> None:
    """Its event is used up: nobody would tell of it again."""
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", assignments={0: [2, 1]})])
    controller._brokers.take_in = Faulty(controller._brokers.take_in, 1)
    await cluster.keeper.expire(cluster.sessions[2].session_id)
    await become(lambda: cluster.brokers[1].replicas[("orders", 0)][0] == 1)


async def test_a_controller_that_failed_to_take_office_takes_it_later(cluster: Any) -> None:
    await cluster.start(1, 2)
    first = await cluster.started(1)
    second = await cluster.started(2)
    make_good = Faulty(second._taking_office.make_good, 3)
    second._taking_office.make_good = make_good
    await cluster.keeper.expire(cluster.sessions[1].session_id)
    await become(lambda: second.is_active)
    assert make_good.calls == 4
    assert not first.is_active


async def test_a_controller_that_fails_again_and_again_leaves_the_office_to_another(
    cluster: Any,
) -> None:
    await cluster.start(1, 2, 3)
    await cluster.started(1)
    second = await cluster.started(2)
    second._taking_office.make_good = Faulty(second._taking_office.make_good, float("inf"))
    await cluster.keeper.expire(cluster.sessions[1].session_id)
    await become(lambda: second._taking_office.make_good.calls > 0)
    third = await cluster.started(3)
    await become(lambda: third.is_active)
    assert (await cluster.sessions[3].get(znodes.CONTROLLER)).data.find(b'"brokerid":3') > 0
    assert not second.is_active


async def test_who_alone_can_be_the_controller_takes_the_office_up_again(cluster: Any) -> None:
    await cluster.start(1, 2)
    await cluster.started(1)
    second = await cluster.started(2)
    second._taking_office.make_good = Faulty(second._taking_office.make_good, 10)
    await cluster.keeper.expire(cluster.sessions[1].session_id)
    await become(lambda: second.is_active)


async def test_nothing_is_tried_before_the_pause_after_a_fault_is_over(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks: what fails would be tried as often as anybody sends a request."""
    monkeypatch.setattr(second_look, "RETRY_S", 3600.0)
    monkeypatch.setattr(second_look, "RETRY_S_MAX", 7200.0)
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    controller._brokers.take_in = Faulty(controller._brokers.take_in, 1)
    await cluster.keeper.expire(cluster.sessions[2].session_id)
    await become(lambda: controller.state.stale)
    for _ in range(3):
        with pytest.raises(KafkaError) as refusal:
            await controller.create_topics([NewTopic("orders")])
        assert refusal.value.code is ErrorCode.NOT_CONTROLLER
    assert controller.state.stale


async def test_what_a_caller_asked_for_and_failed_halfway_is_looked_at_in_the_store(
    cluster: Any,
) -> None:
    """The topic is in the store, and nobody would lead it."""
    await cluster.start(1)
    controller = await cluster.started(1)
    announce = controller._announcer.announce

    def fail(*args: Any, **options: Any) -> Any:
        controller._announcer.announce = announce
        controller.state.topics.clear()  # as where the fault came before it was noted
        raise RuntimeError("a fault of ours")

    controller._announcer.announce = fail
    with pytest.raises(RuntimeError):
        await controller.create_topics([NewTopic("orders")])
    await become(lambda: ("orders", 0) in cluster.brokers[1].replicas)


async def test_a_store_without_an_answer_is_asked_again_soon_and_a_fault_makes_the_pause_grow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks: list[int] = []
    look = SecondLook(lambda: looks.append(1))
    exhausted: list[bool] = []
    for number in range(9):
        exhausted.append(look.after(RuntimeError("a fault of ours")))
        assert look.holds_back
        await become(lambda number=number: len(looks) > number)  # type: ignore[misc]
        assert not look.holds_back
        assert not look.after(ConnectionLoss("no answer"))
        assert not look.holds_back
        look.cancel()
    pauses = [getattr(record, "fields", {}).get("again_in_s") for record in caplog.records]
    assert pauses == [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.1, 0.1]
    assert exhausted == [False] * 7 + [True] * 2


async def test_faults_that_lie_far_apart_do_not_add_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    look = SecondLook(lambda: None)
    for _ in range(3):
        look.after(RuntimeError("a fault of ours"))
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + second_look.CALM_S + 1)
    look.after(RuntimeError("another one"))
    monkeypatch.undo()
    pauses = [getattr(record, "fields", {}).get("again_in_s") for record in caplog.records]
    assert pauses == [0.001, 0.002, 0.004, 0.001]
    look.cancel()

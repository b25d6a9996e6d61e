"""A controller that dies between any two writes: whoever comes after it reaches the same end.

Each thing that happens is done once without harm, and then with the controller cut off at its first write, at its
second and so on, before and after the write took effect. Another controller takes office; who had asked asks again.
At every write of every run the invariants 15, 16, 27 and 28 hold (``history``), and in the end every broker knows
what the store has (30).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ottla.controller import office
from ottla.coordination import znodes
from ottla.coordination.store import (
    ConnectionLoss,
    Operation,
    OperationResult,
    SessionExpired,
    SessionState,
)
from tests.support.waiting import eventually_true
from tests.unit.controller.conftest import Cluster
from tests.unit.controller.history import History
from tests.unit.controller.telling import Teller


class CutStore:
    """A session that is cut off at its ``cut``-th multi from ``arm`` on, which is applied or lost."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._left: int | None = None
        self._applied = False
        self._ends = True
        self.is_cut = False

    def arm(self, cut: int, *, applied: bool, ends: bool = True) -> None:
        """With ``ends`` the session is cut off for good, else only that answer is lost."""
        self._left, self._applied, self._ends = cut, applied, ends

    @property
    def session_id(self) -> int:
        number: int = self._store.session_id
        return number

    @property
    def state(self) -> SessionState:
        state: SessionState = self._store.state
        return state

    def __getattr__(self, name: str) -> Any:
        return self._lose if self.is_cut and name != "on_state" else getattr(self._store, name)

    async def _lose(self, *arguments: Any, **options: Any) -> Any:
        raise ConnectionLoss("cut off")

    async def multi(self, operations: Sequence[Operation]) -> list[OperationResult]:
        if self.is_cut:
            raise ConnectionLoss("cut off")
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.is_cut = self._ends
                if self._applied:
                    await self._store.multi(operations)
                raise ConnectionLoss("cut off")
        results: list[OperationResult] = await self._store.multi(operations)
        return results


HAPPENINGS = {
    "a broker dies": (
        ["topic t 1,2,3 2,3,1 3,1,2 3,2,1", "topic single 2", "topic last 2,3", "isr last-0 2"],
        ["kill 2"],
    ),
    "a broker comes back": (
        ["topic t 1,2,3 2,3,1 3,1,2", "topic single 2", "topic last 2,3", "isr last-0 2", "kill 2"],
        ["start 2"],
    ),
    "a broker bounces": (["topic t 2,3,1 3,2,1 1,2,3"], ["bounce 2"]),
    "an unclean broker comes back": (
        ["topic t 2,3 3,2", "topic lost 2,3", "isr lost-0 2", "kill 2"],
        ["unclean 2"],
    ),
    "a broker stops": (["topic t 1,2,3 2,3,1 2,1,3", "topic single 2"], ["stopping 2"]),
    "a topic is made": (["topic t 1,2"], ["topic new 1,2,3 2,3,1 3,1,2"]),
    "a topic is deleted": (["topic t 1,2,3 2,3,1", "topic u 1"], ["delete t"]),
    "leaders are elected": (
        ["topic t 2,1 2,3 2,1", "kill 2", "start 2", "isr t-0 1,2", "isr t-1 3,2", "isr t-2 1,2"],
        ["elect preferred"],
    ),
    "an unclean leader is elected": (
        ["topic t 2,1 2,3", "isr t-0 2", "isr t-1 2", "kill 2"],
        ["elect unclean t-0 t-1"],
    ),
    "an ISR shrinks": (["topic t 1,2,3"], ["isr t-0 1,2"]),
    "a reassignment begins": (["topic t 1,2 2,1", "topic u 3"], ["reassign t-0 3,4"]),
    "a reassignment ends": (
        ["topic t 1,2 2,1", "reassign t-0 3,4", "isr t-0 1,2,3"],
        ["isr t-0 1,2,3,4"],
    ),
    "a reassignment is called off": (
        ["topic t 1,2 2,1", "reassign t-0 3,4", "isr t-0 1,2,3"],
        ["reassign t-0"],
    ),
    "a reassignment is replaced": (
        ["topic t 1,2 2,1", "reassign t-0 3,4", "isr t-0 1,2,3"],
        ["reassign t-0 4,2"],
    ),
    "a reassignment is asked for by a znode": (
        ["topic t 1,2 2,1"],
        ["znode reassign t-0=2 t-1=1 u-0=1"],
    ),
    "an election is asked for by a znode": (
        ["topic t 2,1 2,3", "kill 2", "start 2", "isr t-0 1,2", "isr t-1 3,2"],
        ["znode prefer t-0 t-1"],
    ),
}


async def run(name: str, cut: int | None, *, applied: bool) -> tuple[bool, list[str]]:
    """Let it happen; whether the controller was cut off meanwhile, and how things stand in the end."""
    before, happening = HAPPENINGS[name]
    cluster = Cluster()
    try:
        teller = Teller(cluster)
        await teller.do_brokers("4")
        history = History(cluster.keeper, [teller.store.session_id])
        await teller.controller.close()
        await teller.store.delete(znodes.CONTROLLER)
        session = await cluster.keeper.connect()
        store = CutStore(session)
        teller.controller = await cluster.started(1, store=store)
        for line in before:
            await teller.say(line)
        await teller.told()
        if cut is not None:
            store.arm(cut, applied=applied)
        for line in happening:
            await teller.say(line)
        if store.is_cut:
            await cluster.keeper.expire(session.session_id)
            await asyncio.sleep(0)
            teller.controller = await cluster.started(3)
            await teller.settle()
            for line in happening:
                if line.split()[0] not in ("kill", "start", "bounce", "unclean", "znode"):
                    await teller.say(line)
        assert history.multis > 0
        teller.answers.clear()
        return store.is_cut, [told for told in await teller.told() if told[0] not in "1234"]
    finally:
        await cluster.close()


@pytest.mark.parametrize("name", HAPPENINGS)
async def test_successor_reaches_the_same_end_wherever_the_controller_was_cut_off(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(office, "STATES_TOGETHER", 1)
    monkeypatch.setattr("ottla.controller.transitions.REQUEST_BYTES_MAX", 1500)
    _, expected = await run(name, None, applied=False)
    cuts = 0
    for cut in range(1, 40):
        outcomes = [await run(name, cut, applied=applied) for applied in (False, True)]
        if not outcomes[0][0]:
            break
        cuts += 1
        for was_cut, told in outcomes:
            assert was_cut
            if name == "a broker bounces":  # the next controller finds it alive and in sync
                assert _replicas(told) == _replicas(expected)
                assert not any("-1 leads" in line for line in told)
            else:
                assert _ends(told) == _ends(expected), f"cut {cut}"
    assert cuts > 0


def _ends(told: list[str]) -> list[str]:
    """Replicas, leader and ISR of each partition; the epoch is one more for every controller's trouble."""
    return [line.partition(" in epoch")[0] + line.partition(", in sync")[2] for line in told]


def _replicas(told: list[str]) -> list[str]:
    return [line.partition(";")[0] for line in told]


async def test_a_controller_that_cannot_see_the_office_at_its_start_looks_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ottla.controller.second_look.RETRY_S", 0.01)
    await cluster.start(1, 2)
    store = CutStore(cluster.sessions[1])
    store.is_cut = True  # a ZooKeeper without a leader, say
    controller = cluster.controller(1, store)  # type: ignore[arg-type]
    assert not await controller.start()
    store.is_cut = False

    async def elected() -> bool:
        return controller.is_active

    await eventually_true(elected, "it is elected after all")


async def test_a_store_of_this_process_that_fails_at_the_start_fails_the_start(
    cluster: Cluster,
) -> None:
    await cluster.start(1)
    await cluster.sessions[1].close()
    with pytest.raises(SessionExpired):
        await cluster.controller(1).start()

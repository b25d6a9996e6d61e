"""A controller that is cut off at any write is made good by its successor.

Each operation is run with its store dying at the first write, at the second and so on, before or after the
write took effect; then the session expires and another controller takes office.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ottla.controller.configs import ConfigAlteration
from ottla.controller.controller import Controller
from ottla.controller.topics import NewPartitions, NewTopic
from ottla.coordination import znodes
from ottla.coordination.store import ConnectionLoss, Operation, OperationResult
from ottla.coordination.znodes import LeaderAndIsr, TopicAssignment
from ottla.errors import ErrorCode


class DyingStore:
    """A session whose ``death``-th multi, and all that comes after, is answered with ConnectionLoss."""

    def __init__(self, store: Any, death: int, *, applied: bool) -> None:
        self._store = store
        self.writes_left = death
        self._applied = applied
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        if self.dead:
            return self._lose
        return getattr(self._store, name)

    async def _lose(self, *arguments: Any, **options: Any) -> Any:
        raise ConnectionLoss("the session is cut off")

    async def multi(self, operations: Sequence[Operation]) -> list[OperationResult]:
        self.writes_left -= 1
        if self.writes_left > 0:
            results: list[OperationResult] = await self._store.multi(operations)
            return results
        if not self.dead and self._applied:
            await self._store.multi(operations)
        self.dead = True
        raise ConnectionLoss("the session is cut off")


async def check_whole(cluster: Any, controller: Controller) -> None:
    """Every topic in the store is complete and led; what is not a topic's is not there."""
    store = cluster.sessions[2]
    paths = await cluster.paths(store)
    expected: set[str] = set()
    for name in await store.children(znodes.TOPICS):
        topic = TopicAssignment.decode(name, (await store.get(znodes.topic_path(name))).data)
        expected |= {znodes.topic_path(name), znodes.config_path("topics", name)}
        expected.add(znodes.partitions_path(name))
        assert sorted(topic.partitions) == list(range(len(topic.partitions)))
        for index in topic.partitions:
            path = znodes.partition_state_path(name, index)
            expected |= {znodes.partition_path(name, index), path}
            znode = await store.get(path)
            state = LeaderAndIsr.decode(path, znode.data, znode.stat.version)
            assert state.leader == 2
            assert cluster.brokers[2].replicas[(name, index)] == (2, state.leader_epoch)
            assert cluster.brokers[2].topics[name][index] == 2
            assert controller.state is not None
            assert controller.state.topics[name].partitions[index] == state
    assert {path for path in paths if "config_change_" not in path} == expected
    assert len(cluster.brokers[2].replicas) == sum(map(len, cluster.brokers[2].topics.values()))


@pytest.mark.parametrize("applied", [False, True], ids=["lost", "applied"])
@pytest.mark.parametrize("death", range(1, 12))
@pytest.mark.parametrize("operation", ["create", "delete", "grow", "alter"])
async def test_successor_makes_good_what_was_cut_short(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, operation: str, death: int, applied: bool
) -> None:
    monkeypatch.setattr("ottla.controller.transitions.REQUEST_BYTES_MAX", 1500)
    await cluster.start(2)
    setup = await cluster.started(2)
    await setup.create_topics([NewTopic("old", 12, configs={"a": "1"}), NewTopic("bystander")])
    await setup.close()
    await cluster.sessions[2].delete(znodes.CONTROLLER)

    session = await cluster.keeper.connect()
    store = DyingStore(session, death + 1, applied=applied)  # the first write is the election
    controller = cluster.controller(2, store=store)
    await controller.start()
    calls = {
        "create": lambda: controller.create_topics([NewTopic("new", 12), NewTopic("tiny")]),
        "delete": lambda: controller.delete_topics(["old"]),
        "grow": lambda: controller.create_partitions([NewPartitions("old", 20)]),
        "alter": lambda: controller.alter_configs(
            [ConfigAlteration("topics", "old", lambda config: {**config, "b": "2"})]
        ),
    }
    results = await calls[operation]()
    outcome = {result.error for result in results}
    if not store.dead:
        assert outcome == {ErrorCode.NONE}
    else:
        assert outcome & {ErrorCode.REQUEST_TIMED_OUT, ErrorCode.NOT_CONTROLLER}

    await cluster.keeper.expire(session.session_id)
    successor = await cluster.started(2)
    assert successor.is_active
    await check_whole(cluster, successor)
    if operation == "delete":
        assert ("old" in successor.state.topics) == (store.dead and death == 1 and not applied)
    if operation == "alter":
        config = await successor.config("topics", "old")
        assert ("b" in config) == (not store.dead or applied)
    retried = await successor.create_topics([NewTopic("new", 12), NewTopic("fresh")])
    assert retried[1].error is ErrorCode.NONE
    await check_whole(cluster, successor)


@pytest.mark.parametrize("applied", [False, True], ids=["lost", "applied"])
async def test_election_whose_answer_was_lost_is_won_on_the_next_try(
    cluster: Any, applied: bool
) -> None:
    await cluster.start(2)
    store = DyingStore(cluster.sessions[2], 1, applied=applied)
    first = cluster.controller(2, store=store)
    await first.start()
    assert not first.is_active
    await first.close()
    again = await cluster.started(2)
    assert again.is_active
    assert again.state.controller_epoch == 1


async def test_lost_answer_makes_the_controller_read_the_state_again(cluster: Any) -> None:
    await cluster.start(2)
    session = cluster.sessions[2]
    controller = await cluster.started(2)
    original = session.multi

    async def lose_answer(operations: Sequence[Operation]) -> list[OperationResult]:
        await original(operations)
        session.multi = original
        raise ConnectionLoss("the answer is lost")

    session.multi = lose_answer
    (result,) = await controller.create_topics([NewTopic("orders", 2)])
    assert result.error is ErrorCode.REQUEST_TIMED_OUT
    assert cluster.brokers[2].topics == {}
    (again,) = await controller.create_topics([NewTopic("orders", 2)])
    assert again.error is ErrorCode.TOPIC_ALREADY_EXISTS
    assert cluster.brokers[2].topics == {"orders": {0: 2, 1: 2}}


async def test_session_that_ends_mid_work_answers_not_controller(cluster: Any) -> None:
    await cluster.start(2)
    controller = await cluster.started(2)
    calls = asyncio.gather(
        *(controller.create_topics([NewTopic(f"topic-{index}")]) for index in range(5)),
        return_exceptions=True,
    )
    await asyncio.sleep(0)
    await cluster.keeper.expire(cluster.sessions[2].session_id)
    codes = set()
    for outcome in await calls:
        if isinstance(outcome, list):
            codes |= {result.error for result in outcome}
        else:
            codes.add(outcome.code)
    assert codes <= {ErrorCode.NONE, ErrorCode.NOT_CONTROLLER}
    assert ErrorCode.NOT_CONTROLLER in codes
    assert not controller.is_active

"""Reassignments: the arithmetic, and what went wrong with it before."""

from __future__ import annotations

import pytest

from ottla.controller.reassignment import Reassignment, reason_refused
from ottla.coordination import znodes
from tests.unit.controller.conftest import Cluster
from tests.unit.controller.telling import Teller


@pytest.mark.parametrize(
    ("current", "target", "replicas", "adding", "removing"),
    [
        (Reassignment((1, 2, 3)), (4, 5, 6), (4, 5, 6, 1, 2, 3), (4, 5, 6), (1, 2, 3)),
        (Reassignment((1, 2, 3)), (3, 4, 2), (3, 4, 2, 1), (4,), (1,)),
        (Reassignment((1, 2)), (2, 1), (2, 1), (), ()),
        (Reassignment((1, 2)), (1, 2, 3), (1, 2, 3), (3,), ()),
        # one under way: it starts from where that one started
        (Reassignment((4, 1, 2), (4,), (2,)), (5, 1), (5, 1, 2), (5,), (2,)),
        (Reassignment((4, 1, 2), (4,), (2,)), (1, 2), (1, 2), (), ()),
    ],
)
def test_replicas_are_the_targets_and_then_those_that_go(
    current: Reassignment,
    target: tuple[int, ...],
    replicas: tuple[int, ...],
    adding: tuple[int, ...],
    removing: tuple[int, ...],
) -> None:
    plan = current.to(target)
    assert plan == Reassignment(replicas, adding, removing)
    assert plan.target == target
    assert set(plan.origin) == set(current.origin)
    assert plan.is_under_way == bool(adding or removing)


def test_it_is_complete_once_all_of_the_target_are_in_sync() -> None:
    plan = Reassignment((1, 2)).to((3, 2))
    assert not plan.is_complete((1, 2))
    assert plan.is_complete((1, 2, 3))
    assert plan.is_complete((3, 2))


@pytest.mark.parametrize(
    ("target", "word"),
    [((), "Empty"), ((3, 3), "Duplicate"), ((-1,), "Invalid"), ((1, 9), "not alive")],
)
def test_target_that_cannot_be_is_refused(target: tuple[int, ...], word: str) -> None:
    reason = reason_refused(Reassignment((1, 2)), target, {1, 3})
    assert reason is not None
    assert word in reason


def test_replica_that_is_there_already_may_be_dead() -> None:
    assert reason_refused(Reassignment((1, 2)), (2, 3), {1, 3}) is None


async def test_replica_on_a_dead_broker_leaves_the_isr_with_its_partition(
    cluster: Cluster,
) -> None:
    """KAFKA-9672: it stayed there, and no follower could be told apart any more."""
    teller = Teller(cluster)
    await teller.do_brokers("4")
    for line in ("topic t 1,2,3", "reassign t-0 1,3,4", "kill 2", "isr t-0 1,3,4"):
        await teller.say(line)
    (told,) = [line for line in await teller.told() if line.startswith("t-0")]
    assert told.startswith("t-0: on 1,3,4;")
    assert told.endswith("in sync 1,3,4")


async def test_isr_holds_replicas_only_after_a_controller_was_cut_off_in_between(
    cluster: Cluster,
) -> None:
    """The znode of the topic was written, that of the partition not yet: 3 leads, and is no replica."""
    teller = Teller(cluster)
    await teller.do_brokers("3")
    await teller.say("topic t 3,1,2")
    (znode,) = await teller.store.get_many([znodes.topic_path("t")])
    topic = znodes.TopicAssignment.decode("t", znode.data)
    await teller.store.set(znodes.topic_path("t"), topic._replace(partitions={0: (1, 2)}).encode())
    await teller.say("controller 2")
    assert await teller.told() == ["NONE", "t-0: on 1,2; 1 leads in epoch 1, in sync 1,2"]


async def test_topics_of_one_request_are_moved_by_one_write_a_topic(cluster: Cluster) -> None:
    teller = Teller(cluster)
    await teller.do_brokers("3")
    await teller.say("topic t 1 2 3 1 2 3")
    version = (await teller.store.get(znodes.topic_path("t"))).stat.version
    await teller.say("znode reassign t-0=2 t-1=3 t-2=1 t-3=2 t-4=3 t-5=1")
    assert (await teller.store.get(znodes.topic_path("t"))).stat.version == version + 1

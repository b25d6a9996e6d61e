"""Brokers come, go and come back: who leads then, and what everybody is told."""

from __future__ import annotations

import asyncio
from typing import Any

from ottla.controller.topics import NewTopic
from ottla.controller.transitions import FULL
from ottla.coordination import znodes
from ottla.coordination.bootstrap import register_broker
from ottla.coordination.znodes import BrokerRegistration, Endpoint, LeaderAndIsr
from ottla.errors import ErrorCode
from ottla.messages.leader_and_isr import LeaderAndIsrRequest
from ottla.messages.update_metadata import UpdateMetadataRequest
from tests.support.waiting import become, eventually_true

UNCLEAN = {"unclean.leader.election.enable": "true"}


async def three(cluster: Any, **assignments: dict[int, list[int]]) -> Any:
    """Brokers 1 to 3, the controller on the first, and topics placed as told."""
    await cluster.start(1, 2, 3)
    controller = await cluster.started(1)
    for name, assignment in assignments.items():
        configs = UNCLEAN if name.startswith("careless") else {}
        await controller.create_topics([NewTopic(name, assignments=assignment, configs=configs)])
    return controller


async def stored(cluster: Any, topic: str, partition: int = 0) -> LeaderAndIsr:
    path = znodes.partition_state_path(topic, partition)
    znode = await cluster.sessions[1].get(path)
    return LeaderAndIsr.decode(path, znode.data, znode.stat.version)


async def state_becomes(cluster: Any, controller: Any, topic: str, wanted: LeaderAndIsr) -> None:
    """The partition's state is ``wanted``, in the controller's eyes and in the store."""
    await become(
        lambda: controller.state.topics[topic].partitions[0] == wanted,
        lambda: controller.state.topics[topic].partitions[0],
    )
    assert await stored(cluster, topic) == wanted


async def test_dead_leaders_partitions_are_led_by_the_isr_and_the_dead_leave_the_isrs(
    cluster: Any,
) -> None:
    controller = await three(cluster, led={0: [3, 1, 2]}, followed={0: [1, 2, 3]}, other={0: [2]})
    for broker in cluster.brokers.values():
        broker.requests.clear()
    await cluster.sessions[3].close()
    await state_becomes(cluster, controller, "led", LeaderAndIsr(1, (1, 2), 1, 1, 1))
    await state_becomes(cluster, controller, "followed", LeaderAndIsr(1, (1, 2), 1, 1, 1))
    assert await stored(cluster, "other") == LeaderAndIsr(2, (2,), 0, 1, 0)
    for broker_id in (1, 2):
        broker = cluster.brokers[broker_id]
        await become(lambda broker=broker: broker.live_brokers == [1, 2])
        await become(lambda broker=broker: broker.replicas[("followed", 0)] == (1, 1))
        assert broker.replicas[("led", 0)] == (1, 1)
        assert broker.topics["led"] == {0: 1}
    assert cluster.brokers[3].requests == []


async def test_partition_without_a_live_member_of_the_isr_has_no_leader_until_one_is_back(
    cluster: Any,
) -> None:
    controller = await three(cluster, orders={0: [3, 2]})
    path = znodes.partition_state_path("orders", 0)
    await cluster.sessions[1].set(path, LeaderAndIsr(3, (3,), 0, 1).encode())
    await cluster.sessions[3].close()
    await state_becomes(cluster, controller, "orders", LeaderAndIsr(-1, (3,), 1, 1, 2))
    await become(lambda: cluster.brokers[2].topics["orders"] == {0: -1})
    cluster.brokers[3].requests.clear()
    await cluster.add_broker(3)
    await state_becomes(cluster, controller, "orders", LeaderAndIsr(3, (3,), 2, 1, 3))
    await become(lambda: cluster.brokers[3].replicas[("orders", 0)] == (3, 2))
    await become(lambda: cluster.brokers[2].topics["orders"] == {0: 3})


async def test_all_of_an_isr_that_die_at_once_may_lead_again_whoever_comes_first(
    cluster: Any,
) -> None:
    controller = await three(cluster, orders={0: [3, 2]})
    await cluster.keeper.expire(cluster.sessions[3].session_id)
    await cluster.keeper.expire(cluster.sessions[2].session_id)
    await become(lambda: controller.state.topics["orders"].partitions[0].leader == -1)
    last = controller.state.topics["orders"].partitions[0].isr
    await cluster.add_broker(last[-1])
    await become(lambda: controller.state.topics["orders"].partitions[0].leader == last[-1])


async def test_unclean_leader_is_elected_only_where_the_topic_allows_it(cluster: Any) -> None:
    controller = await three(cluster, careful={0: [3, 2]}, careless={0: [3, 2]})
    for topic in ("careful", "careless"):
        path = znodes.partition_state_path(topic, 0)
        await cluster.sessions[1].set(path, LeaderAndIsr(3, (3,), 0, 1).encode())
    await cluster.sessions[3].close()
    await state_becomes(cluster, controller, "careful", LeaderAndIsr(-1, (3,), 1, 1, 2))
    await state_becomes(
        cluster, controller, "careless", LeaderAndIsr(2, (2,), 1, 1, 2, leader_recovery_state=1)
    )


async def test_broker_that_comes_learns_of_all_its_replicas_and_all_that_there_is(
    cluster: Any,
) -> None:
    controller = await three(cluster, orders={0: [1, 2, 3], 1: [2, 1, 3]}, other={0: [2]})
    await cluster.sessions[3].close()
    await become(lambda: 3 not in controller.state.brokers)
    for broker in cluster.brokers.values():
        broker.requests.clear()
        broker.topics.clear()
    epoch = await cluster.add_broker(3)
    newcomer = cluster.brokers[3]
    await become(lambda: len(newcomer.requests) >= 2)
    first, second = newcomer.requests[:2]
    assert isinstance(first, LeaderAndIsrRequest)
    assert (first.type, first.broker_epoch) == (FULL, epoch)
    assert {
        (topic.topic_name, state.partition_index, state.leader)
        for topic in first.topic_states
        for state in topic.partition_states
    } == {("orders", 0, 1), ("orders", 1, 2)}
    assert sorted(live.broker_id for live in first.live_leaders) == [1, 2]
    assert isinstance(second, UpdateMetadataRequest)
    assert newcomer.topics == {"orders": {0: 1, 1: 2}, "other": {0: 2}}
    assert newcomer.live_brokers == [1, 2, 3]
    await become(lambda: cluster.brokers[1].live_brokers == [1, 2, 3])

    def offline() -> dict[tuple[str, int], list[int]]:
        return {
            (topic.topic_name, state.partition_index): state.offline_replicas
            for request in cluster.brokers[1].requests
            if isinstance(request, UpdateMetadataRequest)
            for topic in request.topic_states
            for state in topic.partition_states
        }

    await become(lambda: offline() == {("orders", 0): [], ("orders", 1): []}, offline)


async def test_broker_without_replicas_is_told_that_it_has_none(cluster: Any) -> None:
    await three(cluster, orders={0: [1]})
    await cluster.add_broker(4)
    await become(lambda: 4 in cluster.brokers and len(cluster.brokers[4].requests) == 2)
    first = cluster.brokers[4].requests[0]
    assert isinstance(first, LeaderAndIsrRequest)
    assert (first.type, first.topic_states) == (FULL, [])


async def test_bounced_broker_was_away_even_if_nobody_saw_it(cluster: Any) -> None:
    controller = await three(cluster, led={0: [3, 1, 2]}, alone={0: [3]})
    await cluster.keeper.expire(cluster.sessions[3].session_id)
    epoch = await cluster.add_broker(3)
    brokers = lambda: controller.state.brokers  # noqa: E731
    await become(lambda: 3 in brokers() and brokers()[3].epoch == epoch)
    await state_becomes(cluster, controller, "led", LeaderAndIsr(1, (1, 2), 1, 1, 1))
    await become(lambda: cluster.brokers[3].replicas[("led", 0)] == (1, 1))
    await become(lambda: controller.state.topics["alone"].partitions[0].leader == 3)


async def test_partition_of_dead_replicas_gets_its_first_leader_when_one_comes(
    cluster: Any,
) -> None:
    controller = await three(cluster)
    await cluster.sessions[3].close()
    await become(lambda: 3 not in controller.state.brokers)
    store = cluster.sessions[1]
    data = znodes.TopicAssignment(bytes(range(16)), {0: (3,)}).encode()
    await store.create(znodes.topic_path("waiting"), data)
    await store.create(znodes.partitions_path("waiting"))
    await cluster.sessions[1].delete(znodes.CONTROLLER)
    await become(lambda: controller.is_active and controller.state.controller_epoch == 2)
    assert controller.state.topics["waiting"].partitions == {}
    cluster.brokers[3].requests.clear()
    await cluster.add_broker(3)
    await become(lambda: cluster.brokers[3].replicas.get(("waiting", 0)) == (3, 0))
    states = cluster.brokers[3].requests[0].topic_states[0].partition_states
    assert [state.is_new for state in states] == [True]
    await become(lambda: cluster.brokers[1].topics.get("waiting") == {0: 3})


async def test_deletion_that_waited_for_a_broker_goes_on_when_it_is_back(cluster: Any) -> None:
    controller = await three(cluster, orders={0: [1, 3]})
    await cluster.sessions[3].close()
    await become(lambda: 3 not in controller.state.brokers)
    (result,) = await controller.delete_topics(["orders"])
    assert result.error is ErrorCode.REQUEST_TIMED_OUT
    assert ("orders", 0) not in cluster.brokers[1].replicas
    assert ("orders", 0) in cluster.brokers[3].replicas
    await cluster.add_broker(3)
    await become(lambda: "orders" not in controller.state.topics)
    assert ("orders", 0) not in cluster.brokers[3].replicas
    assert "/brokers/topics/orders" not in await cluster.paths()


async def test_topic_that_somebody_else_marked_is_deleted(cluster: Any) -> None:
    controller = await three(cluster, orders={0: [1, 3]})
    await cluster.sessions[2].create(znodes.delete_topic_path("orders"))
    await cluster.sessions[2].create(znodes.delete_topic_path("nothing"))
    await become(lambda: "orders" not in controller.state.topics and not controller.state.deleting)
    assert await cluster.sessions[2].children(znodes.DELETE_TOPICS) == []


async def register_unclean(cluster: Any, broker_id: int) -> int:
    """The broker comes back, and says that it may have lost records."""
    session = cluster.sessions[broker_id] = await cluster.keeper.connect()
    endpoint = Endpoint("PLAINTEXT", "PLAINTEXT", f"host-{broker_id}", 9092)
    return await register_broker(session, BrokerRegistration(broker_id, (endpoint,), unclean=True))


async def test_replica_that_may_have_lost_records_is_out_of_the_isr_before_it_is_told_anything(
    cluster: Any,
) -> None:
    """Invariant 20."""
    controller = await three(
        cluster, led={0: [3, 1]}, last={0: [3, 2]}, careless={0: [3, 2]}, alone={0: [3]}
    )
    for topic in ("last", "careless"):
        path = znodes.partition_state_path(topic, 0)
        await cluster.sessions[1].set(path, LeaderAndIsr(3, (3,), 0, 1).encode())
    await cluster.keeper.expire(cluster.sessions[3].session_id)
    cluster.brokers[3].requests.clear()
    await register_unclean(cluster, 3)
    await become(lambda: len(cluster.brokers[3].requests) >= 2)
    told = {
        topic.topic_name: (state.leader, tuple(state.isr))
        for topic in cluster.brokers[3].requests[0].topic_states
        for state in topic.partition_states
    }
    assert told["led"] == (1, (1,))
    assert told["last"] == (-1, ())
    assert told["alone"] == (3, (3,))  # there is no other: invariant 20 lets it lead
    assert controller.state.topics["careless"].partitions[0].leader_recovery_state == 1

    # It is a replica like others once it has said that it knows; yet it can't lead what it lost.
    registration = controller.state.brokers[3].registration._replace(unclean=False)
    await cluster.sessions[3].set(znodes.broker_path(3), registration.encode())
    await become(lambda: not controller.state.is_unclean(3))
    await cluster.add_broker(4)
    await become(lambda: 4 in controller.state.brokers)
    assert controller.state.topics["last"].partitions[0].leader == -1


async def register_short(cluster: Any, broker_id: int, *topics: str) -> None:
    """The broker comes back, and says that its replicas of partition 0 of these lack what it had synced."""
    session = cluster.sessions[broker_id] = await cluster.keeper.connect()
    endpoint = Endpoint("PLAINTEXT", "PLAINTEXT", f"host-{broker_id}", 9092)
    short = frozenset((topic, 0) for topic in topics)
    await register_broker(session, BrokerRegistration(broker_id, (endpoint,), short=short))


async def test_replica_that_lacks_what_was_synced_is_out_of_the_isr_before_it_is_told_anything(
    cluster: Any,
) -> None:
    """Invariant 1. Its broker's other replicas stay in theirs, whose members went with it."""
    controller = await three(
        cluster, short={0: [3, 2]}, whole={0: [3, 2]}, last={0: [3, 2]}, alone={0: [3]}
    )
    path = znodes.partition_state_path("last", 0)
    await cluster.sessions[1].set(path, LeaderAndIsr(3, (3,), 0, 1).encode())
    await controller.close()
    for broker_id in (2, 3):
        await cluster.keeper.expire(cluster.sessions[broker_id].session_id)
    await register_short(cluster, 3, "short", "last", "alone", "deleted long ago")
    await cluster.sessions[1].delete(znodes.CONTROLLER)
    cluster.brokers[3].requests.clear()
    successor = await cluster.started(1)
    found = {name: topic.partitions[0] for name, topic in successor.state.topics.items()}
    assert (found["short"].leader, found["short"].isr) == (-1, (2,))
    assert (found["whole"].leader, found["whole"].isr) == (3, (3,))
    assert (found["last"].leader, found["last"].isr) == (-1, ())
    assert (found["alone"].leader, found["alone"].isr) == (3, (3,))  # there is no other
    await cluster.add_broker(2)
    await become(lambda: successor.state.topics["short"].partitions[0].leader == 2)
    assert successor.state.topics["short"].partitions[0].isr == (2,)


async def test_new_controller_does_not_let_an_unclean_leader_lead_on(cluster: Any) -> None:
    controller = await three(cluster, led={0: [3, 1]}, last={0: [3, 2]})
    await controller.close()
    path = znodes.partition_state_path("last", 0)
    await cluster.sessions[1].set(path, LeaderAndIsr(3, (3,), 0, 1).encode())
    await cluster.keeper.expire(cluster.sessions[3].session_id)
    await register_unclean(cluster, 3)
    await cluster.sessions[1].delete(znodes.CONTROLLER)
    successor = await cluster.started(2)
    assert successor.state.topics["led"].partitions[0].leader == 1
    assert successor.state.topics["led"].partitions[0].isr == (1,)
    assert successor.state.topics["last"].partitions[0].isr == ()


async def test_leader_that_came_back_between_two_controllers_leads_under_another_epoch(
    cluster: Any,
) -> None:
    """Invariant 10: its log may have been cut, and its followers may have more under the same epoch."""
    controller = await three(cluster, led={0: [3, 1]}, alone={0: [3]})
    await controller.close()
    await cluster.keeper.expire(cluster.sessions[3].session_id)
    await cluster.add_broker(3)
    await cluster.sessions[1].delete(znodes.CONTROLLER)
    successor = await cluster.started(2)
    assert successor.state.topics["led"].partitions[0] == LeaderAndIsr(3, (3, 1), 1, 2, 1)
    assert successor.state.topics["alone"].partitions[0] == LeaderAndIsr(3, (3,), 0, 1, 0)


async def test_leader_that_came_back_while_the_controller_had_lost_track_leads_under_another_epoch(
    cluster: Any,
) -> None:
    """Also where the state was written since: by the controller, which had not heard of it, and knew no outcome."""
    controller = await three(cluster, led={0: [3, 1]})
    hindrance = asyncio.Event()
    controller._queue.put(hindrance.wait)
    await cluster.keeper.expire(cluster.sessions[3].session_id)
    await cluster.add_broker(3)
    path = znodes.partition_state_path("led", 0)
    await cluster.sessions[1].set(path, LeaderAndIsr(3, (3, 1), 0, 1).encode())
    controller.state.stale = True
    hindrance.set()
    await become(lambda: not controller.state.stale)
    assert await stored(cluster, "led") == LeaderAndIsr(3, (3, 1), 1, 1, 2)


async def test_altered_registration_is_told_to_everybody(cluster: Any) -> None:
    controller = await three(cluster)
    registration = controller.state.brokers[3].registration
    endpoint = Endpoint("PLAINTEXT", "PLAINTEXT", "elsewhere", 9092)
    altered = registration._replace(endpoints=(endpoint,))
    await cluster.sessions[3].set(znodes.broker_path(3), altered.encode())
    await become(lambda: controller.state.brokers[3].registration == altered)
    await become(
        lambda: any(
            live.endpoints[0].host == "elsewhere"
            for live in cluster.brokers[1].requests[-1].live_brokers
        )
    )


async def test_paused_broker_holds_up_nobody(cluster: Any) -> None:
    controller = await three(cluster, orders={0: [3, 1, 2]})
    cluster.brokers[2].unreachable = True
    await cluster.sessions[3].close()
    await become(lambda: cluster.brokers[1].replicas[("orders", 0)] == (1, 1))
    (result,) = await controller.create_topics([NewTopic("quick", assignments={0: [1]})])
    assert result.error is ErrorCode.NONE
    cluster.brokers[2].unreachable = False
    await become(lambda: cluster.brokers[2].topics.get("quick") == {0: 1})
    assert cluster.brokers[2].replicas[("orders", 0)] == (1, 1)


async def test_replicas_whose_disks_fail_lead_no_more_and_are_in_no_isr(cluster: Any) -> None:
    """KIP-112: a follower's too, of whom its leader would learn only by its falling behind."""
    controller = await three(
        cluster, led={0: [3, 1, 2]}, followed={0: [1, 3, 2]}, alone={0: [3]}, whole={0: [3, 1]}
    )
    broken = cluster.brokers[3]
    broken.offline = {("led", 0), ("followed", 0), ("alone", 0)}
    await cluster.sessions[3].create(
        znodes.LOG_DIR_EVENT_PREFIX, znodes.encode_log_dir_event(3), sequential=True
    )
    await state_becomes(cluster, controller, "led", LeaderAndIsr(1, (1, 2), 1, 1, 1))
    await state_becomes(cluster, controller, "followed", LeaderAndIsr(1, (1, 2), 1, 1, 1))
    await state_becomes(cluster, controller, "alone", LeaderAndIsr(-1, (3,), 1, 1, 1))
    assert await stored(cluster, "whole") == LeaderAndIsr(3, (3, 1), 0, 1, 0)
    await become(lambda: cluster.brokers[2].topics["alone"] == {0: -1})

    async def notices() -> bool:
        return await cluster.sessions[1].children(znodes.LOG_DIR_EVENTS) == []

    await eventually_true(notices, "the notice is taken away")

    # With a new disk, and another life, it may lead again.
    broken.offline = set()
    await cluster.keeper.expire(cluster.sessions[3].session_id)
    await cluster.add_broker(3)
    await become(lambda: controller.state.topics["alone"].partitions[0].leader == 3)


async def test_a_registration_that_fits_into_no_request_is_no_broker(cluster: Any) -> None:
    controller = await three(cluster)
    await register_broker(cluster.sessions[1], BrokerRegistration(99999999999, ()))
    await controller.create_topics([NewTopic("orders", assignments={0: [1]})])
    await become(lambda: cluster.brokers[2].topics.get("orders") == {0: 1})
    assert controller.state.brokers.keys() == {1, 2, 3}

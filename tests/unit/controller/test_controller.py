"""The controller on the embedded store: what it answers, writes and tells the brokers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla import topic_ids
from ottla.controller import controller as controller_module
from ottla.controller.configs import ConfigAlteration, read_config
from ottla.controller.controller import Controller
from ottla.controller.topic_changes import TOPICS_TOGETHER, TopicDefaults
from ottla.controller.topics import NewPartitions, NewTopic, TopicResult
from ottla.coordination import znodes
from ottla.coordination.store import NodeExists
from ottla.coordination.znodes import LeaderAndIsr, ProducerIdBlock, TopicAssignment
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.leader_and_isr import LeaderAndIsrRequest
from ottla.messages.stop_replica import StopReplicaRequest
from ottla.messages.update_metadata import UpdateMetadataRequest

NONE = ErrorCode.NONE


def codes(results: list[TopicResult]) -> list[ErrorCode]:
    return [result.error for result in results]


async def become(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - a condition of any kind, not an event
        await asyncio.sleep(0)


# Office


async def test_first_controller_is_elected_with_epoch_one(cluster: Any) -> None:
    await cluster.start(1)
    controller = cluster.controller(1)
    assert await controller.start() is True
    store = cluster.sessions[1]
    znode = await store.get(znodes.CONTROLLER)
    assert znode.stat.ephemeral_owner == store.session_id
    assert znodes.ControllerZnode.decode(znode.data).broker_id == 1
    assert (await store.get(znodes.CONTROLLER_EPOCH)).data == b"1"
    assert controller.state.controller_epoch == 1


async def test_second_broker_refuses_until_the_first_ones_session_ends(cluster: Any) -> None:
    await cluster.start(1, 2)
    first, second = await cluster.started(1), await cluster.started(2)
    assert (first.is_active, second.is_active) == (True, False)
    with pytest.raises(KafkaError) as raised:
        await second.create_topics([NewTopic("orders")])
    assert raised.value.code is ErrorCode.NOT_CONTROLLER

    await cluster.keeper.expire(cluster.sessions[1].session_id)
    await become(lambda: second.is_active)
    assert second.state.controller_epoch == 2
    with pytest.raises(KafkaError) as raised:
        await first.create_topics([NewTopic("orders")])
    assert raised.value.code is ErrorCode.NOT_CONTROLLER
    assert codes(await second.create_topics([NewTopic("orders")])) == [NONE]


async def test_stale_controller_writes_nothing(cluster: Any) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", 1, 1)])
    before = await cluster.paths()
    # Another has taken office; the news has not reached this one (KAFKA-6082).
    other = cluster.sessions[2]
    await other.set(znodes.CONTROLLER_EPOCH, znodes.encode_controller_epoch(2))

    async def refuse(call: Any) -> None:
        controller._state = state
        with pytest.raises(KafkaError) as raised:
            await call
        assert raised.value.code is ErrorCode.NOT_CONTROLLER
        assert controller.state is not state

    state = controller.state
    alteration = ConfigAlteration("topics", "orders", lambda config: {"retention.ms": "1"})
    await refuse(controller.create_topics([NewTopic("late")]))
    await refuse(controller.create_partitions([NewPartitions("orders", 3)]))
    await refuse(controller.alter_configs([alteration]))
    await refuse(controller.allocate_producer_id_block())
    await refuse(controller.delete_topics(["orders"]))
    assert await cluster.paths() == before
    assert (await other.get(znodes.PRODUCER_ID_BLOCK)).data == b""


async def test_lost_office_is_taken_again_once_it_is_vacant(cluster: Any) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    await cluster.sessions[2].delete(znodes.CONTROLLER)
    await become(lambda: controller.is_active and controller.state.controller_epoch == 2)
    assert codes(await controller.create_topics([NewTopic("orders")])) == [NONE]


async def test_every_request_names_controller_and_broker_epoch(cluster: Any) -> None:
    await cluster.start(1)
    epoch = await cluster.add_broker(2)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", 2, 2)])
    await controller.delete_topics(["orders"])
    requests = cluster.brokers[2].requests
    assert {type(request) for request in requests} == {
        LeaderAndIsrRequest,
        UpdateMetadataRequest,
        StopReplicaRequest,
    }
    for request in requests:
        assert (request.controller_id, request.controller_epoch) == (1, 1)
        assert request.broker_epoch == epoch


async def test_closed_controller_refuses(cluster: Any) -> None:
    await cluster.start(1)
    controller = cluster.controller(1)
    with pytest.raises(KafkaError):
        await controller.create_topics([NewTopic("early")])
    await controller.start()
    waiting = asyncio.ensure_future(controller.create_topics([NewTopic("late")]))
    await asyncio.sleep(0)
    await controller.close()
    with pytest.raises(KafkaError) as raised:
        await waiting
    assert raised.value.code is ErrorCode.NOT_CONTROLLER
    with pytest.raises(KafkaError):
        await controller.create_topics([NewTopic("later")])


# Creation


async def test_created_topic_is_in_the_store_as_kafka_would_have_it(cluster: Any) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    (result,) = await controller.create_topics(
        [NewTopic("orders", 2, 2, configs={"retention.ms": "1000"})]
    )
    assert (result.error, result.num_partitions, result.replication_factor) == (NONE, 2, 2)
    assert result.configs == {"retention.ms": "1000"}
    store = cluster.sessions[2]
    znode = await store.get("/brokers/topics/orders")
    assert TopicAssignment.decode("orders", znode.data) == TopicAssignment(
        result.topic_id, {0: (1, 2), 1: (2, 1)}
    )
    state = await store.get("/brokers/topics/orders/partitions/1/state")
    assert state.data == (
        b'{"controller_epoch":1,"leader":2,"version":1,"leader_epoch":0,"isr":[2,1]}'
    )
    assert state.stat.version == 0
    config = await store.get("/config/topics/orders")
    assert config.data == b'{"version":1,"config":{"retention.ms":"1000"}}'
    assert len({znode.stat.czxid, state.stat.czxid, config.stat.czxid}) == 1  # one multi


async def test_brokers_lead_before_anybody_is_told_of_it(cluster: Any) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    for broker in cluster.brokers.values():
        broker.requests.clear()
    (result,) = await controller.create_topics([NewTopic("orders", 1, 1)])
    first, second = cluster.brokers[1].requests
    assert isinstance(first, LeaderAndIsrRequest)
    assert isinstance(second, UpdateMetadataRequest)
    (topic,) = first.topic_states
    assert (topic.topic_name, topic.topic_id) == ("orders", result.topic_id)
    (partition,) = topic.partition_states
    assert (partition.leader, partition.leader_epoch, partition.partition_epoch) == (1, 0, 0)
    assert (partition.replicas, partition.isr, partition.is_new) == ([1], [1], True)
    assert [(live.broker_id, live.host_name) for live in first.live_leaders] == [(1, "host-1")]
    (told,) = cluster.brokers[2].requests  # no replica there
    assert isinstance(told, UpdateMetadataRequest)
    assert cluster.brokers[2].topics == {"orders": {0: 1}}
    assert cluster.brokers[2].live_brokers == [1, 2]


async def test_many_topics_of_one_request_come_in_several_goes_and_each_has_its_result(
    cluster: Any,
) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    cluster.brokers[1].requests.clear()
    names = [f"t{number}" for number in range(100)]
    names[50] = "t_0.x"
    names[70] = "t.0_x"  # its like is made in an earlier go
    names[80] = names[99] = "twice"
    results = await controller.create_topics([NewTopic(name, 1, 1) for name in names])
    refused = {result.name: result.error for result in results if result.error}
    assert refused == {
        "t.0_x": ErrorCode.INVALID_TOPIC_EXCEPTION,
        "twice": ErrorCode.INVALID_REQUEST,
    }
    assert [result.name for result in results] == names
    made = [
        len(request.topic_states)
        for request in cluster.brokers[1].requests
        if isinstance(request, LeaderAndIsrRequest)
    ]
    assert sum(made) == 97
    assert max(made) <= TOPICS_TOGETHER


async def test_numbers_that_are_not_given_are_the_brokers_defaults(cluster: Any) -> None:
    await cluster.start(1, 2)
    defaults = TopicDefaults(num_partitions=3, replication_factor=2)
    controller = await cluster.started(1, defaults=defaults)
    (result,) = await controller.create_topics([NewTopic("orders")])
    assert (result.num_partitions, result.replication_factor) == (3, 2)


async def test_topics_of_one_request_succeed_and_fail_each_on_its_own(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("there.already")])
    results = await controller.create_topics(
        [
            NewTopic("fine"),
            NewTopic("there.already"),
            NewTopic("there_already"),
            NewTopic("bad name"),
            NewTopic("none", num_partitions=0),
            NewTopic("wide", replication_factor=2),
            NewTopic("settings", configs={"forbidden": "1"}),
            NewTopic("null", configs={"retention.ms": None}),
            NewTopic("both", num_partitions=1, assignments={0: [1]}),
            NewTopic("twice"),
            NewTopic("twice"),
            NewTopic("__cluster_metadata"),
            NewTopic("a.b"),
            NewTopic("a_b"),
        ]
    )
    assert codes(results) == [
        NONE,
        ErrorCode.TOPIC_ALREADY_EXISTS,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.INVALID_PARTITIONS,
        ErrorCode.INVALID_REPLICATION_FACTOR,
        ErrorCode.INVALID_CONFIG,
        ErrorCode.INVALID_CONFIG,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_REQUEST,
        NONE,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
    ]
    assert all(result.message for result in results if result.error is not NONE)
    assert sorted(controller.state.topics) == ["a.b", "fine", "there.already"]


@pytest.mark.parametrize(
    ("assignments", "code"),
    [
        ({0: [1, 2], 1: [2, 3]}, NONE),
        ({0: [3]}, NONE),
        ({1: [1]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({0: [1], 2: [1]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({0: [1], 1: [1, 2]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({0: [1, 1]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({0: []}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ({0: [9]}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
async def test_explicit_assignment_is_taken_or_refused_whole(
    cluster: Any, assignments: dict[int, list[int]], code: ErrorCode
) -> None:
    await cluster.start(1, 2, 3)
    controller = await cluster.started(1)
    (result,) = await controller.create_topics([NewTopic("orders", assignments=assignments)])
    assert result.error is code
    if code is NONE:
        stored = controller.state.topics["orders"].assignment
        assert {key: list(replicas) for key, replicas in stored.items()} == assignments


async def test_validating_only_changes_nothing(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    before = await cluster.paths()
    results = await controller.create_topics(
        [NewTopic("orders", 3), NewTopic("bad name")], validate_only=True
    )
    assert codes(results) == [NONE, ErrorCode.INVALID_TOPIC_EXCEPTION]
    assert results[0].num_partitions == 3
    assert await cluster.paths() == before
    assert cluster.brokers[1].topics == {}


async def test_excessive_requests_are_refused_before_anything_is_planned(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1, defaults=TopicDefaults(partitions_per_request_max=10))
    assert codes(await controller.create_topics([NewTopic("fits", 10)])) == [NONE]
    for wanted in (
        [NewTopic("huge", 2**31 - 1)],
        [NewTopic("a", 6), NewTopic("b", 5)],
        [NewTopic("assigned", assignments={index: [1] for index in range(11)})],
        [NewTopic(f"t{index}", -1) for index in range(11)],
    ):
        results = await controller.create_topics(wanted)
        assert set(codes(results)) == {ErrorCode.POLICY_VIOLATION}
    (result,) = await controller.create_partitions([NewPartitions("fits", 2**31 - 1)])
    assert result.error is ErrorCode.POLICY_VIOLATION


async def test_topic_too_big_for_one_multi_is_created_by_several(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ottla.controller.transitions.REQUEST_BYTES_MAX", 2000)
    await cluster.start(1)
    controller = await cluster.started(1)
    assert codes(await controller.create_topics([NewTopic("orders", 20)])) == [NONE]
    store = cluster.sessions[1]
    assert len(await store.children("/brokers/topics/orders/partitions")) == 20
    assert len(cluster.brokers[1].replicas) == 20
    assert codes(await controller.delete_topics(["orders"])) == [NONE]
    assert await cluster.paths() == set()


async def test_left_over_settings_do_not_stand_in_a_new_topics_way(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    await cluster.sessions[1].create("/config/topics/orders", znodes.encode_config({"a": "1"}))
    await controller.create_topics([NewTopic("orders", configs={"b": "2"})])
    assert await controller.config("topics", "orders") == {"b": "2"}


async def test_topic_that_somebody_else_wrote_is_seen_and_taken_up(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    foreign = TopicAssignment(topic_ids.random_topic_id(), {0: (1,)})
    await cluster.sessions[1].create("/brokers/topics/orders", foreign.encode())
    (result,) = await controller.create_topics([NewTopic("orders")])
    assert result.error is ErrorCode.TOPIC_ALREADY_EXISTS
    await controller.create_topics([NewTopic("next")])
    assert cluster.brokers[1].topics == {"orders": {0: 1}, "next": {0: 1}}


async def test_creators_at_the_same_time_are_told_apart(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    answers = await asyncio.gather(
        *(controller.create_topics([NewTopic("orders")]) for _ in range(5))
    )
    outcomes = [answer[0].error for answer in answers]
    assert outcomes == [NONE] + [ErrorCode.TOPIC_ALREADY_EXISTS] * 4


async def test_caller_that_gives_up_does_not_stop_the_creation(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    impatient = asyncio.ensure_future(controller.create_topics([NewTopic("orders")]))
    await asyncio.sleep(0)
    impatient.cancel()
    (result,) = await controller.create_topics([NewTopic("orders")])
    assert result.error is ErrorCode.TOPIC_ALREADY_EXISTS


async def test_unreachable_broker_does_not_stop_the_others(cluster: Any) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    cluster.brokers[2].unreachable = True
    assert codes(await controller.create_topics([NewTopic("orders", 2, 2)])) == [NONE]
    assert cluster.brokers[1].topics == {"orders": {0: 1, 1: 2}}


# Growth


async def test_added_partitions_are_stored_led_and_announced(cluster: Any) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", 1, 2)])
    assert codes(await controller.create_partitions([NewPartitions("orders", 3)])) == [NONE]
    znode = await cluster.sessions[1].get("/brokers/topics/orders")
    stored = TopicAssignment.decode("orders", znode.data)
    assert stored.partitions == {0: (1, 2), 1: (2, 1), 2: (1, 2)}
    assert stored.topic_id == controller.state.topics["orders"].topic_id
    assert cluster.brokers[2].topics == {"orders": {0: 1, 1: 2, 2: 1}}
    assert codes(await controller.create_partitions([NewPartitions("orders", 4, [[2, 1]])])) == [
        NONE
    ]
    assert controller.state.topics["orders"].assignment[3] == (2, 1)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (NewPartitions("missing", 3), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (NewPartitions("orders", 2), ErrorCode.INVALID_PARTITIONS),
        (NewPartitions("orders", 1), ErrorCode.INVALID_PARTITIONS),
        (NewPartitions("orders", 3, []), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewPartitions("orders", 3, [[1], [2]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewPartitions("orders", 3, [[1, 2]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewPartitions("orders", 3, [[7]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewPartitions("orders", 3, [[]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
async def test_growth_that_cannot_be_is_refused(
    cluster: Any, wanted: NewPartitions, code: ErrorCode
) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", 2, 1)])
    before = await cluster.paths()
    (result,) = await controller.create_partitions([wanted])
    assert result.error is code
    assert await cluster.paths() == before


async def test_growth_may_be_validated_only_and_named_once(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", 2)])
    wanted = [NewPartitions("orders", 3)]
    assert codes(await controller.create_partitions(wanted, validate_only=True)) == [NONE]
    assert len(controller.state.topics["orders"].assignment) == 2
    assert codes(await controller.create_partitions(wanted * 2)) == [ErrorCode.INVALID_REQUEST] * 2


# Deletion


async def test_deleted_topic_is_gone_from_brokers_and_store(cluster: Any) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", 3, 2), NewTopic("kept", 1, 1)])
    before = {path for path in await cluster.paths() if "orders" not in path}
    results = await controller.delete_topics(["orders", "missing"])
    assert codes(results) == [NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert await cluster.paths() == before
    for broker in cluster.brokers.values():
        assert broker.topics == {"kept": {0: 1}}
        assert all(topic == "kept" for topic, _ in broker.replicas)
    assert sorted(controller.state.topics) == ["kept"]


async def test_topic_made_again_has_another_id(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    (first,) = await controller.create_topics([NewTopic("orders")])
    await controller.delete_topics(["orders"])
    (second,) = await controller.create_topics([NewTopic("orders")])
    assert second.error is NONE
    assert first.topic_id != second.topic_id
    assert controller.state.topic_by_id(first.topic_id) is None
    assert controller.state.topic_by_id(second.topic_id).name == "orders"


async def test_deletion_by_id_spares_a_topic_that_was_made_again_meanwhile(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    (first,) = await controller.create_topics([NewTopic("orders", 1, 1)])
    await controller.delete_topics(["orders"])
    (second,) = await controller.create_topics([NewTopic("orders", 1, 1)])
    ids = {"orders": first.topic_id}
    results = await controller.delete_topics(["orders"], ids=ids)
    assert codes(results) == [ErrorCode.UNKNOWN_TOPIC_ID]
    assert controller.state.topics["orders"].topic_id == second.topic_id
    results = await controller.delete_topics(["orders"], ids={"orders": second.topic_id})
    assert codes(results) == [NONE]
    assert codes(await controller.delete_topics(["orders"], ids=ids)) == [
        ErrorCode.UNKNOWN_TOPIC_ID
    ]


async def test_brokers_forget_a_topic_before_they_delete_it(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders")])
    cluster.brokers[1].requests.clear()
    await controller.delete_topics(["orders"])
    update, stop = cluster.brokers[1].requests
    assert update.topic_states[0].partition_states[0].leader == -2
    assert isinstance(stop, StopReplicaRequest)
    assert stop.topic_states[0].partition_states[0].delete_partition is True


async def test_deletion_that_a_broker_refuses_goes_on_later(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", configs={"a": "1"})])
    cluster.brokers[1].refuse_deletions = True
    assert codes(await controller.delete_topics(["orders"])) == [ErrorCode.REQUEST_TIMED_OUT]
    assert (await cluster.sessions[1].exists("/admin/delete_topics/orders")) is not None
    (recreated,) = await controller.create_topics([NewTopic("orders")])
    (grown,) = await controller.create_partitions([NewPartitions("orders", 2)])
    alteration = ConfigAlteration("topics", "orders", lambda config: {})
    (altered,) = await controller.alter_configs([alteration])
    assert recreated.error is ErrorCode.TOPIC_ALREADY_EXISTS
    assert grown.error is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert altered.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    cluster.brokers[1].refuse_deletions = False
    assert codes(await controller.delete_topics(["orders"])) == [NONE]
    assert await cluster.paths() == set()


async def test_deletion_that_was_not_complete_is_tried_again_by_itself(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller_module, "DELETION_RETRY_S", 0.005)
    await cluster.start(1)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders"), NewTopic("logs")])
    cluster.brokers[1].refuse_deletions = True
    assert codes(await controller.delete_topics(["orders"])) == [ErrorCode.REQUEST_TIMED_OUT]
    stops = cluster.brokers[1].requests
    before = len(stops)
    await become(lambda: len(stops) > before)  # and again
    cluster.brokers[1].refuse_deletions = False
    await become(lambda: "orders" not in controller.state.topics)
    assert codes(await controller.create_topics([NewTopic("orders")])) == [NONE]


async def test_deletion_waits_for_replicas_on_dead_brokers(cluster: Any) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", 1, 2)])
    await cluster.sessions[2].close()
    await cluster.sessions[1].delete(znodes.CONTROLLER)
    await become(lambda: controller.is_active and controller.state.controller_epoch == 2)
    assert codes(await controller.delete_topics(["orders"])) == [ErrorCode.REQUEST_TIMED_OUT]
    await cluster.add_broker(2)
    await cluster.sessions[1].delete(znodes.CONTROLLER)
    await become(lambda: controller.is_active and controller.state.controller_epoch == 3)
    assert await cluster.paths() == set()
    assert cluster.brokers[2].replicas == {}


async def test_deletion_mark_without_a_topic_is_cleared(cluster: Any) -> None:
    await cluster.start(1)
    await cluster.sessions[1].create("/admin/delete_topics/gone")
    controller = await cluster.started(1)
    assert await cluster.paths() == set()
    assert codes(await controller.create_topics([NewTopic("gone")])) == [NONE]


# Taking over


async def restart(cluster: Any, *broker_ids: int) -> Controller:
    """Everybody's session ends; the given brokers come back, with their logs."""
    for controller in cluster.controllers:
        await controller.close()
    cluster.controllers.clear()
    for session in cluster.sessions.values():
        await session.close()
    cluster.sessions.clear()
    for broker_id in broker_ids:
        broker = cluster.brokers[broker_id]
        broker.requests.clear()
        broker.replicas.clear()
        broker.topics.clear()
        await cluster.add_broker(broker_id)
    result: Controller = await cluster.started(broker_ids[0])
    return result


async def test_restarted_broker_leads_again_under_the_same_leader_epoch(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    (created,) = await controller.create_topics([NewTopic("orders", 2), NewTopic("more")][:1])
    controller = await restart(cluster, 1)
    assert controller.state.controller_epoch == 2
    topic = controller.state.topics["orders"]
    assert topic.topic_id == created.topic_id
    assert topic.partitions == {index: LeaderAndIsr(1, (1,), 0, 1) for index in (0, 1)}
    leader_and_isr, update = cluster.brokers[1].requests
    states = leader_and_isr.topic_states[0].partition_states
    assert [(state.leader_epoch, state.is_new) for state in states] == [(0, False)] * 2
    assert len(update.topic_states[0].partition_states) == 2
    assert codes(await controller.create_topics([NewTopic("orders")])) == [
        ErrorCode.TOPIC_ALREADY_EXISTS
    ]


async def test_partition_whose_leader_is_dead_gets_another_from_the_isr(cluster: Any) -> None:
    await cluster.start(1, 2, 3)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", assignments={0: [3, 1, 2]})])
    controller = await restart(cluster, 1, 2)
    elected = controller.state.topics["orders"].partitions[0]
    assert elected == LeaderAndIsr(1, (1, 2), 1, 2, 1)
    znode = await cluster.sessions[1].get("/brokers/topics/orders/partitions/0/state")
    assert LeaderAndIsr.decode("/state", znode.data, znode.stat.version) == elected
    assert cluster.brokers[2].replicas == {("orders", 0): (1, 1)}


async def test_unclean_election_is_only_where_the_topic_allows_it(cluster: Any) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    await controller.create_topics(
        [
            NewTopic("careful", assignments={0: [2, 1]}),
            NewTopic(
                "careless",
                assignments={0: [2, 1]},
                configs={"unclean.leader.election.enable": "true"},
            ),
        ]
    )
    for topic in ("careful", "careless"):
        path = f"/brokers/topics/{topic}/partitions/0/state"
        await cluster.sessions[1].set(path, LeaderAndIsr(2, (2,), 5, 1).encode())
    controller = await restart(cluster, 1)
    assert controller.state.topics["careful"].partitions[0] == LeaderAndIsr(-1, (2,), 6, 2, 2)
    assert controller.state.topics["careless"].partitions[0] == LeaderAndIsr(
        1, (1,), 6, 2, 2, leader_recovery_state=1
    )


async def test_half_made_topic_is_completed_by_the_next_controller(cluster: Any) -> None:
    await cluster.start(1)
    store = cluster.sessions[1]
    assignment = TopicAssignment(topic_ids.random_topic_id(), {0: (1,), 1: (1,), 2: (1,)})
    await store.create("/brokers/topics/orders", assignment.encode())
    await store.create("/brokers/topics/orders/partitions")
    await store.create("/brokers/topics/orders/partitions/1")
    controller = await cluster.started(1)
    assert set(controller.state.topics["orders"].partitions) == {0, 1, 2}
    assert cluster.brokers[1].topics == {"orders": {0: 1, 1: 1, 2: 1}}
    assert (await store.exists("/brokers/topics/orders/partitions/2/state")) is not None


async def test_a_topic_that_cannot_be_read_is_told_of_by_its_path_and_stops_no_controller(
    cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await cluster.start(1)
    await cluster.sessions[1].create("/brokers/topics/orders", b"nonsense")
    controller = await cluster.started(1)
    assert controller.is_active
    reasons = [getattr(record, "fields", {}).get("reason", "") for record in caplog.records]
    assert any("znode /brokers/topics/orders: no JSON" in reason for reason in reasons)


# Settings


def setting(name: str, value: str) -> Any:
    return lambda config: {**config, name: value}


async def test_altered_settings_are_stored_and_notified_in_one_multi(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", configs={"a": "1"})])
    results = await controller.alter_configs(
        [
            ConfigAlteration("topics", "orders", setting("b", "2")),
            ConfigAlteration("brokers", "<default>", setting("c", "3")),
            ConfigAlteration("brokers", "1", setting("d", "4")),
            ConfigAlteration("topics", "missing", setting("e", "5")),
        ]
    )
    assert [result.error for result in results] == [
        NONE,
        NONE,
        NONE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    store = cluster.sessions[1]
    assert await controller.config("topics", "orders") == {"a": "1", "b": "2"}
    assert await controller.config("brokers", "<default>") == {"c": "3"}
    assert await controller.config("brokers", "2") == {}
    changes = sorted(await store.children("/config/changes"))
    assert changes == [f"config_change_{number:010d}" for number in range(3)]
    change = await store.get(f"/config/changes/{changes[0]}")
    assert change.data == b'{"version":2,"entity_path":"topics/orders"}'
    assert change.stat.czxid == (await store.get("/config/topics/orders")).stat.mzxid


async def test_refused_or_validated_alteration_changes_nothing(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", configs={"a": "1"})])

    def refuse(config: dict[str, str]) -> dict[str, str]:
        raise KafkaError(ErrorCode.INVALID_CONFIG, "no such setting")

    (refused,) = await controller.alter_configs([ConfigAlteration("topics", "orders", refuse)])
    (validated,) = await controller.alter_configs(
        [ConfigAlteration("topics", "orders", setting("a", "2"))], validate_only=True
    )
    assert (refused.error, refused.message) == (ErrorCode.INVALID_CONFIG, "no such setting")
    assert validated.error is NONE
    assert await controller.config("topics", "orders") == {"a": "1"}
    assert await cluster.sessions[1].children("/config/changes") == []


async def test_alteration_that_loses_to_another_writer_is_done_on_top(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders")])
    store, other = cluster.sessions[1], cluster.sessions[2]
    multi, tries = store.multi, []

    async def multi_after_another(operations: Any) -> Any:
        tries.append(operations)
        if len(tries) == 1:
            await other.set("/config/topics/orders", znodes.encode_config({"theirs": "1"}))
        return await multi(operations)

    monkeypatch.setattr(store, "multi", multi_after_another)
    (result,) = await controller.alter_configs(
        [ConfigAlteration("topics", "orders", setting("ours", "2"))]
    )
    assert (result.error, len(tries)) == (NONE, 2)
    assert await controller.config("topics", "orders") == {"theirs": "1", "ours": "2"}


# Producer ids


async def test_producer_id_blocks_follow_each_other_over_restarts(cluster: Any) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    assert await controller.allocate_producer_id_block() == (0, 1000)
    assert await controller.allocate_producer_id_block(2) == (1000, 1000)
    controller = await restart(cluster, 2)
    assert await controller.allocate_producer_id_block() == (2000, 1000)
    znode = await cluster.sessions[2].get(znodes.PRODUCER_ID_BLOCK)
    assert ProducerIdBlock.decode(znode.data) == ProducerIdBlock(2, 2000, 2999)


async def test_producer_id_blocks_asked_for_at_once_do_not_overlap(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    blocks = await asyncio.gather(*(controller.allocate_producer_id_block() for _ in range(10)))
    assert sorted(blocks) == [(first, 1000) for first in range(0, 10_000, 1000)]


async def test_last_producer_ids_are_not_exceeded(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    block = ProducerIdBlock(1, 2**63 - 1500, 2**63 - 501)
    await cluster.sessions[1].set(znodes.PRODUCER_ID_BLOCK, block.encode())
    with pytest.raises(KafkaError) as raised:
        await controller.allocate_producer_id_block()
    assert raised.value.code is ErrorCode.UNKNOWN_SERVER_ERROR


async def test_store_refuses_a_second_controller_znode(cluster: Any) -> None:
    await cluster.start(1, 2)
    await cluster.started(1)
    with pytest.raises(NodeExists):
        await cluster.sessions[2].create(znodes.CONTROLLER, ephemeral=True)
    assert (await read_config(cluster.sessions[2], "topics", "none")).version is None

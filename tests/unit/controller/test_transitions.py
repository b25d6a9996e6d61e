"""What follows from a state: operations and requests, without a store or a broker."""

from __future__ import annotations

from ottla.controller import transitions
from ottla.controller.cluster_state import ClusterState, LiveBroker, PartitionId, Topic
from ottla.coordination.store import Check, Create, Delete, Set
from ottla.coordination.znodes import BrokerRegistration, Endpoint, LeaderAndIsr

ID = bytes(range(16))
P0, P1 = PartitionId("orders", 0), PartitionId("orders", 1)


def cluster(*live: int) -> ClusterState:
    """Controller 1 in its seventh term; topic orders on brokers 1, 2 and 3."""
    state = ClusterState(1, 7, epoch_version=6)
    for broker_id in live:
        endpoints = (
            Endpoint("CLIENT", "SASL_SSL", f"public-{broker_id}", 9093),
            Endpoint("INTERNAL", "PLAINTEXT", f"private-{broker_id}", 9092),
        )
        registration = BrokerRegistration(broker_id, endpoints, rack=f"rack-{broker_id}")
        state.brokers[broker_id] = LiveBroker(registration, epoch=100 + broker_id)
    topic = Topic("orders", ID, {0: (1, 2, 3), 1: (2, 3, 1)}, version=0)
    topic.partitions = {
        0: LeaderAndIsr(1, (1, 2, 3), 4, 5, 9),
        1: LeaderAndIsr(2, (2, 3), 0, 5, 0),
    }
    state.add_topic(topic)
    return state


def test_every_request_to_the_store_begins_with_the_check_of_the_controller_epoch() -> None:
    state = cluster(1)
    groups = [[Create(f"/group/{group}/{part}") for part in range(3)] for group in range(5)]
    (request,) = transitions.in_requests(state, groups)
    assert request == [Check("/controller_epoch", 6), *(item for group in groups for item in group)]
    assert list(transitions.in_requests(state, [])) == []


def test_groups_that_do_not_fit_one_request_stay_whole_in_several() -> None:
    state = cluster(1)
    groups = [[Create(f"/{group}"), Set(f"/{group}", bytes(300_000))] for group in range(5)]
    requests = list(transitions.in_requests(state, groups))
    assert [len(request) for request in requests] == [7, 5]
    assert [item for request in requests for item in request[1:]] == [
        item for group in groups for item in group
    ]
    assert {request[0] for request in requests} == {Check("/controller_epoch", 6)}


def test_partitions_without_a_live_leader_are_offline_unless_they_are_deleted() -> None:
    state = cluster(2, 3)
    assert transitions.offline_partitions(state) == [P0]
    state.deleting.add("orders")
    assert transitions.offline_partitions(state) == []


def test_election_is_written_over_the_partition_epoch_that_it_saw() -> None:
    elected = LeaderAndIsr(2, (2, 3), 5, 7, partition_epoch=9)
    assert transitions.set_leader(P0, elected) == Set(
        "/brokers/topics/orders/partitions/0/state", elected.encode(), 9
    )


def test_leaders_are_told_to_live_replicas_only_with_their_broker_epoch() -> None:
    requests = transitions.leader_and_isr_requests(
        cluster(1, 2), [P0, P1], new={P1}, listener="INTERNAL"
    )
    assert sorted(requests) == [1, 2]
    request = requests[2]
    assert (request.controller_id, request.controller_epoch, request.broker_epoch) == (1, 7, 102)
    (topic,) = request.topic_states
    assert (topic.topic_name, topic.topic_id) == ("orders", ID)
    first, second = topic.partition_states
    assert (first.leader, first.leader_epoch, first.controller_epoch) == (1, 4, 5)
    assert (first.isr, first.replicas, first.partition_epoch) == ([1, 2, 3], [1, 2, 3], 9)
    assert (first.is_new, second.is_new) == (False, True)
    assert [
        (leader.broker_id, leader.host_name, leader.port) for leader in request.live_leaders
    ] == [
        (1, "private-1", 9092),
        (2, "private-2", 9092),
    ]


def test_every_live_broker_learns_of_brokers_partitions_and_offline_replicas() -> None:
    requests = transitions.update_metadata_requests(cluster(1, 2, 4), [P0])
    assert sorted(requests) == [1, 2, 4]
    request = requests[4]
    assert request.broker_epoch == 104
    assert [(broker.id, broker.rack) for broker in request.live_brokers] == [
        (1, "rack-1"),
        (2, "rack-2"),
        (4, "rack-4"),
    ]
    assert [
        (e.listener, e.host, e.security_protocol) for e in request.live_brokers[0].endpoints
    ] == [
        ("CLIENT", "public-1", 3),
        ("INTERNAL", "private-1", 0),
    ]
    (partition,) = request.topic_states[0].partition_states
    assert (partition.leader, partition.leader_epoch, partition.zk_version) == (1, 4, 9)
    assert partition.offline_replicas == [3]


def test_partition_that_never_had_a_leader_is_not_told_of() -> None:
    state = cluster(1)
    del state.topics["orders"].partitions[0]
    (request,) = transitions.update_metadata_requests(state, [P0]).values()
    assert request.topic_states == []
    assert transitions.leader_and_isr_requests(state, [P0]) == {}


def test_deleted_topic_is_announced_with_leader_minus_two_and_stopped_with_epoch_minus_two() -> (
    None
):
    state = cluster(1, 2)
    state.deleting.add("orders")
    told = transitions.update_metadata_requests(state, [P0])[1]
    (partition,) = told.topic_states[0].partition_states
    assert (partition.leader, partition.leader_epoch) == (-2, 0)
    replicas = {broker_id: [P0, P1] for broker_id in (1, 2, 3)}
    requests = transitions.stop_replica_requests(state, replicas, delete=True)
    assert sorted(requests) == [1, 2]
    (topic,) = requests[2].topic_states
    assert [
        (stop.partition_index, stop.leader_epoch, stop.delete_partition)
        for stop in topic.partition_states
    ] == [(0, -2, True), (1, -2, True)]


def test_what_names_a_deleted_topic_goes_last_and_at_once() -> None:
    groups = transitions.delete_topic_groups(
        "orders", {"0": True, "1": False}, has_partitions=True, has_config=True
    )
    base = "/brokers/topics/orders"
    assert groups == [
        [Delete(f"{base}/partitions/0/state"), Delete(f"{base}/partitions/0")],
        [Delete(f"{base}/partitions/1")],
        [
            Delete(f"{base}/partitions"),
            Delete(base),
            Delete("/config/topics/orders"),
            Delete("/admin/delete_topics/orders"),
        ],
    ]


def test_state_finds_topics_by_id_and_by_colliding_name() -> None:
    state = cluster(1)
    state.add_topic(Topic("a.b", bytes(16), {0: (1,)}, 0))
    assert state.topic_by_id(ID) is state.topics["orders"]
    assert state.topic_by_id(bytes(16)) is None
    assert state.colliding_topics("a_b") == ["a.b"]
    assert state.colliding_topics("orders") == []
    state.remove_topic("a.b")
    state.remove_topic("never.there")
    assert state.colliding_topics("a_b") == []


def test_stopped_replicas_are_told_the_leader_epoch_that_the_stop_belongs_to() -> None:
    """KIP-570 (KAFKA-9539): a stop that was overtaken by a later start must be told apart from it."""
    state = cluster(1, 2)
    requests = transitions.stop_replica_requests(state, {2: [P0, P1], 3: [P0]}, delete=False)
    assert set(requests) == {2}
    (topic,) = requests[2].topic_states
    assert [(s.partition_index, s.leader_epoch) for s in topic.partition_states] == [(0, 4), (1, 0)]
    assert not any(s.delete_partition for s in topic.partition_states)

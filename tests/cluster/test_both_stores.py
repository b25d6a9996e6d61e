"""What a cluster promises, over the embedded store in this process, over one store for processes of this
machine, and over a real ZooKeeper alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ottla import Consumer, KafkaError, Producer
from ottla.errors import ErrorCode
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.cluster.either import AnyCluster, create_topic, embedded, local, zookeeper
from tests.cluster.processes import BROKERS
from tests.interop.raw import RawClient
from tests.support.requests import produce_request
from tests.support.waiting import eventually, wait_until
from tests.support.wire import batch

OpenCluster = Callable[..., AbstractContextManager[AnyCluster]]

PATIENCE = {"request_timeout_ms": 2_000, "retry_backoff_ms": 20, "metadata_max_age_ms": 1_000}


@pytest.fixture(params=["embedded", "local", "zookeeper"])
def open_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> OpenCluster:
    """Opens a cluster with some settings."""
    if request.param == "embedded":
        return lambda **settings: embedded(settings)
    if request.param == "local":
        return lambda **settings: local(settings, tmp_path)
    ensemble = request.getfixturevalue("ensemble")
    return lambda **settings: zookeeper(settings, tmp_path, ensemble)


@pytest.fixture
def cluster(open_cluster: OpenCluster) -> Iterator[AnyCluster]:
    """Three brokers, with the topic ``t`` in sync on all of them."""
    with open_cluster() as opened:
        create_topic(opened, "t")
        yield opened


def send(cluster: AnyCluster, *values: bytes, topic: str = "t") -> list[int]:
    """Send records with acks=all; their offsets."""
    with Producer(cluster.bootstrap, **PATIENCE) as producer:
        deliveries = [producer.send(topic, value, partition=0) for value in values]
        return [delivery.result().offset for delivery in deliveries]


def values(cluster: AnyCluster, count: int, topic: str = "t") -> list[bytes]:
    """The first ``count`` records."""
    found: list[bytes] = []
    with Consumer(bootstrap=cluster.bootstrap, auto_offset_reset="earliest", **PATIENCE) as reader:
        reader.assign([(topic, 0)])

        def read() -> bool:
            found.extend(record.value for record in reader.poll(0.1))
            return len(found) >= count

        wait_until(read)
    return found


def test_records_are_on_every_replica_and_read_from_the_leader(cluster: AnyCluster) -> None:
    assert send(cluster, b"0", b"1", b"2") == [0, 1, 2]
    assert values(cluster, 3) == [b"0", b"1", b"2"]
    assert cluster.in_sync("t") == set(BROKERS)


def test_what_was_acknowledged_survives_its_leader_and_more_is_taken(cluster: AnyCluster) -> None:
    send(cluster, b"0", b"1")
    dead = cluster.kill_leader("t")
    assert send(cluster, b"2") == [2]
    assert cluster.leader("t") != dead
    cluster.start_broker(dead)
    cluster.wait_until_whole()
    assert cluster.in_sync("t") == set(BROKERS)
    assert send(cluster, b"3") == [3]
    assert values(cluster, 4) == [b"0", b"1", b"2", b"3"]


def test_each_of_the_replicas_can_be_the_last_one_that_led(cluster: AnyCluster) -> None:
    for number in range(len(BROKERS)):
        dead = cluster.kill_leader("t")
        assert send(cluster, b"%d" % number) == [number]
        cluster.start_broker(dead)
        cluster.wait_until_whole()
    assert values(cluster, 3) == [b"0", b"1", b"2"]


def test_a_leader_that_hangs_is_replaced_and_follows_when_it_is_back(cluster: AnyCluster) -> None:
    send(cluster, b"0")
    hung = cluster.leader("t")
    cluster.pause(hung)
    wait_until(lambda: hung not in cluster.registered())
    assert send(cluster, b"1") == [1]
    cluster.resume(hung)
    cluster.wait_until_whole()
    assert cluster.leader("t") != hung
    assert values(cluster, 2) == [b"0", b"1"]


def test_a_leader_that_is_stopped_hands_over(cluster: AnyCluster) -> None:
    send(cluster, b"0")
    leader = cluster.leader("t")
    cluster.stop_broker(leader)
    assert send(cluster, b"1") == [1]
    assert cluster.leader("t") != leader
    cluster.start_broker(leader)
    cluster.wait_until_whole()
    assert values(cluster, 2) == [b"0", b"1"]


def test_a_broker_whose_session_ends_comes_anew(cluster: AnyCluster) -> None:
    send(cluster, b"0")
    for _ in range(2):
        cluster.expire_session(cluster.leader("t"))
        cluster.wait_until_whole()
    assert send(cluster, b"1") == [1]
    assert values(cluster, 2) == [b"0", b"1"]


def test_another_controller_goes_on_from_what_the_store_says(cluster: AnyCluster) -> None:
    dead = cluster.controller()
    cluster.kill_broker(dead)
    wait_until(lambda: cluster.controller() != dead)
    cluster.start_broker(dead)
    create_topic(cluster, "u", 3)
    assert send(cluster, b"0", topic="u") == [0]


def test_a_partition_with_too_few_replicas_in_sync_takes_nothing_and_serves_what_it_has(
    cluster: AnyCluster,
) -> None:
    send(cluster, b"0")
    leader = cluster.leader("t")
    others = [broker for broker in BROKERS if broker != leader]
    for broker in others:
        cluster.kill_broker(broker)
    wait_until(lambda: cluster.in_sync("t") == {leader})
    with RawClient(cluster.bootstrap_of(leader)) as raw:
        answer = raw.call(_produce(b"refused"), 9).responses[0].partition_responses[0]
        assert ErrorCode(answer.error_code) == ErrorCode.NOT_ENOUGH_REPLICAS
        assert [record.value for record in raw.records("t")] == [b"0"]
    for broker in others:
        cluster.start_broker(broker)
    cluster.wait_until_whole()
    assert send(cluster, b"1") == [1]
    assert values(cluster, 2) == [b"0", b"1"]


def test_a_cluster_that_dies_as_a_whole_has_all_that_it_acknowledged(cluster: AnyCluster) -> None:
    send(cluster, *(b"%d" % number for number in range(50)))
    for broker in BROKERS:
        cluster.kill_broker(broker)
    for broker in BROKERS:
        cluster.start_broker(broker)
    cluster.wait_until_whole()
    assert send(cluster, b"50") == [50]
    assert values(cluster, 51) == [b"%d" % number for number in range(51)]


def test_what_a_group_has_committed_survives_its_coordinator(cluster: AnyCluster) -> None:
    send(cluster, *(b"%d" % number for number in range(10)))
    settings = {"auto_offset_reset": "earliest", "session_timeout_ms": 6_000, **PATIENCE}
    with Consumer("t", group="g", bootstrap=cluster.bootstrap, **settings) as member:
        read = eventually(lambda: member.poll(0.1, 5), "some records")
        member.commit()
    for partition in range(4):  # whichever of them the group is in
        dead = cluster.kill_leader("__consumer_offsets", partition)
        cluster.start_broker(dead)
        cluster.wait_until_whole()
    with Consumer("t", group="g", bootstrap=cluster.bootstrap, **settings) as member:
        again = eventually(lambda: member.poll(0.1), "the rest")
    assert again[0].offset == read[-1].offset + 1


def test_all_brokers_say_the_same_of_the_cluster_after_a_failover(cluster: AnyCluster) -> None:
    dead = cluster.kill_leader("t")
    wait_until(lambda: cluster.leader("t") != dead)
    cluster.start_broker(dead)
    cluster.wait_until_whole()
    clients = [RawClient(cluster.bootstrap_of(broker)) for broker in BROKERS]
    try:
        eventually(lambda: len({_said(raw) for raw in clients}) == 1, "one metadata", 10.0)
        brokers, leader, isr = _said(clients[0])
    finally:
        for raw in clients:
            raw.close()
    assert brokers == frozenset(BROKERS)
    assert leader == cluster.leader("t")
    assert isr == frozenset(BROKERS)


def test_nobody_leads_where_nobody_in_sync_lives_unless_the_topic_allows_it(
    open_cluster: OpenCluster,
) -> None:
    with open_cluster(**{"min.insync.replicas": 1}) as cluster:
        create_topic(cluster, "clean")
        create_topic(cluster, "unclean", unclean_leader_election_enable="true")
        last = cluster.leader("clean")
        others = [broker for broker in BROKERS if broker != last]
        for broker in others:
            cluster.kill_broker(broker)
        wait_until(lambda: cluster.in_sync("clean") == cluster.in_sync("unclean") == {last})
        assert send(cluster, b"only there", topic="clean") == [0]
        cluster.kill_broker(last)
        cluster.start_broker(others[0])
        wait_until(lambda: cluster.leader("unclean") == others[0])
        assert send(cluster, b"of another life", topic="unclean") == [0]
        assert cluster.in_sync("clean") == {last}
        with (
            pytest.raises(KafkaError),
            Producer(cluster.bootstrap, **PATIENCE, delivery_timeout_ms=2_500) as producer,
        ):
            producer.send("clean", b"nobody takes it", partition=0).result()
        cluster.start_broker(last)
        cluster.start_broker(others[1])
        cluster.wait_until_whole()
        assert values(cluster, 1, "clean") == [b"only there"]


def _produce(value: bytes) -> object:
    return produce_request("t", batch(value))


def _said(raw: RawClient) -> tuple[frozenset[int], int, frozenset[int]]:
    """Brokers, leader and ISR of ``t``, as a broker tells its clients."""
    answer = raw.call(MetadataRequest(topics=[MetadataRequestTopic(name="t")]), 12)
    (partition,) = answer.topics[0].partitions
    brokers = frozenset(broker.node_id for broker in answer.brokers)
    return brokers, partition.leader_id, frozenset(partition.isr_nodes)

"""What is shown of a cluster."""

from __future__ import annotations

from ottla.cli.cluster_status import Status, status_of
from ottla.client.admin.descriptions import ClusterDescription, TopicDescription
from ottla.client.metadata import Node, PartitionMetadata


def cluster(*brokers: int, controller: int = 1) -> ClusterDescription:
    """Brokers on ports of their own."""
    nodes = [Node(broker, "127.0.0.1", 9000 + broker, f"r{broker}") for broker in brokers]
    return ClusterDescription("cid", controller, nodes)


def topic(name: str, *partitions: tuple[int, tuple[int, ...], tuple[int, ...]]) -> TopicDescription:
    """Partitions of leader, replicas and those in sync."""
    return TopicDescription(
        name,
        "",
        False,
        [
            PartitionMetadata(number, leader, 4, replicas, isr)
            for number, (leader, replicas, isr) in enumerate(partitions)
        ],
    )


def test_a_cluster_in_order_has_nothing_to_report() -> None:
    status = status_of(cluster(1, 2), [topic("t", (1, (1, 2), (1, 2)), (2, (2, 1), (1, 2)))])
    assert status.summary() == (
        "cluster cid: controller 1, 2 brokers, 2 partitions, 0 offline, 0 under-replicated"
    )
    assert status.troubled("offline", "under-replicated") == []
    assert [(row["broker"], row["leads"], row["in_sync"]) for row in status.brokers] == [
        (1, 1, 2),
        (2, 1, 2),
    ]


def test_what_a_dead_broker_leaves_behind_is_seen() -> None:
    status = status_of(
        cluster(1, 2, controller=2),
        [topic("t", (1, (1, 3), (1,)), (-1, (3,), (3,))), topic("a", (2, (2,), (2,)))],
        [("t", 0)],
    )
    assert status.summary() == (
        "cluster cid: controller 2, 2 of 3 brokers, 3 partitions, 1 offline, 1 under-replicated"
    )
    gone = status.brokers[2]
    assert (gone["broker"], gone["address"], gone["replicas"], gone["in_sync"]) == (3, None, 2, 1)
    assert [(row["topic"], row["partition"], row["state"]) for row in status.partitions] == [
        ("a", 0, "ok"),
        ("t", 0, "under-replicated"),
        ("t", 1, "offline"),
    ]
    assert status.partitions[1]["reassigning"] is True
    assert status.partitions[2]["leader"] is None
    document = status.document()
    assert (document["offline"], document["under_replicated"]) == (1, 1)


def test_a_cluster_without_a_controller_says_so() -> None:
    status: Status = status_of(cluster(1, controller=-1), [])
    assert "no controller" in status.summary()
    assert status.document()["controller"] is None

"""What ``ottla cluster status`` shows, worked out from a cluster's description and its topics'."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ottla.cli.output import Row
from ottla.client.admin.descriptions import ClusterDescription, TopicDescription
from ottla.client.metadata import Node


class Status(NamedTuple):
    """A cluster at one moment."""

    cluster: ClusterDescription
    brokers: list[Row]
    """Every broker that is there, and those that have replicas and are not."""
    partitions: list[Row]
    """Every partition with its leader, its replicas and what is wrong with it."""

    def troubled(self, *states: str) -> list[Row]:
        """The partitions in one of these states."""
        return [row for row in self.partitions if row["state"] in states]

    def summary(self) -> str:
        """One line."""
        cluster = self.cluster
        controller = (
            "no controller"
            if cluster.controller_id < 0
            else (f"controller {cluster.controller_id}")
        )
        there = sum(row["address"] is not None for row in self.brokers)
        brokers = (
            f"{there} brokers"
            if there == len(self.brokers)
            else (f"{there} of {len(self.brokers)} brokers")
        )
        offline, under = len(self.troubled("offline")), len(self.troubled("under-replicated"))
        return (
            f"cluster {cluster.cluster_id}: {controller}, {brokers}, "
            f"{len(self.partitions)} partitions, {offline} offline, {under} under-replicated"
        )

    def document(self) -> Row:
        """All of it, for programs."""
        return {
            "cluster_id": self.cluster.cluster_id,
            "controller": self.cluster.controller_id if self.cluster.controller_id >= 0 else None,
            "brokers": self.brokers,
            "partitions": self.partitions,
            "offline": len(self.troubled("offline")),
            "under_replicated": len(self.troubled("under-replicated")),
        }


def status_of(
    cluster: ClusterDescription,
    topics: Iterable[TopicDescription],
    reassigning: Iterable[tuple[str, int]] = (),
) -> Status:
    """The status. A partition is offline without a leader, else under-replicated where a replica is not in sync."""
    moving = set(reassigning)
    partitions: list[Row] = []
    leads: dict[int, int] = {}
    holds: dict[int, int] = {}
    in_sync: dict[int, int] = {}
    for topic in sorted(topics):
        for each in topic.partitions:
            leads[each.leader] = leads.get(each.leader, 0) + 1
            for broker in each.replicas:
                holds[broker] = holds.get(broker, 0) + 1
                in_sync[broker] = in_sync.get(broker, 0) + (broker in each.isr)
            state = "ok"
            if each.leader < 0:
                state = "offline"
            elif len(each.isr) < len(each.replicas):
                state = "under-replicated"
            partitions.append(
                {
                    "topic": topic.name,
                    "partition": each.partition,
                    "leader": each.leader if each.leader >= 0 else None,
                    "leader_epoch": each.leader_epoch,
                    "replicas": list(each.replicas),
                    "isr": list(each.isr),
                    "state": state,
                    "reassigning": (topic.name, each.partition) in moving,
                }
            )
    there = {node.node_id: node for node in cluster.nodes}
    brokers: list[Row] = [
        {
            "broker": broker,
            "address": _address(there.get(broker)),
            "rack": there[broker].rack if broker in there else None,
            "controller": broker == cluster.controller_id,
            "leads": leads.get(broker, 0),
            "replicas": holds.get(broker, 0),
            "in_sync": in_sync.get(broker, 0),
        }
        for broker in sorted(there.keys() | holds.keys())
    ]
    return Status(cluster, brokers, partitions)


def _address(node: Node | None) -> str | None:
    if node is None:
        return None
    host = f"[{node.host}]" if ":" in node.host else node.host
    return f"{host}:{node.port}"

"""Who leads a partition now, for a client that has asked the wrong broker (KIP-951).

It need not ask for metadata then, which another broker may not have heard of yet. What this broker knows of its own
replica is newer, as a rule, than what it was told of the cluster. Source: ``KafkaApis.getCurrentLeader``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

Endpoint = TypeVar("Endpoint")

NOBODY = -1


def current_leader(broker: Broker, topic: str, topic_id: bytes, index: int) -> tuple[int, int]:
    """The leader's id and its epoch, as far as is known; -1 each where nothing is."""
    name = topic if topic_id == ZERO_ID else broker.metadata.topic_name(topic_id)
    if name is None:
        return NOBODY, NOBODY
    replica = broker.replicas.get(name, index)
    if replica is not None and replica.leader_id != NOBODY:
        return replica.leader_id, replica.leader_epoch
    known = broker.metadata.topics.get(name)
    partition = known.partitions.get(index) if known is not None else None
    return (NOBODY, NOBODY) if partition is None else (partition.leader, partition.leader_epoch)


def endpoints_of(
    broker: Broker, leaders: Iterable[int], listener: str, make: Callable[..., Endpoint]
) -> list[Endpoint]:
    """Where these brokers are reached on the client's listener; ``make`` is a message's class."""
    wanted = set(leaders)
    return [
        make(node_id=node_id, host=host, port=port, rack=rack)
        for node_id, host, port, rack in broker.endpoints(listener)
        if node_id in wanted
    ]

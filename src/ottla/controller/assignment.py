"""Where the replicas of new partitions go: evenly over the brokers, and over their racks.

Rules: the first replica goes round robin, the others follow with a shift that grows each time the
round is complete; with racks, every rack gets a replica before one gets two. Randomness is passed in.
Source: Kafka's ``org.apache.kafka.admin.AdminUtils``, whose assignments these are, to the number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ottla.errors import ErrorCode, KafkaError


class BrokerRack(NamedTuple):
    """A broker that may get replicas, and its rack if it has one."""

    broker_id: int
    rack: str | None = None


def assign_replicas(
    brokers: Sequence[BrokerRack],
    partition_count: int,
    replication_factor: int,
    *,
    start_index: int,
    shift: int,
    first_partition: int = 0,
) -> dict[int, tuple[int, ...]]:
    """Replicas of ``partition_count`` partitions from ``first_partition`` on.

    ``start_index`` is where in the list of brokers partition 0's first replica goes and ``shift`` the
    first distance of the second one: both random for a new topic. Racks count only where every broker
    has one (``RackAwareMode.Safe``). Raises INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR.
    """
    if partition_count <= 0:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS, "Number of partitions must be larger than 0."
        )
    if replication_factor <= 0:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR, "Replication factor must be larger than 0."
        )
    if replication_factor > len(brokers):
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Replication factor: {replication_factor} larger than available brokers: "
            f"{len(brokers)}.",
        )
    racks = _racks(brokers)
    if racks is None:
        broker_ids, rack_count = [broker.broker_id for broker in brokers], 1
    else:
        broker_ids, rack_count = alternate_racks(racks), len(set(racks.values()))
    assignment: dict[int, tuple[int, ...]] = {}
    for partition in range(first_partition, first_partition + partition_count):
        if partition > 0 and partition % len(broker_ids) == 0:
            shift += 1
        first = (partition + start_index) % len(broker_ids)
        if racks is None:
            assignment[partition] = _spread(broker_ids, first, shift, replication_factor)
        else:
            assignment[partition] = _spread_over_racks(
                broker_ids, racks, first, shift * rack_count, replication_factor
            )
    return assignment


def alternate_racks(racks: Mapping[int, str]) -> list[int]:
    """Brokers ordered so that neighbours are on different racks, as far as that goes.

    Rack by rack in the order of their names, each giving its smallest broker id that is left.
    """
    by_rack: dict[str, list[int]] = {}
    for broker_id in sorted(racks):
        by_rack.setdefault(racks[broker_id], []).append(broker_id)
    columns = [by_rack[rack] for rack in sorted(by_rack)]
    deepest = max(map(len, columns), default=0)
    return [column[row] for row in range(deepest) for column in columns if row < len(column)]


def _racks(brokers: Sequence[BrokerRack]) -> dict[int, str] | None:
    racks = {broker.broker_id: broker.rack for broker in brokers if broker.rack is not None}
    return racks if racks and len(racks) == len(brokers) else None


def _replica_index(first: int, shift: int, replica: int, broker_count: int) -> int:
    return (first + 1 + (shift + replica) % (broker_count - 1)) % broker_count


def _spread(
    broker_ids: Sequence[int], first: int, shift: int, replication_factor: int
) -> tuple[int, ...]:
    others = (
        broker_ids[_replica_index(first, shift, replica, len(broker_ids))]
        for replica in range(replication_factor - 1)
    )
    return (broker_ids[first], *others)


def _spread_over_racks(
    broker_ids: Sequence[int],
    racks: Mapping[int, str],
    first: int,
    shift: int,
    replication_factor: int,
) -> tuple[int, ...]:
    rack_count = len(set(racks.values()))
    replicas = [broker_ids[first]]
    used_racks = {racks[broker_ids[first]]}
    attempt = 0
    while len(replicas) < replication_factor:
        candidate = broker_ids[_replica_index(first, shift, attempt, len(broker_ids))]
        attempt += 1
        rack_is_free = racks[candidate] not in used_racks or len(used_racks) == rack_count
        if rack_is_free and candidate not in replicas:
            replicas.append(candidate)
            used_racks.add(racks[candidate])
    return tuple(replicas)

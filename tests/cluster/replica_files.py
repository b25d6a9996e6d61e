"""The segment files of all replicas of a partition, held against each other. Pure, but for reading the files.

- differ: two replicas have other bytes below the high watermark (INVARIANTS 3), or anywhere under one leader
  epoch: then two have appended in it (10).
- short: a replica ends below the high watermark although it is in sync.
- epoch: leader epochs fall from one batch to the next (9).
- gap: batches are not contiguous (8).
- damaged: bytes that are no batch, or whose checksum does not hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ottla.records.batch import CorruptBatch, UnsupportedMagic, iter_batches, verify_crc
from tests.crash.checker import Partition
from tests.support.segment_files import without_room

VIOLATIONS_MAX = 20


class Batch(NamedTuple):
    """A batch as it lies in a file."""

    base_offset: int
    next_offset: int
    leader_epoch: int
    bytes: bytes


class Replica(NamedTuple):
    """What one broker has of a partition."""

    broker: int
    batches: list[Batch]
    faults: list[str]


def read_replica(broker: int, directory: Path) -> Replica:
    """All batches of a partition's directory, in the order of the files' names."""
    batches: list[Batch] = []
    faults = []
    for path in sorted(directory.glob("*.log")):
        data = without_room(path.read_bytes())
        end = 0
        try:
            for position, header in iter_batches(data):
                end = position + header.size_bytes
                verify_crc(data, header, position)
                batches.append(
                    Batch(
                        header.base_offset,
                        header.next_offset,
                        header.leader_epoch,
                        data[position:end],
                    )
                )
        except (CorruptBatch, UnsupportedMagic) as error:
            faults.append(f"damaged: broker {broker} {path} at byte {end}: {error}")
        else:
            if end != len(data):
                faults.append(f"damaged: broker {broker} {path} has a torn tail at byte {end}")
    return Replica(broker, batches, faults)


def check_replicas(
    partition: Partition, replicas: Iterable[Replica], high_watermark: int
) -> list[str]:
    """What does not hold of replicas that are all in sync."""
    name = f"{partition[0]}-{partition[1]}"
    faults: list[str] = []
    replicas = list(replicas)
    for replica in replicas:
        faults += replica.faults
        faults += _order(f"{name} on broker {replica.broker}", replica.batches)
    for replica in replicas[1:]:
        faults += _differences(name, replicas[0], replica, high_watermark)
    for replica in replicas:
        end = replica.batches[-1].next_offset if replica.batches else 0
        if end < high_watermark:
            faults.append(
                f"short: {name} on broker {replica.broker} ends at {end},"
                f" the high watermark is {high_watermark}"
            )
    return faults[:VIOLATIONS_MAX]


def _order(name: str, batches: list[Batch]) -> Iterable[str]:
    for before, batch in itertools.pairwise(batches):
        if batch.leader_epoch < before.leader_epoch:
            yield (
                f"epoch: {name} {batch.base_offset} has leader epoch {batch.leader_epoch}"
                f" behind {before.leader_epoch}"
            )
        if batch.base_offset != before.next_offset:
            yield f"gap: {name} has {batch.base_offset} behind {before.next_offset}"


def _differences(name: str, one: Replica, other: Replica, high_watermark: int) -> Iterable[str]:
    others: Mapping[int, Batch] = {batch.base_offset: batch for batch in other.batches}
    for batch in one.batches:
        twin = others.get(batch.base_offset)
        where = f"{name} {batch.base_offset} on brokers {one.broker} and {other.broker}"
        if twin is None:
            if batch.base_offset < high_watermark:
                yield f"differ: {where}: no batch begins there on the latter"
        elif twin.bytes != batch.bytes:
            if batch.base_offset < high_watermark:
                yield f"differ: {where}: leader epochs {batch.leader_epoch} and {twin.leader_epoch}"
            elif twin.leader_epoch == batch.leader_epoch:
                yield f"differ: {where}: two values in leader epoch {batch.leader_epoch}"

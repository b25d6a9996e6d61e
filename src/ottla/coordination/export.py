"""A single broker's state goes into a ZooKeeper: the broker becomes the first of a cluster.

What goes are the durable znodes, with their data. What does not: sessions and what hangs on them, and
notifications, which are of no use to a broker that reads everything anew (and whose sequential names would be
given out again). Versions and transaction ids begin anew there; nothing refers to them but what is read with them.

Rules:
- Nothing that is there is overwritten, but what only the layout put there. Where there is anything else, another
  cluster, its topics, a broker that runs, nothing is written at all.
- A znode of its own stands there from the first write to the last; no broker starts while it does. What was
  broken off can so be told from what is whole, and is gone on with by another export.
- It goes before it is said to be done that all is read back and compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ottla.coordination import znodes
from ottla.coordination.store import (
    Check,
    Create,
    Delete,
    NoNode,
    Operation,
    Set,
    Store,
    Znode,
    request_bytes,
)

_NOTIFICATIONS = (
    f"{znodes.CONFIG_CHANGES}/",
    f"{znodes.LOG_DIR_EVENTS}/",
    f"{znodes.ISR_CHANGES}/",
)
_OPERATIONS_IN_ONE = 500
_BYTES_IN_ONE = 500_000


class ExportRefused(Exception):
    """There is something in ZooKeeper that is not ours; one line for the user."""


class Plan(NamedTuple):
    """What is to be done."""

    cluster_id: str
    wanted: dict[str, bytes]
    """Every znode that is to be there in the end."""
    writes: list[Operation]
    is_begun: bool
    """Whether an export was begun before and not finished."""

    @property
    def topics(self) -> list[str]:
        """Their names."""
        depth = znodes.TOPICS.count("/") + 1
        return sorted(
            path.rpartition("/")[2]
            for path in self.wanted
            if path.startswith(f"{znodes.TOPICS}/") and path.count("/") == depth
        )

    @property
    def partitions(self) -> int:
        """How many there are."""
        is_state = (path.endswith("/state") for path in self.wanted)
        return sum(is_state)


def exportable(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """The znodes of a store's file that go with it, parents first."""
    return {
        path: found[path]
        for path in sorted(found)
        if path not in ("/", znodes.EXPORT) and not path.startswith(_NOTIFICATIONS)
    }


async def plan(store: Store, found: Mapping[str, bytes], *, root: str = "") -> Plan:
    """Look at what is in ZooKeeper below ``root``, and say what is to be written.

    Raises ExportRefused, MalformedZnode.
    """
    wanted = exportable(found)
    if znodes.CLUSTER_ID not in wanted:
        raise ExportRefused("the broker's store has no cluster id: it was never started")
    cluster_id = znodes.decode_cluster_id(wanted[znodes.CLUSTER_ID])
    paths = [znodes.EXPORT, *wanted]
    marker, *there = await store.get_many([root + path for path in paths])
    present = dict(zip(wanted, there, strict=True))
    _refuse_another_cluster(cluster_id, marker, present[znodes.CLUSTER_ID])
    await _refuse_life(store, root, set(wanted))
    writes: list[Operation] = []
    for path, data in wanted.items():
        znode = present[path]
        if znode is None:
            writes.append(Create(path, data))
        elif znode.data != data:
            writes.append(_replacing(path, data, znode))
    return Plan(cluster_id, wanted, writes, marker is not None)


async def carry_out(
    store: Store, what: Plan, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Do it, ``progress`` being told of the znodes that are written; then compare.

    Raises ExportRefused where something else is found in the end, and what the store raises.
    """
    if not what.is_begun:
        await store.create(znodes.EXPORT, json.dumps({"cluster_id": what.cluster_id}).encode())
    done = 0
    for batch in _batches(what.writes):
        await store.multi([Check(znodes.EXPORT), *batch])
        done += len(batch)
        progress(done)
    found = await store.get_many(list(what.wanted))
    for (path, data), znode in zip(what.wanted.items(), found, strict=True):
        if znode is None or znode.data != data:
            raise ExportRefused(f"{path} is not what was written: somebody else writes there, too")
    await store.multi([Delete(znodes.EXPORT)])


def _refuse_another_cluster(cluster_id: str, marker: Znode | None, identity: Znode | None) -> None:
    if marker is not None:
        begun = json.loads(marker.data).get("cluster_id")
        if begun != cluster_id:
            raise ExportRefused(f"an export of another cluster, {begun}, was begun there")
    if identity is not None:
        there = znodes.decode_cluster_id(identity.data)
        if there != cluster_id:
            raise ExportRefused(
                f"cluster {there} is there already, and this broker's is {cluster_id}: "
                "choose another path behind the servers"
            )


async def _refuse_life(store: Store, root: str, ours: set[str]) -> None:
    brokers = await _children(store, root + znodes.BROKER_IDS)
    if brokers:
        running = ", ".join(sorted(brokers))
        raise ExportRefused(f"brokers are running there (ids {running})")
    topics = await _children(store, root + znodes.TOPICS)
    others = [topic for topic in topics if znodes.topic_path(topic) not in ours]
    if others:
        raise ExportRefused(f"there are topics already, {sorted(others)[0]} for one")


async def _children(store: Store, path: str) -> list[str]:
    try:
        return await store.children(path)
    except NoNode:
        return []


def _replacing(path: str, data: bytes, there: Znode) -> Set:
    """What the layout put there may be replaced."""
    laid_out = there.data == b"" or (path == znodes.CONTROLLER_EPOCH and there.data == b"0")
    if not laid_out:
        raise ExportRefused(
            f"{path} holds something else there: a cluster has gone on from an earlier export, or never was this one"
        )
    return Set(path, data, there.stat.version)


def _batches(writes: Sequence[Operation]) -> Iterator[list[Operation]]:
    batch: list[Operation] = []
    weight = 0
    for operation in writes:
        more = request_bytes((operation,))
        if batch and (len(batch) == _OPERATIONS_IN_ONE or weight + more > _BYTES_IN_ONE):
            yield batch
            batch, weight = [], 0
        batch.append(operation)
        weight += more
    if batch:
        yield batch

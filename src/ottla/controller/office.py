"""Taking office as the controller: the election through the store, and reading the cluster's state.

Rules: one multi creates the ephemeral ``/controller`` and raises ``/controller_epoch`` from the version that
was read, so that no two controllers have one epoch (invariant 27). Every later write checks that version
(28): ``write`` raises ControllerMoved once it is another. Reads are pipelined: a round trip a level.
Source: ``KafkaZkClient.registerControllerAndIncrementControllerEpoch``, ``KafkaController``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from ottla.controller.cluster_state import ClusterState, LiveBroker, PartitionId, Topic
from ottla.controller.transitions import controller_check, in_requests, set_leader
from ottla.coordination import znodes
from ottla.coordination.store import (
    BadVersion,
    Check,
    Create,
    Delete,
    NodeExists,
    NoNode,
    Operation,
    OperationResult,
    Set,
    Stat,
    Store,
    StoreError,
    Watch,
    Znode,
)
from ottla.coordination.znodes import (
    ControllerZnode,
    LeaderAndIsr,
    MalformedZnode,
    TopicAssignment,
)
from ottla.logs import logger
from ottla.topic_ids import ZERO_ID

log = logger(__name__)

_T = TypeVar("_T")
_ATTEMPTS_MAX = 5
"""How often a change is tried against writers other than the controller before it is refused."""

STATES_TOGETHER = 100
"""States of partitions that are written in one multi."""

MULTIS_TOGETHER = 32
"""Multis that are under way at once."""


class ControllerMoved(Exception):
    """Another controller has taken office: nothing was written, and nothing may be."""


async def run_for_office(store: Store, broker_id: int, now_ms: int) -> ClusterState | None:
    """Become the controller: its empty state, or None if another broker holds the office."""
    while True:
        held = await store.get(znodes.CONTROLLER_EPOCH)
        epoch = znodes.decode_controller_epoch(held.data) + 1
        operations: list[Operation] = [
            Create(znodes.CONTROLLER, ControllerZnode(broker_id, now_ms).encode(), ephemeral=True),
            Set(znodes.CONTROLLER_EPOCH, znodes.encode_controller_epoch(epoch), held.stat.version),
        ]
        try:
            _, stat = await store.multi(operations)
        except BadVersion:
            continue
        except NodeExists:
            holder = await store.exists(znodes.CONTROLLER)
            if holder is None:
                continue
            if holder.ephemeral_owner != store.session_id:
                return None
            # Our own multi, whose answer was lost: while we hold the office nobody raises the epoch.
            held = await store.get(znodes.CONTROLLER_EPOCH)
            own_epoch = znodes.decode_controller_epoch(held.data)
            return ClusterState(broker_id, own_epoch, held.stat.version)
        assert isinstance(stat, Stat)
        return ClusterState(broker_id, epoch, stat.version)


async def give_up_office(store: Store) -> None:
    """Let another broker be elected. Nothing happens where the office is not this session's any more."""
    epoch = await store.get(znodes.CONTROLLER_EPOCH)
    holder = await store.exists(znodes.CONTROLLER)
    if holder is None or holder.ephemeral_owner != store.session_id:
        return
    try:
        await store.multi(
            [Check(znodes.CONTROLLER_EPOCH, epoch.stat.version), Delete(znodes.CONTROLLER)]
        )
    except (BadVersion, NoNode):  # another one has been elected
        return


async def load_cluster(
    store: Store, state: ClusterState, before: Mapping[int, LiveBroker] | None = None
) -> set[PartitionId]:
    """Fill ``state``, whose brokers are known, from the store. What can't be read is noted, and left alone.

    Returns the partitions whose leader may have been restarted, and its log cut, without an election: it has
    registered since their state was written, or is another than ``before``, where this controller knew brokers.
    """
    names = sorted(await store.children(znodes.TOPICS))
    topic_znodes = await store.get_many([znodes.topic_path(name) for name in names])
    for name, znode in zip(names, topic_znodes, strict=True):
        if znode is None:
            continue
        try:
            found = TopicAssignment.decode(name, znode.data)
        except MalformedZnode as error:  # the other topics must not suffer
            log.error("a topic can't be read, and is left alone until it can", reason=str(error))
            state.unreadable_topics.add(name)
            continue
        assignment = dict(sorted(found.partitions.items()))
        topic = Topic(name, found.topic_id or ZERO_ID, assignment, znode.stat.version)
        topic.adding = {p: replicas for p, replicas in found.adding.items() if replicas}
        topic.removing = {p: replicas for p, replicas in found.removing.items() if replicas}
        state.add_topic(topic)
    known = state.brokers if before is None else before
    bounced = {
        broker_id
        for broker_id, live in state.brokers.items()
        if broker_id not in known or known[broker_id].epoch != live.epoch
    }
    restarted = await _load_partitions(store, state, bounced)
    state.deleting = set(await store.children(znodes.DELETE_TOPICS))
    return restarted


async def _load_partitions(
    store: Store, state: ClusterState, bounced: Collection[int]
) -> set[PartitionId]:
    restarted: set[PartitionId] = set()
    partitions = list(state.partition_ids())
    paths = [znodes.partition_state_path(*partition) for partition in partitions]
    for partition, path, znode in zip(partitions, paths, await store.get_many(paths), strict=True):
        if znode is None:
            continue
        try:
            found = LeaderAndIsr.decode(path, znode.data, znode.stat.version)
        except MalformedZnode as error:  # nor must the other partitions
            log.error(
                "a partition can't be read, and is left alone until it can", reason=str(error)
            )
            state.unreadable_partitions.add(partition)
            continue
        state.topics[partition.topic].partitions[partition.partition] = found
        leader = state.brokers.get(found.leader)
        if leader is not None and (leader.epoch > znode.stat.mzxid or found.leader in bounced):
            restarted.add(partition)
    return restarted


async def look_at_unreadable(store: Store, state: ClusterState, watch: Watch) -> None:
    """Have ``watch`` see what becomes of what can't be read; the state is stale if that is another already."""

    async def look(path: str, decode: Callable[[Znode], object]) -> None:
        try:
            decode(await store.get(path, watch=watch))
        except MalformedZnode:
            return
        except NoNode:
            log.info("what could not be read is gone", path=path)
        else:
            log.info("what could not be read can be read again", path=path)
        state.stale = True

    def topic(name: str) -> Awaitable[None]:
        return look(znodes.topic_path(name), lambda znode: TopicAssignment.decode(name, znode.data))

    def partition(partition: PartitionId) -> Awaitable[None]:
        path = znodes.partition_state_path(*partition)
        return look(path, lambda znode: LeaderAndIsr.decode(path, znode.data, znode.stat.version))

    await asyncio.gather(
        *map(topic, state.unreadable_topics), *map(partition, state.unreadable_partitions)
    )


async def missing_parents(store: Store, partitions: Sequence[PartitionId]) -> list[list[Operation]]:
    """Creates of the znodes above the states of ``partitions``, where a topic is half made."""
    parents: dict[str, None] = {}
    for topic, index in partitions:
        parents[znodes.partitions_path(topic)] = None
        parents[znodes.partition_path(topic, index)] = None
    found = await store.get_many(list(parents))
    return [[Create(path)] for path, znode in zip(parents, found, strict=True) if znode is None]


async def write_states(
    store: Store, state: ClusterState, changes: Mapping[PartitionId, LeaderAndIsr]
) -> tuple[list[PartitionId], list[PartitionId]]:
    """Write partitions' states, in several multis at once, and take them into ``state``.

    Each is conditional on its ``partition_epoch`` and on the controller epoch. Returns the partitions that
    were written, and those that were not because they are another than ``state`` had them; ``state`` then has
    them as they are. Raises ControllerMoved, also where a later controller's writing is met; any other
    StoreError marks the state as stale.
    """
    items = list(changes.items())
    chunks = [items[at : at + STATES_TOGETHER] for at in range(0, len(items), STATES_TOGETHER)]
    turns = asyncio.Semaphore(MULTIS_TOGETHER)

    async def write_chunk(
        chunk: list[tuple[PartitionId, LeaderAndIsr]],
    ) -> tuple[list[PartitionId], list[PartitionId]]:
        async with turns:
            return await _write_chunk(store, state, chunk)

    outcomes = await asyncio.gather(*map(write_chunk, chunks), return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for failure in sorted(failures, key=lambda error: not isinstance(error, ControllerMoved)):
        if isinstance(failure, StoreError):
            state.stale = True
        raise failure
    written: list[PartitionId] = []
    lost: list[PartitionId] = []
    for outcome in outcomes:
        assert not isinstance(outcome, BaseException)
        written += outcome[0]
        lost += outcome[1]
    return written, lost


async def _write_chunk(
    store: Store, state: ClusterState, chunk: list[tuple[PartitionId, LeaderAndIsr]]
) -> tuple[list[PartitionId], list[PartitionId]]:
    lost: list[PartitionId] = []
    while chunk:
        operations: list[Operation] = [controller_check(state)]
        operations += [set_leader(*item) for item in chunk]
        try:
            results = await store.multi(operations)
        except (BadVersion, NoNode) as error:
            if error.operation_index == 0:
                raise ControllerMoved("the controller epoch has changed") from error
            found = await reread(store, state, [partition for partition, _ in chunk])
            failed = {chunk[error.operation_index - 1][0]} | found
            lost += failed
            chunk = [item for item in chunk if item[0] not in failed]
            continue
        for (partition, written), stat in zip(chunk, results[1:], strict=True):
            assert isinstance(stat, Stat)
            topic = state.topics.get(partition.topic)
            if topic is not None:
                epoch = written._replace(partition_epoch=stat.version)
                topic.partitions[partition.partition] = epoch
        return [partition for partition, _ in chunk], lost
    return [], lost


async def reread(
    store: Store, state: ClusterState, partitions: list[PartitionId]
) -> set[PartitionId]:
    """Take in what the store has of ``partitions``; those that are another than ``state`` had them."""
    changed: set[PartitionId] = set()
    paths = [znodes.partition_state_path(*partition) for partition in partitions]
    for partition, path, znode in zip(partitions, paths, await store.get_many(paths), strict=True):
        states = state.topics[partition.topic].partitions
        if znode is None:
            states.pop(partition.partition, None)
            changed.add(partition)
            continue
        try:
            found = LeaderAndIsr.decode(path, znode.data, znode.stat.version)
        except MalformedZnode as error:
            log.error(
                "a partition can't be read, and is left alone until it can", reason=str(error)
            )
            states.pop(partition.partition, None)
            state.unreadable_partitions.add(partition)
            state.stale = True  # taken up anew, it is watched
            changed.add(partition)
            continue
        if found.controller_epoch > state.controller_epoch:
            raise ControllerMoved(f"{path} was written by a later controller")
        if found.partition_epoch != states[partition.partition].partition_epoch:
            changed.add(partition)
            states[partition.partition] = found
    return changed


async def write(
    store: Store, state: ClusterState, groups: Iterable[Sequence[Operation]]
) -> list[OperationResult]:
    """Apply groups of operations in as few multis as fit, each only while we hold the office.

    Returns the results of all groups' operations in order. Raises ControllerMoved; any other StoreError
    marks the state as stale, because multis before the failing one may have been applied.
    """
    results: list[OperationResult] = []
    for request in in_requests(state, groups):
        try:
            results += (await store.multi(request))[1:]
        except StoreError as error:
            if isinstance(error, BadVersion | NoNode) and error.operation_index == 0:
                raise ControllerMoved("the controller epoch has changed") from error
            state.stale = True
            raise
    return results


async def remove(store: Store, state: ClusterState, path: str) -> None:
    """Delete a znode that may be gone already. Raises ControllerMoved."""
    try:
        await store.multi([controller_check(state), Delete(path)])
    except NoNode as error:
        if error.operation_index == 0:
            raise ControllerMoved("the controller epoch has changed") from error
    except BadVersion as error:
        raise ControllerMoved("the controller epoch has changed") from error
    except StoreError:
        state.stale = True
        raise


async def try_again(change: Callable[[], Awaitable[_T]]) -> _T:
    """Repeat a read-and-write that lost to another writer."""
    for _ in range(_ATTEMPTS_MAX - 1):
        try:
            return await change()
        except (BadVersion, NodeExists, NoNode):
            continue
    return await change()

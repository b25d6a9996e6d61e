"""Taking office as the controller: the election through the store, and reading the cluster's state.

Rules: one multi creates the ephemeral ``/controller`` and raises ``/controller_epoch`` from the version that
was read, so that no two controllers have one epoch (invariant 27). Every later write checks that version
(28): ``write`` raises ControllerMoved once it is another. Reads are pipelined: a round trip a level.
Source: ``KafkaZkClient.registerControllerAndIncrementControllerEpoch``, ``KafkaController``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ottla.controller.cluster_state import ClusterState, LiveBroker, PartitionId, Topic
from ottla.controller.transitions import in_requests
from ottla.coordination import znodes
from ottla.coordination.store import (
    BadVersion,
    Create,
    NodeExists,
    NoNode,
    Operation,
    OperationResult,
    Set,
    Stat,
    Store,
    StoreError,
)
from ottla.coordination.znodes import (
    BrokerRegistration,
    ControllerZnode,
    LeaderAndIsr,
    TopicAssignment,
)
from ottla.topic_ids import ZERO_ID


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


async def load_cluster(store: Store, state: ClusterState) -> None:
    """Fill ``state`` from the store. Raises MalformedZnode rather than guess."""
    broker_ids = sorted(int(name) for name in await store.children(znodes.BROKER_IDS))
    registrations = await store.get_many([znodes.broker_path(number) for number in broker_ids])
    for broker_id, znode in zip(broker_ids, registrations, strict=True):
        if znode is not None:
            registration = BrokerRegistration.decode(broker_id, znode.data)
            state.brokers[broker_id] = LiveBroker(registration, znode.stat.czxid)
    names = sorted(await store.children(znodes.TOPICS))
    topic_znodes = await store.get_many([znodes.topic_path(name) for name in names])
    for name, znode in zip(names, topic_znodes, strict=True):
        if znode is not None:
            found = TopicAssignment.decode(name, znode.data)
            assignment = dict(sorted(found.partitions.items()))
            topic_id = found.topic_id or ZERO_ID
            state.add_topic(Topic(name, topic_id, assignment, znode.stat.version))
    await _load_partitions(store, state)
    state.deleting = set(await store.children(znodes.DELETE_TOPICS))


async def _load_partitions(store: Store, state: ClusterState) -> None:
    partitions = list(state.partition_ids())
    paths = [znodes.partition_state_path(*partition) for partition in partitions]
    for partition, path, znode in zip(partitions, paths, await store.get_many(paths), strict=True):
        if znode is not None:
            state.topics[partition.topic].partitions[partition.partition] = LeaderAndIsr.decode(
                path, znode.data, znode.stat.version
            )


async def missing_parents(store: Store, partitions: Sequence[PartitionId]) -> list[list[Operation]]:
    """Creates of the znodes above the states of ``partitions``, where a topic is half made."""
    parents: dict[str, None] = {}
    for topic, index in partitions:
        parents[znodes.partitions_path(topic)] = None
        parents[znodes.partition_path(topic, index)] = None
    found = await store.get_many(list(parents))
    return [[Create(path)] for path, znode in zip(parents, found, strict=True) if znode is None]


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

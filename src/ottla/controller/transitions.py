"""What follows from the cluster's state: the conditional writes, and the requests that tell the brokers.

Rules: every write names the version it is conditional on, and goes out behind a check of the controller
epoch (KAFKA-6082, invariant 28). A request names the controller epoch and the receiving broker's epoch
(27). Nothing is sent here and nothing is remembered: state in, operations and messages out. Source:
Kafka's ``PartitionStateMachine``, ``ControllerBrokerRequestBatch``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ottla.controller.cluster_state import ClusterState, PartitionId, Topic
from ottla.controller.election import leader_for_new
from ottla.coordination import znodes
from ottla.coordination.store import (
    REQUEST_BYTES_MAX,
    Check,
    Create,
    Delete,
    Operation,
    Set,
    request_bytes,
)
from ottla.coordination.znodes import (
    EPOCH_DURING_DELETE,
    LEADER_DURING_DELETE,
    SECURITY_PROTOCOLS,
    LeaderAndIsr,
)
from ottla.messages.leader_and_isr import (
    LeaderAndIsrLiveLeader,
    LeaderAndIsrPartitionState,
    LeaderAndIsrRequest,
    LeaderAndIsrTopicState,
)
from ottla.messages.stop_replica import (
    StopReplicaPartitionState,
    StopReplicaRequest,
    StopReplicaTopicState,
)
from ottla.messages.update_metadata import (
    UpdateMetadataBroker,
    UpdateMetadataEndpoint,
    UpdateMetadataPartitionState,
    UpdateMetadataRequest,
    UpdateMetadataTopicState,
)

LeaderChanges = Mapping[PartitionId, LeaderAndIsr]

UNKNOWN_TYPE = 0
FULL = 2
"""``type`` of a request that names all there is: the broker's replicas, or the cluster's partitions (KIP-866)."""

NO_EPOCH = -1
"""The leader epoch in a StopReplica where none is known: heeded by all."""

# Writes


def controller_check(state: ClusterState) -> Check:
    """The operation that every multi of this controller begins with."""
    return Check(znodes.CONTROLLER_EPOCH, state.epoch_version)


def in_requests(
    state: ClusterState, groups: Iterable[Sequence[Operation]]
) -> Iterator[list[Operation]]:
    """Pack groups of operations into as few multis as fit; a group is never torn apart."""
    check = controller_check(state)
    request: list[Operation] = [check]
    weight = request_bytes(request)
    for group in groups:
        group_weight = request_bytes(group)
        if len(request) > 1 and weight + group_weight > REQUEST_BYTES_MAX:
            yield request
            request, weight = [check], request_bytes([check])
        request += group
        weight += group_weight
    if len(request) > 1:
        yield request


def first_leaders(state: ClusterState, partitions: Iterable[PartitionId]) -> LeaderChanges:
    """The first state of each partition that has none yet and has a live replica."""
    changes: dict[PartitionId, LeaderAndIsr] = {}
    for partition in partitions:
        if state.leader_and_isr(partition) is None and partition not in state.unreadable_partitions:
            first = leader_for_new(
                state.assignment(partition), state.online(partition), state.controller_epoch
            )
            if first is not None:
                changes[partition] = first
    return changes


def create_partition(partition: PartitionId, first: LeaderAndIsr) -> list[Operation]:
    """The znodes of a partition that gets its first leader."""
    topic, index = partition
    return [
        Create(znodes.partition_path(topic, index)),
        Create(znodes.partition_state_path(topic, index), first.encode()),
    ]


def create_topic(
    topic: Topic, config: Mapping[str, str], config_version: int | None
) -> list[Operation]:
    """The znodes of a topic before its partitions; ``config_version`` is that of left-over settings."""
    config_path = znodes.config_path("topics", topic.name)
    data = znodes.encode_config(config)
    write_config: Operation = (
        Create(config_path, data)
        if config_version is None
        else Set(config_path, data, config_version)
    )
    return [
        write_config,
        Create(znodes.topic_path(topic.name), topic.encode()),
        Create(znodes.partitions_path(topic.name)),
    ]


def set_leader(partition: PartitionId, elected: LeaderAndIsr) -> Set:
    """The write of an election, conditional on the partition epoch it started from."""
    path = znodes.partition_state_path(partition.topic, partition.partition)
    return Set(path, elected.encode(), elected.partition_epoch)


def offline_partitions(
    state: ClusterState, partitions: Iterable[PartitionId] | None = None
) -> list[PartitionId]:
    """Those of ``partitions`` (of all, if None) whose leader is not online.

    Topics that are being deleted, and partitions that never had a leader, are left out.
    """
    return [
        partition
        for partition in (state.partition_ids() if partitions is None else partitions)
        if partition.topic not in state.deleting
        for current in (state.leader_and_isr(partition),)
        if current is not None and not state.is_led(partition, current.leader)
    ]


def delete_topic_groups(
    topic: str, partitions: Mapping[str, bool], *, has_partitions: bool, has_config: bool
) -> list[list[Operation]]:
    """Remove a topic's znodes as found: its partitions (true: with a state), and last what names it.

    The last group goes as one, so that a deletion that is cut short is still known and goes on.
    """
    groups: list[list[Operation]] = []
    for name, has_state in partitions.items():
        path = f"{znodes.partitions_path(topic)}/{name}"
        group: list[Operation] = [Delete(f"{path}/state")] if has_state else []
        groups.append([*group, Delete(path)])
    last: list[Operation] = [Delete(znodes.partitions_path(topic))] if has_partitions else []
    last.append(Delete(znodes.topic_path(topic)))
    if has_config:
        last.append(Delete(znodes.config_path("topics", topic)))
    last.append(Delete(znodes.delete_topic_path(topic)))
    groups.append(last)
    return groups


# Requests to brokers, by broker id


def leader_and_isr_requests(
    state: ClusterState,
    partitions: Iterable[PartitionId],
    *,
    new: Collection[PartitionId] = (),
    listener: str = "PLAINTEXT",
    to: Collection[int] | None = None,
    full: bool = False,
) -> dict[int, LeaderAndIsrRequest]:
    """Tell each replica of ``partitions`` that can be reached who leads. ``new`` have no log yet.

    So have replicas that are being added. ``listener`` is the one by which brokers reach each other; ``to``
    are the brokers that are told, all if None; ``full``: these are all the replicas that they have.
    """
    by_broker: dict[int, dict[str, list[LeaderAndIsrPartitionState]]] = {}
    leaders: dict[int, set[int]] = {}
    if full:
        by_broker = {broker_id: {} for broker_id in to or () if broker_id in state.brokers}
        leaders = {broker_id: set() for broker_id in by_broker}
    for partition in partitions:
        current = state.leader_and_isr(partition)
        if current is None:
            continue
        adding = state.topics[partition.topic].adding.get(partition.partition, ())
        told: dict[bool, LeaderAndIsrPartitionState] = {}
        for broker_id in state.assignment(partition):
            if (to is None or broker_id in to) and state.is_reachable(broker_id, partition):
                is_new = partition in new or (broker_id in adding and broker_id not in current.isr)
                if is_new not in told:
                    told[is_new] = _partition_state(state, partition, current, is_new)
                topics = by_broker.setdefault(broker_id, {})
                topics.setdefault(partition.topic, []).append(told[is_new])
                leaders.setdefault(broker_id, set()).add(current.leader)
    return {
        broker_id: LeaderAndIsrRequest(
            controller_id=state.controller_id,
            controller_epoch=state.controller_epoch,
            broker_epoch=state.brokers[broker_id].epoch,
            type=FULL if full else UNKNOWN_TYPE,
            topic_states=[
                LeaderAndIsrTopicState(
                    topic_name=topic,
                    topic_id=state.topics[topic].topic_id,
                    partition_states=states,
                )
                for topic, states in topics.items()
            ],
            live_leaders=_live_leaders(state, leaders[broker_id], listener),
        )
        for broker_id, topics in by_broker.items()
    }


def _partition_state(
    state: ClusterState, partition: PartitionId, current: LeaderAndIsr, is_new: bool
) -> LeaderAndIsrPartitionState:
    topic = state.topics[partition.topic]
    return LeaderAndIsrPartitionState(
        partition_index=partition.partition,
        controller_epoch=current.controller_epoch,
        leader=current.leader,
        leader_epoch=current.leader_epoch,
        isr=list(current.isr),
        partition_epoch=current.partition_epoch,
        replicas=list(state.assignment(partition)),
        adding_replicas=list(topic.adding.get(partition.partition, ())),
        removing_replicas=list(topic.removing.get(partition.partition, ())),
        is_new=is_new,
        leader_recovery_state=current.leader_recovery_state,
    )


def _live_leaders(
    state: ClusterState, leaders: Collection[int], listener: str
) -> list[LeaderAndIsrLiveLeader]:
    return [
        LeaderAndIsrLiveLeader(broker_id=broker_id, host_name=endpoint.host, port=endpoint.port)
        for broker_id in sorted(leaders)
        if broker_id in state.brokers
        for endpoint in state.brokers[broker_id].registration.endpoints
        if endpoint.listener == listener
    ]


def update_metadata_requests(
    state: ClusterState,
    partitions: Iterable[PartitionId],
    *,
    to: Collection[int] | None = None,
    full: bool = False,
) -> dict[int, UpdateMetadataRequest]:
    """Tell every live broker (or those of ``to``) of all live brokers and of ``partitions``.

    ``full``: these are all that there are, and a broker forgets others.

    Partitions without a state are left out: they have never had a leader. Those of a topic that is being
    deleted have leader -2: forget them. A topic of which something can't be read is named in any case: it is
    not gone, and what is known of the rest of it goes on being so.
    """
    topics: dict[str, list[UpdateMetadataPartitionState]] = {}
    if full:
        unreadable = {partition.topic for partition in state.unreadable_partitions}
        topics = {name: [] for name in sorted(unreadable - state.deleting)}
    for partition in partitions:
        current = state.leader_and_isr(partition)
        if current is None and partition.topic in state.deleting:
            current = LeaderAndIsr(LEADER_DURING_DELETE, ())
        if current is not None:
            topics.setdefault(partition.topic, []).append(
                _partition_metadata(state, partition, current)
            )
    topic_states = [
        UpdateMetadataTopicState(
            topic_name=topic, topic_id=state.topics[topic].topic_id, partition_states=states
        )
        for topic, states in topics.items()
    ]
    if full:
        topic_states += [
            UpdateMetadataTopicState(topic_name=topic)
            for topic in sorted(state.unreadable_topics - state.deleting)
        ]
    live_brokers = _live_brokers(state)
    return {
        broker_id: UpdateMetadataRequest(
            controller_id=state.controller_id,
            controller_epoch=state.controller_epoch,
            broker_epoch=live.epoch,
            type=FULL if full else UNKNOWN_TYPE,
            topic_states=topic_states,
            live_brokers=live_brokers,
        )
        for broker_id, live in state.brokers.items()
        if to is None or broker_id in to
    }


def _live_brokers(state: ClusterState) -> list[UpdateMetadataBroker]:
    return [
        UpdateMetadataBroker(
            id=broker_id,
            endpoints=[
                UpdateMetadataEndpoint(
                    host=endpoint.host,
                    port=endpoint.port,
                    listener=endpoint.listener,
                    security_protocol=SECURITY_PROTOCOLS.index(endpoint.security_protocol),
                )
                for endpoint in live.registration.endpoints
            ],
            rack=live.registration.rack,
        )
        for broker_id, live in state.brokers.items()
    ]


def _partition_metadata(
    state: ClusterState, partition: PartitionId, current: LeaderAndIsr
) -> UpdateMetadataPartitionState:
    if partition.topic in state.deleting:  # LeaderAndIsr.duringDelete: no epochs of its own
        controller_epoch = current.controller_epoch
        current = LeaderAndIsr(LEADER_DURING_DELETE, current.isr, 0, controller_epoch)
    replicas = state.assignment(partition)
    return UpdateMetadataPartitionState(
        partition_index=partition.partition,
        controller_epoch=current.controller_epoch,
        leader=current.leader,
        leader_epoch=current.leader_epoch,
        isr=list(current.isr),
        zk_version=current.partition_epoch,
        replicas=list(replicas),
        offline_replicas=[
            replica for replica in replicas if not state.is_online(replica, partition)
        ],
    )


def stop_replica_requests(
    state: ClusterState, replicas: Mapping[int, Collection[PartitionId]], *, delete: bool
) -> dict[int, StopReplicaRequest]:
    """Tell brokers to stop some of their replicas, and with ``delete`` to delete their logs.

    The leader epoch that goes with it is that of now; -2, which is above all, for topics being deleted.
    """
    requests: dict[int, StopReplicaRequest] = {}
    for broker_id, partitions in replicas.items():
        live = state.brokers.get(broker_id)
        if live is None:
            continue
        topics: dict[str, list[StopReplicaPartitionState]] = {}
        for partition in partitions:
            topics.setdefault(partition.topic, []).append(
                StopReplicaPartitionState(
                    partition_index=partition.partition,
                    leader_epoch=_epoch_of_stop(state, partition),
                    delete_partition=delete,
                )
            )
        if topics:
            requests[broker_id] = StopReplicaRequest(
                controller_id=state.controller_id,
                controller_epoch=state.controller_epoch,
                broker_epoch=live.epoch,
                topic_states=[
                    StopReplicaTopicState(topic_name=topic, partition_states=states)
                    for topic, states in topics.items()
                ],
            )
    return requests


def _epoch_of_stop(state: ClusterState, partition: PartitionId) -> int:
    if partition.topic in state.deleting:
        return EPOCH_DURING_DELETE
    current = state.leader_and_isr(partition)
    return current.leader_epoch if current is not None else NO_EPOCH

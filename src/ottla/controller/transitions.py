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
        if state.leader_and_isr(partition) is None:
            first = leader_for_new(
                state.assignment(partition), state.brokers, state.controller_epoch
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


def set_leader(partition: PartitionId, elected: LeaderAndIsr) -> list[Operation]:
    """The write of an election, conditional on the partition epoch it started from."""
    path = znodes.partition_state_path(partition.topic, partition.partition)
    return [Set(path, elected.encode(), elected.partition_epoch)]


def offline_partitions(state: ClusterState) -> list[PartitionId]:
    """Partitions whose leader is not online, those of topics that are being deleted aside."""
    return [
        PartitionId(topic.name, index)
        for topic in state.topics.values()
        if topic.name not in state.deleting
        for index, current in topic.partitions.items()
        if not state.is_online(current.leader, PartitionId(topic.name, index))
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
) -> dict[int, LeaderAndIsrRequest]:
    """Tell each live replica of ``partitions`` who leads. ``new`` are those with no log yet.

    ``listener`` is the one by which brokers reach each other.
    """
    by_broker: dict[int, dict[str, list[LeaderAndIsrPartitionState]]] = {}
    leaders: dict[int, set[int]] = {}
    for partition in partitions:
        current = state.leader_and_isr(partition)
        if current is None:
            continue
        replicas = state.assignment(partition)
        for broker_id in replicas:
            if state.is_online(broker_id, partition):
                topics = by_broker.setdefault(broker_id, {})
                topics.setdefault(partition.topic, []).append(
                    LeaderAndIsrPartitionState(
                        partition_index=partition.partition,
                        controller_epoch=current.controller_epoch,
                        leader=current.leader,
                        leader_epoch=current.leader_epoch,
                        isr=list(current.isr),
                        partition_epoch=current.partition_epoch,
                        replicas=list(replicas),
                        is_new=partition in new,
                        leader_recovery_state=current.leader_recovery_state,
                    )
                )
                leaders.setdefault(broker_id, set()).add(current.leader)
    return {
        broker_id: LeaderAndIsrRequest(
            controller_id=state.controller_id,
            controller_epoch=state.controller_epoch,
            broker_epoch=state.brokers[broker_id].epoch,
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
    state: ClusterState, partitions: Iterable[PartitionId]
) -> dict[int, UpdateMetadataRequest]:
    """Tell every live broker of all live brokers and of ``partitions`` as they are now.

    Partitions without a state are left out: they have never had a leader. Those of a topic that is being
    deleted have leader -2: forget them.
    """
    topics: dict[str, list[UpdateMetadataPartitionState]] = {}
    for partition in partitions:
        current = state.leader_and_isr(partition)
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
    live_brokers = [
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
    return {
        broker_id: UpdateMetadataRequest(
            controller_id=state.controller_id,
            controller_epoch=state.controller_epoch,
            broker_epoch=live.epoch,
            topic_states=topic_states,
            live_brokers=live_brokers,
        )
        for broker_id, live in state.brokers.items()
    }


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


def delete_replica_requests(
    state: ClusterState, topics: Iterable[str]
) -> dict[int, StopReplicaRequest]:
    """Tell each live replica of topics that are being deleted to stop and to delete its logs."""
    by_broker: dict[int, list[StopReplicaTopicState]] = {}
    for topic in topics:
        partitions: dict[int, list[StopReplicaPartitionState]] = {}
        for index, replicas in state.topics[topic].assignment.items():
            for broker_id in replicas:
                if broker_id in state.brokers:
                    partitions.setdefault(broker_id, []).append(
                        StopReplicaPartitionState(
                            partition_index=index,
                            leader_epoch=EPOCH_DURING_DELETE,
                            delete_partition=True,
                        )
                    )
        for broker_id, states in partitions.items():
            by_broker.setdefault(broker_id, []).append(
                StopReplicaTopicState(topic_name=topic, partition_states=states)
            )
    return {
        broker_id: StopReplicaRequest(
            controller_id=state.controller_id,
            controller_epoch=state.controller_epoch,
            broker_epoch=state.brokers[broker_id].epoch,
            topic_states=topic_states,
        )
        for broker_id, topic_states in by_broker.items()
    }

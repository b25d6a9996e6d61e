"""What clients may ask of topics, and whether it can be had: all checks before anything is written.

Rules: a plan either stands whole or raises KafkaError with the answer's code. Checks and their messages are
Kafka's, in Kafka's order, but for the name, which is checked first. Source: Kafka's ``ZkAdminManager`` and
``AdminZkClient``; unknown brokers in a new topic's assignment are refused as KRaft does, where ZooKeeper
mode made a topic that nobody could lead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ottla import topic_ids
from ottla.controller import topic_names
from ottla.controller.assignment import BrokerRack, assign_replicas
from ottla.controller.cluster_state import ClusterState, Topic
from ottla.coordination import znodes
from ottla.errors import ErrorCode, KafkaError

UNSET = -1
"""Partitions or replication factor: as the broker's settings say."""


class NewTopic(NamedTuple):
    """A topic to create: by numbers, or with each partition's replicas in ``assignments``."""

    name: str
    num_partitions: int = UNSET
    replication_factor: int = UNSET
    assignments: Mapping[int, Sequence[int]] = {}
    configs: Mapping[str, str | None] = {}


class NewPartitions(NamedTuple):
    """A topic to enlarge to ``total`` partitions, each new one's replicas in ``assignments`` if given."""

    name: str
    total: int
    assignments: Sequence[Sequence[int]] | None = None


class TopicResult(NamedTuple):
    """What became of one item of a request; the rest is filled in where there is no error."""

    name: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    topic_id: bytes = topic_ids.ZERO_ID
    num_partitions: int = -1
    replication_factor: int = -1
    configs: Mapping[str, str] = {}

    @classmethod
    def refused(cls, name: str, error: KafkaError) -> TopicResult:
        """The result that tells ``error``."""
        return cls(name, error.code, error.message)


class TopicRules(Protocol):
    """What the controller needs to know of topic settings, which belong to another room."""

    def validate(self, overrides: Mapping[str, str]) -> None:
        """Raise KafkaError (INVALID_CONFIG, POLICY_VIOLATION) for overrides that a topic can't have."""
        ...

    def allows_unclean_election(self, overrides: Mapping[str, str]) -> bool:
        """``unclean.leader.election.enable`` of a topic with these overrides."""
        ...


class PlannedTopic(NamedTuple):
    """A topic that may be created."""

    topic: Topic
    configs: dict[str, str]


def plan_topic(
    state: ClusterState,
    wanted: NewTopic,
    *,
    default_partitions: int,
    default_replication_factor: int,
    rules: TopicRules,
    random_index: Callable[[int], int],
    taken: Mapping[str, str] = {},
) -> PlannedTopic:
    """Everything about a new topic, or the KafkaError that says why not.

    ``taken`` are topics planned before in the same request, by name with collision characters unified;
    ``random_index(n)`` picks one of ``range(n)``.
    """
    _check_name_is_free(state, wanted.name, taken)
    missing = [name for name, value in wanted.configs.items() if value is None]
    if missing:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"Null value not supported for topic configs: {','.join(missing)}",
        )
    configs = {name: value for name, value in wanted.configs.items() if value is not None}
    numbers_set = wanted.num_partitions != UNSET or wanted.replication_factor != UNSET
    if numbers_set and wanted.assignments:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            "Both numPartitions or replicationFactor and replicasAssignments were set. "
            "Both cannot be used at the same time.",
        )
    if wanted.assignments:
        assignment = _checked_assignment(state, wanted.assignments)
    else:
        brokers = brokers_with_racks(state)
        partitions, replicas = wanted.num_partitions, wanted.replication_factor
        assignment = assign_replicas(
            brokers,
            default_partitions if partitions == UNSET else partitions,
            default_replication_factor if replicas == UNSET else replicas,
            start_index=random_index(max(1, len(brokers))),
            shift=random_index(max(1, len(brokers))),
        )
    rules.validate(configs)
    topic = Topic(wanted.name, topic_ids.random_topic_id(), assignment, version=0)
    return PlannedTopic(topic, configs)


def plan_partitions(state: ClusterState, wanted: NewPartitions) -> dict[int, tuple[int, ...]]:
    """The replicas of the partitions to add, or the KafkaError that says why not."""
    check_readable(state, wanted.name)
    topic = state.topics.get(wanted.name)
    if topic is None:
        raise unknown_topic(wanted.name)
    if wanted.name in state.deleting:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "The topic is queued for deletion.")
    existing = len(topic.assignment)
    increment = wanted.total - existing
    if increment < 0:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"Topic currently has {existing} partitions, which is higher than the requested "
            f"{wanted.total}.",
        )
    if increment == 0:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {existing} partitions.")
    if wanted.assignments is not None:
        return _checked_additions(state, topic, increment, wanted.assignments)
    brokers = brokers_with_racks(state)
    first_leader = topic.assignment[0][0]
    start = next((i for i, b in enumerate(brokers) if b.broker_id >= first_leader), 0)
    return assign_replicas(
        brokers,
        increment,
        topic.replication_factor,
        start_index=start,
        shift=start,
        first_partition=existing,
    )


def brokers_with_racks(state: ClusterState) -> list[BrokerRack]:
    """The live brokers by id."""
    return [
        BrokerRack(broker_id, state.brokers[broker_id].registration.rack)
        for broker_id in sorted(state.live_brokers())
    ]


def unknown_topic(name: str) -> KafkaError:
    """The error for a topic that does not exist."""
    return KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")


def check_readable(state: ClusterState, name: str) -> None:
    """Refuse what is asked of a topic that can't be read: that it does not exist would be untrue."""
    if name in state.unreadable_topics:
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"The topic '{name}' can't be read: see {znodes.topic_path(name)}.",
        )


def already_exists(name: str) -> KafkaError:
    """The error for a topic that does."""
    return KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")


def _check_name_is_free(state: ClusterState, name: str, taken: Mapping[str, str]) -> None:
    topic_names.validate(name)
    if name == topic_names.CLUSTER_METADATA_TOPIC:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Creation of internal topic {name} is prohibited."
        )
    if name in state.deleting:
        raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' is marked for deletion.")
    if name in state.topics or name in state.unreadable_topics:
        raise already_exists(name)
    colliding = state.colliding_topics(name)
    unified = topic_names.unify_collision_characters(name)
    if unified in taken:
        colliding.append(taken[unified])
    if colliding:
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"Topic '{name}' collides with existing topics: {', '.join(colliding)}",
        )


def _invalid_assignment(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)


def _check_replicas(state: ClusterState, partition: int, replicas: Sequence[int]) -> None:
    if not replicas:
        raise _invalid_assignment(
            f"Cannot have replication factor of 0 for partition id {partition}."
        )
    if len(set(replicas)) != len(replicas):
        raise _invalid_assignment(
            f"Duplicate brokers not allowed in replica assignment: "
            f"{', '.join(map(str, replicas))} for partition id {partition}."
        )
    unknown = [replica for replica in replicas if not state.is_alive(replica)]
    if unknown:
        raise _invalid_assignment(
            f"Unknown broker(s) in replica assignment: {', '.join(map(str, unknown))}."
        )


def _checked_assignment(
    state: ClusterState, assignments: Mapping[int, Sequence[int]]
) -> dict[int, tuple[int, ...]]:
    if sorted(assignments) != list(range(len(assignments))):
        raise _invalid_assignment("partitions should be a consecutive 0-based integer sequence")
    if len({len(replicas) for replicas in assignments.values()}) != 1:
        raise _invalid_assignment("All partitions should have the same number of replicas")
    for partition, replicas in assignments.items():
        _check_replicas(state, partition, replicas)
    return {partition: tuple(assignments[partition]) for partition in sorted(assignments)}


def _checked_additions(
    state: ClusterState, topic: Topic, increment: int, assignments: Sequence[Sequence[int]]
) -> dict[int, tuple[int, ...]]:
    if len(assignments) != increment:
        raise _invalid_assignment(
            f"Increasing the number of partitions by {increment} but {len(assignments)} "
            "assignments provided."
        )
    additions: dict[int, tuple[int, ...]] = {}
    for partition, replicas in enumerate(assignments, start=len(topic.assignment)):
        _check_replicas(state, partition, replicas)
        if len(replicas) != topic.replication_factor:
            raise _invalid_assignment(
                "Inconsistent replication factor between partitions, partition 0 has "
                f"{topic.replication_factor} while partition {partition} has {len(replicas)}."
            )
        additions[partition] = tuple(replicas)
    return additions

"""Carrying out what happens to topics: creation, growth, deletion, and making good what was cut short.

Rules: a topic comes into being in one multi (of as many as its size needs: its name and first partitions in
the first, which is enough for the rest to be made good). It is deleted from the brokers first and from the
store last, so that a deletion goes on after any crash. The state changes only after the store. Brokers are
told before anybody is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ottla.controller import transitions
from ottla.controller.announcer import Announcer
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.configs import TOPICS, read_configs
from ottla.controller.election import leader_for_new, leader_for_offline, without_leader
from ottla.controller.office import missing_parents, write
from ottla.controller.topic_names import unify_collision_characters
from ottla.controller.topics import (
    UNSET,
    NewPartitions,
    NewTopic,
    PlannedTopic,
    TopicResult,
    TopicRules,
    already_exists,
    plan_partitions,
    plan_topic,
    unknown_topic,
)
from ottla.coordination import znodes
from ottla.coordination.store import (
    Create,
    Delete,
    NodeExists,
    NoNode,
    RequestTooLarge,
    SessionExpired,
    Set,
    Store,
    StoreError,
)
from ottla.coordination.znodes import NO_LEADER, LeaderAndIsr
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger

log = logger(__name__)

TOPICS_TOGETHER = 16
"""New topics of one request that are planned, stored and announced in one go: some milliseconds."""


class TopicDefaults(NamedTuple):
    """Settings that decide about topics where the request does not."""

    num_partitions: int = 1
    replication_factor: int = 1
    partitions_per_request_max: int = 10_000
    """More new partitions in one request are a POLICY_VIOLATION, as in KRaft."""


class TopicChanges:
    """Changes topics in the store and at the brokers, for whoever holds the controller's office."""

    def __init__(
        self,
        store: Store,
        announcer: Announcer,
        rules: TopicRules,
        defaults: TopicDefaults,
        random_index: Callable[[int], int],
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._rules = rules
        self._defaults = defaults
        self._random_index = random_index

    # Taking over

    async def make_good(self, state: ClusterState) -> None:
        """Bring store and brokers to what the state asks for, after taking office or losing track.

        Elects first leaders and successors, tells every broker everything, resumes deletions.
        """
        unknown = state.deleting - state.topics.keys()
        if unknown:  # the mark was all that was left
            await write(
                self._store, state, [[Delete(znodes.delete_topic_path(name))] for name in unknown]
            )
            state.deleting -= unknown
        present = [name for name in state.topics if name not in state.deleting]
        first = transitions.first_leaders(state, state.partition_ids(present))
        if first:
            parents = await missing_parents(self._store, list(first))
            states = [
                [Create(znodes.partition_state_path(*partition), leader.encode())]
                for partition, leader in first.items()
            ]
            await write(self._store, state, [*parents, *states])
            _remember(state, first)
        await self._elect_offline(state)
        await self._announce(state, list(state.partition_ids(present)), new=first)
        if state.deleting:
            await self.resume_deletions(state)

    async def _announce(
        self,
        state: ClusterState,
        partitions: Collection[PartitionId],
        *,
        new: Collection[PartitionId] = (),
    ) -> None:
        """Tell the brokers; where one has lost a replica with its log directory, elect another leader."""
        offline = await self._announcer.announce(state, partitions, new=new)
        if not offline:
            return
        for broker_id, lost in offline.items():
            state.offline_replicas.setdefault(broker_id, set()).update(lost)
        changed = set().union(*offline.values())
        await self._elect_offline(state)
        await self._leave_leaderless(state, changed)
        await self._announcer.announce(state, sorted(changed))

    async def _leave_leaderless(
        self, state: ClusterState, changed: Collection[PartitionId]
    ) -> None:
        """What has lost its leader and found no other has none, and no client is sent to the old one."""
        leaderless: dict[PartitionId, LeaderAndIsr] = {}
        for partition in transitions.offline_partitions(state):
            current = state.leader_and_isr(partition)
            if partition in changed and current is not None and current.leader != NO_LEADER:
                offline = set(state.assignment(partition)) - state.online(partition)
                leaderless[partition] = without_leader(current, offline, state.controller_epoch)
        await self._write_leaders(state, leaderless)

    async def check_replicas(self, state: ClusterState, broker_ids: Collection[int]) -> None:
        """Brokers have lost log directories: ask for what they can still lead (KIP-112)."""
        await self._announce(
            state,
            [
                partition
                for partition in state.partition_ids()
                if partition.topic not in state.deleting
                and any(state.is_online(broker, partition) for broker in broker_ids)
                and not set(broker_ids).isdisjoint(state.assignment(partition))
            ],
        )

    async def _elect_offline(self, state: ClusterState) -> None:
        elected: dict[PartitionId, LeaderAndIsr] = {}
        undecided: list[PartitionId] = []
        for partition in transitions.offline_partitions(state):
            successor = _successor(state, partition, unclean=False)
            if successor is not None:
                elected[partition] = successor
            else:
                undecided.append(partition)
        if undecided:
            names = {partition.topic for partition in undecided}
            configs = await read_configs(self._store, TOPICS, names)
            for partition in undecided:
                overrides = configs[partition.topic].config
                if self._rules.allows_unclean_election(overrides):
                    successor = _successor(state, partition, unclean=True)
                    if successor is not None:
                        log.warning(
                            "unclean leader election",
                            topic=partition.topic,
                            partition=partition.partition,
                            leader=successor.leader,
                        )
                        elected[partition] = successor
        await self._write_leaders(state, elected)

    async def _write_leaders(
        self, state: ClusterState, elected: Mapping[PartitionId, LeaderAndIsr]
    ) -> None:
        await write(self._store, state, [transitions.set_leader(*item) for item in elected.items()])
        _remember(
            state,
            {
                partition: leader._replace(partition_epoch=leader.partition_epoch + 1)
                for partition, leader in elected.items()
            },
        )

    # Creation

    async def create(
        self, state: ClusterState, wanted: Sequence[NewTopic], validate_only: bool
    ) -> list[TopicResult]:
        """One result for each of ``wanted``, in order.

        They are made ``TOPICS_TOGETHER`` at a time, and others have their turns in between.
        """
        results: dict[int, TopicResult] = {}
        repeated = _repeated(topic.name for topic in wanted)
        excessive = self._is_excessive(wanted)
        taken: dict[str, str] = {}
        numbered = list(enumerate(wanted))
        for start in range(0, len(numbered), TOPICS_TOGETHER):
            some = numbered[start : start + TOPICS_TOGETHER]
            planned = self._plan(state, some, results, repeated, taken, excessive=excessive)
            if not validate_only and planned:
                await self._create_planned(state, planned, results)
            for index, plan in planned.items():
                results.setdefault(index, _created(plan, validate_only))
            await asyncio.sleep(0)
        return [results[index] for index in range(len(wanted))]

    def _plan(
        self,
        state: ClusterState,
        wanted: Sequence[tuple[int, NewTopic]],
        results: dict[int, TopicResult],
        repeated: Collection[str],
        taken: dict[str, str],
        *,
        excessive: bool,
    ) -> dict[int, PlannedTopic]:
        planned: dict[int, PlannedTopic] = {}
        for index, topic in wanted:
            try:
                if excessive:
                    raise KafkaError(
                        ErrorCode.POLICY_VIOLATION,
                        "Excessively large number of partitions per request.",
                    )
                if topic.name in repeated:
                    raise KafkaError(
                        ErrorCode.INVALID_REQUEST,
                        f"Create topics request from client contains multiple entries for the "
                        f"following topic: {topic.name}",
                    )
                planned[index] = plan_topic(
                    state,
                    topic,
                    default_partitions=self._defaults.num_partitions,
                    default_replication_factor=self._defaults.replication_factor,
                    rules=self._rules,
                    random_index=self._random_index,
                    taken=taken,
                )
                taken[unify_collision_characters(topic.name)] = topic.name
            except KafkaError as error:
                results[index] = TopicResult.refused(topic.name, error)
        return planned

    def _is_excessive(self, wanted: Iterable[NewTopic]) -> bool:
        total = 0
        for topic in wanted:
            default = self._defaults.num_partitions
            asked = default if topic.num_partitions == UNSET else max(0, topic.num_partitions)
            total += max(1, len(topic.assignments) or asked)
        return total > self._defaults.partitions_per_request_max

    async def _create_planned(
        self,
        state: ClusterState,
        planned: Mapping[int, PlannedTopic],
        results: dict[int, TopicResult],
    ) -> None:
        names = [plan.topic.name for plan in planned.values()]
        left_over = await read_configs(self._store, TOPICS, names)
        outcomes = await _gather(
            self._create_one(state, plan, left_over[plan.topic.name].version)
            for plan in planned.values()
        )
        new: list[PartitionId] = []
        for (index, plan), outcome in zip(planned.items(), outcomes, strict=True):
            if isinstance(outcome, KafkaError):
                results[index] = TopicResult.refused(plan.topic.name, outcome)
                continue
            state.add_topic(plan.topic)
            new += state.partition_ids((plan.topic.name,))
        if new:
            await self._announce(state, new, new=set(new))

    async def _create_one(
        self, state: ClusterState, plan: PlannedTopic, config_version: int | None
    ) -> None:
        topic = plan.topic
        groups = [transitions.create_topic(topic, plan.configs, config_version)]
        for index, replicas in topic.assignment.items():
            first = leader_for_new(replicas, state.brokers, state.controller_epoch)
            if first is not None:
                topic.partitions[index] = first
                groups.append(transitions.create_partition(PartitionId(topic.name, index), first))
        try:
            await write(self._store, state, groups)
        except NodeExists as error:
            raise already_exists(topic.name) from error
        log.info(
            "topic created",
            topic=topic.name,
            partitions=len(topic.assignment),
            replication_factor=topic.replication_factor,
        )

    # Growth

    async def add_partitions(
        self, state: ClusterState, wanted: Sequence[NewPartitions], validate_only: bool
    ) -> list[TopicResult]:
        """One result for each of ``wanted``, in order."""
        repeated = _repeated(item.name for item in wanted)
        grown = sum(
            max(0, item.total - len(state.topics[item.name].assignment))
            for item in wanted
            if item.name in state.topics
        )
        results: list[TopicResult] = []
        for item in wanted:
            try:
                if item.name in repeated:
                    raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic in request.")
                if grown > self._defaults.partitions_per_request_max:
                    raise KafkaError(
                        ErrorCode.POLICY_VIOLATION,
                        "Excessively large number of partitions per request.",
                    )
                additions = plan_partitions(state, item)
                if not validate_only:
                    await self._add(state, item.name, additions)
                results.append(TopicResult(item.name))
            except KafkaError as error:
                results.append(TopicResult.refused(item.name, error))
            except StoreError as error:
                results.append(TopicResult.refused(item.name, answer_for(error)))
        return results

    async def _add(
        self, state: ClusterState, name: str, additions: Mapping[int, tuple[int, ...]]
    ) -> None:
        topic = state.topics[name]
        assignment = {**topic.assignment, **additions}
        data = znodes.TopicAssignment(topic.topic_id, assignment).encode()
        first: dict[PartitionId, LeaderAndIsr] = {}
        for index, replicas in additions.items():
            leader = leader_for_new(replicas, state.brokers, state.controller_epoch)
            if leader is not None:
                first[PartitionId(name, index)] = leader
        await write(
            self._store,
            state,
            [
                [Set(znodes.topic_path(name), data, topic.version)],
                *(transitions.create_partition(*item) for item in first.items()),
            ],
        )
        topic.assignment = assignment
        topic.version += 1
        _remember(state, first)
        log.info("partitions added", topic=name, partitions=len(assignment))
        await self._announce(state, list(first), new=first)

    # Deletion

    async def delete(
        self, state: ClusterState, names: Sequence[str], ids: Mapping[str, bytes]
    ) -> list[TopicResult]:
        """One result for each name, in order; REQUEST_TIMED_OUT where the deletion goes on later.

        ``ids``: those that topics must have, UNKNOWN_TOPIC_ID else: one may have been made again.
        """
        results: dict[str, TopicResult] = {}
        marked: list[str] = []
        for name, topic_id in ids.items():
            if name not in state.topics or state.topics[name].topic_id != topic_id:
                error = KafkaError(ErrorCode.UNKNOWN_TOPIC_ID, "No topic has this id any more.")
                results[name] = TopicResult.refused(name, error)
        known = [
            name for name in dict.fromkeys(names) if name in state.topics and name not in results
        ]
        outcomes = await _gather(self._mark(state, name) for name in known)
        for name, outcome in zip(known, outcomes, strict=True):
            if isinstance(outcome, KafkaError):
                results[name] = TopicResult.refused(name, outcome)
            else:
                marked.append(name)
        state.deleting.update(marked)
        left = await self._finish_deletions(state, marked) if marked else set()
        for name in names:
            if name in left:
                error = KafkaError(
                    ErrorCode.REQUEST_TIMED_OUT, f"The deletion of topic '{name}' goes on later."
                )
                results[name] = TopicResult.refused(name, error)
            elif name in marked:
                results[name] = TopicResult(name)
            elif name not in results:
                results[name] = TopicResult.refused(name, unknown_topic(name))
        return [results[name] for name in names]

    async def resume_deletions(self, state: ClusterState) -> None:
        """Go on with the deletions that are not complete."""
        await self._finish_deletions(state, sorted(state.deleting))

    async def _mark(self, state: ClusterState, name: str) -> None:
        if name in state.deleting:
            return
        try:
            await write(self._store, state, [[Create(znodes.delete_topic_path(name))]])
        except NodeExists:  # somebody else asked for it
            return

    async def _finish_deletions(self, state: ClusterState, names: Collection[str]) -> set[str]:
        """Delete topics from brokers and store; returns those that are not gone yet."""
        await self._announcer.update_metadata(state, list(state.partition_ids(names)))
        left = await self._announcer.delete_replicas(state, names)
        removable = [name for name in names if name not in left]
        outcomes = await _gather(self._remove(state, name) for name in removable)
        for name, outcome in zip(removable, outcomes, strict=True):
            if isinstance(outcome, KafkaError):
                left.add(name)
            else:
                state.remove_topic(name)
                log.info("topic deleted", topic=name)
        for name in left:
            log.warning("deletion of a topic is not complete", topic=name)
        return left

    async def _remove(self, state: ClusterState, name: str) -> None:
        try:
            partitions = await self._store.children(znodes.partitions_path(name))
            has_partitions = True
        except NoNode:
            partitions, has_partitions = [], False
        paths = [f"{znodes.partitions_path(name)}/{child}/state" for child in partitions]
        *states, config = await self._store.get_many([*paths, znodes.config_path(TOPICS, name)])
        groups = transitions.delete_topic_groups(
            name,
            {child: found is not None for child, found in zip(partitions, states, strict=True)},
            has_partitions=has_partitions,
            has_config=config is not None,
        )
        await write(self._store, state, groups)


def answer_for(error: StoreError) -> KafkaError:
    """What a client is told of a store's failure."""
    if isinstance(error, SessionExpired):
        return not_controller()
    if isinstance(error, RequestTooLarge):
        return KafkaError(ErrorCode.INVALID_REQUEST, f"Too large for one change: {error}")
    return KafkaError(
        ErrorCode.REQUEST_TIMED_OUT, f"The change may or may not have been made: {error}"
    )


def not_controller() -> KafkaError:
    """The answer of a broker that is not, or no more, the controller."""
    return KafkaError(
        ErrorCode.NOT_CONTROLLER, "This is not the correct controller for this cluster."
    )


async def _gather(calls: Iterable[Awaitable[None]]) -> list[KafkaError | None]:
    """Run all; a failure of one is its own, unless it means that we are not the controller."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    answers: list[KafkaError | None] = []
    for outcome in outcomes:
        if isinstance(outcome, KafkaError):
            answers.append(outcome)
        elif isinstance(outcome, StoreError) and not isinstance(outcome, SessionExpired):
            answers.append(answer_for(outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            answers.append(None)
    return answers


def _repeated(names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    repeated: set[str] = set()
    for name in names:
        (repeated if name in seen else seen).add(name)
    return repeated


def _created(plan: PlannedTopic, validate_only: bool) -> TopicResult:
    topic = plan.topic
    return TopicResult(
        topic.name,
        topic_id=bytes(16) if validate_only else topic.topic_id,
        num_partitions=len(topic.assignment),
        replication_factor=topic.replication_factor,
        configs=plan.configs,
    )


def _successor(
    state: ClusterState, partition: PartitionId, *, unclean: bool
) -> LeaderAndIsr | None:
    current = state.leader_and_isr(partition)
    assert current is not None
    return leader_for_offline(
        state.assignment(partition),
        current,
        state.online(partition),
        state.controller_epoch,
        unclean=unclean,
    )


def _remember(state: ClusterState, leaders: Mapping[PartitionId, LeaderAndIsr]) -> None:
    for (topic, index), leader in leaders.items():
        state.topics[topic].partitions[index] = leader

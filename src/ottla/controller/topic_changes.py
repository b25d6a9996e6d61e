"""Carrying out what happens to topics: creation, growth, deletion.

Rules: a topic comes into being in one multi (of as many as its size needs: its name and first partitions in
the first, which is enough for the rest to be made good). The state changes only after the store, and the brokers
are told after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ottla.controller import transitions
from ottla.controller.announcer import Announcement, Announcer
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.configs import TOPICS, read_configs
from ottla.controller.deletions import Deletions
from ottla.controller.election import leader_for_new
from ottla.controller.office import write
from ottla.controller.refusals import answer_for, gather_refusals
from ottla.controller.topic_names import unify_collision_characters
from ottla.controller.topics import (
    UNSET,
    NewPartitions,
    NewTopic,
    PlannedTopic,
    TopicResult,
    TopicRules,
    already_exists,
    check_readable,
    plan_partitions,
    plan_topic,
    unknown_topic,
)
from ottla.coordination import znodes
from ottla.coordination.store import NodeExists, Set, Store, StoreError
from ottla.coordination.znodes import LeaderAndIsr
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
        deletions: Deletions,
    ) -> None:
        self._deletions = deletions
        self._store = store
        self._announcer = announcer
        self._rules = rules
        self._defaults = defaults
        self._random_index = random_index

    # Creation

    async def create(
        self, state: ClusterState, wanted: Sequence[NewTopic], validate_only: bool
    ) -> tuple[list[TopicResult], Announcement]:
        """One result for each of ``wanted``, in order, and what the brokers were told.

        They are made ``TOPICS_TOGETHER`` at a time, and others have their turns in between.
        """
        results: dict[int, TopicResult] = {}
        repeated = _repeated(topic.name for topic in wanted)
        excessive = self._is_excessive(wanted)
        taken: dict[str, str] = {}
        told = Announcement()
        numbered = list(enumerate(wanted))
        for start in range(0, len(numbered), TOPICS_TOGETHER):
            some = numbered[start : start + TOPICS_TOGETHER]
            planned = self._plan(state, some, results, repeated, taken, excessive=excessive)
            if not validate_only and planned:
                told.include(await self._create_planned(state, planned, results))
            for index, plan in planned.items():
                results.setdefault(index, _created(plan, validate_only))
            await asyncio.sleep(0)
        return [results[index] for index in range(len(wanted))], told

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
    ) -> Announcement:
        names = [plan.topic.name for plan in planned.values()]
        left_over = await read_configs(self._store, TOPICS, names)
        outcomes = await gather_refusals(
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
        return self._announcer.announce(state, new, new=set(new)) if new else Announcement()

    async def _create_one(
        self, state: ClusterState, plan: PlannedTopic, config_version: int | None
    ) -> None:
        topic = plan.topic
        groups = [transitions.create_topic(topic, plan.configs, config_version)]
        for index, replicas in topic.assignment.items():
            first = leader_for_new(replicas, state.live_brokers(), state.controller_epoch)
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
    ) -> tuple[list[TopicResult], Announcement]:
        """One result for each of ``wanted``, in order, and what the brokers were told."""
        told = Announcement()
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
                    told.include(await self._add(state, item.name, additions))
                results.append(TopicResult(item.name))
            except KafkaError as error:
                results.append(TopicResult.refused(item.name, error))
            except StoreError as error:
                results.append(TopicResult.refused(item.name, answer_for(error)))
        return results, told

    async def _add(
        self, state: ClusterState, name: str, additions: Mapping[int, tuple[int, ...]]
    ) -> Announcement:
        topic = state.topics[name]
        assignment = {**topic.assignment, **additions}
        data = topic.encode(assignment)
        first: dict[PartitionId, LeaderAndIsr] = {}
        for index, replicas in additions.items():
            leader = leader_for_new(replicas, state.live_brokers(), state.controller_epoch)
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
        return self._announcer.announce(state, list(first), new=first)

    # Deletion

    async def delete(
        self, state: ClusterState, names: Sequence[str], ids: Mapping[str, bytes]
    ) -> tuple[dict[str, TopicResult], dict[str, asyncio.Future[bool]]]:
        """Have topics deleted: what was refused, and of the others whether they are gone, or will be later.

        ``ids``: those that topics must have, UNKNOWN_TOPIC_ID else: one may have been made again.
        """
        refused: dict[str, TopicResult] = {}
        for name in names:
            try:
                check_readable(state, name)
            except KafkaError as unreadable:
                refused[name] = TopicResult.refused(name, unreadable)
        for name, topic_id in ids.items():
            if name in refused:
                continue
            if name not in state.topics or state.topics[name].topic_id != topic_id:
                error = KafkaError(ErrorCode.UNKNOWN_TOPIC_ID, "No topic has this id any more.")
                refused[name] = TopicResult.refused(name, error)
        for name in names:
            if name not in state.topics and name not in refused:
                refused[name] = TopicResult.refused(name, unknown_topic(name))
        outcomes = await self._deletions.mark(
            state, [name for name in dict.fromkeys(names) if name not in refused]
        )
        for name, refusal in outcomes.items():
            if refusal is not None:
                refused[name] = TopicResult.refused(name, refusal)
        marked = [name for name, refusal in outcomes.items() if refusal is None]
        return refused, await self._deletions.begin(state, marked)


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


def _remember(state: ClusterState, leaders: Mapping[PartitionId, LeaderAndIsr]) -> None:
    for (topic, index), leader in leaders.items():
        state.topics[topic].partitions[index] = leader

"""Who has a partition's replicas and who leads it: the admin client's part that asks the controller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ottla.client.admin.descriptions import Reassignment
from ottla.client.admin.groups import GroupAdmin
from ottla.client.types import TopicPartition
from ottla.errors import KafkaError

PREFERRED, UNCLEAN = 0, 1

Outcomes = dict[TopicPartition, KafkaError | None]
"""Each partition, and why nothing was done about it; None where it was."""


class PartitionAdmin(GroupAdmin):
    """What ``AsyncAdmin`` can do with replicas and leaders; needs ``cluster`` started."""

    async def elect_leaders(
        self, partitions: Iterable[tuple[str, int]] | None = None, *, unclean: bool = False
    ) -> Outcomes:
        """Have partitions (all of them, for None) led by their preferred replicas.

        ``unclean``: those without a leader by any replica that lives, whatever it lacks. Returns why a
        partition was not given another leader (ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE,
        ELIGIBLE_LEADERS_NOT_AVAILABLE, ...), or None; of all, those that need none are left out.
        """
        from ottla.messages.elect_leaders import ElectLeadersRequest, TopicPartitions

        topics = None
        if partitions is not None:
            topics = [
                TopicPartitions(topic=name, partitions=numbers)
                for name, numbers in _by_topic(partitions).items()
            ]
        request = ElectLeadersRequest(
            election_type=UNCLEAN if unclean else PREFERRED,
            topic_partitions=topics,
            timeout_ms=self.timeout_ms,
        )
        answer = await self.ask_controller(request, _code)
        _raise(answer, "ElectLeaders")
        return {
            TopicPartition(topic.topic, each.partition_id): _error(each)
            for topic in answer.replica_election_results
            for each in topic.partition_result
        }

    async def alter_partition_reassignments(
        self, replicas: Mapping[tuple[str, int], Sequence[int] | None]
    ) -> Outcomes:
        """Give partitions other replicas, the preferred leader first; None ends a reassignment under way.

        Returns why one was refused (INVALID_REPLICA_ASSIGNMENT, NO_REASSIGNMENT_IN_PROGRESS, ...), or
        None: then it is under way until ``list_partition_reassignments`` names it no more.
        """
        from ottla.messages.alter_partition_reassignments import (
            AlterPartitionReassignmentsRequest,
            ReassignablePartition,
            ReassignableTopic,
        )

        topics: dict[str, ReassignableTopic] = {}
        for (name, partition), wanted in replicas.items():
            topic = topics.setdefault(name, ReassignableTopic(name=name))
            topic.partitions.append(
                ReassignablePartition(
                    partition_index=partition, replicas=None if wanted is None else list(wanted)
                )
            )
        request = AlterPartitionReassignmentsRequest(
            topics=list(topics.values()), timeout_ms=self.timeout_ms
        )
        answer = await self.ask_controller(request, _code)
        _raise(answer, "AlterPartitionReassignments")
        return {
            TopicPartition(topic.name, each.partition_index): _error(each)
            for topic in answer.responses
            for each in topic.partitions
        }

    async def list_partition_reassignments(
        self, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, Reassignment]:
        """The reassignments that are under way, of some partitions or of all."""
        from ottla.messages.list_partition_reassignments import (
            ListPartitionReassignmentsRequest,
            ListPartitionReassignmentsTopics,
        )

        topics = None
        if partitions is not None:
            topics = [
                ListPartitionReassignmentsTopics(name=name, partition_indexes=numbers)
                for name, numbers in _by_topic(partitions).items()
            ]
        request = ListPartitionReassignmentsRequest(topics=topics, timeout_ms=self.timeout_ms)
        answer = await self.ask_controller(request, _code)
        _raise(answer, "ListPartitionReassignments")
        return {
            TopicPartition(topic.name, each.partition_index): Reassignment(
                list(each.replicas), list(each.adding_replicas), list(each.removing_replicas)
            )
            for topic in answer.topics
            for each in topic.partitions
        }


def _by_topic(partitions: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for name, partition in dict.fromkeys(partitions):
        topics.setdefault(name, []).append(partition)
    return topics


def _code(answer: Any) -> list[int]:
    return [answer.error_code]


def _error(item: Any) -> KafkaError | None:
    return KafkaError(item.error_code, item.error_message) if item.error_code else None


def _raise(answer: Any, what: str) -> None:
    if answer.error_code:
        raise KafkaError(answer.error_code, getattr(answer, "error_message", None) or what)

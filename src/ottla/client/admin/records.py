"""What the admin client asks the partitions' leaders: to delete records, and who produces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from ottla.client.admin.descriptions import ProducerDescription
from ottla.client.admin.groups import GroupAdmin
from ottla.client.consumer.offset_queries import ask_leaders
from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode, KafkaError

Q = TypeVar("Q")
A = TypeVar("A")


class _Outcome(NamedTuple, Generic[A]):
    """An answer, or an error that asking again would not mend."""

    found: A | KafkaError


class RecordAdmin(GroupAdmin):
    """What ``AsyncAdmin`` can do with records; needs ``cluster`` started."""

    async def delete_records(
        self, offsets: Mapping[tuple[str, int], int]
    ) -> dict[TopicPartition, int | KafkaError]:
        """Delete all records below these offsets; -1 stands for all that are there now.

        Returns where each partition starts now, or why it was refused (OFFSET_OUT_OF_RANGE,
        POLICY_VIOLATION for a topic that is only compacted, UNKNOWN_TOPIC_OR_PARTITION, ...).
        """
        from ottla.messages.delete_records import (
            DeleteRecordsPartition,
            DeleteRecordsRequest,
            DeleteRecordsTopic,
        )

        async def ask(node_id: int, asked: Mapping[TopicPartition, int]) -> dict[Any, Any]:
            topics: dict[str, DeleteRecordsTopic] = {}
            for (name, partition), offset in asked.items():
                topic = topics.setdefault(name, DeleteRecordsTopic(name=name))
                topic.partitions.append(
                    DeleteRecordsPartition(partition_index=partition, offset=offset)
                )
            request = DeleteRecordsRequest(topics=list(topics.values()), timeout_ms=self.timeout_ms)
            answer = await self.cluster.send(node_id, request)
            return {
                TopicPartition(topic.name, each.partition_index): _outcome(
                    each.error_code, None, each.low_watermark
                )
                for topic in answer.topics
                for each in topic.partitions
            }

        return await self._ask_each(offsets, ask)

    async def describe_producers(
        self, partitions: Iterable[tuple[str, int]]
    ) -> dict[TopicPartition, list[ProducerDescription] | KafkaError]:
        """The idempotent producers that partitions remember, or why one can't tell."""
        from ottla.messages.describe_producers import DescribeProducersRequest, TopicRequest

        async def ask(node_id: int, asked: Mapping[TopicPartition, None]) -> dict[Any, Any]:
            topics: dict[str, TopicRequest] = {}
            for name, partition in asked:
                topic = topics.setdefault(name, TopicRequest(name=name))
                topic.partition_indexes.append(partition)
            request = DescribeProducersRequest(topics=list(topics.values()))
            answer = await self.cluster.send(node_id, request)
            return {
                TopicPartition(topic.name, each.partition_index): _outcome(
                    each.error_code,
                    each.error_message,
                    [
                        ProducerDescription(
                            p.producer_id, p.producer_epoch, p.last_sequence, p.last_timestamp
                        )
                        for p in each.active_producers
                    ],
                )
                for topic in answer.topics
                for each in topic.partitions
            }

        return await self._ask_each(dict.fromkeys(partitions), ask)

    async def _ask_each(
        self,
        questions: Mapping[tuple[str, int], Q],
        ask: Callable[[int, Mapping[TopicPartition, Q]], Awaitable[dict[Any, Any]]],
    ) -> dict[TopicPartition, Any]:
        """Each partition's outcome, from its leader; one that does not exist is not asked for."""
        await self._start()
        wanted = {TopicPartition(*partition): question for partition, question in questions.items()}
        await self.look_for(wanted)
        outcomes: dict[TopicPartition, Any] = {
            partition: KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, str(partition))
            for partition in wanted
        }
        known = {
            partition: question
            for partition, question in wanted.items()
            if self.cluster.metadata.partition(*partition) is not None
        }
        found = await ask_leaders(self.cluster, known, ask, self.timeout_ms, once=False)
        outcomes.update({partition: outcome.found for partition, outcome in found.items()})
        return outcomes


def _outcome(code: int, message: str | None, found: A) -> _Outcome[A] | KafkaError:
    if not code:
        return _Outcome(found)
    error = KafkaError(code, message)
    return error if error.retriable else _Outcome(error)

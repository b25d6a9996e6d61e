"""The groups' half of the admin client: list, describe, delete, and their offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from ottla.client.admin.descriptions import GroupDescription, GroupListing, MemberDescription
from ottla.client.cluster import Cluster
from ottla.client.consumer.commits import CommittedOffsets, Identity
from ottla.client.consumer.group_link import GroupLink
from ottla.client.errors import CommitFailed, RequestTimeout
from ottla.client.types import OffsetAndMetadata, TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.wire.schema import Message

T = TypeVar("T")

CONSUMER_PROTOCOL = "consumer"


class GroupAdmin:
    """What ``AsyncAdmin`` can do with groups; needs ``cluster`` started."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.timeout_ms = cluster.settings.request_timeout_ms

    async def list_groups(self, states: Collection[str] = ()) -> list[GroupListing]:
        """All groups of all brokers, sorted by name; only those in one of ``states``, if given."""
        from ottla.messages.list_groups import ListGroupsRequest

        nodes = await self.nodes()
        request = ListGroupsRequest(states_filter=list(states), types_filter=[])

        async def ask(node_id: int) -> list[GroupListing]:
            async def once() -> Any:
                if node_id not in self.cluster.metadata.nodes:
                    return None  # it has gone meanwhile: others coordinate its groups
                answer = await self.cluster.send(node_id, request)
                if answer.error_code:
                    raise KafkaError(answer.error_code, "ListGroups")
                return answer

            answer = await self.retry(once)
            return [
                GroupListing(g.group_id, g.protocol_type, g.group_state, g.group_type)
                for g in (answer.groups if answer is not None else ())
            ]

        found = await asyncio.gather(*(ask(node_id) for node_id in nodes))
        return sorted({listing for listings in found for listing in listings})

    async def describe_group(self, group: str) -> GroupDescription:
        """A group with its members.

        One that does not exist is described as "Dead" by older brokers; newer ones have this raise
        ``KafkaError`` (GROUP_ID_NOT_FOUND).
        """
        from ottla.client.consumer.protocol import decode_assignment
        from ottla.messages.describe_groups import DescribeGroupsRequest

        await self._start()
        link = self._link(group)
        answer = await link.call(
            DescribeGroupsRequest(groups=[group]),
            lambda a: int(a.groups[0].error_code),
            timeout_ms=self.timeout_ms,
        )
        found = answer.groups[0]
        if found.error_code:
            raise KafkaError(found.error_code, found.error_message or group)
        members = [
            MemberDescription(
                member.member_id,
                member.group_instance_id,
                member.client_id,
                member.client_host,
                decode_assignment(member.member_assignment)
                if found.protocol_type == CONSUMER_PROTOCOL
                else [],
            )
            for member in found.members
        ]
        if link.node is None:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, group)
        return GroupDescription(
            group,
            found.group_state,
            found.protocol_type,
            found.protocol_data,
            sorted(members),
            link.node,
        )

    async def describe_groups(self, *groups: str) -> dict[str, GroupDescription | KafkaError]:
        """Several groups, or why one can't be described."""
        return await self._each(groups, self.describe_group)

    async def delete_group(self, group: str) -> None:
        """Delete an empty group with its offsets; raises ``KafkaError`` (NON_EMPTY_GROUP, ...)."""
        from ottla.messages.delete_groups import DeleteGroupsRequest

        await self._start()
        link = self._link(group)
        answer = await link.call(
            DeleteGroupsRequest(groups_names=[group]),
            lambda a: int(a.results[0].error_code),
            timeout_ms=self.timeout_ms,
        )
        if answer.results[0].error_code:
            raise KafkaError(answer.results[0].error_code, group)

    async def delete_groups(self, *groups: str) -> dict[str, KafkaError | None]:
        """Delete several empty groups; why one was not, or None."""
        return await self._each(groups, self.delete_group)

    async def group_offsets(
        self, group: str, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a group has committed, for all partitions or for some; those without are left out."""
        await self._start()
        wanted = None if partitions is None else [TopicPartition(*p) for p in partitions]
        committed = CommittedOffsets(self.cluster, self._link(group))
        return await committed.fetch(wanted, timeout_ms=self.timeout_ms)

    async def alter_group_offsets(
        self, group: str, offsets: Mapping[tuple[str, int], int | OffsetAndMetadata]
    ) -> None:
        """Set what a group has committed; it must have no members.

        Raises ``KafkaError`` (NON_EMPTY_GROUP) for one that has, and for partitions that do not exist.
        """
        await self._start()
        wanted = {
            TopicPartition(*partition): offset
            if isinstance(offset, OffsetAndMetadata)
            else OffsetAndMetadata(offset)
            for partition, offset in offsets.items()
        }
        await self.look_for(wanted)
        for topic, partition in wanted:
            if self.cluster.metadata.partition(topic, partition) is None:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{topic}-{partition}")
        committed = CommittedOffsets(self.cluster, self._link(group))
        try:
            await committed.commit(wanted, Identity(), timeout_ms=self.timeout_ms)
        except CommitFailed as error:
            raise KafkaError(
                ErrorCode.NON_EMPTY_GROUP, f"group {group} has members: stop them first"
            ) from error

    async def delete_group_offsets(
        self, group: str, partitions: Iterable[tuple[str, int]]
    ) -> dict[TopicPartition, KafkaError | None]:
        """Forget what a group has committed in some partitions; why one was not, or None.

        GROUP_SUBSCRIBED_TO_TOPIC for topics that a member reads. Raises ``KafkaError`` for the group as a
        whole: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP (its members are no consumers).
        """
        from ottla.messages.offset_delete import (
            OffsetDeleteRequest,
            OffsetDeleteRequestPartition,
            OffsetDeleteRequestTopic,
        )

        await self._start()
        topics: dict[str, OffsetDeleteRequestTopic] = {}
        for name, partition in dict.fromkeys(partitions):
            topic = topics.setdefault(name, OffsetDeleteRequestTopic(name=name))
            topic.partitions.append(OffsetDeleteRequestPartition(partition_index=partition))
        link = self._link(group)
        answer = await link.call(
            OffsetDeleteRequest(group_id=group, topics=list(topics.values())),
            lambda a: int(a.error_code),
            timeout_ms=self.timeout_ms,
        )
        if answer.error_code:
            raise KafkaError(answer.error_code, group)
        return {
            TopicPartition(topic.name, each.partition_index): KafkaError(each.error_code)
            if each.error_code
            else None
            for topic in answer.topics
            for each in topic.partitions
        }

    # Requests

    def _link(self, group: str) -> GroupLink:
        """No connection of its own: there may be thousands of groups."""
        return GroupLink(self.cluster, group, "main")

    async def ask_any(self, request: Message, node_id: int | None = None) -> Any:
        """The answer of one broker, or of any."""
        await self._start()

        async def ask() -> Any:
            target = await self.cluster.any_node() if node_id is None else node_id
            return await self.cluster.send(target, request)

        return await self.retry(ask)

    async def ask_controller(self, request: Message, codes: Callable[[Any], Iterable[int]]) -> Any:
        """The controller's answer, looking for it again when it has moved."""
        self.cluster.start()
        await self.cluster.any_node()

        async def ask() -> Any:
            metadata = self.cluster.metadata
            node_id = metadata.controller_id
            if node_id not in metadata.nodes:
                node_id = await self.cluster.any_node()
            answer = await self.cluster.send(node_id, request)
            if ErrorCode.NOT_CONTROLLER in codes(answer):
                raise KafkaError(ErrorCode.NOT_CONTROLLER)
            return answer

        return await self.retry(ask)

    async def retry(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The result of ``ask``, again after errors that may pass, until the request time-out."""
        reason: KafkaError | None = None
        try:
            async with asyncio.timeout(self.timeout_ms / 1000):
                while True:
                    try:
                        return await ask()
                    except KafkaError as error:
                        if not error.retriable or isinstance(error, RequestTimeout):
                            raise
                        reason = error
                        await self.cluster.refresh()
        except TimeoutError as error:
            if isinstance(error, KafkaError):
                raise
            raise RequestTimeout(f"{reason or 'no answer'} within {self.timeout_ms} ms") from None

    async def look_for(self, partitions: Collection[TopicPartition]) -> None:
        """Ask for the metadata again if they do not tell of all ``partitions``: they may be old."""
        self.cluster.add_topics(*{topic for topic, _ in partitions})
        metadata = self.cluster.metadata
        if any(metadata.partition(*partition) is None for partition in partitions):
            await self.look_again()

    async def look_again(self) -> None:
        """Have the metadata be those of now; nothing follows from what nobody could be asked for."""

        async def ask() -> None:
            if not await self.cluster.refresh():
                raise KafkaError(ErrorCode.NETWORK_EXCEPTION, "no broker tells the metadata")

        await self.retry(ask)

    async def nodes(self) -> list[int]:
        """The brokers that are there now: nobody tells a client of one that came, or came back."""
        await self._start()
        await self.look_again()
        return sorted(self.cluster.metadata.nodes)

    async def _start(self) -> None:
        self.cluster.start()
        await self.cluster.any_node()

    async def _each(
        self, names: Iterable[str], work: Callable[[str], Awaitable[T]]
    ) -> dict[str, T | KafkaError]:
        async def one(name: str) -> T | KafkaError:
            try:
                return await work(name)
            except KafkaError as error:
                return error

        wanted = list(dict.fromkeys(names))
        return dict(zip(wanted, await asyncio.gather(*map(one, wanted)), strict=True))

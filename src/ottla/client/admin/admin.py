"""The asynchronous admin client: ``ottla.aio.Admin``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from ottla.client.admin.descriptions import (
    CONFIG_SOURCES,
    RESOURCE_KINDS,
    ClusterDescription,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    TopicDescription,
)
from ottla.client.admin.log_dirs import LogDirAdmin
from ottla.client.admin.partitions import PartitionAdmin
from ottla.client.admin.records import RecordAdmin
from ottla.client.cluster import Cluster
from ottla.client.consumer.offset_queries import MAX_TIMESTAMP, list_offsets
from ottla.client.consumer.positions import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP
from ottla.client.metadata import Node
from ottla.client.settings import split_options
from ottla.client.types import OffsetAndTimestamp, TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.topic_ids import ZERO_ID, to_text

TOPIC_RESOURCE = 2
BROKER_RESOURCE = 4
CLIENT_METRICS_RESOURCE = 16

_LIST_CONFIG_RESOURCES = 74

_SET, _DELETE = 0, 1

_TIMES = {
    "earliest": EARLIEST_TIMESTAMP,
    "latest": LATEST_TIMESTAMP,
    "max_timestamp": MAX_TIMESTAMP,
}

Outcome = dict[str, KafkaError | None]
"""Each item's name, and why it was refused; None where it was done."""


class AdminOptions(TypedDict, total=False):
    """The keyword arguments of an admin client, beside its bootstrap addresses."""

    client_id: str
    request_timeout_ms: int
    retry_backoff_ms: int
    retry_backoff_max_ms: int
    metadata_max_age_ms: int


class AsyncAdmin(LogDirAdmin, RecordAdmin, PartitionAdmin):
    """Makes, describes and deletes topics, settings and groups.

    Methods for one thing raise ``KafkaError`` when it is refused; methods for several return each one's
    outcome. ``request_timeout_ms`` bounds every call.
    """

    def __init__(
        self, bootstrap: str | Sequence[str] | None = None, **options: Unpack[AdminOptions]
    ) -> None:
        connection, unknown = split_options(bootstrap, options, "ottla-admin")
        for name in unknown.keys() - {"retry_backoff_ms", "retry_backoff_max_ms"}:
            raise TypeError(f"an admin client has no setting {name!r}")
        super().__init__(Cluster(connection._replace(allow_auto_create_topics=False)))

    async def __aenter__(self) -> Self:
        self.cluster.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self.cluster.close()

    # Topics

    async def create_topic(
        self,
        name: str,
        partitions: int = -1,
        replication_factor: int = -1,
        config: Mapping[str, str] | None = None,
        *,
        validate_only: bool = False,
    ) -> None:
        """Make a topic; -1 leaves a number to the broker. Raises ``KafkaError`` when it is refused."""
        topic = NewTopic(name, partitions, replication_factor, config or {})
        _raise_first(await self.create_topics([topic], validate_only=validate_only))

    async def create_topics(
        self, topics: Iterable[NewTopic], *, validate_only: bool = False
    ) -> Outcome:
        """Make several topics."""
        from ottla.messages.create_topics import (
            CreatableTopic,
            CreatableTopicConfig,
            CreateTopicsRequest,
        )

        request = CreateTopicsRequest(
            topics=[
                CreatableTopic(
                    name=topic.name,
                    num_partitions=topic.partitions,
                    replication_factor=topic.replication_factor,
                    configs=[
                        CreatableTopicConfig(name=name, value=value)
                        for name, value in topic.config.items()
                    ],
                )
                for topic in topics
            ],
            timeout_ms=self.timeout_ms,
            validate_only=validate_only,
        )
        answer = await self.ask_controller(request, lambda a: _codes(a.topics))
        return {t.name: _error(t) for t in answer.topics}

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with all its records; raises ``KafkaError`` when that is refused."""
        _raise_first(await self.delete_topics([name]))

    async def delete_topics(self, names: Iterable[str]) -> Outcome:
        """Delete several topics."""
        from ottla.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState

        wanted = list(names)
        request = DeleteTopicsRequest(
            topics=[DeleteTopicState(name=name, topic_id=ZERO_ID) for name in wanted],
            topic_names=wanted,
            timeout_ms=self.timeout_ms,
        )
        answer = await self.ask_controller(request, lambda a: _codes(a.responses))
        return {t.name: _error(t) for t in answer.responses}

    async def create_partitions(
        self, topic: str, total_count: int, *, validate_only: bool = False
    ) -> None:
        """Give a topic more partitions, ``total_count`` in all; raises ``KafkaError`` when refused."""
        from ottla.messages.create_partitions import (
            CreatePartitionsRequest,
            CreatePartitionsTopic,
        )

        request = CreatePartitionsRequest(
            topics=[CreatePartitionsTopic(name=topic, count=total_count, assignments=None)],
            timeout_ms=self.timeout_ms,
            validate_only=validate_only,
        )
        answer = await self.ask_controller(request, lambda a: _codes(a.results))
        _raise_first({t.name: _error(t) for t in answer.results})

    async def list_topics(self, *, internal: bool = False) -> list[str]:
        """The names of all topics, sorted; internal ones only if asked for."""
        topics = await self._metadata(None)
        return sorted(t.name for t in topics if t.name and (internal or not t.is_internal))

    async def describe_topic(self, name: str) -> TopicDescription:
        """A topic's partitions; raises ``KafkaError`` for one that does not exist."""
        found = (await self.describe_topics(name))[name]
        if isinstance(found, KafkaError):
            raise found
        return found

    async def describe_topics(self, *names: str) -> dict[str, TopicDescription | KafkaError]:
        """The partitions of several topics, or why one can't be described; of all, if none are named."""
        from ottla.client.metadata import Metadata

        found: dict[str, TopicDescription | KafkaError] = {}
        for topic in await self._metadata(names or None):
            if topic.error_code:
                found[topic.name] = KafkaError(topic.error_code, topic.name)
                continue
            known = Metadata.partitions_of(topic)
            topic_id = bytes(topic.topic_id)
            found[topic.name] = TopicDescription(
                topic.name,
                "" if topic_id == ZERO_ID else to_text(topic_id),
                topic.is_internal,
                list(known.values()),
            )
        return dict(sorted(found.items()))

    async def _metadata(self, names: Collection[str] | None) -> Any:
        from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic

        topics = None
        if names is not None:
            topics = [MetadataRequestTopic(topic_id=ZERO_ID, name=name) for name in names]
        request = MetadataRequest(
            topics=topics,
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )
        return (await self.ask_any(request)).topics

    # Settings

    async def describe_config(
        self,
        *,
        topic: str | None = None,
        broker: int | None = None,
        client_metrics: str | None = None,
        names: Collection[str] | None = None,
        documentation: bool = False,
    ) -> dict[str, ConfigEntry]:
        """The settings of a topic, a broker or a client-metrics subscription, by name.

        All of them, or those in ``names``; of a subscription those that are set.
        """
        from ottla.messages.describe_configs import (
            DescribeConfigsRequest,
            DescribeConfigsResource,
        )

        kind, resource = _resource(topic, broker, client_metrics)
        request = DescribeConfigsRequest(
            resources=[
                DescribeConfigsResource(
                    resource_type=kind,
                    resource_name=resource,
                    configuration_keys=None if names is None else list(names),
                )
            ],
            include_documentation=documentation,
        )
        answer = (await self.ask_any(request, broker)).results[0]
        error = _error(answer)
        if error is not None:
            raise error
        return {
            entry.name: ConfigEntry(
                entry.name,
                entry.value,
                CONFIG_SOURCES.get(entry.config_source, "unknown"),
                entry.read_only,
                entry.is_sensitive,
                entry.documentation or None,
            )
            for entry in answer.configs
        }

    async def alter_config(
        self,
        *,
        topic: str | None = None,
        broker: int | None = None,
        client_metrics: str | None = None,
        set: Mapping[str, str] | None = None,
        delete: Collection[str] = (),
        validate_only: bool = False,
    ) -> None:
        """Change some settings of a topic, a broker or a client-metrics subscription (KIP-714).

        ``set`` these, let those go back to defaults. A subscription without settings is gone.
        """
        from ottla.messages.incremental_alter_configs import (
            AlterableConfig,
            AlterConfigsResource,
            IncrementalAlterConfigsRequest,
        )

        kind, resource = _resource(topic, broker, client_metrics)
        changes = [
            AlterableConfig(name=name, config_operation=_SET, value=value)
            for name, value in (set or {}).items()
        ]
        changes += [
            AlterableConfig(name=name, config_operation=_DELETE, value=None) for name in delete
        ]
        request = IncrementalAlterConfigsRequest(
            resources=[
                AlterConfigsResource(resource_type=kind, resource_name=resource, configs=changes)
            ],
            validate_only=validate_only,
        )
        if broker is not None:
            answer = await self.ask_any(request, broker)
        else:
            answer = await self.ask_controller(request, lambda a: _codes(a.responses))
        error = _error(answer.responses[0])
        if error is not None:
            raise error

    async def list_config_resources(self, kind: str | None = None) -> list[ConfigResource]:
        """What has settings, sorted: all of it, or of one ``kind`` (see ``ConfigResource``).

        Raises ``KafkaError`` (UNSUPPORTED_VERSION) where the broker lists client metrics only and something
        else is asked for.
        """
        from ottla.messages.list_config_resources import ListConfigResourcesRequest

        types = [number for number, name in RESOURCE_KINDS.items() if name == kind]
        if kind is not None and not types:
            raise ValueError(f"no such kind of resource: {kind!r}")
        await self._start()

        async def ask() -> Any:
            node_id = await self.cluster.any_node()
            channel = await self.cluster.channel(node_id)
            version = channel.version_for(_LIST_CONFIG_RESOURCES)
            if version == 0 and types != [CLIENT_METRICS_RESOURCE]:
                raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, "it lists client metrics only")
            request = ListConfigResourcesRequest(resource_types=types)
            answer = await self.cluster.send(node_id, request)
            if answer.error_code:
                raise KafkaError(answer.error_code, "ListConfigResources")
            return answer

        answer = await self.retry(ask)
        return sorted(
            ConfigResource(
                RESOURCE_KINDS.get(each.resource_type, str(each.resource_type)), each.resource_name
            )
            for each in answer.config_resources
        )

    # The cluster, and offsets

    async def describe_cluster(self) -> ClusterDescription:
        """The brokers that are there."""
        from ottla.messages.describe_cluster import DescribeClusterRequest

        answer = await self.ask_any(DescribeClusterRequest())
        if answer.error_code:
            raise KafkaError(answer.error_code, answer.error_message)
        nodes = [Node(b.broker_id, b.host, b.port, b.rack) for b in answer.brokers]
        return ClusterDescription(answer.cluster_id, answer.controller_id, sorted(nodes))

    async def list_offsets(
        self,
        wanted: Mapping[tuple[str, int], int | str],
        *,
        read_committed: bool = False,
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """For each partition an offset: "earliest", "latest", "max_timestamp", or a time in milliseconds.

        A time finds the first record of that time or later; None where there is none.
        """
        times: dict[TopicPartition, int] = {}
        for partition, at in wanted.items():
            if isinstance(at, str) and at not in _TIMES:
                raise ValueError(f"no such offset: {at!r}")
            times[TopicPartition(*partition)] = _TIMES[at] if isinstance(at, str) else at
        self.cluster.start()
        return await list_offsets(
            self.cluster, times, read_committed=read_committed, timeout_ms=self.timeout_ms
        )


def _codes(items: Iterable[Any]) -> list[int]:
    return [item.error_code for item in items]


def _error(item: Any) -> KafkaError | None:
    return KafkaError(item.error_code, item.error_message) if item.error_code else None


def _raise_first(outcome: Outcome) -> None:
    for error in outcome.values():
        if error is not None:
            raise error


def _resource(topic: str | None, broker: int | None, client_metrics: str | None) -> tuple[int, str]:
    named = [
        (kind, str(name))
        for kind, name in (
            (TOPIC_RESOURCE, topic),
            (BROKER_RESOURCE, broker),
            (CLIENT_METRICS_RESOURCE, client_metrics),
        )
        if name is not None
    ]
    if len(named) != 1:
        raise ValueError("name a topic, a broker or a client-metrics subscription")
    return named[0]

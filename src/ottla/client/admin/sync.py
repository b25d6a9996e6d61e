"""The synchronous admin client: ``ottla.Admin``. The asynchronous one on a thread of its own."""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ottla.client.admin.admin import AdminOptions, AsyncAdmin, Outcome
from ottla.client.admin.descriptions import (
    ClusterDescription,
    ConfigEntry,
    ConfigResource,
    GroupDescription,
    GroupListing,
    LogDirDescription,
    NewTopic,
    ProducerDescription,
    Reassignment,
    TopicDescription,
)
from ottla.client.loop_thread import LoopThread
from ottla.client.types import OffsetAndMetadata, OffsetAndTimestamp, TopicPartition
from ottla.errors import KafkaError

T = TypeVar("T")


class Admin:
    """Makes, describes and deletes topics, settings and groups.

    Methods for one thing raise ``KafkaError`` when it is refused; methods for several return each one's
    outcome. ``request_timeout_ms`` bounds every call.
    """

    def __init__(
        self, bootstrap: str | Sequence[str] | None = None, **options: Unpack[AdminOptions]
    ) -> None:
        self._admin = AsyncAdmin(bootstrap, **options)
        self._thread: LoopThread | None = LoopThread("ottla-admin")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        if self._thread is not None:
            self._run(self._admin.close())
            self._thread.stop()
            self._thread = None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            work.close()
            raise RuntimeError("the admin client is closed")
        return self._thread.run(work)

    def create_topic(
        self,
        name: str,
        partitions: int = -1,
        replication_factor: int = -1,
        config: Mapping[str, str] | None = None,
        *,
        validate_only: bool = False,
    ) -> None:
        """Make a topic; -1 leaves a number to the broker. Raises ``KafkaError`` when it is refused."""
        self._run(
            self._admin.create_topic(
                name, partitions, replication_factor, config, validate_only=validate_only
            )
        )

    def create_topics(self, topics: Iterable[NewTopic], *, validate_only: bool = False) -> Outcome:
        """Make several topics."""
        return self._run(self._admin.create_topics(topics, validate_only=validate_only))

    def delete_topic(self, name: str) -> None:
        """Delete a topic with all its records; raises ``KafkaError`` when that is refused."""
        self._run(self._admin.delete_topic(name))

    def delete_topics(self, names: Iterable[str]) -> Outcome:
        """Delete several topics."""
        return self._run(self._admin.delete_topics(names))

    def create_partitions(
        self, topic: str, total_count: int, *, validate_only: bool = False
    ) -> None:
        """Give a topic more partitions, ``total_count`` in all; raises ``KafkaError`` when refused."""
        self._run(self._admin.create_partitions(topic, total_count, validate_only=validate_only))

    def list_topics(self, *, internal: bool = False) -> list[str]:
        """The names of all topics, sorted; internal ones only if asked for."""
        return self._run(self._admin.list_topics(internal=internal))

    def describe_topic(self, name: str) -> TopicDescription:
        """A topic's partitions; raises ``KafkaError`` for one that does not exist."""
        return self._run(self._admin.describe_topic(name))

    def describe_topics(self, *names: str) -> dict[str, TopicDescription | KafkaError]:
        """The partitions of several topics, or why one can't be described; of all, if none are named."""
        return self._run(self._admin.describe_topics(*names))

    def describe_config(
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
        return self._run(
            self._admin.describe_config(
                topic=topic,
                broker=broker,
                client_metrics=client_metrics,
                names=names,
                documentation=documentation,
            )
        )

    def alter_config(
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
        self._run(
            self._admin.alter_config(
                topic=topic,
                broker=broker,
                client_metrics=client_metrics,
                set=set,
                delete=delete,
                validate_only=validate_only,
            )
        )

    def list_config_resources(self, kind: str | None = None) -> list[ConfigResource]:
        """What has settings, sorted: all of it, or of one ``kind`` (see ``ConfigResource``).

        Raises ``KafkaError`` (UNSUPPORTED_VERSION) where the broker lists client metrics only and something
        else is asked for.
        """
        return self._run(self._admin.list_config_resources(kind))

    def delete_records(
        self, offsets: Mapping[tuple[str, int], int]
    ) -> dict[TopicPartition, int | KafkaError]:
        """Delete all records below these offsets; -1 stands for all that are there now.

        Returns where each partition starts now, or why it was refused (OFFSET_OUT_OF_RANGE,
        POLICY_VIOLATION for a topic that is only compacted, UNKNOWN_TOPIC_OR_PARTITION, ...).
        """
        return self._run(self._admin.delete_records(offsets))

    def describe_producers(
        self, partitions: Iterable[tuple[str, int]]
    ) -> dict[TopicPartition, list[ProducerDescription] | KafkaError]:
        """The idempotent producers that partitions remember, or why one can't tell."""
        return self._run(self._admin.describe_producers(partitions))

    def describe_cluster(self) -> ClusterDescription:
        """The brokers that are there."""
        return self._run(self._admin.describe_cluster())

    def describe_log_dirs(self, brokers: Collection[int] | None = None) -> list[LogDirDescription]:
        """The log directories of ``brokers`` (of all) with what lies in them."""
        return self._run(self._admin.describe_log_dirs(brokers))

    def alter_replica_log_dirs(
        self, wanted: Mapping[tuple[str, int, int], str]
    ) -> dict[tuple[str, int, int], KafkaError | None]:
        """Have replicas lie in other log directories of their brokers.

        ``wanted``: the absolute path for each topic, partition and broker. Returns why one was refused, or
        None: then the broker has begun to move it. ``describe_log_dirs`` shows a future replica until it is
        done. One that is not there yet is refused (REPLICA_NOT_AVAILABLE), and will be made in the directory.
        """
        return self._run(self._admin.alter_replica_log_dirs(wanted))

    def elect_leaders(
        self, partitions: Iterable[tuple[str, int]] | None = None, *, unclean: bool = False
    ) -> dict[TopicPartition, KafkaError | None]:
        """Have partitions (all of them, for None) led by their preferred replicas.

        ``unclean``: those without a leader by any replica that lives, whatever it lacks. Returns why a
        partition was not given another leader (ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE,
        ELIGIBLE_LEADERS_NOT_AVAILABLE, ...), or None; of all, those that need none are left out.
        """
        return self._run(self._admin.elect_leaders(partitions, unclean=unclean))

    def alter_partition_reassignments(
        self, replicas: Mapping[tuple[str, int], Sequence[int] | None]
    ) -> dict[TopicPartition, KafkaError | None]:
        """Give partitions other replicas, the preferred leader first; None ends a reassignment under way.

        Returns why one was refused (INVALID_REPLICA_ASSIGNMENT, NO_REASSIGNMENT_IN_PROGRESS, ...), or
        None: then it is under way until ``list_partition_reassignments`` names it no more.
        """
        return self._run(self._admin.alter_partition_reassignments(replicas))

    def list_partition_reassignments(
        self, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, Reassignment]:
        """The reassignments that are under way, of some partitions or of all."""
        return self._run(self._admin.list_partition_reassignments(partitions))

    def list_offsets(
        self, wanted: Mapping[tuple[str, int], int | str], *, read_committed: bool = False
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """For each partition an offset: "earliest", "latest", "max_timestamp", or a time in milliseconds.

        A time finds the first record of that time or later; None where there is none.
        """
        return self._run(self._admin.list_offsets(wanted, read_committed=read_committed))

    def list_groups(self, states: Collection[str] = ()) -> list[GroupListing]:
        """All groups of all brokers, sorted by name; only those in one of ``states``, if given."""
        return self._run(self._admin.list_groups(states))

    def describe_group(self, group: str) -> GroupDescription:
        """A group with its members.

        One that does not exist is described as "Dead" by older brokers; newer ones have this raise
        ``KafkaError`` (GROUP_ID_NOT_FOUND).
        """
        return self._run(self._admin.describe_group(group))

    def describe_groups(self, *groups: str) -> dict[str, GroupDescription | KafkaError]:
        """Several groups, or why one can't be described."""
        return self._run(self._admin.describe_groups(*groups))

    def delete_group(self, group: str) -> None:
        """Delete an empty group with its offsets; raises ``KafkaError`` (NON_EMPTY_GROUP, ...)."""
        self._run(self._admin.delete_group(group))

    def delete_groups(self, *groups: str) -> dict[str, KafkaError | None]:
        """Delete several empty groups; why one was not, or None."""
        return self._run(self._admin.delete_groups(*groups))

    def group_offsets(
        self, group: str, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a group has committed, for all partitions or for some; those without are left out."""
        return self._run(self._admin.group_offsets(group, partitions))

    def alter_group_offsets(
        self, group: str, offsets: Mapping[tuple[str, int], int | OffsetAndMetadata]
    ) -> None:
        """Set what a group has committed; it must have no members.

        Raises ``KafkaError`` (NON_EMPTY_GROUP) for one that has, and for partitions that do not exist.
        """
        self._run(self._admin.alter_group_offsets(group, offsets))

    def delete_group_offsets(
        self, group: str, partitions: Iterable[tuple[str, int]]
    ) -> dict[TopicPartition, KafkaError | None]:
        """Forget what a group has committed in some partitions; why one was not, or None.

        GROUP_SUBSCRIBED_TO_TOPIC for topics that a member reads. Raises ``KafkaError`` for the group as a
        whole: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP (its members are no consumers).
        """
        return self._run(self._admin.delete_group_offsets(group, partitions))

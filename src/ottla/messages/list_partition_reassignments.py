"""ListPartitionReassignments, API key 46, version 0."""

from __future__ import annotations

from ottla.wire.schema import Message, array, int16, int32, since, string


class ListPartitionReassignmentsTopics(Message):
    """List partition reassignments topics."""

    name: str = string(default="")
    partition_indexes: list[int] = array(int32, default=list)


class ListPartitionReassignmentsRequest(Message, key=46, versions=(0, 0), flexible_from=0):
    """Kafka's ``ListPartitionReassignmentsRequest``."""

    timeout_ms: int = int32(default=60000)
    topics: list[ListPartitionReassignmentsTopics] | None = array(
        ListPartitionReassignmentsTopics, default=None, nullable=since(0)
    )


class OngoingPartitionReassignment(Message):
    """Ongoing partition reassignment."""

    partition_index: int = int32(default=0)
    replicas: list[int] = array(int32, default=list)
    adding_replicas: list[int] = array(int32, default=list)
    removing_replicas: list[int] = array(int32, default=list)


class OngoingTopicReassignment(Message):
    """Ongoing topic reassignment."""

    name: str = string(default="")
    partitions: list[OngoingPartitionReassignment] = array(
        OngoingPartitionReassignment, default=list
    )


class ListPartitionReassignmentsResponse(Message, key=46, versions=(0, 0), flexible_from=0):
    """Kafka's ``ListPartitionReassignmentsResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    topics: list[OngoingTopicReassignment] = array(OngoingTopicReassignment, default=list)

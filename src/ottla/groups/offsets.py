"""Committed offsets: what each group has read of each topic's partitions, and when that may be forgotten.

Rules (KIP-211, ``OffsetMetadataManager.java``, ``ClassicGroup.offsetExpirationCondition``):

- The offsets of a group with members stay, but those of topics that a stable consumer group no longer reads
  expire after the retention time from their commit.
- Once a group is empty, its offsets expire after the retention time from then.
- Offsets of a group that nobody manages ("simple") expire after the retention time from their commit.
- An offset that came with its own retention (OffsetCommit up to version 4) expires by that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ottla.groups.group import Group, GroupState

NO_TIMESTAMP = -1


class CommittedOffset(NamedTuple):
    """One partition's offset as it was committed. Timestamps are wall time in milliseconds."""

    offset: int
    leader_epoch: int
    """-1 where the client did not tell."""
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int = NO_TIMESTAMP


TopicOffsets = Mapping[str, Mapping[int, CommittedOffset]]
"""By topic and partition."""

_NONE: TopicOffsets = {}


class CommittedOffsets:
    """The offsets of many groups; a group or a topic without offsets takes no memory."""

    __slots__ = ("_groups", "_groups_of")

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, dict[int, CommittedOffset]]] = {}
        self._groups_of: dict[str, dict[str, None]] = {}
        """By topic, the groups that have an offset in it: a topic's end need not look at all groups."""

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._groups

    def of(self, group_id: str) -> TopicOffsets:
        """Everything that the group committed; empty for a group that is not known."""
        return self._groups.get(group_id, _NONE)

    def put(self, group_id: str, topic: str, partition: int, committed: CommittedOffset) -> None:
        """Remember an offset in the place of the last one."""
        topics = self._groups.setdefault(group_id, {})
        partitions = topics.get(topic)
        if partitions is None:
            partitions = topics[topic] = {}
            self._groups_of.setdefault(topic, {})[group_id] = None
        partitions[partition] = committed

    def remove(self, group_id: str, topic: str, partition: int) -> None:
        """Forget an offset, if it is known."""
        topics = self._groups.get(group_id)
        partitions = topics.get(topic) if topics is not None else None
        if topics is None or partitions is None:
            return
        partitions.pop(partition, None)
        if not partitions:
            del topics[topic]
            groups = self._groups_of[topic]
            del groups[group_id]
            if not groups:
                del self._groups_of[topic]
        if not topics:
            del self._groups[group_id]

    def topics(self) -> frozenset[str]:
        """Every topic that any group has committed in."""
        return frozenset(self._groups_of)

    def of_topics(self, names: frozenset[str]) -> Iterator[tuple[str, str, int]]:
        """Group, topic and partition of every offset in one of the topics ``names``."""
        for topic in names & self._groups_of.keys():
            for group_id in self._groups_of[topic]:
                for partition in self._groups[group_id][topic]:
                    yield group_id, topic, partition


def expired(
    group: Group, topics: TopicOffsets, now_ms: int, retention_ms: int
) -> list[tuple[str, int]]:
    """Topic and partition of every offset of ``group`` whose time is over at wall time ``now_ms``."""
    if group.protocol_type is None:
        since_ms = NO_TIMESTAMP
    elif group.is_empty:
        since_ms = group.state_since_ms
    elif group.is_consumer and group.state is GroupState.STABLE and group.topics is not None:
        since_ms = NO_TIMESTAMP
    else:
        return []
    over = []
    for topic, partitions in topics.items():
        if group.reads(topic):
            continue
        for partition, committed in partitions.items():
            if committed.expire_timestamp_ms != NO_TIMESTAMP:
                is_over = now_ms >= committed.expire_timestamp_ms
            else:
                base_ms = committed.commit_timestamp_ms if since_ms == NO_TIMESTAMP else since_ms
                is_over = now_ms - base_ms >= retention_ms
            if is_over:
                over.append((topic, partition))
    return over

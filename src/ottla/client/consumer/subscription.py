"""What a consumer wants to read: topics by name or by pattern (shared out in its group), or partitions by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from ottla.client.metadata import Metadata
from ottla.client.types import TopicPartition

OnRebalance = Callable[[list[TopicPartition]], Any]
"""Called with the partitions concerned; may return an awaitable under asyncio."""


class Listeners(NamedTuple):
    """The application's rebalance callbacks. Without ``on_lost``, ``on_revoked`` is called in its place."""

    on_assigned: OnRebalance | None = None
    on_revoked: OnRebalance | None = None
    on_lost: OnRebalance | None = None


class Mode(Enum):
    """How the partitions are chosen."""

    NONE = "none"
    TOPICS = "topics"
    PATTERN = "pattern"
    MANUAL = "manual"


class Subscription:
    """The present wish."""

    def __init__(self) -> None:
        self.mode = Mode.NONE
        self.topics: set[str] = set()
        self.listeners = Listeners()
        self._pattern: re.Pattern[str] | None = None

    def set_topics(self, topics: Sequence[str], listeners: Listeners) -> None:
        """Read these topics; raises ``ValueError`` for none."""
        if isinstance(topics, str) or not topics or not all(topics):
            raise ValueError("subscribe to a list of topic names")
        self.mode = Mode.TOPICS
        self.topics = set(topics)
        self.listeners = listeners

    def set_pattern(self, pattern: str | re.Pattern[str], listeners: Listeners) -> None:
        """Read the topics whose whole name matches, now and later; internal ones excepted."""
        self.mode = Mode.PATTERN
        self._pattern = re.compile(pattern)
        self.topics = set()
        self.listeners = listeners

    def set_manual(self, partitions: Iterable[TopicPartition]) -> None:
        """Read what was assigned by hand."""
        self.mode = Mode.MANUAL
        self.topics = {topic for topic, _ in partitions}
        self.listeners = Listeners()

    def clear(self) -> None:
        """Read nothing."""
        self.mode = Mode.NONE
        self.topics = set()
        self.listeners = Listeners()

    @property
    def shared(self) -> bool:
        """Whether the partitions follow from topics."""
        return self.mode in (Mode.TOPICS, Mode.PATTERN)

    def match(self, metadata: Metadata) -> bool:
        """Look for topics that match the pattern; whether there are others than before."""
        if self.mode is not Mode.PATTERN or self._pattern is None:
            return False
        matching = {
            name
            for name, topic in metadata.topics.items()
            if not topic.internal and self._pattern.fullmatch(name)
        }
        changed = matching != self.topics
        self.topics = matching
        return changed

    def all_partitions(self, metadata: Metadata) -> list[TopicPartition]:
        """Every partition of the topics, for a consumer without a group."""
        return [
            TopicPartition(name, partition)
            for name in sorted(self.topics)
            if name in metadata.topics
            for partition in metadata.topics[name].partitions
        ]

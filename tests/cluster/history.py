"""What clients were told, and when: the evidence that ``checker`` judges.

A ``History`` takes events from many threads, in the order in which they happened, and keeps them all. Times are
seconds of one monotonic clock. Every record is a ``Mark``: who sent it, and its number among those that this
producer sent to this partition, from 0 on; so a record says by itself where it belongs.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from tests.crash.checker import Mark, Partition

NOWHERE = -1
"""The offset of a record that is acknowledged without one: an answer of DUPLICATE_SEQUENCE_NUMBER."""


class Order(Enum):
    """What a producer promises of its records in a partition."""

    ONCE = "each once, in order"
    """Idempotent."""
    ONCE_AN_EPOCH = "each once in each epoch of the producer, in order"
    """Idempotent, but begins a new epoch with records unanswered, and sends those again in it: librdkafka."""
    FIRST_COPIES = "in order, some again"
    """Not idempotent, one request under way."""
    NONE = "in any order, some again"
    """librdkafka's without idempotence: a batch that has to be sent again goes behind the one that is made already,
    whatever ``max.in.flight.requests.per.connection`` says."""


class Sent(NamedTuple):
    """A producer gave a record to its client library."""

    at: float
    partition: Partition
    mark: Mark


class Acknowledged(NamedTuple):
    """A producer was told under acks=all that its record is at ``offset``, or ``NOWHERE`` said."""

    at: float
    partition: Partition
    offset: int
    mark: Mark


class Read(NamedTuple):
    """A consumer was given a record; each reads on from where it was, and never seeks."""

    at: float
    reader: str
    partition: Partition
    offset: int
    mark: Mark


class Watermark(NamedTuple):
    """A client asked and was told a high watermark.

    ``leader_epoch`` is the one that the answer was given under; None: it was asked for the latest offset, which
    may not go back from one leader to the next either.
    """

    asked: float
    answered: float
    partition: Partition
    leader_epoch: int | None
    offset: int
    last_read: int = NOWHERE
    """The last offset of the records that came with it."""


Event = Sent | Acknowledged | Read | Watermark


class History:
    """Events in their order. Safe for threads."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.orders: dict[str, Order] = {}
        """By producer, what it promises."""
        self._numbers: dict[tuple[Partition, str], int] = {}
        self._lock = Lock()
        self._acknowledged = 0
        self._last_acknowledged_at: dict[Partition, float] = {}

    def producer(self, name: str, order: Order) -> None:
        """Make a producer known before it sends."""
        self.orders[name] = order

    def send(self, partition: Partition, producer: str) -> Mark:
        """The mark of the next record that ``producer`` sends to ``partition``."""
        with self._lock:
            number = self._numbers.get((partition, producer), 0)
            self._numbers[partition, producer] = number + 1
            mark = Mark(producer, number)
            self.events.append(Sent(time.monotonic(), partition, mark))
        return mark

    def acknowledge(self, partition: Partition, offset: int, mark: Mark) -> None:
        """The producer was told that the record is at ``offset``."""
        with self._lock:
            now = time.monotonic()
            self.events.append(Acknowledged(now, partition, offset, mark))
            self._acknowledged += 1
            self._last_acknowledged_at[partition] = now

    def read(self, reader: str, partition: Partition, offset: int, mark: Mark) -> None:
        """A consumer was given the record."""
        self.events.append(Read(time.monotonic(), reader, partition, offset, mark))

    def watermark(
        self,
        asked: float,
        partition: Partition,
        leader_epoch: int | None,
        offset: int,
        last_read: int = NOWHERE,
    ) -> None:
        """A client that asked at ``asked`` was told a high watermark."""
        answered = time.monotonic()
        self.events.append(Watermark(asked, answered, partition, leader_epoch, offset, last_read))

    def acknowledged_count(self) -> int:
        """How many records are acknowledged so far."""
        return self._acknowledged

    def acknowledged_since(self, at: float, partitions: Iterable[Partition]) -> bool:
        """Whether each partition has taken a record since ``at``."""
        return all(self._last_acknowledged_at.get(one, 0.0) > at for one in partitions)

    def longest_silence_s(self, partition: Partition) -> float:
        """The longest time between two acknowledgements of one partition."""
        times = [
            event.at
            for event in self.events
            if isinstance(event, Acknowledged) and event.partition == partition
        ]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def write(self, path: Path) -> None:
        """All events as lines of JSON, for whoever looks for the cause of a violation."""
        with path.open("w") as file:
            for event in list(self.events):
                file.write(json.dumps([type(event).__name__, *event]) + "\n")

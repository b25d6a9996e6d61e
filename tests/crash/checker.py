"""What must hold of a log's history, whatever happened to the broker in between.

A ``History`` is told what producers send, what is acknowledged to them and what readers find; ``check`` compares.
Every record is a ``Mark``: who sent it, and its number among those that this producer sent to this partition,
from 0 on. The producers are idempotent and never give up, so that:

- Lost: an acknowledged record, or one that a reader has seen, is not at its offset (INVARIANTS 1, 5).
- Changed: an offset names two records (2).
- Doubled: a record is there twice (37).
- Gap: offsets are not dense (8), or a producer's numbers are not 0, 1, 2, … (37).
- Phantom: a record that nobody sent.

What was sent but never acknowledged is indeterminate: it may be there, once, in its place.

``CommittedOffsets`` holds a group's offsets to the same: never back behind an acknowledged commit (33).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import NamedTuple

VIOLATIONS_MAX = 20
"""More of them say nothing new."""


class Mark(NamedTuple):
    """A record's content: the ``number``-th record of ``producer`` for its partition."""

    producer: str
    number: int

    def encode(self) -> bytes:
        """As a record's value."""
        return f"{self.producer}:{self.number}".encode()

    @classmethod
    def decode(cls, value: bytes) -> Mark:
        """Of a record's value; what follows a space is padding."""
        producer, _, number = value.partition(b" ")[0].decode().partition(":")
        return cls(producer, int(number))


class Found(NamedTuple):
    """A record that a reader found."""

    offset: int
    mark: Mark


Partition = tuple[str, int]


class History:
    """What happened to the records of some partitions. Safe for threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sent: dict[tuple[Partition, str], int] = defaultdict(int)
        self._acknowledged: dict[Partition, dict[int, Mark]] = defaultdict(dict)
        self._somewhere: dict[Partition, set[Mark]] = defaultdict(set)
        self._seen: dict[Partition, list[Mark]] = defaultdict(list)
        self._faults: list[str] = []

    def send(self, partition: Partition, producer: str) -> Mark:
        """The mark of the next record that ``producer`` sends to ``partition``."""
        with self._lock:
            number = self._sent[partition, producer]
            self._sent[partition, producer] = number + 1
            return Mark(producer, number)

    def acknowledge(self, partition: Partition, offset: int, mark: Mark) -> None:
        """The producer was told that the record is at ``offset``; -1: that it is there, somewhere."""
        with self._lock:
            if offset < 0:
                self._somewhere[partition].add(mark)
                return
            known = self._acknowledged[partition].setdefault(offset, mark)
            if known != mark:
                self._faults.append(
                    f"changed: {_name(partition)} {offset} was acknowledged to {known} and to {mark}"
                )

    def acknowledged_count(self) -> int:
        """How many records are acknowledged so far."""
        with self._lock:
            told = [*self._acknowledged.values(), *self._somewhere.values()]
            return sum(map(len, told))

    def next_offset(self, partition: Partition) -> int:
        """Where a reader that wants only what is new begins."""
        return len(self._seen[partition])

    def begin_reading(self, partition: Partition) -> Reading:
        """To be called before a reader asks: what is promised up to now has to be found."""
        return Reading(self, partition)

    def missing(self, partitions: Iterable[Partition]) -> list[str]:
        """At the very end, with everything acknowledged: what was sent and is not there."""
        faults = []
        wanted = set(partitions)
        for (partition, producer), count in sorted(self._sent.items()):
            if partition not in wanted:
                continue
            there = sum(mark.producer == producer for mark in self._seen[partition])
            if there != count:
                faults.append(
                    f"lost: {_name(partition)} has {there} of {count} records of {producer}"
                )
        return faults


class Reading:
    """One reader's pass over a partition, held against what was promised when it began."""

    def __init__(self, history: History, partition: Partition) -> None:
        self._history = history
        self._partition = partition
        with history._lock:
            self._promised = dict(history._acknowledged[partition])
            self._promised_somewhere = set(history._somewhere[partition])

    def finish(self, start: int, found: Sequence[Found], end: int) -> list[str]:
        """What was found from ``start`` to the high watermark ``end``; the violations, worst first."""
        history, name = self._history, _name(self._partition)
        faults = _density(name, start, found, end)
        at = {record.offset: record.mark for record in found}
        for offset, mark in sorted(self._promised.items()):
            if offset >= start and offset not in at:
                faults.append(f"lost: {name} {offset}, {mark}, acknowledged")
            elif offset >= start and at[offset] != mark:
                faults.append(f"changed: {name} {offset} is {at[offset]}, acknowledged was {mark}")
        seen = history._seen[self._partition]
        for offset in range(start, len(seen)):
            if offset not in at:
                faults.append(f"lost: {name} {offset}, {seen[offset]}, seen before")
            elif at[offset] != seen[offset]:
                faults.append(f"changed: {name} {offset} is {at[offset]}, seen was {seen[offset]}")
        if not faults:
            seen[start:] = [record.mark for record in found]
            faults = self._order(name, seen)
            faults += [
                f"lost: {mark} was acknowledged, and is nowhere in {name}"
                for mark in sorted(self._promised_somewhere.difference(seen))
            ]
        with history._lock:
            faults = [*history._faults, *faults]
            history._faults = []
        return faults[:VIOLATIONS_MAX]

    def _order(self, name: str, seen: Iterable[Mark]) -> list[str]:
        """Each producer's numbers are 0, 1, 2, …, and no more than were sent."""
        faults = []
        expected: dict[str, int] = defaultdict(int)
        for offset, (producer, number) in enumerate(seen):
            wanted = expected[producer]
            if number < wanted:
                faults.append(f"doubled: {name} {offset} is {producer}:{number} again")
                continue
            if number > wanted:
                faults.append(f"gap: {name} {offset} is {producer}:{number}, next was {wanted}")
            expected[producer] = number + 1
        for producer, count in expected.items():
            if count > self._history._sent.get((self._partition, producer), 0):
                faults.append(f"phantom: {name} has {producer}:{count - 1}, which nobody sent")
        return faults


def _density(name: str, start: int, found: Sequence[Found], end: int) -> list[str]:
    """Offsets go from ``start`` to before ``end`` without a gap."""
    faults = []
    wanted = start
    for record in found:
        if record.offset != wanted:
            kind = "doubled" if record.offset < wanted else "gap"
            faults.append(f"{kind}: {name} has offset {record.offset} where {wanted} should be")
        wanted = record.offset + 1
    if wanted != end:
        faults.append(f"gap: {name} was read up to {wanted}, its high watermark is {end}")
    return faults


def _name(partition: Partition) -> str:
    return f"{partition[0]}-{partition[1]}"


class CommittedOffsets:
    """The offsets that one member commits for a group, ever higher ones."""

    def __init__(self) -> None:
        self.attempted = 0
        self.acknowledged = 0
        self._seen = 0

    def attempt(self) -> int:
        """The next offset to commit."""
        self.attempted += 1
        return self.attempted

    def acknowledge(self, offset: int) -> None:
        """The commit of ``offset`` was answered without an error."""
        self.acknowledged = max(self.acknowledged, offset)

    def check(self, acknowledged: int, fetched: int) -> list[str]:
        """``fetched`` is what the group has; ``acknowledged`` what was promised before it was asked for."""
        if fetched < acknowledged:
            return [f"lost: offset {acknowledged} was committed, the group has {fetched}"]
        if fetched < self._seen:
            return [f"lost: the group's offset was {self._seen} and is {fetched}"]
        if fetched > self.attempted:
            return [f"phantom: the group has offset {fetched}, which nobody committed"]
        self._seen = fetched
        return []


class Topics:
    """Topics that are created and deleted, by name; ids tell a topic from its successor."""

    def __init__(self) -> None:
        self._created: dict[str, bytes] = {}
        self._deleted: set[str] = set()
        self._indeterminate: set[str] = set()

    def begin(self, name: str) -> None:
        """Something is asked of the topic; until it is answered, anything may be."""
        self._indeterminate.add(name)

    def created(self, name: str, topic_id: bytes) -> None:
        """Its creation is acknowledged."""
        self._created[name] = topic_id
        self._indeterminate.discard(name)

    def deleted(self, name: str) -> None:
        """Its deletion is acknowledged."""
        del self._created[name]
        self._deleted.add(name)
        self._indeterminate.discard(name)

    def promised(self) -> TopicsPromised:
        """To be called before the topics are asked for: what has to be found."""
        return TopicsPromised(dict(self._created), set(self._deleted), set(self._indeterminate))

    def check(self, promised: TopicsPromised, there: dict[str, bytes]) -> list[str]:
        """``there``: the cluster's topics and their ids, asked for after ``promised``."""
        faults = []
        # What somebody has begun to change since then may be either way.
        anything = promised.indeterminate | self._indeterminate | (self._deleted - promised.deleted)
        for name, topic_id in promised.created.items():
            if name in anything:
                continue
            if name not in there:
                faults.append(f"lost: topic {name} was created")
            elif there[name] != topic_id:
                faults.append(f"changed: topic {name} has another id")
        back = (promised.deleted & there.keys()) - anything
        return faults + [f"phantom: topic {name} was deleted" for name in sorted(back)]


class TopicsPromised(NamedTuple):
    """What was promised of topics at one time."""

    created: dict[str, bytes]
    deleted: set[str]
    indeterminate: set[str]

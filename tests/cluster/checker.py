"""What must hold of a cluster's history, whatever happened to its brokers. Pure: events in, violations out.

``check_history`` compares what clients were told with what is there at the end. The kinds:

- lost: an acknowledged record is not there, or not at its offset (INVARIANTS 1).
- vanished: a consumer has read a record that is not there (1, 5).
- diverged: two values were told, read or kept at one (partition, offset) (2).
- doubled: a record of an idempotent producer is there twice (37), in one epoch of the producer if it promises no more.
- reordered: a producer's records are not in the order in which it sent them (37), as far as it promises one: see
  ``history.Order``.
- gap: a later record of an idempotent producer is there and an earlier one is not (37), or offsets are not dense (8).
- phantom: a record that nobody sent to this partition.
- watermark: the high watermark that clients see went back under one leader epoch, or the latest offset went back
  at all (4); or a record was read at or past the high watermark that came with it (5).
- skipped, repeated: a consumer that never seeks was not given the next offset (36).

``check_states`` judges what ZooKeeper said of leaders in the course of time:

- epoch: a leader epoch fell, or another leader came without a new one (10, 15).
- leader: the leader is not in the ISR (16); the ISR has a broker that is no replica.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.cluster.history import NOWHERE, Acknowledged, Event, Order, Read, Sent, Watermark
from tests.crash.checker import Found, Mark, Partition

VIOLATIONS_MAX = 30
"""More of them say nothing new."""


class Log(NamedTuple):
    """What is in a partition at the end: all records that consumers can read, from offset 0."""

    found: Sequence[Found]
    end: int
    epochs: Mapping[int, tuple[int, int]] = {}
    """By offset, the producer id and epoch that a record was sent with."""


def check_history(
    events: Iterable[Event], orders: Mapping[str, Order], logs: Mapping[Partition, Log]
) -> list[str]:
    """The violations, worst first; ``logs`` has every partition that anything was sent to."""
    of: dict[Partition, list[Event]] = defaultdict(list)
    for event in events:
        of[event.partition].append(event)
    faults: list[str] = []
    for partition in sorted(of):
        faults += _PartitionCheck(partition, of[partition], orders, logs[partition]).faults()
    worst_first = sorted(faults, key=lambda fault: _ORDER.index(fault.partition(":")[0]))
    return worst_first[:VIOLATIONS_MAX]


_ORDER = (
    *("lost", "vanished", "diverged", "phantom", "doubled", "reordered"),
    *("gap", "watermark", "skipped", "repeated"),
)


class _PartitionCheck:
    """All that was said of one partition, against what is in it."""

    def __init__(
        self,
        partition: Partition,
        events: Sequence[Event],
        orders: Mapping[str, Order],
        log: Log,
    ) -> None:
        self.name = f"{partition[0]}-{partition[1]}"
        self.orders = orders
        self.log = log
        self.at = {record.offset: record.mark for record in log.found}
        self.sent = {event.mark for event in events if isinstance(event, Sent)}
        self.acknowledged = [event for event in events if isinstance(event, Acknowledged)]
        self.read = [event for event in events if isinstance(event, Read)]
        self.watermarks = [event for event in events if isinstance(event, Watermark)]

    def faults(self) -> list[str]:
        """All violations."""
        return [
            *self._acknowledgements(),
            *self._readings(),
            *self._values(),
            *self._producers(),
            *self._density(),
            *self._order_of_readers(),
            *self._watermarks(),
        ]

    def _acknowledgements(self) -> Iterable[str]:
        there = set(self.at.values())
        for _, _, offset, mark in self.acknowledged:
            if offset == NOWHERE:
                if mark not in there:
                    yield f"lost: {self.name} has {mark} nowhere, acknowledged"
            elif offset not in self.at:
                yield f"lost: {self.name} {offset}, {mark}, acknowledged"
            elif self.at[offset] != mark:
                yield f"lost: {self.name} {offset} is {self.at[offset]}, acknowledged was {mark}"

    def _readings(self) -> Iterable[str]:
        for _, reader, _, offset, mark in self.read:
            if offset not in self.at:
                yield f"vanished: {self.name} {offset}, {mark}, was read by {reader}"

    def _values(self) -> Iterable[str]:
        """One value at one offset, whoever says so; and only what was sent."""
        values: dict[int, tuple[Mark, str]] = {}
        told = [(e.offset, e.mark, "acknowledged") for e in self.acknowledged]
        told += [(e.offset, e.mark, f"read by {e.reader}") for e in self.read]
        told += [(record.offset, record.mark, "there at the end") for record in self.log.found]
        strangers: set[Mark] = set()
        for offset, mark, who in told:
            if mark not in self.sent and mark not in strangers:
                strangers.add(mark)
                yield f"phantom: {self.name} {offset} is {mark} ({who}), which nobody sent there"
            if offset == NOWHERE:
                continue
            before, who_before = values.setdefault(offset, (mark, who))
            if before != mark:
                yield f"diverged: {self.name} {offset} is {before} ({who_before}) and {mark} ({who})"

    def _producers(self) -> Iterable[str]:
        """Each producer's records in their order."""
        following: dict[str, int] = defaultdict(int)
        known: dict[Mark, set[tuple[int, int] | None]] = {}
        for offset, mark in self.log.found:
            producer, number = mark
            wanted = following[producer]
            order = self.orders.get(producer, Order.ONCE)
            once = order in (Order.ONCE, Order.ONCE_AN_EPOCH)
            epoch = self.log.epochs.get(offset)
            if mark in known:
                if order is Order.ONCE or (once and epoch in known[mark]):
                    yield f"doubled: {self.name} {offset} is {producer}:{number} again"
                known[mark].add(epoch)
                continue
            known[mark] = {epoch}
            if order is Order.NONE:
                continue
            if number < wanted:
                yield f"reordered: {self.name} {offset} is {producer}:{number} behind {wanted - 1}"
                continue
            if number > wanted and once and Mark(producer, wanted) in self.sent:
                yield f"gap: {self.name} {offset} is {producer}:{number}, next was {wanted}"
            following[producer] = number + 1

    def _density(self) -> Iterable[str]:
        wanted = 0
        for offset, _ in self.log.found:
            if offset != wanted:
                yield f"gap: {self.name} has offset {offset} where {wanted} should be"
            wanted = offset + 1
        if wanted != self.log.end:
            yield f"gap: {self.name} was read up to {wanted}, its high watermark is {self.log.end}"

    def _order_of_readers(self) -> Iterable[str]:
        last: dict[str, int] = {}
        for _, reader, _, offset, _ in self.read:
            wanted = last.get(reader, offset - 1) + 1
            if offset < wanted:
                yield f"repeated: {self.name} {offset} was given to {reader}, next was {wanted}"
            elif offset > wanted:
                yield f"skipped: {self.name} {reader} was given {offset}, next was {wanted}"
            last[reader] = offset

    def _watermarks(self) -> Iterable[str]:
        series: dict[int | None, list[Watermark]] = defaultdict(list)
        for event in self.watermarks:
            series[event.leader_epoch].append(event)
            if event.last_read >= event.offset:
                yield (
                    f"watermark: {self.name} {event.last_read} came with a high watermark of"
                    f" {event.offset}"
                )
        for epoch, told in series.items():
            yield from self._never_back(epoch, told)

    def _never_back(self, epoch: int | None, told: list[Watermark]) -> Iterable[str]:
        """No answer says less than one that had come before it was asked for."""
        where = "latest offset" if epoch is None else f"leader epoch {epoch}"
        by_asking = sorted(told, key=lambda one: one.asked)
        by_answer = iter(sorted(told, key=lambda one: one.answered))
        before = next(by_answer, None)
        highest = NOWHERE
        for one in by_asking:
            while before is not None and before.answered < one.asked:
                highest = max(highest, before.offset)
                before = next(by_answer, None)
            if one.offset < highest:
                yield f"watermark: {self.name} had {highest}, then {one.offset} ({where})"


class State(NamedTuple):
    """A partition's state as ZooKeeper had it: ``version`` is the znode's, the partition epoch."""

    partition: Partition
    version: int
    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    replicas: tuple[int, ...]


NO_LEADER = -1


def check_states(states: Iterable[State], *, unclean_allowed: bool = False) -> list[str]:
    """The violations in what was seen of partitions' states, in the order in which it was seen.

    Between two that were seen there may have been others.
    """
    faults: list[str] = []
    last: dict[Partition, State] = {}
    leaders: dict[tuple[Partition, int], int] = {}
    for state in states:
        name = f"{state.partition[0]}-{state.partition[1]}"
        before = last.get(state.partition, state)
        last[state.partition] = state
        if state.version < before.version or state.leader_epoch < before.leader_epoch:
            faults.append(f"epoch: {name} went from {before[1:]} to {state[1:]}")
        if not set(state.isr) <= set(state.replicas):
            faults.append(f"leader: {name} has ISR {state.isr} of replicas {state.replicas}")
        if state.leader == NO_LEADER:
            continue
        known = leaders.setdefault((state.partition, state.leader_epoch), state.leader)
        if known != state.leader:
            faults.append(
                f"epoch: {name} had leaders {known} and {state.leader} in epoch {state.leader_epoch}"
            )
        if state.leader not in state.isr:
            faults.append(f"leader: {name} is led by {state.leader}, the ISR is {state.isr}")
        clean = state.leader == before.leader or state.leader in before.isr
        adjacent = state.version == before.version + 1
        if adjacent and not clean and not unclean_allowed:
            faults.append(f"leader: {name} went from {before[1:]} to {state[1:]}, uncleanly")
    return faults[:VIOLATIONS_MAX]

"""The ISR's arithmetic against one that remembers everything and computes each answer from the beginning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.replication.in_sync import InSync, StaleFetch

LAG_MS = 10
ME, OTHERS = 1, (2, 3, 4)

OTHER = st.sampled_from(OTHERS)
SOME = st.sets(OTHER)
ACTION = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 3)),
    st.tuples(st.just("flush"), st.integers(0, 3)),
    *[st.tuples(st.just("fetch"), OTHER, st.integers(0, 4), st.integers(-1, 3))] * 4,
    *[st.tuples(st.just("wait"), st.integers(1, LAG_MS + 2))] * 2,
    st.tuples(st.just("assign"), SOME, SOME),
    st.tuples(st.just("begin_epoch")),
    st.tuples(st.just("propose"), OTHER),
    st.tuples(st.just("answer"), st.booleans()),
    st.tuples(st.just("die"), OTHER),
    st.tuples(st.just("live"), OTHER),
    st.tuples(st.just("ask_for"), st.integers(1, 3)),
)


@dataclass
class Fetch:
    at_ms: int
    offset: int
    leader_end: int


@dataclass
class Model:
    """One leader; a follower is the list of its fetches in this epoch, and when it was reset."""

    now_ms: int = 1000
    end: int = 0
    flushed: int = 0
    epoch_start: int = 0
    minimum_isr: int = 1
    replicas: set[int] = field(default_factory=lambda: {ME, *OTHERS})
    isr: set[int] = field(default_factory=lambda: {ME, *OTHERS})
    joins: int | None = None
    leaves: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    fetches: dict[int, list[Fetch]] = field(default_factory=dict)
    in_sync_from_ms: dict[int, int] = field(default_factory=dict)
    broker_epochs: dict[int, int] = field(default_factory=dict)
    not_awaited: dict[int, int] = field(default_factory=dict)
    """How many of its fetches do not count as having caught up."""

    @property
    def is_pending(self) -> bool:
        return self.joins is not None or bool(self.leaves)

    def end_of(self, replica: int) -> int:
        fetches = self.fetches.get(replica, [])
        return fetches[-1].offset if fetches else -1

    def caught_up_ms(self, replica: int) -> int | None:
        """The last time at which it is known to have had all that the leader had."""
        times = [self.in_sync_from_ms[replica]] if replica in self.in_sync_from_ms else []
        fetches = self.fetches.get(replica, [])
        for number, fetch in enumerate(fetches):
            if number < self.not_awaited.get(replica, 0):
                continue
            if fetch.offset >= fetch.leader_end:
                times.append(fetch.at_ms)
            earlier = fetches[:number]
            if earlier and fetch.offset >= max(one.leader_end for one in earlier):
                times.append(earlier[-1].at_ms)
        return max(times, default=None)

    def await_no_more(self, replicas: set[int]) -> None:
        """They have left the ISR, or may not join it: they count again from their next fetch on."""
        for replica in replicas & self.replicas:
            self.not_awaited[replica] = len(self.fetches.get(replica, []))
            self.in_sync_from_ms.pop(replica, None)

    def is_caught_up(self, replica: int) -> bool:
        at_ms = self.caught_up_ms(replica)
        recently = at_ms is not None and self.now_ms - at_ms <= LAG_MS
        return self.end_of(replica) == self.end or recently

    def high_watermark(self) -> int:
        if len(self.isr) < self.minimum_isr:
            return -1
        counted = {
            replica
            for replica in self.replicas - {ME}
            if replica in self.isr
            or replica == self.joins
            or (replica not in self.dead and self.is_caught_up(replica))
        }
        return min([self.flushed, *map(self.end_of, counted)])

    def fallen_out(self) -> set[int]:
        if self.is_pending:
            return set()
        return {
            replica
            for replica in self.isr - {ME}
            if replica not in self.replicas or not self.is_caught_up(replica)
        }

    def may_join(self, replica: int, high_watermark: int) -> bool:
        return (
            replica in self.replicas - self.isr - self.dead
            and not self.is_pending
            and self.end_of(replica) >= max(high_watermark, self.epoch_start)
        )


class Both:
    """The same said to both."""

    def __init__(self) -> None:
        self.model = Model()
        self.real = InSync(ME, lambda: LAG_MS, lambda replica: replica not in self.model.dead)
        self.high_watermark = 0
        self.real.assign(sorted(self.model.replicas))
        self.real.commit(sorted(self.model.isr))
        self.begin_epoch()

    def append(self, count: int) -> None:
        self.model.end += count

    def flush(self, back: int) -> None:
        self.model.flushed = max(self.model.flushed, self.model.end - back)

    def wait(self, ms: int) -> None:
        self.model.now_ms += ms

    def fetch(self, replica: int, back: int, broker_epoch: int) -> None:
        model, follower = self.model, self.real.get(replica)
        assert (follower is not None) == (replica in model.replicas)
        if follower is None:
            return
        offset = max(model.end - back, 0)
        known = model.broker_epochs.get(replica, -1)
        try:
            follower.fetched(broker_epoch, offset, 0, model.end, model.now_ms)
        except StaleFetch:
            assert -1 < broker_epoch < known
            return
        assert broker_epoch == -1 or broker_epoch >= known
        model.broker_epochs[replica] = max(known, broker_epoch)
        fetches = model.fetches.setdefault(replica, [])
        fetches.append(Fetch(model.now_ms, offset, model.end))

    def assign(self, replicas: set[int], isr: set[int]) -> None:
        model = self.model
        model.await_no_more(model.isr - {ME, *isr})
        model.replicas, model.isr = {ME, *replicas}, {ME, *isr}
        model.joins, model.leaves = None, set()
        for replica in set(OTHERS) - replicas:
            model.fetches.pop(replica, None)
            model.not_awaited.pop(replica, None)
            model.broker_epochs.pop(replica, None)
            model.in_sync_from_ms.pop(replica, None)
        self.real.assign(sorted(model.replicas))
        self.real.commit(sorted(model.isr))

    def begin_epoch(self) -> None:
        model = self.model
        model.epoch_start = model.end
        model.fetches, model.not_awaited = {}, {}
        model.in_sync_from_ms = dict.fromkeys(model.isr & model.replicas, model.now_ms)
        self.real.begin_epoch(model.now_ms)

    def propose(self, replica: int) -> None:
        model = self.model
        if model.is_pending:
            return
        if replica in model.isr:
            model.leaves = {replica}
            self.real.propose_leave(frozenset({replica}), 0, 0)
        elif replica in model.replicas:
            model.joins = replica
            self.real.propose_join(replica, 0, 0)

    def answer(self, well: bool) -> None:
        model, proposal = self.model, self.real.pending
        assert (proposal is not None) == model.is_pending
        if proposal is None:
            return
        if well:
            model.await_no_more(model.leaves)
            model.isr = (model.isr | {model.joins} - {None}) - model.leaves  # type: ignore[operator]
            self.real.commit(proposal.isr)
        else:
            self.real.refused(proposal)
            if model.joins is not None:
                model.await_no_more({model.joins})
        model.joins, model.leaves = None, set()

    def die(self, replica: int) -> None:
        self.model.dead.add(replica)

    def live(self, replica: int) -> None:
        self.model.dead.discard(replica)

    def ask_for(self, minimum_isr: int) -> None:
        self.model.minimum_isr = minimum_isr

    def check(self) -> None:
        model, real = self.model, self.real
        found = real.high_watermark(model.minimum_isr, model.flushed, model.end, model.now_ms)
        assert found == model.high_watermark()
        self.high_watermark = max(self.high_watermark, found)
        assert set(real.isr) == model.isr
        joining = set() if model.joins is None else {model.joins}
        assert set(real.maximal_isr) == model.isr | joining
        assert real.fallen_out(model.end, model.now_ms) == model.fallen_out()
        for replica in OTHERS:
            may = real.may_join(replica, self.high_watermark, model.epoch_start)
            assert may == model.may_join(replica, self.high_watermark)


@settings(max_examples=200)
@given(st.lists(ACTION, min_size=1, max_size=50))
def test_the_arithmetic_forgets_nothing_that_counts(actions: list[Any]) -> None:
    both = Both()
    for name, *arguments in actions:
        getattr(both, name)(*arguments)
        both.check()

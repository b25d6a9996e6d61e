"""Random interleavings of joins, syncs, heartbeats, leaves, restarts, refusals, failovers and time.

Checked after every step: invariants 31 (a partition has one owner in a generation), 32 (stale generations and
members are refused) and 34 (a generation has one assignment); that nobody is answered twice or forgotten; and
that the deadlines are kept. The last test plants bugs and sees the checks fire.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.errors import ErrorCode, KafkaError
from ottla.groups.group import Group, GroupState

PARTITIONS = range(6)
CLIENTS = 5
INSTANCES = (None, None, None, "s1", "s2")


class Client:
    """A member as it sees itself: its id and generation may be of the past."""

    def __init__(self, instance: str | None) -> None:
        self.instance = instance
        self.member_id = ""
        self.generation = -1
        self.leads = False
        self.members: list[str] = []
        self.joining: Any = None
        self.syncing: Any = None


class Play:
    """Clients at one table, and what they have seen."""

    def __init__(self, table: Any, seed: int) -> None:
        self.table = table
        self.random = random.Random(seed)
        self.clients = [Client(instance) for instance in INSTANCES]
        self.seats: list[Any] = []
        self.tokens = 0
        self.seen: dict[int, tuple[bytes, dict[int, str]]] = {}
        """By generation, which assignment was seen, and who owns which partition by it."""

    def step(self, what: str, number: int) -> None:
        """Let one client do one thing."""
        getattr(self, f"do_{what}")(self.clients[number % CLIENTS])
        self.collect()
        self.check()

    def do_join(self, client: Client) -> None:
        """Join, or join again."""
        protocols = {"range": b"", "sticky": b""}
        if self.random.random() < 0.3:
            protocols = {"sticky": b"", "range": bytes([self.random.randrange(2)])}
        seat = self.table.join(
            client.member_id,
            name="c",
            instance=client.instance,
            version=self.random.choice((3, 5, 9)),
            protocols=protocols,
            session_ms=10_000,
            rebalance_ms=15_000,
        )
        client.joining = seat
        self.seats.append(seat)

    def do_sync(self, client: Client) -> None:
        """Sync, with an assignment if this client believes to lead."""
        assignments = {}
        if client.leads and client.members:
            self.tokens += 1
            for index, member_id in enumerate(client.members):
                own = [p for p in PARTITIONS if p % len(client.members) == index]
                assignments[member_id] = bytes([self.tokens % 256, self.tokens // 256, *own])
        before = self.table.group.generation
        seat = self.table.sync(
            client.member_id, client.generation, assignments, instance=client.instance
        )
        if seat.code is ErrorCode.NONE:
            assert client.generation == before, "invariant 32: a stale sync was served"
        client.syncing = (seat, client.generation)
        self.seats.append(seat)

    def do_heartbeat(self, client: Client) -> None:
        """Heartbeat."""
        code = self.table.heartbeat(client.member_id, client.generation, client.instance)
        if code is ErrorCode.NONE:
            assert client.generation == self.table.group.generation, "invariant 32"

    def do_commit(self, client: Client) -> None:
        """Ask to commit offsets."""
        code = self.table.commit(client.member_id, client.generation, client.instance)
        if code is ErrorCode.NONE and client.generation >= 0:
            assert client.generation == self.table.group.generation, "invariant 32"
            assert client.member_id in self.table.group.members, "invariant 32"

    def do_leave(self, client: Client) -> None:
        """Leave for good."""
        if client.member_id:
            self.table.leave((client.member_id, client.instance))

    def do_restart(self, client: Client) -> None:
        """Forget everything but the instance id."""
        client.__init__(client.instance)  # type: ignore[misc]

    def do_wait(self, client: Client) -> None:
        """Let time pass."""
        self.table.wait(self.random.choice((100, 3_000, 9_000, 16_000)))

    def do_refuse(self, client: Client) -> None:
        """Let the next append fail."""
        self.table.refusal = ErrorCode.COORDINATOR_NOT_AVAILABLE

    def do_failover(self, client: Client) -> None:
        """Another coordinator takes over from the log."""
        table = self.table
        table.take(table.group.close())
        table.refusal = None
        if table.stored:
            table.group = Group.load("g", table.stored[-1], table.settings)
        else:
            table.group = Group("g", table.settings, table.wall_ms)
        table.take(table.group.activate(table.now))

    def collect(self) -> None:
        """Let the clients read their answers."""
        for client in self.clients:
            if client.joining is not None and client.joining.response is not None:
                response, client.joining = client.joining.response, None
                if response.error_code in (ErrorCode.NONE, ErrorCode.MEMBER_ID_REQUIRED):
                    client.member_id = response.member_id
                    client.generation = response.generation_id
                    client.leads = (
                        response.leader == response.member_id and not response.skip_assignment
                    )
                    client.members = [member.member_id for member in response.members]
                elif response.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
                    client.member_id, client.generation = "", -1
            if client.syncing is not None and client.syncing[0].response is not None:
                seat, generation = client.syncing
                client.syncing = None
                if seat.code is ErrorCode.NONE and seat.response.assignment:
                    self.see(generation, client, seat.response.assignment)

    def see(self, generation: int, client: Client, assignment: bytes) -> None:
        """A client got an assignment."""
        token, own = assignment[:2], assignment[2:]
        seen, owners = self.seen.setdefault(generation, (token, {}))
        assert seen == token, "invariant 34: two assignments in one generation"
        me = client.instance or client.member_id
        for partition in own:
            owner = owners.setdefault(partition, me)
            assert owner == me, "invariant 31: two owners of a partition in one generation"

    def check(self) -> None:
        """What is true of the group at any time."""
        group = self.table.group
        members = list(group.members)
        deadlines = [m.deadline_ms for m in members] + list(group.members.pending.values())
        assert group.wake_ms <= min(deadlines, default=group.wake_ms)
        assert (group.state in (GroupState.EMPTY, GroupState.DEAD)) <= (not members)
        assert group.members.joining == sum(m.joining is not None for m in members)
        assert group.members.kept_bytes >= sum(member.kept_bytes for member in members)
        if group.state is GroupState.STABLE:
            assert self.table.stored[-1].generation == group.generation
            stored = {m.member_id: m.assignment for m in self.table.stored[-1].members}
            for member in members:
                assert stored[member.member_id] == member.assignment

    def check_end(self) -> None:
        """Everybody goes away without a word: nobody who waits is forgotten, and the group empties."""
        self.table.refusal = None
        self.table.wait(1_200_000)
        self.collect()
        assert all(seat.response is not None for seat in self.seats), "a request was forgotten"
        assert self.table.group.state in (GroupState.EMPTY, GroupState.DEAD)
        assert not self.table.group.members.pending
        assert self.table.group.members.kept_bytes == 0


OPERATIONS = (
    *("join",) * 6,
    *("sync",) * 6,
    *("heartbeat",) * 3,
    *("commit",) * 2,
    *("wait",) * 2,
    "leave",
    "restart",
    "refuse",
    "failover",
)
STEPS = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, CLIENTS - 1)), min_size=1, max_size=80
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps=STEPS, seed=st.integers(0, 999), delay_ms=st.sampled_from((0, 3_000)))
def test_no_interleaving_breaks_a_group(
    steps: list[tuple[str, int]], seed: int, delay_ms: int, new_table: Any, quick: Any
) -> None:
    play = Play(new_table(quick._replace(group_initial_rebalance_delay_ms=delay_ms)), seed)
    for what, number in steps:
        play.step(what, number)
    play.check_end()


def walk(play: Play, seed: int, count: int) -> None:
    """A long random walk, for what short lists do not reach."""
    choose = random.Random(seed)
    for _ in range(count):
        play.step(choose.choice(OPERATIONS), choose.randrange(CLIENTS))
    play.check_end()


@pytest.mark.parametrize("seed", range(20))
def test_no_long_walk_breaks_a_group(seed: int, new_table: Any) -> None:
    play = Play(new_table(), seed)
    walk(play, seed, 1_500)
    assert len(play.seen) > 5  # it got somewhere


def _no_generation_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_member(self: Any, member_id: str, instance_id: str | None, generation: int) -> Any:
        return self.members.check(member_id, instance_id)

    monkeypatch.setattr(Group, "check_member", check_member)


def _no_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(self: Any, out: Any, member_id: str) -> None:
        self.members.remove(member_id)
        self._pending_sync.discard(member_id)

    monkeypatch.setattr(Group, "_drop", drop)


def _any_sync_assigns(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Group.sync

    def sync(self: Any, member_id: str, *rest: Any) -> Any:
        if self.state is GroupState.STABLE and rest[4]:
            self.state = GroupState.COMPLETING  # a second assignment for the same generation
        return right(self, member_id, *rest)

    monkeypatch.setattr(Group, "sync", sync)


@pytest.mark.parametrize("plant", [_no_generation_check, _no_farewell, _any_sync_assigns])
def test_the_checks_fire_on_planted_bugs(
    plant: Any, new_table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hunt() -> None:
        for seed in range(60):
            walk(Play(new_table(), seed), seed, 300)

    plant(monkeypatch)
    with pytest.raises((AssertionError, KafkaError)):
        hunt()

"""What the tests of groups play with: one group at a table, and a coordinator in a house."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.clock import ManualClock
from ottla.errors import ErrorCode, KafkaError
from ottla.groups.coordinator import Coordinator, LoadedRecord
from ottla.groups.group import Group, Joining
from ottla.groups.outcome import Moment, Outcome, Waiter
from ottla.groups.settings import GroupSettings
from ottla.messages.consumer_protocol import ConsumerProtocolSubscription
from ottla.messages.group_log import GroupMetadataValue
from ottla.messages.join_group import JoinGroupResponse
from ottla.messages.sync_group import SyncGroupResponse
from ottla.network.request import Request
from ottla.wire.compiler import encode_bytes

QUICK = GroupSettings(group_initial_rebalance_delay_ms=0)


class Seat(Waiter):
    """Where one request's answer arrives."""

    __slots__ = ("response",)

    def __init__(self) -> None:
        self.response: Any = None

    @property
    def code(self) -> ErrorCode | None:
        """The answer's error code; None while there is no answer."""
        return None if self.response is None else ErrorCode(self.response.error_code)


class Table:
    """One group, whose records are accepted (or refused) at once and committed at once."""

    def __init__(self, settings: GroupSettings = QUICK) -> None:
        self.settings = settings
        self.wall_ms = 1_700_000_000_000
        self.monotonic_ms = 0
        self.group = Group("g", settings, self.wall_ms)
        self.stored: list[GroupMetadataValue] = []
        self.refusal: ErrorCode | None = None
        self.answers: list[tuple[Seat, JoinGroupResponse | SyncGroupResponse]] = []
        self._ids = itertools.count(1)

    @property
    def now(self) -> Moment:
        """The moment at the table."""
        return Moment(self.wall_ms, self.monotonic_ms)

    def take(self, outcome: Outcome) -> None:
        """Do what the outcome asks for, as the shell does."""
        for waiter, response in outcome.answers:
            self._answer(waiter, response)
        if outcome.store is not None:
            if self.refusal is None:
                self.stored.append(outcome.store.value)
                self.take(outcome.store.accepted(self.now))
            else:
                code, self.refusal = self.refusal, None
                self.take(outcome.store.refused(code, self.now))
        for waiter, response in outcome.guarded:
            self._answer(waiter, response)

    def _answer(self, waiter: Waiter, response: JoinGroupResponse | SyncGroupResponse) -> None:
        assert isinstance(waiter, Seat)
        assert waiter.response is None, "a request was answered twice"
        waiter.response = response
        self.answers.append((waiter, response))

    def join(
        self,
        member_id: str = "",
        *,
        name: str = "m",
        instance: str | None = None,
        version: int = 3,
        protocols: dict[str, bytes] | None = None,
        protocol_type: str = "consumer",
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        client_host: str = "/127.0.0.1",
    ) -> Seat:
        """A JoinGroup; by default of version 3, which lets a new member in without a second request."""
        seat = Seat()
        joining = Joining(
            member_id=member_id,
            group_instance_id=instance,
            client_id=name,
            client_host=client_host,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            protocol_type=protocol_type,
            protocols={"range": b""} if protocols is None else protocols,
            reason="test",
            new_member_id="" if member_id else f"{instance or name}-{next(self._ids)}",
            knows_member_ids=version >= 4,
            knows_skipping=version >= 9,
        )
        self.take(self.group.join(joining, seat, self.now))
        return seat

    def sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        instance: str | None = None,
        protocol_type: str | None = None,
        protocol_name: str | None = None,
    ) -> Seat:
        """A SyncGroup."""
        seat = Seat()
        try:
            outcome = self.group.sync(
                member_id,
                instance,
                generation,
                protocol_type,
                protocol_name,
                assignments or {},
                seat,
                self.now,
            )
        except KafkaError as error:
            seat.response = SyncGroupResponse(error_code=error.code)
        else:
            self.take(outcome)
        return seat

    def heartbeat(self, member_id: str, generation: int, instance: str | None = None) -> ErrorCode:
        """A Heartbeat."""
        try:
            return self.group.heartbeat(member_id, instance, generation, self.now)
        except KafkaError as error:
            return error.code

    def leave(self, *members: str | tuple[str, str | None]) -> list[ErrorCode]:
        """A LeaveGroup of member ids, or of pairs with an instance id."""
        pairs = [(m, None) if isinstance(m, str) else m for m in members]
        codes, outcome = self.group.leave(pairs, self.now)
        self.take(outcome)
        return codes

    def commit(self, member_id: str, generation: int, instance: str | None = None) -> ErrorCode:
        """The check of an OffsetCommit."""
        try:
            self.group.check_commit(member_id, instance, generation, self.now)
        except KafkaError as error:
            return error.code
        return ErrorCode.NONE

    def wait(self, milliseconds: int) -> None:
        """Let time pass, and everything happen whose time comes."""
        end_ms = self.monotonic_ms + milliseconds
        while self.group.wake_ms <= end_ms:
            self._move_to(max(self.group.wake_ms, self.monotonic_ms))
            self.take(self.group.expire(self.now))
        self._move_to(end_ms)

    def _move_to(self, monotonic_ms: int) -> None:
        self.wall_ms += monotonic_ms - self.monotonic_ms
        self.monotonic_ms = monotonic_ms

    def stable(self, *names: str, instances: bool = False, **options: Any) -> list[str]:
        """A stable group of new members; their ids. The first leads. Each is assigned its own name."""
        for name in names:
            others = [m.member_id for m in self.group.members]
            seat = self.join(name=name, instance=name if instances else None, **options)
            for member_id in others:
                member = self.group.members.get(member_id)
                if member is not None and member.joining is None:
                    self.join(member_id, name=name, instance=member.group_instance_id, **options)
            assert seat.code is ErrorCode.NONE
        ids = [m.member_id for m in self.group.members]
        by_name = {member_id.rsplit("-", 1)[0]: member_id for member_id in ids}
        generation = self.group.generation
        for member_id in ids:
            if member_id != self.group.members.leader_id:
                self.sync(member_id, generation)
        leader_id = self.group.members.leader_id or ""
        self.sync(leader_id, generation, {by_name[name]: name.encode() for name in names})
        assert self.group.state == "Stable"
        return [by_name[name] for name in names]


class ManualTimers:
    """Timers over a clock that the test moves."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._queue: list[tuple[float, int, _ManualTimer]] = []
        self._order = itertools.count()

    def call_later(self, delay: float, callback: Callable[[], object], /) -> _ManualTimer:
        """Call ``callback`` when the clock has moved on by ``delay`` seconds."""
        timer = _ManualTimer(callback)
        heapq.heappush(self._queue, (self._clock.monotonic() + delay, next(self._order), timer))
        return timer

    def advance(self, milliseconds: int) -> None:
        """Move the clock, stopping at each timer that is due."""
        end = self._clock.monotonic() + milliseconds / 1000
        while self._queue and self._queue[0][0] <= end + 1e-9:
            due, _, timer = heapq.heappop(self._queue)
            if timer.callback is not None:
                step_ms = round((due - self._clock.monotonic()) * 1000)
                self._clock.advance(max(step_ms, 0))
                timer.callback()
        self._clock.advance(round((end - self._clock.monotonic()) * 1000))

    @property
    def live(self) -> int:
        """How many timers would still call back."""
        return sum(timer.callback is not None for _, _, timer in self._queue)


class _ManualTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class MemoryLog:
    """``__consumer_offsets`` in memory. Appends are committed at once, or when the test says so."""

    def __init__(self) -> None:
        self.records: dict[int, list[tuple[bytes, bytes | None, int, int]]] = {}
        self.holds = False
        self.refusal: ErrorCode | None = None
        self._waits: list[asyncio.Future[None]] = []

    def append(
        self, partition: int, records: Sequence[tuple[bytes, bytes | None]], now_ms: int
    ) -> int:
        """Append, unless the next append is to be refused."""
        if self.refusal is not None:
            code, self.refusal = self.refusal, None
            raise KafkaError(code)
        log = self.records.setdefault(partition, [])
        for key, value in records:
            log.append((key, value, len(log), now_ms))
        return len(log)

    def when_committed(self, partition: int, end_offset: int) -> asyncio.Future[None]:
        """A future that is done unless the log ``holds``."""
        future = asyncio.get_running_loop().create_future()
        if self.holds:
            self._waits.append(future)
        else:
            future.set_result(None)
        return future

    async def release(self, error: ErrorCode | None = None) -> None:
        """Commit everything that is held (or fail it), and let the loop deliver that."""
        self.holds = False
        waits, self._waits = self._waits, []
        for future in waits:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(KafkaError(error))
        await turns()

    async def chunks(self, partition: int, size: int = 7) -> AsyncIterator[list[LoadedRecord]]:
        """What a load reads."""
        records = list(self.records.get(partition, []))
        for start in range(0, len(records), size):
            yield list(records[start : start + size])


async def turns(count: int = 10) -> None:
    """Let the loop run what is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


class Topics:
    """The metadata that handlers ask for."""

    def __init__(self, **partitions: int) -> None:
        self.partitions = partitions
        self.ids = {name: name.encode().ljust(16, b".") for name in partitions}

    def topic_name(self, topic_id: bytes) -> str | None:
        """The topic of an id."""
        return next((name for name, known in self.ids.items() if known == topic_id), None)

    def topic_id(self, name: str) -> bytes | None:
        """The id of a topic."""
        return self.ids.get(name)

    def has_partition(self, name: str, index: int) -> bool:
        """Whether the partition exists."""
        return 0 <= index < self.partitions.get(name, 0)


class House:
    """A coordinator over a log in memory, and the handlers before it."""

    def __init__(self, settings: GroupSettings = QUICK, log: MemoryLog | None = None) -> None:
        self.clock = ManualClock()
        self.timers = ManualTimers(self.clock)
        self.log = log if log is not None else MemoryLog()
        self.is_fenced = False
        self.groups = Coordinator(
            self.log, self.clock, self.timers, settings, lambda: self.is_fenced
        )
        self.metadata = Topics(orders=4, logs=2)

    async def open(self, *group_ids: str) -> House:
        """Load the partitions of these groups (``g`` by default)."""
        for group_id in group_ids or ("g",):
            partition = self.groups.partition_for(group_id)
            if not self.groups.owns(partition):
                await self.groups.load(partition, self.log.chunks(partition))
        return self

    def shard_records(self, group_id: str = "g") -> list[tuple[bytes, bytes | None, int, int]]:
        """What the log holds of the group's partition."""
        return self.log.records.get(self.groups.partition_for(group_id), [])

    def ask(self, handler: Any, body: Any, version: int, client_id: str = "client") -> Any:
        """What a handler answers: a response, or a future of one."""
        peer: Any = SimpleNamespace(peer_host="127.0.0.1", listener_name="PLAINTEXT")
        request = Request(type(body).__api_key__, version, 1, client_id, body, peer)
        return handler.handle(self, request)


def subscription(*topics: str) -> bytes:
    """A consumer's metadata, version 1."""
    message = ConsumerProtocolSubscription(topics=list(topics))
    return b"\x00\x01" + encode_bytes(message, 1)


@pytest.fixture
def table() -> Table:
    """One group that waits for nobody at first."""
    return Table()


@pytest.fixture(scope="session")
def new_table() -> type[Table]:
    """Tables with other settings."""
    return Table


@pytest.fixture(scope="session")
def new_house() -> type[House]:
    """Coordinators; make them inside the loop that runs them."""
    return House


@pytest.fixture(scope="session")
def quick() -> GroupSettings:
    """Settings without an initial delay."""
    return QUICK


@pytest.fixture(scope="session")
def subscribed() -> Callable[..., bytes]:
    """Makes a consumer's metadata from topics."""
    return subscription

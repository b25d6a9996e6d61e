"""The partitions of ``__consumer_offsets`` that are ours: loaded, written, expired and given up.

The way of a write: its records are appended (which may fail at once), the state takes them in at once, and
the answer is parked until they are committed. So writes see what is not yet committed, and reads are answered
with the state as they found it, once that is committed. A failed append changes nothing. With the leadership
of a partition go its state and every answer that is parked; a leader that goes on in a later epoch keeps both.

While the broker is fenced (its session with the store may be over, and another may lead) nobody is answered,
nothing expires and no session ends: whoever was not listened to has a whole session left afterwards.
Source: ``CoordinatorRuntime.java``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence, Set
from functools import partial
from typing import Protocol, cast

from ottla.clock import Clock
from ottla.errors import ErrorCode, KafkaError
from ottla.groups.group import Group
from ottla.groups.group_records import Record, group_record, group_tombstone, offset_tombstone
from ottla.groups.membership import NEVER
from ottla.groups.offsets import TopicOffsets, expired
from ottla.groups.outcome import Answer, Moment, Outcome, Response, with_error
from ottla.groups.parking import Parking, Timers
from ottla.groups.partitioner import partition_for
from ottla.groups.replies import Reply
from ottla.groups.settings import GroupSettings
from ottla.groups.shard import Shard
from ottla.logs import logger
from ottla.wire.primitives import BytesLike, EncodeError

log = logger(__name__)

LoadedRecord = tuple[BytesLike | None, BytesLike | None, int, int]
"""Key, value, offset and timestamp (milliseconds) of a record of ``__consumer_offsets``."""

SLICE_S = 0.002
"""How long loading and sweeping keep the loop before others get their turn."""

STALL_MS = 1_000
"""An alarm that rings so late says that the broker stood still."""

TOMBSTONES_MAX = 1_000
"""How many tombstones go into one append."""

STRING_BYTES_MAX = 32_767
"""What a string in a record can hold."""

FENCED_S = 0.5
"""How often a fenced broker looks at a group whose time has come."""


class GroupLog(Protocol):
    """The partitions of ``__consumer_offsets`` that this broker leads."""

    def append(self, partition: int, records: Sequence[Record], now_ms: int) -> int:
        """Append one batch now, and return its exclusive end offset; raises ``KafkaError``."""
        ...

    def when_committed(self, partition: int, end_offset: int) -> asyncio.Future[None]:
        """A future of everything below ``end_offset`` being committed; it fails with ``KafkaError``.

        Done already if it is. The coordinator may cancel it.
        """
        ...


_UNAVAILABLE = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.REQUEST_TIMED_OUT,
    }
)
_MOVED = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.KAFKA_STORAGE_ERROR,
    }
)
_TOO_LARGE = frozenset(
    {
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.RECORD_LIST_TOO_LARGE,
        ErrorCode.INVALID_FETCH_SIZE,
    }
)


def answer_for(code: ErrorCode, too_large: ErrorCode = ErrorCode.UNKNOWN_SERVER_ERROR) -> ErrorCode:
    """What a group's client is told when its record met ``code``: words that it knows how to act on."""
    if code in _UNAVAILABLE:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if code in _MOVED:
        return ErrorCode.NOT_COORDINATOR
    return too_large if code in _TOO_LARGE else code


class Ledger:
    """What the coordinator stands on: no request is known here.

    ``timers`` is the event loop, or what takes its place in a test. ``is_fenced`` says whether the broker must
    take it that another leads its partitions.
    """

    def __init__(
        self,
        log: GroupLog,
        clock: Clock,
        timers: Timers,
        settings: GroupSettings,
        is_fenced: Callable[[], bool] = lambda: False,
    ) -> None:
        self._log = log
        self._clock = clock
        self._timers = timers
        self._settings = settings
        self._is_fenced = is_fenced
        self._deaf_until_ms = -1
        """When (steady clock) somebody was last turned away by a fenced broker."""
        self._partition_count = settings.offsets_topic_num_partitions
        self._shards: dict[int, Shard] = {}
        self._is_closed = False
        self._is_full = False

    def partition_for(self, group_id: str) -> int:
        """The partition of ``__consumer_offsets`` whose leader is the group's coordinator."""
        return partition_for(group_id, self._partition_count)

    def learn_partition_count(self, count: int) -> None:
        """How many partitions the topic has, whoever made it; with groups at hand it stays as it was."""
        if count == self._partition_count:
            return
        if any(shard.groups for shard in self._shards.values()):
            log.warning("__consumer_offsets has another number of partitions", partitions=count)
        else:
            self._partition_count = count

    @property
    def partitions(self) -> Set[int]:
        """The partitions that are ours, or being loaded."""
        return frozenset(self._shards)

    def owns(self, partition: int) -> bool:
        """Whether a partition is loaded, so that its groups are answered for."""
        shard = self._shards.get(partition)
        return shard is not None and not shard.is_loading

    def survey(self) -> Iterator[tuple[Group, TopicOffsets]]:
        """Every group of the partitions that are loaded, with what it committed: to look at, not to change.

        The groups may change while the caller lets others run between two of them.
        """
        for shard in list(self._shards.values()):
            for group in list(shard.groups.values()):
                yield group, shard.offsets.of(group.group_id)

    @property
    def rebalances(self) -> int:
        """How many rebalances have begun in groups that this broker coordinates."""
        return sum(
            shard.rebalances_gone + sum(group.rebalances for group in shard.groups.values())
            for shard in self._shards.values()
        )

    # --- coming and going of partitions ---

    def goes_on(self, partition: int, leader_epoch: int) -> bool:
        """Whether a partition that we are to lead is ours, or being loaded, already; its epoch is noted then."""
        shard = self._shards.get(partition)
        if shard is None:
            return False
        shard.leader_epoch = max(shard.leader_epoch, leader_epoch)
        return True

    async def load(
        self,
        partition: int,
        records: AsyncIterator[Sequence[LoadedRecord]],
        gone: Callable[[frozenset[str]], Awaitable[frozenset[str]]] | None = None,
        *,
        leader_epoch: int = 0,
    ) -> None:
        """Take over a partition: replay its log, then answer for its groups.

        ``records`` are chunks of everything from its log start offset to its end at the time of the
        election. Unloading it meanwhile, or loading it again, ends this call early. An error in reading
        leaves the partition not ours, and is raised.

        ``gone`` is asked, once all is read, which of the topics that offsets were found for are no more: those
        offsets are forgotten. A crash may come between the end of a topic and the tombstones of its
        offsets, which must not be found again in a topic that gets its name.
        """
        self.unload(partition)
        shard = self._shards[partition] = self._new_shard(partition)
        shard.leader_epoch = leader_epoch
        try:
            slice_end = self._clock.monotonic() + SLICE_S
            async for chunk in records:
                for key, value, offset, _ in chunk:
                    shard.replay(key, value, offset)
                    if self._clock.monotonic() >= slice_end:
                        await asyncio.sleep(0)
                        slice_end = self._clock.monotonic() + SLICE_S
                    if self._shards.get(partition) is not shard:
                        return
            if gone is not None:
                shard.gone |= await gone(shard.offsets.topics())
            if self._shards.get(partition) is not shard:
                return
            for group in list(shard.groups.values()):
                self._perform(shard, group, group.activate(self._now()))
                if self._clock.monotonic() >= slice_end:
                    await asyncio.sleep(0)
                    slice_end = self._clock.monotonic() + SLICE_S
                if self._shards.get(partition) is not shard:
                    return
            self._forget_topics(shard, shard.gone)
        except BaseException as error:
            if self._shards.get(partition) is shard:
                self.unload(partition)
            elif isinstance(error, Exception):
                return  # the log was taken away while it was read
            raise
        shard.is_loading = False
        self._sweep_later(shard)
        if shard.groups:  # a new cluster has 50 partitions of none
            log.info("groups are loaded", partition=partition, groups=len(shard.groups))

    def unload(self, partition: int, leader_epoch: int | None = None) -> bool:
        """Give a partition up: whoever waits is told NOT_COORDINATOR, and its state is dropped.

        False where another's leading since ``leader_epoch`` is old news: we lead in a later one.
        """
        shard = self._shards.get(partition)
        if shard is None:
            return True
        if leader_epoch is not None and leader_epoch < shard.leader_epoch:
            return False
        del self._shards[partition]
        if shard.sweep is not None:
            shard.sweep.cancel()
        for _, timer in shard.alarms.values():
            timer.cancel()
        shard.alarms.clear()
        shard.parking.fail(ErrorCode.NOT_COORDINATOR)
        for group in shard.groups.values():
            for answer in group.close().answers:
                _give(answer.waiter, answer.response)
        return True

    def close(self) -> None:
        """Give everything up, for good."""
        self._is_closed = True
        for partition in list(self._shards):
            self.unload(partition)

    def _new_shard(self, partition: int) -> Shard:
        parking = Parking(
            partial(self._log.when_committed, partition),
            self._clock,
            self._timers,
            self._settings.offsets_commit_timeout_ms,
        )
        return Shard(partition, parking, self._settings)

    def _shard(self, group_id: str) -> Shard:
        """The group's partition; raises what its clients are told when it is not ours to answer for."""
        if self._is_closed:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if len(group_id) * 4 > STRING_BYTES_MAX and len(group_id.encode()) > STRING_BYTES_MAX:
            raise KafkaError(ErrorCode.INVALID_GROUP_ID)
        shard = self._shards.get(self.partition_for(group_id))
        if shard is None:
            raise KafkaError(ErrorCode.NOT_COORDINATOR)
        if self._is_fenced():
            self._deaf_until_ms = self._now().monotonic_ms
            raise KafkaError(ErrorCode.NOT_COORDINATOR)
        if shard.is_loading:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        return shard

    def _make_room(self, more_bytes: int) -> None:
        """Raise COORDINATOR_NOT_AVAILABLE, which clients try again, if members may not take so much more."""
        if more_bytes <= 0:
            return
        taken = sum(shard.members_bytes for shard in self._shards.values())
        was_full = self._is_full
        self._is_full = taken + more_bytes > self._settings.group_members_max_bytes
        if self._is_full:
            if not was_full:
                log.warning("the members of groups may take no more memory", bytes=taken)
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    # --- writing ---

    def _now(self) -> Moment:
        return Moment(self._clock.now_ms(), int(self._clock.monotonic() * 1000))

    def _append(self, shard: Shard, group_id: str, records: Sequence[Record]) -> int:
        end_offset = self._log.append(shard.partition, records, self._clock.now_ms())
        shard.note_append(group_id, end_offset)
        return end_offset

    def _perform(self, shard: Shard, group: Group, outcome: Outcome) -> None:
        """Do what an operation on a group asks for."""
        for answer in outcome.answers:
            _give(answer.waiter, answer.response)
        store = outcome.store
        if store is not None:
            try:
                self._append(shard, group.group_id, [group_record(group.group_id, store.value)])
            except KafkaError as error:
                self._perform(shard, group, store.refused(answer_for(error.code), self._now()))
            except EncodeError as error:
                log.error("a group cannot be written", group=group.group_id, error=error)
                code = ErrorCode.UNKNOWN_SERVER_ERROR
                self._perform(shard, group, store.refused(code, self._now()))
            else:
                group.persisted = True
                self._perform(shard, group, store.accepted(self._now()))
        if outcome.guarded:
            end_offset = shard.readable_at(group.group_id)
            shard.parking.after(end_offset, partial(_give_guarded, outcome.guarded))
        shard.weigh(group)
        self._set_alarm(shard, group)

    def _set_alarm(self, shard: Shard, group: Group) -> None:
        alarm = shard.alarms.get(group.group_id)
        wake_ms = group.wake_ms
        if wake_ms >= (alarm[0] if alarm is not None else NEVER):
            return
        if alarm is not None:
            alarm[1].cancel()
        delay_s = max(wake_ms / 1000 - self._clock.monotonic(), 0.0)
        timer = self._timers.call_later(delay_s, partial(self._ring, shard, group))
        shard.alarms[group.group_id] = wake_ms, timer

    def _ring(self, shard: Shard, group: Group) -> None:
        group_id = group.group_id
        if shard.groups.get(group_id) is not group:
            return
        now = self._now()
        alarm = shard.alarms.pop(group_id, None)
        if self._is_fenced():
            self._deaf_until_ms = now.monotonic_ms
            timer = self._timers.call_later(FENCED_S, partial(self._ring, shard, group))
            shard.alarms[group_id] = now.monotonic_ms + int(FENCED_S * 1000), timer
            return
        stalled = alarm is not None and now.monotonic_ms - alarm[0] >= STALL_MS
        group.spare(now, self._deaf_until_ms, stalled=stalled)
        self._perform(shard, group, group.expire(now))
        shard.forget_if_vacant(group_id)

    # --- forgetting ---

    def _bury(self, shard: Shard, group_id: str, offsets: Iterable[tuple[str, int]]) -> None:
        """Write the tombstones of a group's offsets, and forget them; raises ``KafkaError``."""
        ending = list(offsets)
        for start in range(0, len(ending), TOMBSTONES_MAX):
            part = ending[start : start + TOMBSTONES_MAX]
            records = [offset_tombstone(group_id, topic, number) for topic, number in part]
            self._append(shard, group_id, records)
            for topic, number in part:
                shard.offsets.remove(group_id, topic, number)

    def _bury_group(self, shard: Shard, group: Group) -> None:
        """Write the tombstone of an empty group that has no offsets, and forget it."""
        if group.persisted:
            self._append(shard, group.group_id, [group_tombstone(group.group_id)])
        shard.forget(group.group_id)

    def topics_deleted(self, names: Iterable[str]) -> None:
        """Forget the offsets of topics that are gone, in all groups."""
        gone = frozenset(names)
        for shard in list(self._shards.values()):
            if shard.is_loading:
                shard.gone |= gone
            else:
                self._forget_topics(shard, gone)

    def _forget_topics(self, shard: Shard, gone: frozenset[str]) -> None:
        if not gone:
            return
        ending: dict[str, list[tuple[str, int]]] = {}
        for group_id, topic, partition in shard.offsets.of_topics(gone):
            ending.setdefault(group_id, []).append((topic, partition))
        for group_id, offsets in ending.items():
            try:
                self._bury(shard, group_id, offsets)
            except KafkaError as error:
                log.warning("offsets of a deleted topic stay", group=group_id, reason=str(error))

    def _sweep_later(self, shard: Shard) -> None:
        delay_s = self._settings.offsets_retention_check_interval_ms / 1000
        shard.sweep = self._timers.call_later(
            delay_s, lambda: self._sweep(shard, iter(list(shard.groups)))
        )

    def _sweep(self, shard: Shard, group_ids: Iterator[str]) -> None:
        """Look at some groups for what has expired, and at the others in the loop's next turn."""
        slice_end = self._clock.monotonic() + SLICE_S
        try:
            for group_id in group_ids if not self._is_fenced() else ():
                group = shard.groups.get(group_id)
                if group is not None:
                    self._expire_offsets(shard, group)
                if self._clock.monotonic() >= slice_end:
                    shard.sweep = self._timers.call_later(
                        0.0, partial(self._sweep, shard, group_ids)
                    )
                    return
        except KafkaError as error:
            log.warning(
                "offsets could not be expired", partition=shard.partition, reason=str(error)
            )
        self._sweep_later(shard)

    def _expire_offsets(self, shard: Shard, group: Group) -> None:
        group_id = group.group_id
        retention_ms = self._settings.offsets_retention_minutes * 60_000
        ending = expired(group, shard.offsets.of(group_id), self._clock.now_ms(), retention_ms)
        self._bury(shard, group_id, ending)
        is_unused = group.is_empty and group_id not in shard.offsets and not group.members.pending
        if is_unused:
            self._bury_group(shard, group)
        self._forget_when_committed(shard, group_id)

    def _forget_when_committed(self, shard: Shard, group_id: str) -> None:
        """Remember a group's last append, which nobody may ask about again, no longer than it takes."""
        end_offset = shard.readable_at(group_id)
        if end_offset:
            shard.parking.after(end_offset, partial(_forget_append, shard, group_id))


def _give(waiter: object, response: Response) -> None:
    cast(Reply[Response], waiter).give(response)


def _give_guarded(answers: list[Answer], code: ErrorCode) -> None:
    for waiter, response in answers:
        told = response if code is ErrorCode.NONE else with_error(response, answer_for(code))
        _give(waiter, told)


def _forget_append(shard: Shard, group_id: str, code: ErrorCode) -> None:
    shard.readable_at(group_id)

"""Fetching from one leader: a connection, and a loop that asks, appends, flushes and asks again.

Rules:
- All that is decided stands in ``copying``; here is the waiting. What an answer brought is flushed before the next
  request says that this replica has it (``durability=disk``). A flush that takes long holds up its partition only.
- A request that waits at the leader holds nobody up: a partition that comes meanwhile, or is asked for again, is
  in a second request, and a leader of ours answers the first one then.
- A large answer is taken in slices: others have their turns every ``SLICE_S``. A small one that leaves nothing to wait for
  is taken in, and the next request written, in the turn of the event loop that reads it (``_take_at_once``): the
  leader's clients wait for what that says.
- A connection that fails is tried again, after ``FIRST_DELAY_S`` at first and ``replica.fetch.backoff.ms`` at last.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.log.flusher import Durability
from ottla.logs import logger
from ottla.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ottla.network.channel import UnsupportedVersion
from ottla.replication.copies import Copy, Cut, Limits
from ottla.replication.copying import Copying
from ottla.replication.fetch_plan import FIRST_DELAY_S

if TYPE_CHECKING:
    from ottla.clock import Clock
    from ottla.log.directories import LogDirectories
    from ottla.log.directory import LogDirectory
    from ottla.log.flusher import Flusher
    from ottla.log.local_log import Replay
    from ottla.network.channel import Channel
    from ottla.replication.quota import ReplicationQuota
    from ottla.replication.replica import Replica

log = logger(__name__)

FETCH = 1
LIST_OFFSETS = 2
FETCH_VERSIONS = (12, 17)
FETCH_VERSIONS_WITHOUT_IDS = (12, 12)
LIST_OFFSETS_VERSIONS = (4, 9)
LATEST, EARLIEST = -1, -2

SLICE_S = 0.002

AT_ONCE_BYTES = 64 * 1024
"""Up to this size an answer is small."""

FLUSH_WAIT_S = 1.0
"""How long the next request waits for flushes; a partition whose flush takes longer is left out of it."""

THROTTLE_CHECK_S = 0.1
"""How often a partition that is throttled is looked at again."""

Connect = Callable[[str, int], Awaitable["Channel"]]


class Surroundings(NamedTuple):
    """What the fetchers of a broker know of it."""

    node_id: int
    clock: Clock
    directories: LogDirectories
    flusher: Flusher
    limits: Callable[[], Limits]
    request_timeout_s: Callable[[], float]
    endpoint_of: Callable[[int], tuple[str, int] | None]
    broker_epoch: Callable[[], int]
    connect: Connect
    keep_log_starts: Callable[[dict[Any, int]], Awaitable[dict[Any, KafkaError]]]
    on_storage_error: Callable[[Any], None]
    throttle: ReplicationQuota | None = None


class Fetcher:
    """The loop over the partitions that are copied from one leader."""

    def __init__(self, copying: Copying, around: Surroundings) -> None:
        self.copying = copying
        self._around = around
        self._clock = around.clock
        self._channel: Channel | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._turn: asyncio.Future[None] | None = None
        self._awaited: asyncio.Future[Any] | None = None
        self._taking: Iterator[None] | None = None
        """What is left of an answer that was begun with at once."""
        self._broken: Exception | None = None
        self._closed = False
        self._failures = 0
        self._again = asyncio.Event()
        self._told_of: str | None = None
        self._starting: asyncio.Task[None] | None = None
        self._flushing: dict[Replica, asyncio.Task[None]] = {}
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"fetch from {copying.leader_id}"
        )

    @property
    def is_connected(self) -> bool:
        """Whether the leader is reached at this time."""
        return self._channel is not None and not self._channel.closed

    def add(self, replica: Replica) -> None:
        """Copy ``replica``, too."""
        self.copying.add(replica)
        self.rouse()

    def remove(self, replica: Replica) -> None:
        """Copy it no more. An answer that is under way is not applied."""
        self.copying.remove(replica)

    def rouse(self) -> None:
        """Something is new: look at it now."""
        turn = self._turn
        if turn is not None and not turn.done():
            turn.set_result(None)

    def try_again(self) -> None:
        """The leader may be reached now: wait no longer to connect."""
        self._again.set()

    async def close(self) -> None:
        """End, whatever is under way. Nothing is appended once this was called."""
        self._closed = True
        self._task.cancel()
        tasks = [self._task, *self._flushing.values()]
        if self._starting is not None:
            tasks.append(self._starting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # The loop

    async def _run(self) -> None:
        while not self._closed:
            channel = None
            try:
                channel = self._channel = await self._connect()
                await self._exchange(channel)
            except KafkaError as error:
                self._tell(str(error))
            except Exception as error:  # ours to mend; the partitions are not to be given up for it
                log.error("fetching failed", leader=self.copying.leader_id, error=error)
            finally:
                self._channel = self._taking = self._broken = None
                self._forget_answers()
                if channel is not None:
                    channel.abort("given up")
            self.copying.lost()
            backoff_s = self._around.limits().backoff_ms / 1000
            delay = min(FIRST_DELAY_S * 2 ** min(self._failures, 30), backoff_s)
            self._failures += 1
            self._again.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._again.wait()

    def _forget_answers(self) -> None:
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # it is the same for all of them, and was told of

    async def _connect(self) -> Channel:
        leader_id = self.copying.leader_id
        endpoint = self._around.endpoint_of(leader_id)
        if endpoint is None:
            raise KafkaError(ErrorCode.BROKER_NOT_AVAILABLE, f"broker {leader_id} is not known")
        return await self._around.connect(*endpoint)

    def _tell(self, why: str) -> None:
        """Say why the leader is not reached; once, while it stays so."""
        if why != self._told_of:
            self._told_of = why
            log.warning("no fetching for now", leader=self.copying.leader_id, reason=why)

    async def _exchange(self, channel: Channel) -> None:
        """Ask and take in the answers, until the connection fails."""
        waiting = self._waiting
        channel.taker = self._take_at_once
        while True:
            self._tell_of_failed()
            self._ask_again(channel)
            if not waiting:
                await self._pause(None)
                continue
            if not waiting[0].done():
                await self._pause(waiting[0])
            if self._broken is not None:
                raise self._broken
            if self._taking is not None:
                steps, self._taking = self._taking, None
            elif waiting and waiting[0].done():
                steps = self._begin(waiting.popleft().result())
            else:
                continue
            await self._take(steps)
            await self._settle(channel)

    def _ask_again(self, channel: Channel) -> None:
        """Send the next request, if it is its time."""
        copying, waiting = self.copying, self._waiting
        if copying.may_send_another and (not waiting or copying.has_news):
            answer = self._ask(channel)
            if answer is not None:
                waiting.append(answer)
            self._flush_apart(copying.unflushed)

    def _ask(self, channel: Channel) -> asyncio.Future[Any] | None:
        """Send the next request, if there is one; the future is its answer."""
        around, copying = self._around, self.copying
        allowed = FETCH_VERSIONS if copying.can_name_ids else FETCH_VERSIONS_WITHOUT_IDS
        version = channel.version_for(FETCH, allowed)
        limits = around.limits()
        request = copying.next_fetch(
            limits, self._clock.monotonic(), version=version, broker_epoch=around.broker_epoch()
        )
        if request is None:
            return None
        timeout_s = around.request_timeout_s() + limits.wait_max_ms / 1000
        return channel.send(request, version=version, timeout=timeout_s, at_once=True)

    async def _pause(self, answer: asyncio.Future[Any] | None) -> None:
        """Wait for the answer, for news, or until a partition has waited long enough."""
        now = self._clock.monotonic()
        due = self.copying.next_due(now)  # what has waited long enough is news
        if answer is not None and self.copying.has_news and self.copying.may_send_another:
            return
        loop = asyncio.get_running_loop()
        turn = self._turn = loop.create_future()
        if self.copying.is_throttling:
            due = min(now + THROTTLE_CHECK_S, due or now + THROTTLE_CHECK_S)
        timer = None
        if due is not None:
            timer = loop.call_later(max(0.0, due - now), self.rouse)
        if answer is not None:
            self._await(answer)
        try:
            await turn
        finally:
            self._turn = None
            if timer is not None:
                timer.cancel()
            self._await(None)

    def _await(self, answer: asyncio.Future[Any] | None) -> None:
        """Be told of this answer, and no more of the one before."""
        if self._awaited is not None:
            self._awaited.remove_done_callback(self._answered)
        self._awaited = answer
        if answer is not None:
            answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        self.rouse()

    # What an answer brought

    def _begin(self, response: Any) -> Iterator[None]:
        self._failures, self._told_of = 0, None
        return self.copying.answered(response, self._clock.monotonic, self._clock.now_ms())

    def _take_at_once(self, future: asyncio.Future[Any], response: Any, size: int) -> bool:
        """Whether a small answer that the loop waits for was taken in, without it if there is nothing to wait for."""
        turn = self._turn
        if (
            size > AT_ONCE_BYTES
            or self._closed
            or turn is None
            or turn.done()
            or future is not self._awaited
            or self._around.flusher.durability is Durability.DISK
        ):
            return False
        self._await(None)
        self._waiting.popleft()
        try:
            if self._take_slice(self._begin(response)) and not self._leaves_more():
                assert self._channel is not None
                self._ask_again(self._channel)
                if self._waiting and not self._has_to_look_again():
                    self._await(self._waiting[0])
                    return True
        except Exception as error:  # the loop's to deal with
            self._broken = error
        self.rouse()
        return True

    def _take_slice(self, steps: Iterator[None]) -> bool:
        """Whether all of an answer was taken in; what is not is left to the loop."""
        slice_end = self._clock.monotonic() + SLICE_S
        for _ in steps:
            if self._clock.monotonic() >= slice_end:
                self._taking = steps
                return False
        return True

    def _leaves_more(self) -> bool:
        """Whether an answer has left more to do than to ask again; the loop settles that."""
        copying = self.copying
        copying.appended.clear()  # nothing waits for a flush
        if copying.cuts or copying.asking or copying.failed or copying.starting:
            self._taking = iter(())
        return self._taking is not None

    def _has_to_look_again(self) -> bool:
        """Whether a partition waits for some time to pass, or has waited long enough by now."""
        copying = self.copying
        due = copying.next_due(self._clock.monotonic())  # what has waited long enough is news
        return due is not None or copying.is_throttling or copying.has_news

    async def _take(self, steps: Iterator[None]) -> None:
        now = self._clock.monotonic
        slice_end = now() + SLICE_S
        for _ in steps:
            if now() >= slice_end:
                await asyncio.sleep(0)
                slice_end = now() + SLICE_S

    async def _settle(self, channel: Channel) -> None:
        """Do what the answer has left to be done before the next request."""
        copying = self.copying
        while copying.appended or copying.cuts or copying.asking or copying.failed:
            appended, copying.appended = copying.appended, {}
            if self._around.flusher.durability is Durability.DISK:
                await self._flush(appended)
            cuts, copying.cuts = copying.cuts, []
            if cuts:
                await self._cut(cuts)
            asking, copying.asking = copying.asking, []
            if asking:
                await self._find_ranges(channel, asking)
            self._tell_of_failed()
        if copying.starting and self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._move_starts())

    def _tell_of_failed(self) -> None:
        failed, self.copying.failed = self.copying.failed, []
        for replica in failed:
            self._around.on_storage_error(replica)

    async def _flush(self, replicas: Iterable[Replica]) -> None:
        """Wait until the replicas' logs are flushed; not much longer for those that take long."""
        replicas = list(replicas)
        self._flush_apart(replicas)
        flushing = [self._flushing[one] for one in replicas if one in self._flushing]
        if flushing:
            await asyncio.wait(flushing, timeout=FLUSH_WAIT_S)

    def _flush_apart(self, replicas: Iterable[Replica]) -> None:
        for replica in replicas:
            if replica not in self._flushing:
                task = asyncio.get_running_loop().create_task(self._flush_one(replica))
                self._flushing[replica] = task

    async def _flush_one(self, replica: Replica) -> None:
        try:
            await self._around.flusher.flush(replica.log)
        except KafkaError as error:
            self.copying.flush_failed(replica, error, self._clock.monotonic())
        finally:
            del self._flushing[replica]
            self.copying.touched(replica)
            self.rouse()

    async def _cut(self, cuts: list[Cut]) -> None:
        """Cut logs; what is checkpointed of them is lowered first, since until their flush the old end may come back."""
        around, now = self._around, self._clock.monotonic
        by_directory: dict[LogDirectory, list[Cut]] = {}
        for cut in cuts:
            directory = around.directories.directory_of(cut.copy.replica.log)
            by_directory.setdefault(directory, []).append(cut)
        for directory, mine in by_directory.items():
            ends = {
                (cut.copy.replica.topic, cut.copy.replica.index): 0 if cut.fully else cut.offset
                for cut in mine
            }
            try:
                await asyncio.to_thread(directory.lower_recovery_points, ends)
            except KafkaError as error:
                for cut in mine:
                    self.copying.cut_failed(cut, error, now())
                continue
            for cut in mine:
                replay = await self._replay(cut)
                self.copying.cut(cut, now(), self._clock.now_ms(), replay)
                await asyncio.sleep(0)

    async def _replay(self, cut: Cut) -> Replay | None:
        """Read off the loop what a cut needs to know of the producers: that may be all of a segment."""
        replay = None if cut.fully else cut.copy.replica.log.replay_before_cut(cut.offset)
        if replay is not None:
            await asyncio.to_thread(replay.run)
        return replay

    async def _find_ranges(self, channel: Channel, asking: list[Copy]) -> None:
        """Ask the leader where its logs start and end."""
        try:
            ends = await self._list_offsets(channel, asking, LATEST)
            starts = await self._list_offsets(channel, asking, EARLIEST)
        except UnsupportedVersion:
            ends = starts = {}
        for copy in asking:
            name = (copy.replica.topic, copy.replica.index)
            start, end = starts.get(name), ends.get(name)
            if start is None or end is None:
                self.copying.range_not_found(copy, self._clock.monotonic())
            else:
                self.copying.found_range(copy, start, end, self._clock.monotonic())

    async def _list_offsets(
        self, channel: Channel, copies: list[Copy], timestamp: int
    ) -> dict[tuple[str, int], int]:
        topics: dict[str, ListOffsetsTopic] = {}
        for copy in copies:
            name = copy.replica.topic
            topic = topics.setdefault(name, ListOffsetsTopic(name=name))
            topic.partitions.append(
                ListOffsetsPartition(
                    partition_index=copy.replica.index,
                    current_leader_epoch=copy.leader_epoch,
                    timestamp=timestamp,
                )
            )
        request = ListOffsetsRequest(replica_id=self._around.node_id, topics=list(topics.values()))
        version = channel.version_for(LIST_OFFSETS, LIST_OFFSETS_VERSIONS)
        response = await channel.send(
            request, version=version, timeout=self._around.request_timeout_s()
        )
        return {
            (topic.name, found.partition_index): found.offset
            for topic in response.topics
            for found in topic.partitions
            if not found.error_code and found.offset >= 0
        }

    async def _move_starts(self) -> None:
        """Let logs start where the leader's do, once that is written down."""
        try:
            due = self.copying.starts_due()
            failed = await self._around.keep_log_starts(dict(due)) if due else {}
            for replica, start in due.items():
                if replica in failed:
                    continue
                try:
                    replica.start_at(min(start, replica.high_watermark))
                except KafkaError as error:
                    log.warning("log start not moved", partition=repr(replica), reason=str(error))
                self.copying.touched(replica)
        finally:
            self._starting = None

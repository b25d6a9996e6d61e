"""What a follower does with its leader's answers. Sans-IO: the log is the replica's.

Rules:
- An answer counts for a partition only while the leader, its epoch and the position that was asked for are
  what they were when it was asked: what moved meanwhile is asked for again.
- A log is cut only where the leader's answer shows that it parts from the leader's (KIP-595, KIP-279), and never
  below what this leader has told to be committed in this epoch (INVARIANTS 12).
- What is damaged on its way, or carries an epoch that cannot be, is not appended, but asked for again.

Source: ``AbstractFetcherThread``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.log.log import UnexpectedAppendOffset
from ottla.logs import logger
from ottla.messages.fetch import FetchResponse, PartitionData
from ottla.records.batch import iter_batches
from ottla.replication.copies import Copy, Cut, State
from ottla.replication.fetch_plan import FetchPlan

if TYPE_CHECKING:
    from ottla.log.local_log import Replay
    from ottla.replication.replica import Replica

log = logger(__name__)

PIECE_BYTES = 256 * 1024
"""So much is appended before others have a turn: less than a millisecond."""

_EXPECTED = frozenset(
    (
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.LEADER_NOT_AVAILABLE,
    )
)
"""What a leader answers that does not know yet, or not any more, what this follower knows."""


class Copying(FetchPlan):
    """The partitions that are copied from one leader over one connection."""

    # Answers

    def answered(
        self, response: FetchResponse, now: Callable[[], float], now_ms: int
    ) -> Iterator[None]:
        """Take in the answer to the oldest request; yields where others may have a turn."""
        sent = self._sent.popleft()
        if not self._session_answered(sent, response):
            return
        for topic in response.responses:
            name: str | bytes = topic.topic_id if self._by_id else topic.topic
            for data in topic.partitions:
                key = (name, data.partition_index)
                copy = self._keyed.get(key)
                asked = self._known.get(key)
                if copy is None or asked is None or key in sent.outdated:
                    continue
                self._dirty[key] = None
                if copy.state is State.READY and self.is_current(copy):
                    position = copy.position
                    if asked.fetch_offset == position.fetch_offset and (
                        asked.leader_epoch == position.leader_epoch
                    ):
                        yield from self._take(copy, data, now, now_ms)
                        continue
                self._unheard.add(key)

    def _take(
        self, copy: Copy, data: PartitionData, now: Callable[[], float], now_ms: int
    ) -> Iterator[None]:
        if data.error_code:
            self._refused(copy, ErrorCode(data.error_code), now())
        elif data.diverging_epoch is not None and data.diverging_epoch.epoch >= 0:
            end = data.diverging_epoch
            self._parted(copy, end.epoch, end.end_offset, now())
        else:
            yield from self._append(copy, data, now, now_ms)

    def _append(
        self, copy: Copy, data: PartitionData, now: Callable[[], float], now_ms: int
    ) -> Iterator[None]:
        replica = copy.replica
        try:
            for piece in pieces(data.records):
                if replica.append_as_follower(piece, now_ms) is not None:
                    self.appended[replica] = None
                    if self._throttle is not None and self._is_throttled(replica):
                        self._throttle.record(len(piece))
                yield
                if not self.is_current(copy) or copy.state is not State.READY:
                    return
        except UnexpectedAppendOffset as error:
            self._overlaps(copy, error, data, now())
            return
        except KafkaError as error:
            self._append_failed(copy, error, now())
            return
        copy.failures = 0
        copy.lag = max(0, data.high_watermark - replica.log.log_end_offset)
        if data.high_watermark >= 0:
            replica.learn_high_watermark(data.high_watermark)
        copy.leader_start = data.log_start_offset
        if data.log_start_offset > replica.log.log_start_offset:
            self.starting[copy] = None

    def _append_failed(self, copy: Copy, error: KafkaError, now: float) -> None:
        failed = copy.replica.log
        if failed.unusable is not None or failed.health.failure is not None:
            self._stop(copy)
            return
        log.warning("records were not copied", partition=repr(copy.replica), reason=str(error))
        self._delay(copy, now)

    def _overlaps(
        self, copy: Copy, error: UnexpectedAppendOffset, data: PartitionData, now: float
    ) -> None:
        """The leader's batch begins before this log's end.

        DeleteRecords let the leader's log start amid that batch, and this one is to begin with it; or else the logs
        part, after an unclean election.
        """
        of = copy.replica.log
        is_first = of.log_start_offset == of.log_end_offset
        why = f"the leader's batch begins at {error.first_offset}"
        self._cut(
            copy, error.first_offset, why, now, fully=is_first, data=data if is_first else None
        )

    def _refused(self, copy: Copy, code: ErrorCode, now: float) -> None:
        if code is ErrorCode.OFFSET_OUT_OF_RANGE:
            copy.state = State.HELD
            self.asking.append(copy)
            return
        if code not in _EXPECTED:
            log.warning(
                "the leader could not be read",
                partition=repr(copy.replica),
                leader=self.leader_id,
                reason=code.name,
            )
        self._delay(copy, now)

    # Cutting

    def _parted(self, copy: Copy, epoch: int, end_offset: int, now: float) -> None:
        """The leader's log has nothing of our last epoch behind ``end_offset``, where ``epoch`` ends in it."""
        of = copy.replica.log
        offset = min(end_offset, of.log_end_offset)
        ours = of.end_offset_for_epoch(epoch)
        if end_offset < 0:
            offset = min(copy.replica.high_watermark, of.log_end_offset)
        elif ours is not None:
            # Of an epoch that we lack, all that comes after the one before it goes, and we ask again.
            offset = min(offset, ours.end_offset) if ours.epoch == epoch else ours.end_offset
        self._cut(copy, offset, f"the leader's epoch {epoch} ends at {end_offset}", now)

    def found_range(self, copy: Copy, start_offset: int, end_offset: int, now: float) -> None:
        """The leader's log starts and ends there: go on where both logs can."""
        if copy.state is not State.HELD or not self.is_current(copy):
            return
        end = copy.replica.log.log_end_offset
        if end_offset < end:
            self._cut(copy, end_offset, f"the leader's log ends at {end_offset}", now)
        elif start_offset > end:
            why = f"the leader's log starts at {start_offset}"
            self._cut(copy, start_offset, why, now, fully=True)
        else:
            self._delay(copy, now)  # it moved meanwhile

    def range_not_found(self, copy: Copy, now: float) -> None:
        """The leader did not say where its log starts and ends."""
        if copy.state is State.HELD and self.is_current(copy):
            self._delay(copy, now)

    def _cut(
        self,
        copy: Copy,
        offset: int,
        why: str,
        now: float,
        *,
        fully: bool = False,
        data: PartitionData | None = None,
    ) -> None:
        told = copy.replica.told_high_watermark
        of = copy.replica.log
        has_records = of.log_end_offset > of.log_start_offset
        if has_records and offset < min(told, of.log_end_offset):
            log.error(
                "not cut: the leader told that more is committed",
                partition=repr(copy.replica),
                leader=self.leader_id,
                offset=offset,
                committed=told,
                reason=why,
            )
            self._delay(copy, now)
            return
        copy.state = State.HELD
        self.cuts.append(Cut(copy, offset, fully, why, data))

    def cut(self, cut: Cut, now: float, now_ms: int, replay: Replay | None = None) -> None:
        """Cut the log, if that still counts. The checkpointed recovery point is lowered, and ``replay`` run, before."""
        copy = cut.copy
        if copy.state is not State.HELD or not self.is_current(copy):
            return
        replica = copy.replica
        before = (replica.log.log_end_offset, replica.log.latest_epoch)
        committed = replica.high_watermark
        try:
            if cut.fully:
                replica.truncate_fully_to(cut.offset, now_ms)
            else:
                replica.truncate_to(cut.offset, now_ms, replay)
        except KafkaError as error:
            log.error("log not cut", partition=repr(replica), reason=str(error))
            self._append_failed(copy, error, now)
            return
        end = replica.log.log_end_offset
        tell = log.info
        if end < committed:  # the leader was elected uncleanly, or has lost what it had
            tell = log.error
        tell(
            "log cut to agree with the leader's",
            partition=repr(replica),
            leader=self.leader_id,
            epoch=copy.leader_epoch,
            end_offset=before[0],
            cut_to=end,
            high_watermark=committed,
            reason=cut.why,
        )
        if (end, replica.log.latest_epoch) == before:
            self._delay(copy, now)  # to ask again at once would bring the same answer
            return
        copy.state = State.READY
        self._dirty[self._key_of(replica)] = None
        if cut.data is not None:
            for _ in self._append(copy, cut.data, lambda: now, now_ms):
                pass

    def flush_failed(self, replica: Replica, error: KafkaError, now: float) -> None:
        """The replica's log could not be flushed."""
        copy = self._copies.get((replica.topic, replica.index))
        if copy is not None and copy.replica is replica and copy.state is State.READY:
            self._append_failed(copy, error, now)

    def cut_failed(self, cut: Cut, error: KafkaError, now: float) -> None:
        """The log could not be cut, since the recovery point could not be lowered."""
        if cut.copy.state is State.HELD and self.is_current(cut.copy):
            self._append_failed(cut.copy, error, now)

    def starts_due(self) -> dict[Replica, int]:
        """Where logs are to start now, as far as they have come: to be written down, then to be moved."""
        due: dict[Replica, int] = {}
        for copy in tuple(self.starting):
            of = copy.replica.log
            if not self.is_current(copy) or of.log_start_offset >= copy.leader_start:
                del self.starting[copy]
                continue
            start = min(copy.leader_start, copy.replica.high_watermark)
            if start > of.log_start_offset:
                due[copy.replica] = start
        return due

    def touched(self, replica: Replica) -> None:
        """Its log was flushed, or starts elsewhere now: the leader is to know."""
        key = self._key_of(replica)
        self._unflushed.pop(key, None)
        self._dirty[key] = None


def pieces(records: object) -> Iterator[memoryview]:
    """Fetched records in pieces of whole batches, each of ``PIECE_BYTES`` or one batch; a partial last one is left.

    Raises ``KafkaError`` as ``iter_batches``, after what is before the damage.
    """
    if not records:
        return
    assert isinstance(records, (bytes, bytearray, memoryview))
    view = memoryview(records)
    start = end = 0
    try:
        for position, header in iter_batches(view):
            following = position + header.size_bytes
            if following - start > PIECE_BYTES and end > start:
                yield view[start:end]
                start = end
            end = following
    except KafkaError:
        if end > start:
            yield view[start:end]
        raise
    if end > start:
        yield view[start:end]

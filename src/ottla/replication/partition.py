"""One partition on this broker: the leader's rules around its log.

Rules:
- The high watermark is the smallest acknowledged end over the in-sync replicas. A replica acknowledges
  its *flushed* end (``durability=disk``) or its log end (``durability=os``). With one replica that is this
  broker's own. It never goes back while this broker leads (INVARIANTS 4, 13).
- No consumer reads at or past the high watermark (INVARIANTS 5).
- Without leadership nothing is appended and nothing is read (INVARIANTS 11).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from ottla.errors import ErrorCode, KafkaError
from ottla.log.validation import check_client_batch, keys_take_long
from ottla.logs import logger
from ottla.records.batch import read_header
from ottla.replication.recompression import Recompression, Unpacking, wanted_codec
from ottla.replication.waiters import CommitWaiters, Waiter

if TYPE_CHECKING:
    from ottla.log.flusher import Flusher
    from ottla.log.log import AppendInfo, Log
    from ottla.log.reading import LogRead
    from ottla.replication.gathering import Gathering

log = logger(__name__)

NO_LEADER = -1

ANY_EPOCH = -1
"""What a client sends as the leader's epoch that does not know it."""

TO_HIGH_WATERMARK = -1
"""The offset in a DeleteRecords that means: all that is committed."""


class Reader(Protocol):
    """A parked fetch or a fetch session that follows the partition."""

    def partition_changed(self, partition: Partition) -> None:
        """Its high watermark, its log start or its leadership moved."""
        ...


class Partition:
    """A partition that this broker has a replica of."""

    __slots__ = (
        "_epoch_start_offset",
        "_flusher",
        "_readers",
        "_recompression",
        "_waiters",
        "bytes_in",
        "high_watermark",
        "index",
        "isr",
        "leader_epoch",
        "leader_id",
        "log",
        "messages_in",
        "node_id",
        "partition_epoch",
        "replicas",
        "topic",
        "topic_id",
    )

    def __init__(
        self,
        topic: str,
        topic_id: bytes,
        index: int,
        partition_log: Log,
        *,
        node_id: int,
        flusher: Flusher,
        unpacking: Unpacking,
    ) -> None:
        """A replica that nobody leads yet; ``flusher`` knows what an acknowledgement means.

        ``unpacking`` bounds what all partitions unpack at once.
        """
        self.topic = topic
        self.topic_id = topic_id
        self.index = index
        self.log = partition_log
        self.node_id = node_id
        self.leader_id = NO_LEADER
        self.leader_epoch = -1
        self.partition_epoch = -1
        self.replicas: list[int] = []
        self.isr: list[int] = []
        self.high_watermark = 0
        self.bytes_in = self.messages_in = 0
        self._epoch_start_offset = 0
        self._flusher = flusher
        self._waiters = CommitWaiters()
        self._recompression = Recompression(unpacking)
        # A dict, not a set: readers are told in the order in which they came, in a simulation too.
        self._readers: dict[Reader, None] = {}
        partition_log.on_flushed = self._flushed
        flusher.attach(partition_log)

    def __repr__(self) -> str:
        return f"Partition({self.topic}-{self.index})"

    @property
    def is_leader(self) -> bool:
        """Whether this broker takes the partition's requests."""
        return self.leader_id == self.node_id

    @property
    def last_stable_offset(self) -> int:
        """Where a read_committed consumer stops: the high watermark, while there are no transactions."""
        return self.high_watermark

    @property
    def knows_its_latest_offset(self) -> bool:
        """Whether the high watermark has reached the start of this leader's epoch (INVARIANTS 4)."""
        return self.high_watermark >= self._epoch_start_offset

    def become_leader(
        self, leader_epoch: int, partition_epoch: int, replicas: list[int], isr: list[int]
    ) -> None:
        """Lead from ``leader_epoch`` on. Called again for a new epoch, it fails whoever waits in the old.

        What recovery kept of the log is committed as soon as it is known to be on disk.
        """
        if self.is_leader and leader_epoch > self.leader_epoch:
            self._waiters.fail_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if not self.is_leader:
            self.high_watermark = max(self.high_watermark, self.log.log_start_offset)
        if leader_epoch != self.leader_epoch:
            self._epoch_start_offset = self.log.log_end_offset
        self.leader_id = self.node_id
        self.leader_epoch = leader_epoch
        self.partition_epoch = partition_epoch
        self.replicas = replicas
        self.isr = isr
        self.log.begin_epoch(leader_epoch)
        if self.log.flushed_end_offset < self.log.log_end_offset:
            self._flusher.appended(self.log)
        self._advance()

    def resign(self, code: ErrorCode = ErrorCode.NOT_LEADER_OR_FOLLOWER) -> None:
        """Stop leading: fail those who wait for commitment and wake those who read."""
        self.leader_id = NO_LEADER
        self._waiters.fail_all(code)
        self._tell_readers()

    def require_leader(self, current_leader_epoch: int = -1) -> None:
        """Raise unless this broker leads, and in the epoch that the client believes in.

        Errors: NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH (KIP-320).
        """
        if self.leader_id != self.node_id:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if current_leader_epoch != ANY_EPOCH:
            if current_leader_epoch < self.leader_epoch:
                raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH)
            if current_leader_epoch > self.leader_epoch:
                raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH)

    def append_as_leader(
        self,
        records: memoryview,
        now_ms: int,
        *,
        required_acks: int,
        from_client: bool = True,
        gathering: Gathering | None = None,
    ) -> AppendInfo | asyncio.Future[AppendInfo]:
        """Append one record batch (several, where the broker itself writes) and ask for its flush.

        With ``gathering`` the append counts once that is settled, unless a future is returned.

        A future where the batch has to be unpacked (the topic's ``compression.type`` is another, or there are
        many keys to look at), or one that has is ahead of it; its exception is what would have been raised.

        Errors: NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS (acks=all below min.insync.replicas), and
        those of ``Log.append_as_leader``.
        """
        if from_client:
            compression_type = self.log.config.compression_type
            codec = None
            if compression_type != "producer":
                codec = wanted_codec(records, compression_type)
            keys = self.log.rules.compact and self._has_many_keys(records, now_ms)
            if codec is not None or keys or self._recompression.busy:
                return self._recompression.append(
                    records,
                    codec,
                    lambda rewritten: self._append(
                        rewritten, now_ms, required_acks, from_client, keys_checked=keys
                    ),
                    keys=keys,
                )
        return self._append(records, now_ms, required_acks, from_client, gathering)

    @property
    def appends_at_once(self) -> bool:
        """Whether ``append_as_leader`` returns no future, however a client's batch is made, on this turn of the loop."""
        log = self.log
        plain = log.config.compression_type == "producer" and not log.rules.compact
        return plain and not self._recompression.busy

    def _has_many_keys(self, records: memoryview, now_ms: int) -> bool:
        """Whether to look at the keys off the loop; what is to be refused anyway is refused first."""
        header = read_header(records)
        if not keys_take_long(header):
            return False
        check_client_batch(records, header, self.log.rules, now_ms)
        return True

    def _append(
        self,
        records: memoryview,
        now_ms: int,
        required_acks: int,
        from_client: bool,
        gathering: Gathering | None = None,
        *,
        keys_checked: bool = False,
    ) -> AppendInfo:
        if self.leader_id != self.node_id:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if required_acks == -1 and len(self.isr) < self.minimum_isr:
            raise KafkaError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{len(self.isr)} in-sync replicas, min.insync.replicas is {self.minimum_isr}",
            )
        appended = self.log.append_as_leader(
            records,
            self.leader_epoch,
            now_ms,
            from_client=from_client,
            keys_checked=keys_checked,
            gathered=gathering is not None,
        )
        if appended.duplicate:
            return appended
        self.bytes_in += len(records)
        self.messages_in += appended.last_offset - appended.base_offset + 1
        if gathering is not None:
            gathering.add(self)
        else:
            self.appended()
        return appended

    def appended(self) -> None:
        """Records are in the log, and written: have them flushed, and move the high watermark."""
        log = self.log
        if self.leader_id == self.node_id and log.health.failure is None and log.unusable is None:
            self._flusher.appended(self.log)
            self._advance()

    @property
    def minimum_isr(self) -> int:
        """``min.insync.replicas``, at most the replication factor: a single replica can meet no more."""
        return min(self.log.config.min_insync_replicas, max(1, len(self.replicas)))

    def when_committed(self, end_offset: int, waiter: Waiter, token: object) -> bool:
        """Whether everything below ``end_offset`` is committed now; if not, ``waiter`` is told later."""
        if self.high_watermark >= end_offset:
            return True
        self._waiters.add(end_offset, waiter, token)
        return False

    def read(self, start_offset: int, max_bytes: int, *, at_least_one: bool) -> LogRead:
        """What a consumer may see from ``start_offset`` on, at most ``max_bytes`` of it.

        ``at_least_one``: a first batch larger than ``max_bytes`` is returned whole (KIP-74). An offset
        between the high watermark and the log end is in range and has nothing yet.
        Errors: OFFSET_OUT_OF_RANGE, KAFKA_STORAGE_ERROR.
        """
        return self.log.read(
            start_offset, max_bytes, self.high_watermark, at_least_one=at_least_one
        )

    def add_reader(self, reader: Reader) -> None:
        """Tell ``reader`` of changes until it is removed."""
        self._readers[reader] = None

    def remove_reader(self, reader: Reader) -> None:
        """Tell it no more; nothing happens if it was not there."""
        self._readers.pop(reader, None)

    def deletable_to(self, offset: int) -> int:
        """The offset that DeleteRecords may let the log start at: ``offset``, or the high watermark for -1.

        Errors: NOT_LEADER_OR_FOLLOWER, POLICY_VIOLATION (``cleanup.policy`` has no ``delete``: the keys'
        last values would be lost), OFFSET_OUT_OF_RANGE.
        """
        self.require_leader()
        if not self.log.rules.delete:
            raise KafkaError(ErrorCode.POLICY_VIOLATION)
        if offset == TO_HIGH_WATERMARK:
            return self.high_watermark
        if not 0 <= offset <= self.high_watermark:
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
        return offset

    def delete_records(self, offset: int, now_ms: int) -> int:
        """Let the log start at ``offset``, which was written down; returns where it starts now.

        Segments that lie below go at once, and whoever reads below is told. Errors: NOT_LEADER_OR_FOLLOWER,
        OFFSET_OUT_OF_RANGE (cut meanwhile), KAFKA_STORAGE_ERROR.
        """
        self.require_leader()
        if self.log.increment_log_start_offset(offset, self.high_watermark):
            self._tell_readers()
            self._apply_retention(now_ms, self.high_watermark, by_policy=False)
        return self.log.log_start_offset

    def start_after_retention(self, now_ms: int) -> int | None:
        """Where the log will start once retention has run; None if it has nothing to do.

        A log that fails is logged and left: its directory is looked after where that is known.
        """
        try:
            return self.log.start_after_retention(now_ms, self.high_watermark)
        except KafkaError as error:
            log.warning("retention failed", partition=repr(self), reason=str(error))
            return None

    def apply_retention(self, now_ms: int, limit_offset: int) -> None:
        """Delete the segments that are past the topic's retention, up to ``limit_offset``; tell who reads.

        ``limit_offset`` is what ``start_after_retention`` gave, and was written down.
        """
        self._apply_retention(now_ms, min(limit_offset, self.high_watermark), by_policy=True)

    def _apply_retention(self, now_ms: int, limit_offset: int, *, by_policy: bool) -> None:
        try:
            if not self.log.delete_old_segments(now_ms, limit_offset, by_policy=by_policy):
                return
        except KafkaError as error:
            log.warning("retention failed", partition=repr(self), reason=str(error))
            return
        self.log.want_flush()
        self._tell_readers()

    def change_log(self, new: Log) -> None:
        """Go on with a copy of the log that has all that the old one has, in another log directory."""
        self.log.on_flushed = self.log.on_flush_wanted = None
        self.log = new
        new.on_flushed = self._flushed
        self._flusher.attach(new)
        self._flusher.appended(new)
        self._advance()

    def storage_failed(self) -> None:
        """The log directory is offline: nobody who waits will learn whether it is committed."""
        self.resign(ErrorCode.KAFKA_STORAGE_ERROR)

    def _flushed(self, flushed: Log) -> None:
        self._advance()

    def _advance(self) -> None:
        if not self.is_leader:
            return
        end = self._flusher.acknowledged_end_offset(self.log)
        if end > self.high_watermark:
            self.high_watermark = end
            self._waiters.advance(end)
            self._tell_readers()

    def _tell_readers(self) -> None:
        for reader in tuple(self._readers):
            reader.partition_changed(self)

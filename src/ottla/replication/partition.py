"""One partition on this broker: the leader's rules around its log.

Rules:
- The high watermark is the smallest acknowledged end over the in-sync replicas. A replica acknowledges
  its *flushed* end (``durability=disk``) or its log end (``durability=os``). With one replica that is this
  broker's own. It never goes back while this broker leads (INVARIANTS 4, 13).
- No consumer reads at or past the high watermark (INVARIANTS 5).
- Without leadership nothing is appended and nothing is read (INVARIANTS 11). While the lease of the broker's
  session is over nothing is appended and nothing is committed, and what is committed is read (29).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.log.validation import check_client_batch, keys_take_long
from ottla.logs import logger
from ottla.records.batch import read_header
from ottla.replication.lease import FOREVER, Lease
from ottla.replication.recompression import Recompression, Unpacking, wanted_codec
from ottla.replication.replica import NO_LEADER, Replica
from ottla.replication.waiters import CommitWaiters, Waiter

if TYPE_CHECKING:
    from ottla.log.flusher import Flusher
    from ottla.log.log import AppendInfo, Log
    from ottla.replication.gathering import Gathering

log = logger(__name__)

ANY_EPOCH = -1
"""What a client sends as the leader's epoch that does not know it."""

TO_HIGH_WATERMARK = -1
"""The offset in a DeleteRecords that means: all that is committed."""


class Partition(Replica):
    """A partition that this broker has a replica of, and leads where the controller says so."""

    __slots__ = (
        "_epoch_start_offset",
        "_lease",
        "_recompression",
        "_waiters",
        "bytes_in",
        "messages_in",
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
        lease: Lease | None = None,
    ) -> None:
        """A replica that nobody leads yet; ``flusher`` knows what an acknowledgement means.

        ``unpacking`` bounds what all partitions unpack at once. Leadership counts for as long as ``lease``.
        """
        super().__init__(topic, topic_id, index, partition_log, node_id=node_id, flusher=flusher)
        self.bytes_in = self.messages_in = 0
        self._epoch_start_offset = 0
        self._lease = lease if lease is not None else Lease()
        self._waiters = CommitWaiters()
        self._recompression = Recompression(unpacking)

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

    def follow(
        self,
        leader_id: int,
        leader_epoch: int,
        partition_epoch: int,
        replicas: list[int],
        isr: list[int],
    ) -> bool:
        """As ``Replica.follow``; who waits for commitment by this broker's leadership is failed."""
        if self.is_leader:
            self.resign()
        return super().follow(leader_id, leader_epoch, partition_epoch, replicas, isr)

    def lease_ended(self) -> None:
        """It is not known any more whether this broker leads: who waits for commitment is failed."""
        if self.is_leader:
            self._waiters.fail_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def lease_renewed(self) -> None:
        """It led all the time: what was held up is committed now."""
        self._advance()

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
        if self._lease.end != FOREVER and self._lease.is_over():
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

    def storage_failed(self) -> None:
        """The log directory is offline: nobody who waits will learn whether it is committed."""
        self.resign(ErrorCode.KAFKA_STORAGE_ERROR)

    def _flushed(self, flushed: Log) -> None:
        if self.is_leader:
            self._advance()
        else:
            self._advance_as_follower()

    def _advance(self) -> None:
        if not self.is_leader or (self._lease.end != FOREVER and self._lease.is_over()):
            return
        end = self._flusher.acknowledged_end_offset(self.log)
        if end > self.high_watermark:
            self.high_watermark = end
            self._waiters.advance(end)
            self._tell_readers()

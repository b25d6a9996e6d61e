"""One partition on this broker: what its leader takes from clients, and what it deletes for them.

Rules:
- No consumer reads at or past the high watermark (INVARIANTS 5).
- Without leadership nothing is appended (INVARIANTS 11), nor while the lease of the broker's session is over (29). With
  acks=all nothing is while the ISR is smaller than ``min.insync.replicas`` (INVARIANTS 17).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.log.validation import check_client_batch, keys_take_long
from ottla.logs import logger
from ottla.records.batch import read_header
from ottla.replication.first_batches import FirstBatches
from ottla.replication.leading import LeadingReplica
from ottla.replication.lease import FOREVER, Lease
from ottla.replication.peers import Peers
from ottla.replication.recompression import Recompression, Unpacking, wanted_codec

if TYPE_CHECKING:
    from ottla.log.flusher import Flusher
    from ottla.log.log import AppendInfo, Log
    from ottla.replication.gathering import Gathering

log = logger(__name__)

TO_HIGH_WATERMARK = -1
"""The offset in a DeleteRecords that means: all that is committed."""


class Partition(LeadingReplica):
    """A partition that this broker has a replica of, and leads where the controller says so."""

    __slots__ = (
        "_recompression",
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
        peers: Peers | None = None,
    ) -> None:
        """A replica that nobody leads yet; ``flusher`` knows what an acknowledgement means.

        ``unpacking`` bounds what all partitions unpack at once. Leadership counts for as long as ``lease``.
        """
        super().__init__(
            topic,
            topic_id,
            index,
            partition_log,
            node_id=node_id,
            flusher=flusher,
            lease=lease,
            peers=peers,
        )
        self.bytes_in = self.messages_in = 0
        self._recompression = Recompression(unpacking)

    def append_as_leader(
        self,
        records: memoryview,
        now_ms: int,
        required_acks: int,
        from_client: bool = True,
        gathering: Gathering | None = None,
    ) -> AppendInfo | asyncio.Future[AppendInfo]:
        """Append one record batch (several, where the broker itself writes) and ask for its flush.

        With ``gathering`` the append counts once that is settled, unless a future is returned.

        A future where the batch has to be unpacked (the topic's ``compression.type`` is another, or there are
        many keys to look at), or one that has is ahead of it; its exception is what would have been raised.

        Errors: NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS (acks=all below min.insync.replicas; or it is to come
        again, see ``first_batches``), and those of ``Log.append_as_leader``.
        """
        rules = self.log.rules
        running = self._recompression.running
        if from_client and (rules.compression is not None or rules.compact or running is not None):
            codec = None
            if rules.compression is not None:
                codec = wanted_codec(records, rules.compression)
            keys = rules.compact and self._has_many_keys(records, now_ms)
            if codec is not None or keys or running is not None:
                return self._recompression.append(
                    records,
                    codec,
                    lambda rewritten: self._append(
                        rewritten, now_ms, required_acks, from_client, keys_checked=keys
                    )._replace(leader_epoch=self.leader_epoch),
                    keys=keys,
                )
        return self._append(records, now_ms, required_acks, from_client, gathering)

    @property
    def appends_at_once(self) -> bool:
        """Whether ``append_as_leader`` returns no future, however a client's batch is made, on this turn of the loop."""
        log = self.log
        plain = log.config.compression_type == "producer" and not log.rules.compact
        return plain and self._recompression.running is None

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
        if self._first_batches is not None and from_client:
            self._check_first_batch(self._first_batches, records)
        appended = self.log.append_as_leader(
            records,
            self.leader_epoch,
            now_ms,
            from_client,
            keys_checked,
            gathering is not None,
        )
        if appended.duplicate:
            return appended
        self.bytes_in += len(records)
        self.messages_in += appended.last_offset - appended.base_offset + 1
        if gathering is not None:
            gathering.partitions[self] = None
        else:
            self.appended()
        return appended

    def _check_first_batch(self, first_batches: FirstBatches, records: memoryview) -> None:
        if self._peers.now_ms() >= first_batches.until_ms:
            self._first_batches = None
        else:
            first_batches.check(read_header(records), self.log.producers.producers)

    def appended(self, *, alone: bool = False) -> None:
        """Records are in the log, and written: have them flushed, and move the high watermark.

        ``alone``: no other partition has gathered appends that are flushed together with these.
        """
        log = self.log
        if self.leader_id == self.node_id and log.health.failure is None and log.unusable is None:
            self._flusher.appended(self.log, alone=alone)
            self._advance()
            if self._tail_readers:
                self._tell_tail_readers()

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

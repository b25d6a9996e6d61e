"""One replica of a partition, whoever leads it: its log, its high watermark, and what a follower does with both.

Rules:
- The high watermark goes back only where the log's end is cut below it, which only an unclean election can ask
  for (INVARIANTS 4, 12). Who becomes a follower, or the leader again, keeps it.
- A follower's high watermark is what its leader says, at most its own acknowledged end: the *flushed* one
  (``durability=disk``) or the log's (``durability=os``).
- Without leadership nothing is appended for clients: see ``ottla.replication.partition``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ottla.errors import KafkaError
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.log.flusher import Flusher
    from ottla.log.local_log import Replay
    from ottla.log.log import AppendInfo, Log
    from ottla.log.reading import LogRead
    from ottla.records.batch import Bytes
    from ottla.replication.partition import Partition

log = logger(__name__)

NO_LEADER = -1


class Reader(Protocol):
    """A parked fetch or a fetch session that follows the partition."""

    def partition_changed(self, partition: Partition) -> None:
        """Its high watermark, its log start or its leadership moved."""
        ...


class Replica:
    """What this broker has of a partition, without a role. Made as a ``Partition``, which can lead, too."""

    __slots__ = (
        "_flusher",
        "_leader_high_watermark",
        "_readers",
        "high_watermark",
        "index",
        "isr",
        "leader_epoch",
        "leader_id",
        "log",
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
    ) -> None:
        """A replica that nobody leads yet; ``flusher`` knows what an acknowledgement means."""
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
        self._leader_high_watermark = 0
        self._flusher = flusher
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
    def acknowledged_end_offset(self) -> int:
        """Up to where (exclusive) this replica may say that it has the records."""
        return self._flusher.acknowledged_end_offset(self.log)

    def restore_high_watermark(self, offset: int) -> None:
        """Take over what was checkpointed in an earlier life, as far as the log reaches."""
        mark = min(offset, self.acknowledged_end_offset)
        self.high_watermark = max(mark, self.high_watermark, self.log.log_start_offset)

    # Following

    def follow(
        self,
        leader_id: int,
        leader_epoch: int,
        partition_epoch: int,
        replicas: list[int],
        isr: list[int],
    ) -> bool:
        """Copy what ``leader_id`` (``NO_LEADER``: nobody for now) has from now on; whether that, or the epoch, is news.

        The high watermark stays; what an earlier leader told of it counts no more.
        """
        is_news = leader_id != self.leader_id or leader_epoch != self.leader_epoch
        self.leader_id = leader_id
        self.leader_epoch = leader_epoch
        self.partition_epoch = partition_epoch
        self.replicas = replicas
        self.isr = isr
        if is_news:
            self._leader_high_watermark = 0
            self.high_watermark = max(self.high_watermark, self.log.log_start_offset)
            self._tell_readers()
        return is_news

    @property
    def told_high_watermark(self) -> int:
        """What the leader, in its epoch, has told to be committed: it has that, and so has this replica to keep it."""
        return self._leader_high_watermark

    def append_as_follower(self, records: Bytes, now_ms: int) -> AppendInfo | None:
        """Append what the leader sent, as ``Log.append_as_follower`` does, and have it flushed.

        A batch of an epoch that the leader cannot have raises ``KafkaError`` (CORRUPT_MESSAGE).
        """
        appended = self.log.append_as_follower(records, now_ms, epoch_max=self.leader_epoch)
        if appended is not None:
            self._flusher.appended(self.log)
        return appended

    def learn_high_watermark(self, offset: int) -> None:
        """The leader's is ``offset``: so is this replica's, as far as it has come. It never goes back."""
        self._leader_high_watermark = max(self._leader_high_watermark, offset)
        self._advance_as_follower()

    def start_at(self, offset: int) -> None:
        """Let the log start there, as the leader's does and was written down. Raises ``KafkaError``."""
        if self.log.increment_log_start_offset(offset, self.high_watermark):
            self._tell_readers()

    def truncate_to(self, offset: int, now_ms: int, replay: Replay | None = None) -> bool:
        """Drop every batch that reaches ``offset``; whether there was any. Raises ``KafkaError``.

        The checkpointed recovery point must be lowered before: see ``Log.truncate_to``, for ``replay``, too.
        """
        cut = self.log.truncate_to(offset, now_ms, replay)
        self._end_moved_back()
        return cut

    def truncate_fully_to(self, offset: int, now_ms: int) -> None:
        """Drop everything; the next batch has ``offset``. Raises ``KafkaError``."""
        self.log.truncate_fully_and_start_at(offset, now_ms)
        self._end_moved_back()
        self.high_watermark = offset

    def _end_moved_back(self) -> None:
        if self.high_watermark > self.log.log_end_offset:
            self.high_watermark = self.log.log_end_offset
        self._tell_readers()

    def _advance_as_follower(self) -> None:
        mark = min(self._leader_high_watermark, self.acknowledged_end_offset)
        if mark > self.high_watermark:
            self.high_watermark = mark
            self._tell_readers()

    # Reading and keeping

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
        new.on_quarantined = self.log.on_quarantined
        self.log.on_flushed = self.log.on_flush_wanted = self.log.on_quarantined = None
        self.log = new
        new.on_flushed = self._flushed
        self._flusher.attach(new)
        self._flusher.appended(new)
        self._flushed(new)

    def _flushed(self, flushed: Log) -> None:
        if not self.is_leader:
            self._advance_as_follower()

    def _tell_readers(self) -> None:
        if self._readers:
            me: Any = self  # there is no Replica that is not a Partition
            for reader in tuple(self._readers):
                reader.partition_changed(me)

"""A replica that leads: who is in sync with it, what is committed, and who waits for that.

Rules:
- The high watermark is the smallest acknowledged end over the in-sync replicas (``in_sync``). A replica acknowledges
  its *flushed* end (``durability=disk``) or its log end (``durability=os``). With one replica that is this
  broker's own, and nothing here knows of followers. It never goes back while this broker leads (INVARIANTS 4, 13).
- While the lease of the broker's session is over the high watermark stays, and nobody is told that anything is
  committed (INVARIANTS 11, 29).
- Who waits for commitment is failed when this broker stops leading. Where it leads on in the next epoch, without one
  in between that it was not told of, its log holds the same records at the same offsets: they go on waiting, as in
  Kafka (INVARIANTS 18).
- A replica joins or leaves the ISR by the controller's word only: here are proposals (``isr_changes``).
- Followers that have read everything wait for the log's end, consumers for the high watermark: each is told of its own.

Source: ``Partition.scala``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.replication.first_batches import FirstBatches
from ottla.replication.in_sync import InSync, Proposal, StaleFetch
from ottla.replication.lease import FOREVER, Lease
from ottla.replication.peers import Peers
from ottla.replication.quota import is_throttled
from ottla.replication.replica import NO_LEADER, Reader, Replica
from ottla.replication.waiters import CommitWaiters, Waiter

if TYPE_CHECKING:
    from ottla.log.flusher import Flusher
    from ottla.log.log import Log
    from ottla.log.reading import LogRead

log = logger(__name__)

ANY_EPOCH = -1
"""What a client sends as the leader's epoch that does not know it."""

REPEATS_SUSPECT = 3
"""After a follower has asked so often again for records that it was sent, it is looked into what is wrong with them."""

# What the controller answers to a proposal that it has not carried out and never will.
REFUSED = frozenset((ErrorCode.OPERATION_NOT_ATTEMPTED, ErrorCode.INELIGIBLE_REPLICA))

# What says that this broker's state is old: the proposal is left as it is until a newer one is heard.
OUT_OF_DATE = frozenset(
    (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.NEW_LEADER_ELECTED,
    )
)


class LeadingReplica(Replica):
    """A replica with the leader's rules around its high watermark and its ISR. Made as a ``Partition``."""

    __slots__ = (
        "_deletions",
        "_epoch_start_offset",
        "_first_batches",
        "_in_sync",
        "_lease",
        "_led_since",
        "_peers",
        "_tail_readers",
        "_waiters",
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
        lease: Lease | None = None,
        peers: Peers | None = None,
    ) -> None:
        """A replica that nobody leads yet. Leadership counts for as long as ``lease``."""
        super().__init__(topic, topic_id, index, partition_log, node_id=node_id, flusher=flusher)
        self._lease = lease if lease is not None else Lease()
        self._peers = peers if peers is not None else Peers()
        self._epoch_start_offset = 0
        self._led_since = -1
        self._waiters = CommitWaiters()
        self._deletions: CommitWaiters | None = None
        self._in_sync: InSync | None = None
        self._first_batches: FirstBatches | None = None
        self._tail_readers: dict[Reader, None] | None = None

    # Roles

    def become_leader(
        self, leader_epoch: int, partition_epoch: int, replicas: list[int], isr: list[int]
    ) -> None:
        """Lead from ``leader_epoch`` on, or go on leading with other replicas, or another ISR.

        A state that is older than what is known (of the same leader epoch) changes nothing; one that is as old takes
        nothing back, since the controller has told of that ISR in an answer. What recovery kept of the log is
        acknowledged as soon as it is known to be on disk.
        """
        led = self.is_leader
        is_new_epoch = leader_epoch != self.leader_epoch
        if led and not is_new_epoch and partition_epoch <= self.partition_epoch:
            if partition_epoch == self.partition_epoch:
                self._assign(replicas, self.isr)
                self._advance()
            return
        if led and leader_epoch > self.leader_epoch + 1:
            self._fail_waiters(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            self._led_since = leader_epoch
        if not led:
            self._led_since = leader_epoch
        if not led:
            self.high_watermark = max(self.high_watermark, self.log.log_start_offset)
        if is_new_epoch:
            self._epoch_start_offset = self.log.log_end_offset
        self.leader_id = self.node_id
        self.leader_epoch = leader_epoch
        self.partition_epoch = partition_epoch
        self._assign(replicas, isr)
        if self._in_sync is not None:
            self._in_sync.commit(isr)
            if is_new_epoch or not led:
                self._in_sync.begin_epoch(self._peers.now_ms())
                self._first_batches = FirstBatches(self._peers.now_ms()) if leader_epoch else None
        self.log.begin_epoch(leader_epoch)
        if self.log.flushed_end_offset < self.log.log_end_offset:
            self._flusher.appended(self.log)
        self._advance()
        self._tell_all_readers()

    def _assign(self, replicas: list[int], isr: list[int]) -> None:
        self.replicas = replicas
        self.isr = isr
        if len(replicas) <= 1:
            self._in_sync = None
            return
        if self._in_sync is None:
            peers = self._peers
            self._in_sync = InSync(self.node_id, peers.lag_max_ms, peers.is_alive)
            self._in_sync.commit(isr)
            self._in_sync.assign(replicas)
            self._in_sync.begin_epoch(peers.now_ms())
        else:
            self._in_sync.assign(replicas)

    def resign(self, code: ErrorCode = ErrorCode.NOT_LEADER_OR_FOLLOWER) -> None:
        """Stop leading: fail those who wait for commitment and wake those who read."""
        self._first_batches = None
        self.leader_id = NO_LEADER
        self._in_sync = None
        self._fail_waiters(code)
        self._tell_all_readers()

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

    def require_leader(self, current_leader_epoch: int = ANY_EPOCH) -> None:
        """Raise unless this broker leads, and in the epoch that the client believes in.

        Errors: NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH (KIP-320).
        """
        if self.leader_id != self.node_id:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self.require_epoch(current_leader_epoch)

    def require_epoch(self, current_leader_epoch: int) -> None:
        """Raise unless the client believes in the epoch that this replica knows, as leader or follower.

        Errors: FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
        """
        if current_leader_epoch != ANY_EPOCH:
            if current_leader_epoch < self.leader_epoch:
                raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH)
            if current_leader_epoch > self.leader_epoch:
                raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH)

    @property
    def knows_its_latest_offset(self) -> bool:
        """Whether the high watermark has reached the start of this leader's epoch (INVARIANTS 4).

        While the lease is over another broker may lead, and have a later one.
        """
        if self._lease.end != FOREVER and self._lease.is_over():
            return False
        return self.high_watermark >= self._epoch_start_offset

    @property
    def in_sync(self) -> InSync | None:
        """The followers, where this broker leads and there are any. For reading only."""
        return self._in_sync

    @property
    def proposal(self) -> Proposal | None:
        """The change of the ISR that the controller has been asked for, and has not answered."""
        return self._in_sync.pending if self._in_sync is not None else None

    @property
    def minimum_isr(self) -> int:
        """``min.insync.replicas``, at most the replication factor: a single replica can meet no more."""
        return min(self.log.config.min_insync_replicas, max(1, len(self.replicas)))

    # Commitment

    def when_committed(
        self, end_offset: int, waiter: Waiter, token: object, *, leader_epoch: int = ANY_EPOCH
    ) -> bool:
        """Whether everything below ``end_offset`` is committed now; if not, ``waiter`` is told later.

        ``leader_epoch``: that of the append, where it lies back: others may have led since, and have cut it off.
        Errors: NOT_LEADER_OR_FOLLOWER (not any more), NOT_ENOUGH_REPLICAS_AFTER_APPEND (what is committed is so in
        fewer replicas than ``min.insync.replicas`` asks for).
        """
        if self.leader_id != self.node_id:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if ANY_EPOCH < leader_epoch < self._led_since:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if self.high_watermark < end_offset:
            self._waiters.add(end_offset, waiter, token)
            return False
        if self._lease.end != FOREVER and self._lease.is_over():
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        in_sync = self._in_sync
        if in_sync is not None and len(in_sync.maximal_isr) < self.minimum_isr:
            raise KafkaError(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
        return True

    def lease_ended(self) -> None:
        """It is not known any more whether this broker leads: who waits for commitment is failed."""
        if self.is_leader:
            self._fail_waiters(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def lease_renewed(self) -> None:
        """It led all the time: what was held up is committed now."""
        self._advance()

    def _fail_waiters(self, code: ErrorCode) -> None:
        self._waiters.fail_all(code)
        if self._deletions is not None:
            deletions, self._deletions = self._deletions, None
            deletions.fail_all(code)

    def _flushed(self, flushed: Log) -> None:
        if self.is_leader:
            self._advance()
        else:
            self._advance_as_follower()

    def _advance(self) -> None:
        """Move the high watermark as far as the replicas have acknowledged, and tell who waits for it."""
        if self.leader_id != self.node_id:
            return
        end = self._flusher.acknowledged_end_offset(self.log)
        if self._in_sync is not None and end > self.high_watermark:
            end = self._in_sync.high_watermark(
                self.minimum_isr, end, self.log.log_end_offset, self._peers.now_ms()
            )
        if end > self.high_watermark:
            if self._lease.end != FOREVER and self._lease.is_over():
                return
            self.high_watermark = end
            self._waiters.advance(end)
            self._tell_readers()

    def read(self, start_offset: int, max_bytes: int, *, at_least_one: bool) -> LogRead:
        """As ``Replica.read``, but that nothing is out of range behind the end while the lease is over.

        Another broker may lead and have more: its consumers are not to be sent back by one that does not know it.
        """
        try:
            return super().read(start_offset, max_bytes, at_least_one=at_least_one)
        except KafkaError as error:
            if (
                error.code is ErrorCode.OFFSET_OUT_OF_RANGE
                and start_offset > self.log.log_end_offset
                and self._lease.is_over()
            ):
                raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER) from None
            raise

    # Followers

    def require_follower(self, replica_id: int, current_leader_epoch: int) -> None:
        """Raise unless this broker leads, in that epoch, and ``replica_id`` is one of its followers.

        Errors: those of ``require_leader``; and, where the assignment does not have the replica (or does not have it
        yet), UNKNOWN_LEADER_EPOCH, or NOT_LEADER_OR_FOLLOWER if the replica did not tell the epoch.
        """
        self.require_leader(current_leader_epoch)
        if self._in_sync is None or self._in_sync.get(replica_id) is None:
            raise KafkaError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER
                if current_leader_epoch == ANY_EPOCH
                else ErrorCode.UNKNOWN_LEADER_EPOCH
            )

    def read_as_leader(self, start_offset: int, max_bytes: int, *, at_least_one: bool) -> LogRead:
        """What a follower gets: as ``read``, but up to the log's end."""
        return self.log.read(
            start_offset, max_bytes, self.log.log_end_offset, at_least_one=at_least_one
        )

    def record_follower_fetch(
        self,
        replica_id: int,
        broker_epoch: int,
        fetch_offset: int,
        log_start_offset: int,
        now_ms: int,
    ) -> None:
        """A follower asks for what is at ``fetch_offset``, which was found good: it has acknowledged all below.

        ``now_ms`` is of a steady clock (``Peers.now_ms``). Errors: NOT_LEADER_OR_FOLLOWER for what is no follower
        here, or comes from an earlier life of its broker.
        """
        in_sync = self._in_sync
        follower = in_sync.get(replica_id) if in_sync is not None else None
        if in_sync is None or follower is None:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        end_before, start_before = follower.end_offset, follower.log_start_offset
        try:
            follower.fetched(
                broker_epoch, fetch_offset, log_start_offset, self.log.log_end_offset, now_ms
            )
        except StaleFetch:
            raise KafkaError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"a fetch of an earlier life of broker {replica_id}",
            ) from None
        if follower.repeats == REPEATS_SUSPECT and self._peers.on_stuck is not None:
            self._peers.on_stuck(self, fetch_offset)
        self._let_join(in_sync, replica_id)
        if fetch_offset != end_before:
            self._advance()
        if log_start_offset != start_before and self._deletions is not None:
            self._deletions.advance(self.low_watermark)

    @property
    def is_throttled(self) -> bool:
        """Whether followers that are not in sync are sent its records slowly only."""
        throttled = self.log.config.leader_replication_throttled_replicas
        return is_throttled(throttled, self.index, self.node_id)

    def preferred_replica(
        self, rack: str, fetch_offset: int, rack_of: Callable[[int], str | None]
    ) -> int | None:
        """The follower that a consumer in ``rack`` is to read ``fetch_offset`` from; None: this leader (KIP-392).

        One of the ISR, which is alive and has the offset: others might lag for ever, and the consumer with them.
        Source: ``RackAwareReplicaSelector``.
        """
        in_sync = self._in_sync
        if in_sync is None or not rack or rack_of(self.node_id) == rack:
            return None
        found = [
            (follower.end_offset, follower.caught_up_ms, replica)
            for replica, follower in in_sync.followers()
            if replica in in_sync.isr
            and follower.end_offset >= fetch_offset >= follower.log_start_offset >= 0
            and rack_of(replica) == rack
        ]
        return max(found)[2] if found else None

    def follower_was_quiet(self, replica_id: int, heard_ms: int) -> None:
        """Up to ``heard_ms`` the follower had all that there was, as the fetches of its session say.

        To be told before anything that comes after: a session names a partition in which nothing happens once only.
        """
        in_sync = self._in_sync
        follower = in_sync.get(replica_id) if in_sync is not None else None
        if in_sync is not None and follower is not None and replica_id in in_sync.isr:
            follower.was_quiet(
                heard_ms
            )  # who was taken out of the ISR is not awaited until it fetches again

    def add_tail_reader(self, reader: Reader) -> None:
        """Tell ``reader``, a follower's, of appends, too."""
        if self._tail_readers is None:
            self._tail_readers = {}
        self._tail_readers[reader] = None

    def remove_reader(self, reader: Reader) -> None:
        """Tell it no more; nothing happens if it was not there."""
        super().remove_reader(reader)
        if self._tail_readers is not None:
            self._tail_readers.pop(reader, None)

    def _tell_tail_readers(self) -> None:
        if self._tail_readers:
            for reader in tuple(self._tail_readers):
                reader.partition_changed(self)  # type: ignore[arg-type]

    def _tell_all_readers(self) -> None:
        self._tell_readers()
        self._tell_tail_readers()

    @property
    def low_watermark(self) -> int:
        """Where the logs of all live replicas start at least."""
        start = self.log.log_start_offset
        return start if self._in_sync is None else self._in_sync.low_watermark(start)

    def when_started(self, offset: int, waiter: Waiter, token: object) -> bool:
        """Whether the logs of all live replicas start at ``offset`` or later; if not, ``waiter`` is told then.

        Errors: NOT_LEADER_OR_FOLLOWER.
        """
        self.require_leader()
        if self.low_watermark >= offset:
            return True
        if self._deletions is None:
            self._deletions = CommitWaiters()
        self._deletions.add(offset, waiter, token)
        return False

    # The ISR

    def check_isr(self) -> None:
        """Propose that those leave who do not keep up; see, too, who is waited for no more. From time to time."""
        in_sync = self._in_sync
        if in_sync is None:
            self._advance()
            return
        out = in_sync.fallen_out(self.log.log_end_offset, self._peers.now_ms())
        if out and self._peers.changes is not None:
            log.info(
                "replicas do not keep up",
                partition=repr(self),
                isr=in_sync.isr,
                out=sorted(out),
                high_watermark=self.high_watermark,
            )
            self._propose(in_sync.propose_leave(out, self.leader_epoch, self.partition_epoch))
        self._advance()
        if self._deletions is not None:
            self._deletions.advance(self.low_watermark)

    def would_let_join(self, replica_id: int) -> bool:
        """Whether another fetch of the replica, which is where it was, would have it proposed for the ISR."""
        in_sync = self._in_sync
        return (
            in_sync is not None
            and self._peers.changes is not None
            and in_sync.may_join(replica_id, self.high_watermark, self._epoch_start_offset)
        )

    def brokers_changed(self) -> None:
        """Other brokers live now: followers that could not join the ISR before are to ask again."""
        if self._in_sync is not None and len(self.isr) < len(self.replicas):
            self._tell_tail_readers()

    def _let_join(self, in_sync: InSync, replica_id: int) -> None:
        if self.would_let_join(replica_id):
            proposal = in_sync.propose_join(replica_id, self.leader_epoch, self.partition_epoch)
            log.info(
                "a replica has caught up", partition=repr(self), isr=in_sync.isr, joins=replica_id
            )
            self._propose(proposal)

    def _propose(self, proposal: Proposal) -> None:
        changes = self._peers.changes
        assert changes is not None
        changes.submit(self, proposal)  # type: ignore[arg-type]

    def isr_accepted(
        self, proposal: Proposal, isr: list[int], leader_epoch: int, partition_epoch: int
    ) -> None:
        """The controller's answer to ``proposal``. One to a proposal that was overtaken changes nothing."""
        in_sync = self._in_sync
        if in_sync is None or in_sync.pending is not proposal:
            return
        if leader_epoch != self.leader_epoch or partition_epoch < self.partition_epoch:
            return
        in_sync.commit(isr)
        self.isr = in_sync.isr
        self.partition_epoch = partition_epoch
        log.info("ISR changed", partition=repr(self), isr=isr, partition_epoch=partition_epoch)
        self._advance()
        self._tell_tail_readers()

    def isr_refused(self, proposal: Proposal, code: ErrorCode) -> bool:
        """The controller has not carried out ``proposal``, for all it knows; whether to ask it again."""
        in_sync = self._in_sync
        if in_sync is None or in_sync.pending is not proposal:
            return False
        if code in REFUSED:
            in_sync.refused(proposal)
            self._advance()  # what waited for who was to join
            return False
        return code not in OUT_OF_DATE

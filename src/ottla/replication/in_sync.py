"""Who keeps up with a partition's leader, and what is committed because of it. Sans-IO.

Rules:
- The *maximal* ISR is the committed one and who is proposed to join it. Who is proposed to leave counts until the
  controller has said that it is out (KIP-497): whatever became of a proposal, enough replicas are waited for.
- The high watermark is at most the smallest acknowledged end over the maximal ISR, and over the replicas that have
  caught up and are about to join: otherwise one that always arrives a little later never would. It stays where
  it is while the ISR has fewer members than ``min.insync.replicas`` asks for (INVARIANTS 13).
- An acknowledgement counts in the leader epoch in which it was made: nothing that a follower said in an earlier one
  says what it has now (KIP-320).
- A follower joins with an end at or past the high watermark and the start of the leader's epoch (INVARIANTS 14). It
  falls out when for ``replica.lag.time.max.ms`` it has not had all that the leader had at some moment.
- A fetch of an earlier life of its broker (a smaller broker epoch) changes nothing (KIP-903, INVARIANTS 19).
- One proposal at a time. What the controller refuses without a doubt is taken back; of anything else it is not
  known what became of it, and the proposal stays until a newer state is heard.

Source: ``Partition.scala``, ``Replica.scala``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

UNKNOWN_OFFSET = -1
UNKNOWN_EPOCH = -1
NEVER_MS = -(1 << 62)


class StaleFetch(Exception):
    """A follower's fetch comes from an earlier life of its broker."""


class Follower:
    """What the leader knows of one other replica. Offsets are -1 until it has fetched in this leader epoch."""

    __slots__ = (
        "broker_epoch",
        "caught_up_ms",
        "end_offset",
        "fetched_ms",
        "leader_end_offset",
        "log_start_offset",
        "repeats",
    )

    def __init__(self) -> None:
        self.broker_epoch = UNKNOWN_EPOCH
        self.forget(NEVER_MS)

    def __repr__(self) -> str:
        return f"Follower({self.log_start_offset}..{self.end_offset})"

    def forget(self, caught_up_ms: int) -> None:
        """A leader epoch begins: nothing is known of the follower but that it kept up until ``caught_up_ms``."""
        self.end_offset = self.log_start_offset = UNKNOWN_OFFSET
        self.leader_end_offset = UNKNOWN_OFFSET
        """Where the leader's log ended when the follower fetched last."""
        self.fetched_ms = NEVER_MS
        self.repeats = 0
        """How often in a row it asked for what it had asked for before, though there were records."""
        self.caught_up_ms = caught_up_ms

    def fetched(
        self,
        broker_epoch: int,
        end_offset: int,
        log_start_offset: int,
        leader_end_offset: int,
        now_ms: int,
    ) -> None:
        """It has all below ``end_offset``, and asks for more. Raises ``StaleFetch``."""
        if UNKNOWN_EPOCH < broker_epoch < self.broker_epoch:
            raise StaleFetch
        if end_offset >= leader_end_offset:
            self.caught_up_ms = max(self.caught_up_ms, now_ms)
        elif UNKNOWN_OFFSET < self.leader_end_offset <= end_offset:
            self.caught_up_ms = max(self.caught_up_ms, self.fetched_ms)
        there_was_more = self.end_offset < self.leader_end_offset
        self.repeats = self.repeats + 1 if end_offset == self.end_offset and there_was_more else 0
        if broker_epoch > UNKNOWN_EPOCH:
            self.broker_epoch = broker_epoch
        self.end_offset = end_offset
        self.log_start_offset = log_start_offset
        self.leader_end_offset = max(self.leader_end_offset, leader_end_offset)
        self.fetched_ms = now_ms

    def was_quiet(self, heard_ms: int) -> None:
        """Until ``heard_ms``, when it fetched, nothing was appended since its last fetch that counted."""
        self.fetched_ms = max(self.fetched_ms, heard_ms)
        self.caught_up_ms = max(self.caught_up_ms, heard_ms)

    def is_caught_up(self, leader_end_offset: int, now_ms: int, lag_max_ms: int) -> bool:
        """Whether it has all of the leader's log, or had at some moment that is not too long ago."""
        return self.end_offset == leader_end_offset or now_ms - self.caught_up_ms <= lag_max_ms


class Proposal:
    """An ISR that the controller is asked for; ``joins`` or ``leaves`` says how it differs from the committed one."""

    __slots__ = ("isr", "joins", "leader_epoch", "leaves", "partition_epoch")

    def __init__(
        self,
        isr: list[int],
        joins: int | None,
        leaves: frozenset[int],
        leader_epoch: int,
        partition_epoch: int,
    ) -> None:
        self.isr = isr
        self.joins = joins
        self.leaves = leaves
        self.leader_epoch = leader_epoch
        self.partition_epoch = partition_epoch

    def __repr__(self) -> str:
        change = f"+{self.joins}" if self.joins is not None else f"-{sorted(self.leaves)}"
        return f"Proposal({self.isr}, {change})"


def always(replica_id: int) -> bool:
    """Every replica may join."""
    return True


class InSync:
    """The followers of one partition that this broker leads, and its ISR."""

    __slots__ = (
        "_followers",
        "_is_eligible",
        "_lag_max_ms",
        "_node_id",
        "isr",
        "pending",
        "replicas",
    )

    def __init__(
        self,
        node_id: int,
        lag_max_ms: Callable[[], int],
        is_eligible: Callable[[int], bool] = always,
    ) -> None:
        """``lag_max_ms`` is ``replica.lag.time.max.ms``; ``is_eligible`` says whether a replica's broker is alive."""
        self._node_id = node_id
        self._lag_max_ms = lag_max_ms
        self._is_eligible = is_eligible
        self._followers: dict[int, Follower] = {}
        self.replicas: list[int] = []
        self.isr: list[int] = []
        """As committed."""
        self.pending: Proposal | None = None

    def __repr__(self) -> str:
        return f"InSync(isr={self.isr}, pending={self.pending}, {self._followers})"

    # What is heard from the controller

    def assign(self, replicas: Sequence[int]) -> None:
        """Who has a replica; what is known of those that had one is kept."""
        self.replicas = list(replicas)
        self._followers = {
            replica: self._followers.get(replica) or Follower()
            for replica in replicas
            if replica != self._node_id
        }

    def commit(self, isr: Sequence[int]) -> None:
        """The ISR is this: what the controller answers, or tells. It overtakes whatever was proposed.

        Who has left it is not awaited, until it fetches again: it may have stopped, or be about to.
        """
        for replica in self.isr:
            if replica not in isr:
                self._await_no_more(replica)
        self.isr, self.pending = list(isr), None

    def _await_no_more(self, replica_id: int) -> None:
        follower = self._followers.get(replica_id)
        if follower is not None:
            follower.caught_up_ms = NEVER_MS

    def begin_epoch(self, now_ms: int) -> None:
        """This broker leads in a new epoch: followers have to acknowledge anew.

        Those in the ISR have the lag's time for it; those that are not hold up nothing.
        """
        isr = frozenset(self.isr)
        for replica, follower in self._followers.items():
            follower.forget(now_ms if replica in isr else NEVER_MS)

    def refused(self, proposal: Proposal) -> None:
        """``proposal`` has not been, and never will be, carried out.

        Who was to join by it is not awaited any more, until it fetches again: it may be about to stop.
        """
        assert proposal is self.pending
        self.pending = None
        if proposal.joins is not None:
            self._await_no_more(proposal.joins)

    # What is heard from the followers

    def get(self, replica_id: int) -> Follower | None:
        """The replica, if it is a follower here."""
        return self._followers.get(replica_id)

    def followers(self) -> Iterable[tuple[int, Follower]]:
        """All of them, by id."""
        return self._followers.items()

    # What follows from it

    @property
    def maximal_isr(self) -> list[int]:
        """The committed ISR, and who is proposed to join."""
        pending = self.pending
        if pending is None or pending.joins is None or pending.joins in self.isr:
            return self.isr
        return [*self.isr, pending.joins]

    def high_watermark(
        self, minimum_isr: int, own_end_offset: int, leader_end_offset: int, now_ms: int
    ) -> int:
        """Up to where (exclusive) records may count as committed; -1 while that must not grow.

        ``own_end_offset`` is what this broker acknowledges, ``leader_end_offset`` the end of its log.
        """
        isr = self.isr
        if len(isr) < minimum_isr:
            return UNKNOWN_OFFSET
        end = own_end_offset
        joins = self.pending.joins if self.pending is not None else None
        for replica, follower in self._followers.items():
            if follower.end_offset < end and (
                replica in isr
                or replica == joins
                or self._is_awaited(replica, follower, leader_end_offset, now_ms)
            ):
                end = follower.end_offset
        return end

    def _is_awaited(
        self, replica_id: int, follower: Follower, leader_end_offset: int, now_ms: int
    ) -> bool:
        """Whether a replica that is not in the ISR is about to join."""
        lag_max_ms = self._lag_max_ms()
        return follower.is_caught_up(leader_end_offset, now_ms, lag_max_ms) and self._is_eligible(
            replica_id
        )

    def low_watermark(self, own_log_start: int) -> int:
        """Where the logs of all live replicas start at least: what DeleteRecords waits for."""
        return min(
            [
                own_log_start,
                *(
                    follower.log_start_offset
                    for replica, follower in self._followers.items()
                    if self._is_eligible(replica)
                ),
            ]
        )

    def may_join(self, replica_id: int, high_watermark: int, epoch_start_offset: int) -> bool:
        """Whether to propose that the replica joins the ISR."""
        follower = self._followers.get(replica_id)
        return (
            follower is not None
            and self.pending is None
            and replica_id not in self.isr
            and follower.end_offset >= max(high_watermark, epoch_start_offset)
            and self._is_eligible(replica_id)
        )

    def fallen_out(self, leader_end_offset: int, now_ms: int) -> frozenset[int]:
        """Members of the ISR that do not keep up; nobody while a proposal is pending."""
        if self.pending is not None:
            return frozenset()
        lag_max_ms = self._lag_max_ms()
        out = []
        for replica in self.isr:
            if replica == self._node_id:
                continue
            follower = self._followers.get(replica)
            if follower is None or not follower.is_caught_up(leader_end_offset, now_ms, lag_max_ms):
                out.append(replica)
        return frozenset(out)

    def propose_join(self, replica_id: int, leader_epoch: int, partition_epoch: int) -> Proposal:
        """Have the replica counted from now on, and ask for it to be a member."""
        assert self.pending is None
        isr = [*self.isr, replica_id]
        self.pending = Proposal(isr, replica_id, frozenset(), leader_epoch, partition_epoch)
        return self.pending

    def propose_leave(
        self, replica_ids: frozenset[int], leader_epoch: int, partition_epoch: int
    ) -> Proposal:
        """Ask for replicas to be members no more; they count until that is answered."""
        assert self.pending is None
        isr = [replica for replica in self.isr if replica not in replica_ids]
        self.pending = Proposal(isr, None, replica_ids, leader_epoch, partition_epoch)
        return self.pending

    def epochs_of(self, isr: Sequence[int], own_broker_epoch: int) -> list[tuple[int, int]]:
        """Replica ids with their brokers' epochs as their fetches told; -1 for one that has not fetched."""
        told = []
        for replica in isr:
            follower = self._followers.get(replica)
            epoch = follower.broker_epoch if follower is not None else UNKNOWN_EPOCH
            told.append((replica, own_broker_epoch if replica == self._node_id else epoch))
        return told

"""Until when a ZooKeeper session cannot have expired: what its owner may rely on without asking anybody.

The session's expiry is decided by the ensemble's leader alone: so many milliseconds (the session timeout T) after
it last heard of the session. What a server answers proves less than it seems, for three reasons. A follower
answers pings by itself. The leader's ``sync`` is answered by one who has lost its quorum, too. And a request that
a follower hands on to the leader makes the leader look whether the session lives, but not renew it: the leader
renews sessions when a follower, in answer to the leader's own ping (every half tick), lists those it has heard
of. (ZooKeeper: ``LearnerHandler``, ``Learner.ping``, ``LeaderSessionTracker``, ``PrepRequestProcessor``.)

So a heartbeat is a small *write*, a ``multi`` that only checks a version: it is answered only when a quorum has
taken it. Heartbeats ``j`` and ``k`` were answered to this session, and ``k`` was sent at least G after ``j`` was
answered, where G is longer than the leader's pause between two pings. Then the session cannot expire before the
moment at which ``j`` was sent plus T:

- The leader L took ``k``, so the session lived, and nobody but L or a later leader can end it.
- A later leader starts after a quorum has promised it to take nothing more of L, so after L's quorum took ``k``;
  it begins by giving every session a whole T. That is later than ``k`` was sent.
- L itself, if we are connected to it, renewed the session when ``j`` arrived. If we are connected to its follower
  F: F noted the session when ``j`` arrived, answered a ping of L between ``j`` and ``k`` (G), and sent that answer
  before it handed on ``k``, on one ordered connection; L took it, and renewed, before it took ``k``. That was
  after ``j`` was sent.
- If the connection, F or L changed between ``j`` and ``k``, L renewed the session when we connected again, or when
  it began to lead, after ``j`` was taken.

Expiry is then rounded up to whole ticks, which is ours to gain. What is assumed: clocks run at the same rate
within ``MARGIN``, and a half tick is at most a quarter of T, as it is by ZooKeeper's own rule that a session lasts
at least two ticks, with ``GAP`` leaving a twentieth of T for a leader that pings late.
"""

from __future__ import annotations

from collections import deque

GAP = 0.3
"""How long after ``j`` was answered ``k`` must be sent, as a part of the session timeout: see above."""
MARGIN = 0.05
"""What is given up for clocks that run apart, and for what lies between a look at the clock and a deed."""
HEARTBEATS = 12
"""Heartbeats in a session timeout: four of them span ``GAP`` and a round trip."""


class SessionLease:
    """Counts round trips; all times are of one clock that never stops, in seconds."""

    def __init__(self, asked_at_s: float, timeout_s: float) -> None:
        """``asked_at_s``: when the session was asked for, which its creation, a write, came after."""
        self._timeout_s = timeout_s
        self._rounds: deque[tuple[float, float]] = deque()  # (sent, answered)
        self._lives_until = asked_at_s + timeout_s * (1 - MARGIN)

    @property
    def lives_until(self) -> float:
        """The session cannot have expired before this moment."""
        return self._lives_until

    @property
    def interval_s(self) -> float:
        """Seconds from one heartbeat to the next."""
        return self._timeout_s / HEARTBEATS

    def answered(self, sent_s: float, answered_s: float) -> None:
        """The heartbeat that was sent at ``sent_s`` was answered: a quorum took it."""
        latest = sent_s - self._timeout_s * GAP
        while self._rounds and self._rounds[0][1] <= latest:
            proven_s, _ = self._rounds.popleft()
            end = proven_s + self._timeout_s * (1 - MARGIN)
            self._lives_until = max(self._lives_until, end)
        self._rounds.append((sent_s, answered_s))

"""Until when a session cannot have expired is never later than when it expires, whatever delays there are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.coordination.session_lease import GAP, HEARTBEATS, MARGIN, SessionLease

TIMEOUT_S = 12.0


def test_a_new_session_lives_from_when_it_was_asked_for() -> None:
    assert SessionLease(100.0, TIMEOUT_S).lives_until == 100.0 + TIMEOUT_S * (1 - MARGIN)


def test_an_answer_alone_proves_nothing_of_its_own_heartbeat() -> None:
    lease = SessionLease(100.0, TIMEOUT_S)
    lease.answered(111.0, 111.1)
    assert lease.lives_until == 100.0 + TIMEOUT_S * (1 - MARGIN)


def test_a_heartbeat_counts_from_its_sending_once_a_later_one_was_answered() -> None:
    lease = SessionLease(100.0, TIMEOUT_S)
    lease.answered(101.0, 102.0)
    lease.answered(102.0 + TIMEOUT_S * GAP - 0.01, 106.0)
    assert lease.lives_until == 100.0 + TIMEOUT_S * (1 - MARGIN)
    lease.answered(102.0 + TIMEOUT_S * GAP + 0.01, 106.0)
    assert lease.lives_until == pytest.approx(101.0 + TIMEOUT_S * (1 - MARGIN))


def test_a_lease_never_goes_back_and_remembers_no_more_than_it_needs() -> None:
    lease = SessionLease(0.0, TIMEOUT_S)
    ends = []
    for beat in range(200):
        sent = beat * lease.interval_s
        lease.answered(sent, sent + 0.01)
        ends.append(lease.lives_until)
    assert ends == sorted(ends)
    assert ends[-1] > 199 * lease.interval_s + TIMEOUT_S / 2  # half the timeout to spare at least
    assert len(lease._rounds) <= HEARTBEATS * GAP + 2


class Ensemble:
    """A leader that expires the session, and the follower that it is connected to, as ZooKeeper has them.

    The two have one ordered channel. The leader pings, and renews what the follower lists in its answer; that it
    takes a heartbeat renews nothing.
    """

    def __init__(self, chance: random.Random, created: float, latency: float) -> None:
        self._chance = chance
        self._latency = latency
        self._renewed = created
        self._heard: float | None = None  # by the follower, and not listed yet
        self._channel_free = created

    @property
    def expires(self) -> float:
        return self._renewed + TIMEOUT_S

    def heartbeat(self, arrives: float, cut: float) -> float | None:
        """When the answer leaves the follower; None if the channel was cut before."""
        self._heard = arrives
        taken = self._send(arrives)
        answered = self._send(taken)
        return answered if answered < cut else None

    def ping(self, sent: float, cut: float) -> None:
        at_follower = self._send(sent)
        listed, self._heard = self._heard, None
        back = self._send(at_follower)
        if listed is not None and back < cut:
            self._renewed = max(self._renewed, back)

    def _send(self, at: float) -> float:
        self._channel_free = max(self._channel_free, at + self._chance.uniform(0, self._latency))
        return self._channel_free


@given(
    seed=st.integers(0, 2**32),
    cut=st.floats(0.0, 60.0),
    latency=st.sampled_from([0.001, 0.05, 0.4, 1.0]),
    ping=st.floats(0.05, GAP * TIMEOUT_S - 0.01),
)
def test_no_cut_between_leader_and_follower_makes_it_too_long(
    seed: int, cut: float, latency: float, ping: float
) -> None:
    chance = random.Random(seed)
    lease = SessionLease(0.0, TIMEOUT_S)
    ensemble = Ensemble(chance, 0.0, latency)
    beat_at, ping_at = 0.1, chance.uniform(0, ping)
    while min(beat_at, ping_at) < cut:
        if ping_at < beat_at:
            ensemble.ping(ping_at, cut)
            ping_at += ping * chance.uniform(0.5, 1)
            continue
        arrives = beat_at + chance.uniform(0, latency)
        while ping_at < arrives:  # what the leader does meanwhile comes first
            ensemble.ping(ping_at, cut)
            ping_at += ping * chance.uniform(0.5, 1)
        left = ensemble.heartbeat(arrives, cut)
        if left is None:
            break
        answered = left + chance.uniform(0, latency)
        lease.answered(beat_at, answered)
        assert lease.lives_until <= ensemble.expires
        beat_at = max(beat_at + lease.interval_s, answered)
    assert lease.lives_until <= ensemble.expires

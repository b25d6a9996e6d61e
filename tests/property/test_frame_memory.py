"""However large frames arrive beside each other, they stay within the budget, and all come to their end.

The model: connections with frames of all sizes send a piece now and then, in any order; some leave half way. A frame that
has come is held until it is handled, which happens sooner or later. What is held for frames never exceeds the limit,
nor what was written to memory; and when everybody who stays goes on sending, everybody's frame comes.
"""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.network.budget import SMALL_PART, SharedBudget, Waiter
from ottla.network.framing import (
    LARGE_FRAME_BYTES,
    SCRATCH_BYTES,
    FrameMemory,
    Framer,
    new_scratch,
)

MIB = 1 << 20
LIMIT_BYTES = 8 * MIB
SIZES = st.sampled_from(
    (100, 60_000, 70_000, 300_000, 900_000, 2 * MIB, 3 * MIB, 3 * MIB + 400_000, 5 * MIB, 9 * MIB)
)


class Peer:
    """One connection, as ``connection.Connection`` treats it, that sends one frame after the other."""

    def __init__(
        self,
        budget: SharedBudget,
        scratch: bytearray,
        memory: FrameMemory | None,
        sizes: list[int],
    ) -> None:
        self.budget = budget
        self.framer = Framer(16 * MIB, scratch, budget.reserve, memory, growth=budget)
        self.left = b"".join(struct.pack(">i", size) + b"x" * size for size in sizes)
        self.sizes = sizes
        self.waiter: Waiter | None = None
        self.held: list[int] = []
        self.came = 0

    @property
    def may_send(self) -> bool:
        return bool(self.left) and self.waiter is None and not self.framer.starved

    def send(self, count: int) -> None:
        buffer = self.framer.buffer()
        piece = self.left[: min(count, len(buffer))]
        buffer[: len(piece)] = piece
        self.left = self.left[len(piece) :]
        self.framer.received(len(piece))
        self.take()

    def take(self) -> None:
        while self.waiter is None:
            frame = self.framer.next_frame()
            if frame is not None:
                assert len(frame) == self.sizes[self.came]
                assert bytes(frame[:1]) == bytes(frame[-1:]) == b"x"
                self.came += 1
                self.held.append(len(frame))
                continue
            if self.framer.starved:
                self.waiter = self.budget.wait(
                    self.framer.starved, self.granted, self.framer.grower
                )
            break
        self.framer.keep()

    def granted(self) -> None:
        self.waiter = None
        self.framer.grant()

    def handle(self) -> None:
        for size in self.held:
            self.budget.release(size)
        self.held = []

    def leave(self) -> None:
        if self.waiter is not None:
            self.budget.withdraw(self.waiter)
            self.waiter = None
        self.budget.release(self.framer.abandon())
        self.left = b""
        self.handle()
        self.sizes = self.sizes[: self.came]

    @property
    def written(self) -> int:
        """Bytes of frames in memory of their own, and of frames that came."""
        return self.framer.filled + sum(self.held)


def within_bounds(budget: SharedBudget, peers: list[Peer]) -> None:
    over = [size for peer in peers for size in peer.held if size > LIMIT_BYTES // 2]
    over += [peer.framer.reserved for peer in peers if peer.framer.reserved > LIMIT_BYTES // 2]
    held = sum(peer.framer.reserved + sum(peer.held) for peer in peers)
    waits = sum(peer.framer.starved for peer in peers if peer.framer.grower is None)
    assert held - waits <= budget.used_bytes <= held
    # One that is larger than the part for large frames goes alone there.
    small = LIMIT_BYTES // SMALL_PART
    bound = max(LIMIT_BYTES - small, *over, 0) + small
    assert budget.used_bytes <= bound
    assert sum(peer.written for peer in peers) <= bound


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(SIZES, min_size=1, max_size=3), min_size=1, max_size=9),
    st.lists(
        st.tuples(
            st.integers(0, 8),
            st.sampled_from(("send", "send", "send", "send", "handle", "leave")),
            st.sampled_from((1, 5_000, LARGE_FRAME_BYTES, 200_000, MIB)),
        ),
        max_size=120,
    ),
    st.booleans(),
)
def test_frames_that_grow_stay_within_the_budget_and_all_come(
    frames: list[list[int]], events: list[tuple[int, str, int]], windows: bool
) -> None:
    budget = SharedBudget(LIMIT_BYTES)
    scratch = new_scratch()
    memory = FrameMemory() if windows else None
    peers = [Peer(budget, scratch, memory, sizes) for sizes in frames]
    for number, what, count in events:
        peer = peers[number % len(peers)]
        if what == "send" and peer.may_send:
            peer.send(count)
        elif what == "handle":
            peer.handle()
        elif what == "leave" and count == 1:
            peer.leave()
        for each in peers:
            each.take()
        within_bounds(budget, peers)
    rounds = 0
    while any(peer.left or peer.came < len(peer.sizes) for peer in peers):
        before = sum(len(peer.left) for peer in peers), sum(peer.came for peer in peers)
        for peer in peers:
            if peer.may_send:
                peer.send(SCRATCH_BYTES)
            peer.take()
            within_bounds(budget, peers)
        for peer in peers:
            peer.handle()
        for peer in peers:
            peer.take()
        after = sum(len(peer.left) for peer in peers), sum(peer.came for peer in peers)
        rounds = 0 if after != before else rounds + 1
        assert rounds < 3, "everybody waits for somebody else"
    for peer in peers:
        peer.leave()
    assert budget.used_bytes == 0
    assert not budget.contended

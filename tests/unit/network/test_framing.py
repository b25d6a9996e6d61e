"""Frames come out whole and in order, however the bytes come in, and own their memory."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.network.budget import FIRST_BYTES, GROWTH, SMALL_BYTES_MAX, SharedBudget
from ottla.network.framing import (
    KEPT_BYTES_MAX,
    LARGE_FRAME_BYTES,
    SCRATCH_BYTES,
    WINDOW_BYTES,
    WINDOW_PART_MIN,
    WINDOWS_MAX,
    FrameError,
    FrameMemory,
    Framer,
    new_scratch,
)

LIMIT = 1 << 20

SIZES = st.one_of(
    st.integers(0, 50),
    st.integers(LARGE_FRAME_BYTES - 5, LARGE_FRAME_BYTES + 5),
    st.integers(SCRATCH_BYTES - 10, SCRATCH_BYTES + 10),
)


def stream(sizes: list[int]) -> tuple[list[bytes], bytes]:
    pattern = bytes(range(251)) * 3000
    bodies = [pattern[number : number + size] for number, size in enumerate(sizes)]
    return bodies, b"".join(struct.pack(">i", len(body)) + body for body in bodies)


def push(framer: Framer, data: bytes) -> list[memoryview]:
    """As the transport does: read into the buffer, take the frames, keep the rest."""
    taken = []
    while data:
        buffer = framer.buffer()
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        data = data[count:]
        framer.received(count)
        while (frame := framer.next_frame()) is not None:
            taken.append(frame)
        framer.keep()
    return taken


def test_a_read_that_is_one_small_frame_is_taken_as_one_and_no_other_read_is() -> None:
    framer = Framer(LIMIT)

    def read(data: bytes) -> memoryview | None:
        framer.buffer()[: len(data)] = data
        return framer.only_frame(len(data))

    body = bytes(range(100))
    whole = struct.pack(">i", 100) + body
    first = read(whole)
    second = read(struct.pack(">i", 100) + body[::-1])
    assert first is not None
    assert first == body, "it owns its memory"
    assert second == body[::-1]
    assert read(whole[:-1]) is None
    assert read(whole + whole) is None
    assert read(struct.pack(">i", -4)) is None
    assert read(struct.pack(">i", SMALL_BYTES_MAX) + bytes(SMALL_BYTES_MAX)) is None
    assert push(framer, whole + whole[:50]) == [body]
    assert read(whole) is None, "the rest of another one is kept"
    assert push(framer, whole[50:]) == [body]
    assert read(whole) == body


def test_a_read_of_several_frames_is_kept_for_later_and_no_other_read_is() -> None:
    scratch = new_scratch()
    framer, other = Framer(LIMIT, scratch), Framer(LIMIT, scratch)

    def read(data: bytes) -> bool:
        framer.buffer()[: len(data)] = data
        return framer.keep_several(len(data))

    bodies, data = stream([100, 50, 0, 200])
    assert not read(data[:104])
    assert not read(data[:50])
    assert not read(struct.pack(">i", -1) + bytes(20))
    assert not read(struct.pack(">i", SMALL_BYTES_MAX + 1) + bytes(SMALL_BYTES_MAX + 20))
    assert read(data + data[:30])
    assert push(other, data) == bodies, "the scratch buffer is others' meanwhile"
    assert [framer.next_frame() for _ in range(5)] == [*bodies, None]
    framer.keep()
    assert push(framer, data[30:]) == bodies


def test_a_small_frame_that_finds_no_room_is_not_taken_by_itself() -> None:
    budget = SharedBudget(150)
    framer = Framer(LIMIT, reserve=budget.reserve)
    whole = struct.pack(">i", 100) + bytes(100)
    framer.buffer()[: len(whole)] = whole
    assert framer.only_frame(len(whole)) is not None
    framer.buffer()[: len(whole)] = whole
    assert framer.only_frame(len(whole)) is None
    framer.received(len(whole))
    assert framer.next_frame() is None
    assert framer.starved == 100


@settings(deadline=None, max_examples=60)
@given(st.lists(SIZES, max_size=6), st.lists(st.integers(1, 200_000), min_size=1, max_size=8))
def test_frames_come_out_whole_however_the_bytes_are_cut(sizes: list[int], cuts: list[int]) -> None:
    bodies, data = stream(sizes)
    framer = Framer(LIMIT)
    taken: list[memoryview] = []
    turn = 0
    while data:
        cut = max(cuts[turn % len(cuts)], len(data) // 500)
        turn += 1
        taken += push(framer, data[:cut])
        data = data[cut:]
    assert [bytes(frame) for frame in taken] == bodies


def test_frames_come_out_whole_byte_by_byte() -> None:
    bodies, data = stream([0, 1, 300, 2])
    framer = Framer(LIMIT)
    taken = [frame for place in range(len(data)) for frame in push(framer, data[place : place + 1])]
    assert [bytes(frame) for frame in taken] == bodies


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40_000)), min_size=1, max_size=40))
def test_framers_that_share_a_scratch_buffer_do_not_mix(turns: list[tuple[bool, int]]) -> None:
    scratch = new_scratch()
    framers = (Framer(LIMIT, scratch), Framer(LIMIT, scratch))
    bodies, data = zip(stream([10, 5_000, 70_000, 3]), stream([200_000, 1, 9]), strict=True)
    left = list(data)
    taken: tuple[list[memoryview], list[memoryview]] = ([], [])
    for which, cut in [*turns, (False, LIMIT), (True, LIMIT)]:
        taken[which].extend(push(framers[which], left[which][:cut]))
        left[which] = left[which][cut:]
    assert [bytes(frame) for frame in taken[0]] == bodies[0]
    assert [bytes(frame) for frame in taken[1]] == bodies[1]


def test_a_read_that_brings_nothing_loses_nothing() -> None:
    scratch = new_scratch()
    framer, other = Framer(LIMIT, scratch), Framer(LIMIT, scratch)
    (body,), data = stream([500])
    assert push(framer, data[:100]) == []
    framer.buffer()  # a spurious wake-up, or TLS bytes that make no record yet
    push(other, b"\0\0\0\x05xxxxx")
    assert [bytes(frame) for frame in push(framer, data[100:])] == [body]


@pytest.mark.parametrize("size", [40, 100_000])
def test_a_frame_owns_its_memory_and_it_may_be_written_to(size: int) -> None:
    scratch = new_scratch()
    framer = Framer(LIMIT, scratch)
    (body, second), data = stream([size, size])
    frame, _ = push(framer, data)
    frame[0:1] = b"!"
    push(framer, data)
    assert bytes(frame) == b"!" + body[1:]
    assert second


@pytest.mark.parametrize("length", [-1, -(2**31), LIMIT + 1, 2**31 - 1])
def test_an_absurd_length_is_refused_before_anything_is_reserved(length: int) -> None:
    asked: list[int] = []

    def reserve(size: int) -> bool:
        asked.append(size)
        return True

    framer = Framer(LIMIT, reserve=reserve)
    with pytest.raises(FrameError, match=str(length)):
        push(framer, struct.pack(">i", length) + b"xxxx")
    assert asked == []


def test_a_small_frame_waits_for_its_memory() -> None:
    framer = Framer(LIMIT, reserve=lambda _: False)
    (body,), data = stream([40])
    assert push(framer, data) == []
    assert framer.starved == 40
    framer.grant()
    assert framer.reserved == 40
    assert framer.next_frame() == body
    assert (framer.starved, framer.reserved) == (0, 0)


def test_a_large_frame_waits_for_its_memory_before_it_is_read() -> None:
    framer = Framer(LIMIT, reserve=lambda _: False)
    (body,), data = stream([100_000])
    assert push(framer, data[:LARGE_FRAME_BYTES]) == []
    assert (framer.starved, framer.reserved) == (0, 0)  # what is announced costs nothing
    assert push(framer, data[LARGE_FRAME_BYTES : LARGE_FRAME_BYTES + 4]) == []
    assert framer.starved == 100_000
    framer.grant()
    assert framer.reserved == 100_000
    assert push(framer, data[LARGE_FRAME_BYTES + 4 :]) == [body]
    assert (framer.starved, framer.reserved) == (0, 0)


def test_what_was_reserved_for_an_unfinished_frame_is_given_back() -> None:
    framer = Framer(LIMIT)
    _, data = stream([100_000])
    push(framer, data[:90_000])
    assert framer.abandon() == 100_000
    assert framer.abandon() == 0


def test_memory_of_large_frames_is_used_again_once_nobody_sees_it() -> None:
    memory = FrameMemory()
    first = memory.take(100_000)
    whole, part = id(first.obj), first[500:600]
    first[:] = b"x" * 100_000
    first.release()
    second = memory.take(100_000)
    assert id(second.obj) != whole  # a part of the first is still seen
    assert bytes(part) == b"x" * 100
    part.release()
    third = memory.take(99_000)
    assert id(third.obj) == whole
    assert len(third) == 99_000


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from([70_000, 130_000, 1 << 20, 5 << 20]), st.integers(0, 3)),
        max_size=40,
    )
)
def test_frames_that_are_held_share_no_memory_and_what_is_kept_is_bounded(
    takes: list[tuple[int, int]],
) -> None:
    memory = FrameMemory()
    held: list[memoryview] = []
    for number, (size, drop) in enumerate(takes):
        frame = memory.take(size)
        frame[0] = frame[-1] = number
        held.append(frame)
        del held[: min(drop, len(held) - 1)]
        del frame
        assert memory.kept_bytes <= KEPT_BYTES_MAX
        assert len({id(one.obj) for one in held}) == len(held)
        assert all(one[0] == one[-1] for one in held)
    del held[:]
    memory.sweep()
    memory.sweep()
    assert memory.kept_bytes == 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(SIZES, st.integers(150_000, 400_000)), min_size=1, max_size=9),
    st.lists(st.integers(1, 2 * WINDOW_BYTES), min_size=1, max_size=8),
    st.integers(0, 9),
)
def test_nothing_is_read_over_frames_of_a_window_that_are_seen(
    sizes: list[int], cuts: list[int], held: int
) -> None:
    scratch, memory = new_scratch(), FrameMemory()
    framer, other = Framer(LIMIT, scratch, memory=memory), Framer(LIMIT, scratch, memory=memory)
    bodies, data = stream([*sizes, *sizes])
    noise = stream([100_000, 300_000, 300_000, 300_000])[1]
    seen: list[tuple[int, memoryview]] = []
    number = turn = 0
    while data:
        cut = max(cuts[turn % len(cuts)], len(data) // 50)
        turn += 1
        for frame in push(framer, data[:cut]):
            assert frame == bodies[number]
            seen.append((number, frame))
            number += 1
        del seen[: max(0, len(seen) - held)]
        data = data[cut:]
        push(other, noise)
        assert all(frame == bodies[which] for which, frame in seen)
    assert number == len(bodies)


def test_frames_that_come_together_are_read_at_once_while_few_windows_are_seen() -> None:
    scratch, memory = new_scratch(), FrameMemory()
    held: list[memoryview] = []
    for _ in range(WINDOWS_MAX + 2):
        framer = Framer(LIMIT, scratch, memory=memory)
        bodies, data = stream([190_000] * 8)
        push(framer, data[:SCRATCH_BYTES])
        assert len(framer.buffer()) == 190_004 - SCRATCH_BYTES, "the rest of the one under way"
        frames = push(framer, data[SCRATCH_BYTES:])
        assert frames == bodies
        held.append(frames[-2])
    assert [len({id(frame.obj) for frame in held[:WINDOWS_MAX]})] == [WINDOWS_MAX]
    assert len(memory._windows) == WINDOWS_MAX
    held.clear()
    del frames
    memory.sweep()
    memory.sweep()
    assert memory._windows == []


def test_who_holds_a_small_frame_holds_no_window() -> None:
    memory = FrameMemory()
    framer = Framer(LIMIT, new_scratch(), memory=memory)
    bodies, data = stream([SCRATCH_BYTES + 10, *([WINDOW_PART_MIN - 1] * 100)])
    assert push(framer, data + data)[1:101] == bodies[1:]
    held = push(framer, data)[1:]
    memory.sweep()
    memory.sweep()
    assert memory._windows == []
    assert held == bodies[1:]


@pytest.mark.parametrize("size", [30_000, 60_000, 190_000, 700_000])
@pytest.mark.parametrize("windows", [False, True])
def test_who_is_not_crowded_has_room_for_more_though_nothing_was_taken(
    size: int, windows: bool
) -> None:
    framer = Framer(LIMIT, new_scratch(), memory=FrameMemory() if windows else None)
    bodies, data = stream([size] * 40)
    taken: list[bytes] = []
    while data:
        framer.keep()
        while data and not framer.crowded:
            buffer = framer.buffer()
            assert len(buffer)
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            data = data[count:]
            framer.received(count)
            framer.keep()
        while (frame := framer.next_frame()) is not None:
            taken.append(bytes(frame))
    assert taken == bodies


def test_where_it_cannot_be_told_who_sees_memory_there_are_no_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ottla.network.framing.is_seen", lambda _: True)
    memory = FrameMemory()
    framer = Framer(LIMIT, new_scratch(), memory=memory)
    bodies, data = stream([190_000] * 8)
    assert push(framer, data) == bodies
    assert memory.window() is None
    assert memory._windows == []


def test_a_frame_holds_a_few_times_what_has_come_of_it() -> None:
    budget = SharedBudget(64 << 20)
    framer = Framer(16 << 20, reserve=budget.reserve, growth=budget)
    body = bytes(range(256)) * (8 << 12)
    data = struct.pack(">i", len(body)) + body
    found: list[bytes] = []
    position = 0
    while not found:
        buffer = framer.buffer()[:10_000]
        buffer[:] = data[position : position + len(buffer)]
        position += len(buffer)
        framer.received(len(buffer))
        frame = framer.next_frame()
        assert budget.used_bytes <= max(FIRST_BYTES, GROWTH * position)
        if frame is not None:
            found.append(bytes(frame))
        framer.keep()
    assert found == [body]
    assert budget.used_bytes == 8 << 20


def test_a_large_frame_that_came_with_a_window_waits_for_its_memory_like_any() -> None:
    """What comes of it at once is more than it reserves at first elsewhere: it is not read on without room."""
    budget = SharedBudget(64 << 20)
    step = SMALL_BYTES_MAX + 1
    others = -20 * step  # what is left free
    while budget.reserve(step):
        others += step
    budget.release(20 * step)
    framer = Framer(
        16 << 20, new_scratch(), reserve=budget.reserve, memory=FrameMemory(), growth=budget
    )
    bodies = [bytes([number]) * size for number, size in enumerate([60_000] * 4 + [8 << 20])]
    data = b"".join(struct.pack(">i", len(body)) + body for body in bodies)
    found: list[bytes] = []
    while len(found) < len(bodies):
        framer.keep()
        if not framer.starved:
            buffer = framer.buffer()
            assert len(buffer), "who is not starved has room"
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            data = data[count:]
            framer.received(count)
        while (frame := framer.next_frame()) is not None:
            found.append(bytes(frame))
            budget.release(len(frame))
        assert framer.filled <= framer.reserved
        if framer.starved:
            budget.wait(framer.starved, framer.grant, framer.grower)
            budget.release(others)
            others = 0
            assert not framer.starved
    assert found == bodies


def test_a_frame_that_is_given_up_half_way_gives_back_what_it_holds() -> None:
    budget = SharedBudget(64 << 20)
    for bytes_sent in (100_000, 300_000, 3 << 20):
        framer = Framer(16 << 20, reserve=budget.reserve, growth=budget)
        push(framer, struct.pack(">i", 8 << 20) + bytes(bytes_sent))
        assert 0 < framer.reserved == budget.used_bytes < 16 << 20
        budget.release(framer.abandon())
        assert budget.used_bytes == 0
        assert budget._large._growing_bytes == 0

"""Whoever has much to do gives way: after 64 requests, after so much time, and between the steps of a large one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any

import pytest

from ottla.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from ottla.network.stepping import STEPWISE_BYTES
from ottla.network.turns import BUSY_S, REQUESTS_PER_TURN, SHARED_TURN_S, TURN_S, Turns


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Loop:
    """Calls what it was given, in rounds."""

    def __init__(self) -> None:
        self.ready: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    def turn(self) -> None:
        """One round: what becomes ready meanwhile is called in the next."""
        ready, self.ready = self.ready, []
        for callback in ready:
            callback()


def large_fetch(partitions: int = 2000) -> FetchRequest:
    """A Fetch that is decoded in steps."""
    wanted = [FetchPartition(partition=n, partition_max_bytes=1) for n in range(partitions)]
    return FetchRequest(
        max_wait_ms=0, min_bytes=0, topics=[FetchTopic(topic="t", partitions=wanted)]
    )


def answer_of(partitions: int) -> FetchResponse:
    found = [PartitionData(partition_index=n, records=b"") for n in range(partitions)]
    return FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=found)])


def test_between_two_looks_at_the_sockets_those_who_wait_have_one_turn_together() -> None:
    loop, clock = Loop(), Clock()
    turns = Turns(loop.call_soon, clock, clock)
    had: list[str] = []

    def turn(name: str, seconds: float, times: int) -> None:
        had.append(name)
        clock.now += seconds
        if times > 1:
            turns.wait(lambda: turn(name, seconds, times - 1))

    turns.wait(lambda: turn("long", SHARED_TURN_S, 3))
    turns.wait(lambda: turn("longer", TURN_S, 2))
    turns.wait(lambda: turn("short", SHARED_TURN_S / 8, 1))
    rounds = []
    while loop.ready:
        loop.turn()
        rounds.append(had.copy())
        had.clear()
    assert rounds == [["long"], ["longer"], ["short", "long"], ["longer"], ["long"]]


def test_a_turn_that_fails_does_not_keep_others_from_theirs() -> None:
    loop, clock = Loop(), Clock()
    turns = Turns(loop.call_soon, clock, clock)
    had: list[int] = []
    turns.wait(lambda: [][0])
    turns.wait(lambda: had.append(1))
    with pytest.raises(IndexError):
        loop.turn()
    loop.turn()
    assert had == [1]
    turns.wait(lambda: had.append(2))
    loop.turn()
    assert had == [1, 2]


@pytest.mark.parametrize(
    ("cost_s", "a_turn"), [(0.0, REQUESTS_PER_TURN), (TURN_S / 4, 5), (2 * TURN_S, 1)]
)
def test_a_turn_is_over_after_so_many_requests_or_so_much_time(
    kit: Any, cost_s: float, a_turn: int
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            clock = Clock()
            on.server.turns.time = on.server.turns.cpu = clock
            loop = asyncio.get_running_loop()
            handled: list[int] = []

            def counted(request: Any) -> Any:
                if not handled:
                    loop.call_soon(lambda: handled.append(0))
                    handled.append(0)
                handled[-1] += 1
                clock.now += cost_s
                return kit.produced(request.correlation_id)

            on.broker.answers[0] = counted
            peer = await on.peer()
            peer.writer.write(b"".join(kit.frame(kit.produce(), 9, n) for n in range(200)))
            for number in range(200):
                assert (await peer.response(0, 9))[0] == number
            assert handled[0] == a_turn

    kit.run(main())


def test_what_the_thread_was_kept_from_is_no_turn_of_it(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            wall, cpu = Clock(), Clock()
            on.server.turns.time, on.server.turns.cpu = wall, cpu
            seen: list[int] = []
            loop = asyncio.get_running_loop()

            def dispatch(request: Any) -> Any:
                if not request.correlation_id:
                    loop.call_soon(lambda: seen.append(len(on.broker.requests)))
                wall.now += 1.0
                return kit.produced(request.correlation_id)

            on.broker.answers[0] = dispatch
            peer = await on.peer()
            for one in (peer, await on.peer()):  # several that had a long turn
                one.send(kit.produce(), 9, 1)
                assert (await one.response(0, 9))[0] == 1
            peer.writer.write(b"".join(kit.frame(kit.produce(), 9, n) for n in range(10)))
            for number in range(10):
                assert (await peer.response(0, 9))[0] == number
            assert seen[0] == 12

    kit.run(main())


def test_several_busy_peers_wait_for_each_turn_and_the_others_for_none(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[Any] = []
    wait = Turns.wait
    monkeypatch.setattr(
        Turns, "wait", lambda self, turn: (waited.append(turn), wait(self, turn))[1]
    )

    async def main() -> None:
        async with kit.stage() as on:
            clock = Clock()
            turns = on.server.turns
            turns.time = turns.cpu = clock

            def dispatch(request: Any) -> Any:
                if request.correlation_id:
                    clock.now += 2 * BUSY_S
                return kit.produced(request.correlation_id)

            on.broker.answers[0] = dispatch
            busy = [await on.peer() for _ in range(3)]
            for _ in range(2):
                for peer in busy:
                    peer.send(kit.produce(), 9, 1)
                    await peer.response(0, 9)
            assert turns.busy == 3
            waited.clear()
            light = await on.peer()
            light.send(kit.produce(), 9, 0)
            await light.response(0, 9)
            assert not waited
            busy[0].send(kit.produce(), 9, 0)
            await busy[0].response(0, 9)
            assert len(waited) == 1
            assert turns.busy == 2
            for peer in busy:
                await peer.close()
            await kit.until(lambda: len(on.server.connections) == 1)
            assert turns.busy == 0

    kit.run(main())


def test_who_waits_for_its_turn_is_read_on_until_something_comes(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To stop reading and to begin again took two system calls for each Fetch of several busy consumers."""
    waiting: list[Callable[[], None]] = []

    async def main() -> None:
        async with kit.stage() as on:
            on.broker.answers[0] = lambda request: kit.produced(request.correlation_id)
            peer = await on.peer()
            peer.send(kit.produce(), 9, 1)
            await peer.response(0, 9)
            (connection,) = on.server.connections.values()
            on.server.turns.busy = 2
            connection._busy = True
            monkeypatch.setattr(Turns, "wait", lambda self, turn: waiting.append(turn))
            peer.send(kit.produce(), 9, 2)
            await kit.until(lambda: waiting)
            assert not connection._paused
            peer.send(kit.produce(), 9, 3)
            await kit.until(lambda: connection._paused)
            connection._busy = False
            on.server.turns.busy = 0
            waiting.pop()()
            for number in (2, 3):
                assert (await peer.response(0, 9))[0] == number
            assert not connection._paused

    kit.run(main())


def test_others_are_served_between_the_steps_of_a_large_request(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            clock = Clock()
            on.server.turns.time = on.server.turns.cpu = clock
            order: list[str] = []
            may_go_on = asyncio.Event()

            def steps(request: Any) -> Iterator[None]:
                assert len(request.body.topics[0].partitions) == 2000
                while not may_go_on.is_set():
                    order.append("step")
                    clock.now += TURN_S * 2
                    yield
                return answer_of(2000)  # type: ignore[return-value]

            on.broker.answers[1] = steps
            slow, other = await on.peer(), await on.peer()
            assert len(kit.frame(large_fetch(), 11)) > STEPWISE_BYTES
            slow.send(large_fetch(), 11, 1)
            slow.send(kit.produce(), 9, 2)
            await kit.until(lambda: order)
            for number in range(3):
                other.send(kit.produce(), 9, number)
                assert (await other.response(0, 9))[0] == number
            assert [request.api_key for request in on.broker.requests] == [1, 0, 0, 0]
            may_go_on.set()
            correlation_id, response = await slow.response(1, 11)
            assert correlation_id == 1
            assert len(response.responses[0].partitions) == 2000
            assert (await slow.response(0, 9))[0] == 2

    kit.run(main())


def test_a_large_request_whose_answer_is_parked_is_answered_when_it_is_there(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            parked: list[asyncio.Future[Any]] = []

            def park(request: Any) -> Any:
                parked.append(asyncio.get_running_loop().create_future())
                return parked[-1]

            on.broker.answers[1] = park
            peer = await on.peer()
            peer.send(large_fetch(), 11, 1)
            peer.send(kit.produce(), 9, 2)
            await kit.until(lambda: parked)
            parked[0].set_result(answer_of(1000))
            correlation_id, response = await peer.response(1, 11)
            assert (correlation_id, len(response.responses[0].partitions)) == (1, 1000)
            assert (await peer.response(0, 9))[0] == 2

    kit.run(main())


def test_a_large_request_that_is_malformed_hangs_up(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            content = bytearray(kit.frame(large_fetch(), 11))
            content[-40:] = b"\xff" * 40
            peer.writer.write(content)
            assert await peer.hung_up() == b""
            assert not on.broker.requests

    kit.run(main())


def test_a_peer_that_leaves_has_no_further_step_taken(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            clock = Clock()
            on.server.turns.time = on.server.turns.cpu = clock
            begun: list[GeneratorType[None, None, Any]] = []
            ended: list[bool] = []

            def steps(request: Any) -> Iterator[None]:
                try:
                    while True:
                        clock.now += TURN_S * 2
                        yield
                finally:
                    ended.append(True)

            def dispatch(request: Any) -> Any:
                begun.append(steps(request))  # type: ignore[arg-type]
                return begun[-1]

            on.broker.answers[12] = dispatch
            peer = await on.peer()
            peer.send(kit.heartbeat(), 4)
            await kit.until(lambda: begun)
            await peer.close()
            connection = next(iter(on.server.connections.values()))
            connection.abort("the test has seen enough")
            await kit.until(lambda: ended)
            assert begun[0].gi_frame is None

    kit.run(main())


def test_what_is_wanted_soon_is_called_once_what_was_ready_is_read_and_handled() -> None:
    loop, clock = Loop(), Clock()
    turns = Turns(loop.call_soon, clock, clock)
    called: list[str] = []
    turns.soon(lambda: called.append("nobody reads"))
    loop.turn()
    assert called == ["nobody reads"]

    turns.reading()
    turns.soon(lambda: called.append("first"))
    turns.soon(lambda: turns.soon(lambda: called.append("from within")))
    assert called == ["nobody reads"]
    turns.read_over()
    assert called == ["nobody reads", "first"]
    loop.turn()
    assert called == ["nobody reads", "first", "from within"]


def test_one_that_fails_soon_keeps_no_other_from_being_called() -> None:
    loop, clock = Loop(), Clock()
    turns = Turns(loop.call_soon, clock, clock)
    called: list[str] = []

    def fail() -> None:
        raise ValueError("a fault of ours")

    turns.reading()
    turns.soon(fail)
    turns.soon(lambda: called.append("the next one"))
    with pytest.raises(ValueError, match="a fault"):
        turns.read_over()
    loop.turn()
    assert called == ["the next one"]


def test_what_was_wanted_soon_is_not_forgotten_where_the_end_of_the_reading_was_not_told() -> None:
    loop, clock = Loop(), Clock()
    turns = Turns(loop.call_soon, clock, clock)
    called: list[str] = []
    turns.reading()
    turns.soon(lambda: called.append("first"))
    turns.reading()
    turns.read_over()
    assert called == ["first"]

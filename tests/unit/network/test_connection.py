"""Requests are handled, and answers written, in order; whatever a peer does, it costs bounded memory."""

from __future__ import annotations

import asyncio
import logging
import random
import struct
from typing import Any

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.network.limits import NetworkLimits
from ottla.network.request import Unsettled
from ottla.network.turns import REQUESTS_PER_TURN


def offset_of(response: Any) -> int:
    return int(response.responses[0].partition_responses[0].base_offset)


def test_answers_keep_the_order_of_requests_whatever_the_order_they_come_in(kit: Any) -> None:
    async def main() -> None:
        chance = random.Random(3)
        async with kit.stage() as on:
            peer = await on.peer()
            for number in range(60):
                peer.send(kit.produce(acks=chance.choice((1, -1))), 9, number)
            await kit.until(lambda: len(on.broker.requests) == 60)
            while on.broker.parked:
                on.broker.settle(chance.randrange(len(on.broker.parked)))
                await asyncio.sleep(0)
            for number in range(60):
                correlation_id, response = await peer.response(0, 9)
                assert (correlation_id, offset_of(response)) == (number, number + 1)

    kit.run(main())


def test_produce_requests_are_handled_while_earlier_ones_wait_for_their_sync(kit: Any) -> None:
    async def main() -> None:
        limits = NetworkLimits(requests_in_flight_max=5)
        async with kit.stage(limits=limits) as on:
            peer = await on.peer()
            for number in range(12):
                peer.send(kit.produce(acks=-1), 9, number)
            await kit.until(lambda: len(on.broker.requests) == 5)
            await peer.writer.drain()
            for number in range(12):
                # Never more than the limit, and one more for every one that is answered.
                await kit.until(lambda n=number: len(on.broker.requests) == min(12, n + 5))
                on.broker.settle()
                assert (await peer.response(0, 9))[0] == number

    kit.run(main())


def test_a_request_of_another_kind_waits_until_those_before_it_are_answered(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            peer.send(kit.produce(acks=-1), 9, 1)
            peer.send(kit.heartbeat(), 4, 2)
            peer.send(kit.produce(acks=1), 9, 3)
            await kit.until(lambda: on.broker.parked)
            other = await on.peer()
            other.send(kit.heartbeat(), 4, 7)
            assert (await other.response(12, 4))[0] == 7
            assert [request.api_key for request in on.broker.requests] == [0, 12]
            on.broker.settle()
            assert (await peer.response(0, 9))[0] == 1
            assert (await peer.response(12, 4))[0] == 2
            assert (await peer.response(0, 9))[0] == 3

    kit.run(main())


def test_nothing_is_handled_behind_a_parked_request_that_is_not_a_produce(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            heartbeat = on.broker.answers[12]
            on.broker.answers[12] = lambda request: waiting
            peer = await on.peer()
            peer.send(kit.heartbeat(), 4, 1)
            peer.send(kit.produce(acks=1), 9, 2)
            await kit.until(lambda: on.broker.requests)
            other = await on.peer()
            other.send(kit.produce(acks=1), 9, 1)
            await other.response(0, 9)
            assert [request.api_key for request in on.broker.requests] == [12, 0]
            waiting.set_result(heartbeat(on.broker.requests[0]))
            assert (await peer.response(12, 4))[0] == 1
            assert (await peer.response(0, 9))[0] == 2

    kit.run(main())


def test_a_parked_request_that_gives_way_is_answered_when_another_comes_behind_it(kit: Any) -> None:
    """The answers keep their order; what comes together with it is no exception."""

    async def main() -> None:
        async with kit.stage() as on:
            heartbeat = on.broker.answers[12]
            gave_way: list[int] = []

            def park(request: Any) -> Any:
                waiting = asyncio.get_running_loop().create_future()

                def give_way() -> None:
                    gave_way.append(request.correlation_id)
                    waiting.set_result(heartbeat(request))

                request.give_way = give_way
                return waiting

            on.broker.answers[12] = park
            peer = await on.peer()
            peer.send(kit.heartbeat(), 4, 1)
            await kit.until(lambda: on.broker.requests)
            assert not gave_way
            peer.send(kit.heartbeat(), 4, 2)
            assert (await peer.response(12, 4))[0] == 1
            assert gave_way == [1]
            peer.writer.write(kit.frame(kit.heartbeat(), 4, 3) + kit.frame(kit.produce(), 9, 4))
            assert [(await peer.response(12, 4))[0] for _ in range(2)] == [2, 3]
            assert (await peer.response(0, 9))[0] == 4
            assert gave_way == [1, 2, 3]

    kit.run(main())


def test_a_parked_answer_that_is_given_now_is_written_before_the_loop_turns_and_once(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            heartbeat = on.broker.answers[12]
            waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            on.broker.answers[12] = lambda request: waiting
            peer = await on.peer()
            peer.send(kit.heartbeat(), 4, 1)
            await kit.until(lambda: on.broker.requests)
            (request,) = on.broker.requests
            outbox = request.connection._outbox
            written: list[int] = []
            flush = type(outbox).flush

            def flushed(self: Any) -> None:
                written.append(self.owes)
                flush(self)

            monkeypatch.setattr(type(outbox), "flush", flushed)
            request.connection.answer_now(waiting, heartbeat(request))
            assert written
            on.broker.answers[12] = heartbeat
            peer.send(kit.heartbeat(), 4, 2)
            assert [(await peer.response(12, 4))[0] for _ in range(2)] == [1, 2]

    kit.run(main())


def test_a_peer_that_sends_many_requests_at_once_lets_others_have_their_turn(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            loop = asyncio.get_running_loop()
            seen: list[int] = []

            def dispatch(request: Any) -> Any:
                loop.call_soon(lambda: seen.append(len(on.broker.requests)))
                return kit.produced(request.correlation_id)

            on.broker.answers[0] = dispatch
            peer = await on.peer()
            peer.writer.write(b"".join(kit.frame(kit.produce(), 9, n) for n in range(500)))
            for number in range(500):
                assert (await peer.response(0, 9))[0] == number
            assert seen[0] <= REQUESTS_PER_TURN

    kit.run(main())


def test_acks_zero_gets_no_answer(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            peer.send(kit.produce(acks=0), 9, 1)
            peer.send(kit.produce(acks=1), 9, 2)
            assert (await peer.response(0, 9))[0] == 2
            assert len(on.broker.requests) == 2

    kit.run(main())


def test_acks_zero_requests_before_a_hang_up_are_all_handled(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            for number in range(300):
                peer.send(kit.produce(acks=0, size=2000), 9, number)
            await peer.close()
            await kit.until(lambda: not on.server.connections)
            assert len(on.broker.requests) == 300

    kit.run(main())


def test_a_peer_that_has_said_all_still_gets_the_answers_that_are_ready(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            for number in range(50):
                peer.send(kit.produce(size=5000), 9, number)
            peer.send(kit.produce(acks=-1), 9, 50)
            peer.writer.write_eof()
            for number in range(50):
                assert (await peer.response(0, 9))[0] == number
            assert await peer.hung_up() == b""
            (parked,) = on.broker.parked
            assert parked[1].cancelled()

    kit.run(main())


def test_requests_arrive_byte_by_byte(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            for place in kit.frame(kit.produce(size=40), 9, 5):
                peer.writer.write(bytes((place,)))
                await peer.writer.drain()
                await asyncio.sleep(0)
            assert (await peer.response(0, 9))[0] == 5

    kit.run(main())


def test_records_arrive_whole_and_writable(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            for size in (10, 16_384, 1_000_000):
                peer.send(kit.produce(acks=-1, size=size), 9)
            await kit.until(lambda: len(on.broker.parked) == 3)
            for request, size in zip(on.broker.requests, (10, 16_384, 1_000_000), strict=True):
                records = request.body.topic_data[0].partition_data[0].records
                assert records.nbytes == size
                assert not records.readonly

    kit.run(main())


def test_a_coroutine_is_an_answer_too(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            heartbeat = on.broker.answers[12]

            async def answer(request: Any) -> Any:
                await asyncio.sleep(0)
                return heartbeat(request)

            on.broker.answers[12] = answer
            peer = await on.peer()
            peer.send(kit.heartbeat(), 4, 8)
            assert (await peer.response(12, 4))[0] == 8

    kit.run(main())


def test_an_unknown_version_of_api_versions_is_answered_in_version_zero(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            body = struct.pack(">hhih", 18, 99, 4, -1) + b"\0\0\0\0\0"
            peer.writer.write(struct.pack(">i", len(body)) + body)
            correlation_id, response = await peer.response(18, 0)
            assert correlation_id == 4
            assert response.error_code == ErrorCode.UNSUPPORTED_VERSION
            (offered,) = response.api_keys
            assert (offered.api_key, offered.min_version, offered.max_version) == (18, 0, 5)
            assert on.broker.requests == []
            peer.send(kit.heartbeat(), 4, 5)
            assert (await peer.response(12, 4))[0] == 5

    kit.run(main())


HEADER = struct.Struct(">hhih")


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack(">i", -1) + b"xxxx",
        struct.pack(">i", 2**31 - 1) + b"xxxx",
        struct.pack(">i", 100 * 1024 * 1024 + 1),
        struct.pack(">i", 0),
        struct.pack(">i", 1) + b"\0",
        struct.pack(">i", 10) + HEADER.pack(9999, 0, 1, -1),
        struct.pack(">i", 10) + HEADER.pack(-1, 0, 1, -1),
        struct.pack(">i", 10) + HEADER.pack(0, 2, 1, -1),
        struct.pack(">i", 10) + HEADER.pack(0, 99, 1, -1),
        struct.pack(">i", 10) + HEADER.pack(0, 9, 1, 5000),
        struct.pack(">i", 12) + HEADER.pack(0, 9, 1, -1) + b"\0\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_a_peer_that_sends_nonsense_is_cut_off_with_a_line_in_the_log(
    kit: Any, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            peer.send(kit.produce(), 9, 1)
            await peer.response(0, 9)
            peer.writer.write(sent)
            assert await peer.hung_up() == b""
            assert len(on.broker.requests) == 1

    with caplog.at_level(logging.WARNING):
        kit.run(main())
    lines = [record for record in caplog.records if record.name == "ottla.network.connection"]
    assert [line.getMessage() for line in lines] == ["connection closed"]
    assert lines[0].exc_info is None


def test_a_handler_that_raises_gets_its_answer_from_the_broker(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:

            def dispatch(request: Any) -> Any:
                if request.correlation_id == 1:
                    raise KafkaError(ErrorCode.TOPIC_AUTHORIZATION_FAILED, "not yours")
                if request.correlation_id == 2:
                    raise ZeroDivisionError("a secret of the inside")
                future = asyncio.get_running_loop().create_future()
                future.set_exception(KafkaError(ErrorCode.REQUEST_TIMED_OUT, "too slow"))
                return future

            on.broker.answers[0] = dispatch
            peer = await on.peer()
            outcomes = []
            for number in (1, 2, 3):
                peer.send(kit.produce(), 9, number)
                _, response = await peer.response(0, 9)
                (partition,) = response.responses[0].partition_responses
                outcomes.append((partition.error_code, partition.error_message))
            assert outcomes == [(29, "not yours"), (-1, None), (7, "too slow")]

    kit.run(main())


def test_a_handler_that_raises_behind_requests_that_are_not_settled_loses_none(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            undone: list[int] = []
            settled: list[int] = []

            class Later(Unsettled):
                __slots__ = ("number",)

                def __init__(self, number: int) -> None:
                    self.number = number

                def settle(self) -> Any:
                    assert self.number not in undone
                    return kit.produced(self.number)

            def settle() -> None:
                settled.extend(undone)
                undone.clear()

            def dispatch(request: Any) -> Any:
                undone.append(request.correlation_id)
                if request.correlation_id % 3 == 2:
                    raise ZeroDivisionError("after it has left something to be done")
                return Later(request.correlation_id)

            on.server.settle = settle
            on.broker.answers[0] = dispatch
            peer = await on.peer()
            for number in range(8):
                peer.send(kit.produce(), 9, number)
            for number in range(8):
                correlation_id, response = await peer.response(0, 9)
                expected = -1 if number % 3 == 2 else number
                assert (correlation_id, offset_of(response)) == (number, expected)
            peer.send(kit.produce(), 9, 11)
            assert (await peer.response(0, 9))[0] == 11
            assert (settled, undone) == ([*range(8), 11], [])

    kit.run(main())


def test_a_failure_is_logged_with_its_traceback_and_hangs_up_where_no_answer_can_be_made(
    kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            on.server.error_response = lambda request, error: None

            async def fail(request: Any) -> Any:
                raise ZeroDivisionError("a secret of the inside")

            on.broker.answers[12] = fail
            peer = await on.peer()
            peer.send(kit.heartbeat(), 4, 1)
            assert await peer.hung_up() == b""

    kit.run(main())
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.exc_info is not None
    assert line.exc_info[0] is ZeroDivisionError


def test_an_answer_that_cannot_be_encoded_hangs_up(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            on.broker.answers[0] = lambda request: kit.produced(2**70)
            peer = await on.peer()
            peer.send(kit.produce(), 9, 1)
            assert await peer.hung_up() == b""

    kit.run(main())


def test_a_peer_that_does_not_read_gets_nothing_handled_until_it_does(kit: Any) -> None:
    text = "x" * 10_000
    count = 3000

    async def main() -> None:
        limits = NetworkLimits(write_buffer_bytes=100_000, socket_send_buffer_bytes=50_000)
        async with kit.stage(limits=limits) as on:
            on.broker.answers[0] = lambda request: kit.produced(request.correlation_id, text)
            peer = await on.peer(limit=2**16)
            for number in range(count):
                peer.send(kit.produce(), 9, number)
            (connection,) = on.server.connections.values()
            await kit.until(lambda: not connection._outbox.ready)
            await asyncio.sleep(0)
            handled = len(on.broker.requests)
            assert handled < count
            assert not connection._answers
            # A turn's answers at most are above the limit; then nothing more is handled.
            assert connection._transport.get_write_buffer_size() < 100_000 + 70 * 10_100 + 200_000
            for number in range(count):
                correlation_id, response = await peer.response(0, 9)
                assert (correlation_id, offset_of(response)) == (number, number)
            assert len(on.broker.requests) == count

    kit.run(main())


def test_a_peer_that_stalls_is_cut_off(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        limits = NetworkLimits(
            write_buffer_bytes=10_000, socket_send_buffer_bytes=10_000, write_stall_ms=100
        )
        async with kit.stage(limits=limits) as on:
            on.broker.answers[0] = lambda request: kit.produced(1, "x" * 30_000)
            peer = await on.peer(limit=2**14)
            for number in range(500):
                peer.send(kit.produce(), 9, number)
            await kit.until(lambda: on.broker.requests)
            await kit.until(lambda: not on.server.connections)
            assert len(on.broker.requests) < 500

    kit.run(main())
    assert "connection cut off" in [record.getMessage() for record in caplog.records]


def test_an_idle_connection_is_closed_but_not_one_that_is_owed_an_answer(kit: Any) -> None:
    async def main() -> None:
        limits = NetworkLimits(connections_max_idle_ms=300)
        async with kit.stage(limits=limits) as on:
            owed, half, idle = await on.peer(), await on.peer(), await on.peer()
            owed.send(kit.produce(acks=-1), 9, 1)
            half.writer.write(b"\0\0\0")
            await kit.until(lambda: on.broker.parked)
            assert await idle.hung_up() == b""
            assert await half.hung_up() == b""
            on.broker.settle()
            assert (await owed.response(0, 9))[0] == 1
            assert await owed.hung_up() == b""

    kit.run(main())


def test_futures_of_a_dead_connection_are_cancelled_and_coroutines_run_on(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            peer.send(kit.produce(acks=-1), 9, 1)
            peer.send(kit.produce(acks=-1), 9, 2)
            await kit.until(lambda: len(on.broker.parked) == 2)
            gate = asyncio.Event()
            done = []

            async def change(request: Any) -> Any:
                await gate.wait()
                done.append(request.correlation_id)
                return on.broker.parked[0][2]

            on.broker.answers[12] = change
            other = await on.peer()
            other.send(kit.heartbeat(), 4, 3)
            await kit.until(lambda: len(on.broker.requests) == 3)
            await peer.close()
            await other.close()
            await kit.until(lambda: not on.server.connections)
            futures = [future for _, future, _ in on.broker.parked]
            assert all(future.cancelled() for future in futures)
            gate.set()
            await kit.until(lambda: done == [3])

    kit.run(main())


def test_a_request_holds_its_memory_until_it_is_answered_or_released(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            peer = await on.peer()
            size = len(kit.frame(kit.produce(), 9)) - 4
            peer.send(kit.produce(acks=-1), 9, 1)
            peer.send(kit.produce(acks=-1), 9, 2)
            await kit.until(lambda: len(on.broker.parked) == 2)
            budget = on.server.budget
            assert budget.used_bytes == 2 * size
            on.broker.requests[1].release()
            on.broker.requests[1].release()
            assert budget.used_bytes == size
            on.broker.settle()
            on.broker.settle()
            await peer.response(0, 9)
            await peer.response(0, 9)
            assert budget.used_bytes == 0

    kit.run(main())


def test_a_full_budget_pauses_reading_and_every_request_is_handled_in_the_end(kit: Any) -> None:
    async def main() -> None:
        limits = NetworkLimits(queued_max_request_bytes=150_000)
        async with kit.stage(limits=limits) as on:
            peers = [await on.peer() for _ in range(6)]
            sizes = [90_000, 10, 140_000, 300_000, 70_000, 20_000]
            for peer, size in zip(peers, sizes, strict=True):
                for number in range(4):
                    peer.send(kit.produce(acks=-1, size=size), 9, number)
            answered = 0
            while answered < 24:
                await kit.until(lambda: on.broker.parked)
                used = on.server.budget.used_bytes
                assert used <= 150_000 or (used < 301_000 and len(on.broker.parked) == 1)
                on.broker.settle()
                answered += 1
            for peer in peers:
                for number in range(4):
                    assert (await peer.response(0, 9))[0] == number

    kit.run(main())


def test_a_request_that_trickles_in_is_cut_off_when_others_wait_for_its_memory(kit: Any) -> None:
    async def main() -> None:
        limits = NetworkLimits(queued_max_request_bytes=100_000, write_stall_ms=50)
        async with kit.stage(limits=limits) as on:
            hoarder = await on.peer()
            hoarder.writer.write(struct.pack(">i", 100_000) + b"\0\0\0\x09" + bytes(70_000))
            await kit.until(lambda: on.server.budget.used_bytes == 100_000)
            peer = await on.peer()
            peer.send(kit.produce(size=50), 9, 1)
            assert (await peer.response(0, 9))[0] == 1
            assert await hoarder.hung_up() == b""

    kit.run(main())


def test_large_requests_that_never_come_do_not_hold_up_small_ones(kit: Any) -> None:
    async def main() -> None:
        limits = NetworkLimits(queued_max_request_bytes=64 * 2**20)
        async with kit.stage(limits=limits) as on:
            hoarders = [await on.peer() for _ in range(5)]
            for hoarder in hoarders:
                hoarder.writer.write(struct.pack(">i", 30 * 2**20) + bytes(12 * 2**20))
            await kit.until(lambda: on.server.budget.contended)
            peer = await on.peer()
            for number in range(3):
                peer.send(kit.produce(size=50), 9, number)
                assert (await peer.response(0, 9))[0] == number

    kit.run(main())


def test_a_connection_that_dies_while_it_waits_for_memory_leaves_the_queue(kit: Any) -> None:
    async def main() -> None:
        limits = NetworkLimits(queued_max_request_bytes=1000)
        async with kit.stage(limits=limits) as on:
            holder, waiting, third = await on.peer(), await on.peer(), await on.peer()
            holder.send(kit.produce(acks=-1, size=600), 9, 1)
            await kit.until(lambda: on.broker.parked)
            waiting.send(kit.produce(acks=-1, size=600), 9, 2)
            await kit.until(lambda: on.server.budget.contended)
            third.send(kit.produce(size=10), 9, 3)
            for connection in list(on.server.connections.values()):
                if connection._waiter is not None:
                    connection.abort("the test says so")
            assert (await third.response(0, 9))[0] == 3

    kit.run(main())

"""A channel answers every request with its response or an error, whatever the broker does."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.messages.api_versions import ApiVersion, ApiVersionsResponse
from ottla.messages.registry import encode_response
from ottla.network.channel import Channel, ConnectionClosed, RequestTimedOut, UnsupportedVersion
from ottla.wire.primitives import EncodeError

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[int]:
    """A broker that does what the script says, once a connection; its port."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await script(reader, writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def request(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def response(version: int, correlation_id: int, message: Any, key: int = 18) -> bytes:
    body = b"".join(encode_response(key, version, correlation_id, message))
    return struct.pack(">i", len(body)) + body


def refusal(*offered: ApiVersion) -> ApiVersionsResponse:
    return ApiVersionsResponse(
        error_code=35,
        api_keys=list(offered),
        throttle_time_ms=0,
        supported_features=[],
        finalized_features=[],
    )


async def closing(channel: Channel) -> None:
    channel.close()
    await channel.wait_closed()


def test_requests_are_pipelined_and_answered_in_order(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port, client_id="me")
            assert channel.version_for(0) == 13
            assert channel.version_for(0, (3, 9)) == 9
            futures = [channel.send(kit.produce(), version=9) for _ in range(20)]
            assert channel.in_flight == 20
            responses = await asyncio.gather(*futures)
            offsets = [r.responses[0].partition_responses[0].base_offset for r in responses]
            assert offsets == list(range(2, 22))  # the first request was ApiVersions
            assert channel.in_flight == 0
            assert {r.client_id for r in on.broker.requests} == {"me"}
            first = on.broker.requests[0].body
            assert first.client_software_name == "ottla"
            await closing(channel)

    kit.run(main())


def test_a_oneway_request_has_no_answer(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port)
            channel.send_oneway(kit.produce(acks=0), version=9)
            await channel.send(kit.heartbeat())
            assert [r.api_key for r in on.broker.requests] == [18, 0, 12]
            await closing(channel)

    kit.run(main())


def test_a_request_leaves_in_one_write_and_large_records_as_they_are(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port)
            transport = channel._transport
            assert transport is not None
            written: list[Any] = []

            def write(data: Any) -> None:
                written.append(data)
                send(data)

            send = transport.write
            monkeypatch.setattr(transport, "write", write)
            await channel.send(kit.produce(size=100_000), version=9)
            assert len(written) == 1
            written.clear()
            await channel.send(kit.produce(size=1_000_000), version=9)
            assert [len(data) for data in written if isinstance(data, memoryview)] == [1_000_000]
            written.clear()
            await asyncio.gather(
                *(channel.send(kit.produce(size=100_000), version=9) for _ in range(5))
            )
            assert len(written) == 3
            await closing(channel)

    kit.run(main())


def test_what_is_sent_at_once_is_written_before_the_loop_turns_with_what_waits_before_it(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port)
            transport: Any = channel._transport
            written: list[int] = []

            def write(data: Any) -> None:
                written.append(len(data))
                send(data)

            send = transport.write
            monkeypatch.setattr(transport, "write", write)
            channel.send(kit.heartbeat())
            assert not written
            answer = channel.send(kit.heartbeat(), at_once=True)
            assert len(written) == 1
            await answer
            assert len(written) == 1
            assert [r.api_key for r in on.broker.requests] == [18, 12, 12]
            await closing(channel)

    kit.run(main())


def test_the_taker_of_a_channels_answers_has_them_first_and_may_keep_them(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port)
            offered: list[Any] = []

            def take(future: Any, answer: Any, size: int) -> bool:
                assert not future.done()
                assert size > 4
                offered.append(future)
                return len(offered) == 1

            channel.taker = take
            answers = [channel.send(kit.heartbeat()) for _ in range(3)]
            await answers[2]
            assert offered == answers
            assert [answer.done() for answer in answers] == [False, True, True]
            await closing(channel)
            assert not answers[0].done(), "it was taken"

    kit.run(main())


def test_large_records_go_and_come_uncopied(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            data = bytes(range(256)) * 20_000
            on.broker.answers[1] = lambda request: kit.fetched(data, b"small")
            channel = await Channel.connect("127.0.0.1", on.port)
            produced = kit.produce()
            produced.topic_data[0].partition_data[0].records = memoryview(data)
            await channel.send(produced, version=9)
            sent = on.broker.requests[-1].body.topic_data[0].partition_data[0].records
            assert sent == data
            fetched, again = await asyncio.gather(
                channel.send(kit.fetch(), version=4), channel.send(kit.fetch(), version=4)
            )
            for one in (fetched, again):
                large, small = one.responses[0].partitions
                assert isinstance(large.records, memoryview)
                assert large.records == data
                assert small.records == b"small"
            await closing(channel)

    kit.run(main())


@pytest.mark.parametrize(
    ("offered", "then"),
    [([], 0), ([ApiVersion(api_key=18, min_version=0, max_version=2)], 2)],
)
def test_a_broker_that_does_not_know_our_version_is_asked_in_its_own(
    kit: Any, offered: list[ApiVersion], then: int
) -> None:
    async def main() -> None:
        asked = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(int.from_bytes((await request(reader))[2:4], "big"))
            writer.write(response(0, 0, refusal(*offered)))
            asked.append(int.from_bytes((await request(reader))[2:4], "big"))
            answer = refusal(ApiVersion(api_key=0, min_version=0, max_version=5))
            answer.error_code = 0
            writer.write(response(then, 1, answer))
            await reader.read()

        async with scripted(script) as port:
            channel = await Channel.connect("127.0.0.1", port)
            assert asked == [3, then]
            assert channel.version_for(0) == 5
            with pytest.raises(UnsupportedVersion, match="does not offer Fetch"):
                channel.version_for(1)
            with pytest.raises(UnsupportedVersion, match="offers Produce 0-5, wanted is 9-13"):
                channel.version_for(0, (9, 13))
            await closing(channel)

    kit.run(main())


def test_a_broker_that_speaks_no_version_of_ours_is_an_error(kit: Any) -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(
                response(0, 0, refusal(ApiVersion(api_key=18, min_version=7, max_version=9)))
            )
            await reader.read()

        async with scripted(script) as port:
            with pytest.raises(UnsupportedVersion):
                await Channel.connect("127.0.0.1", port)

    kit.run(main())


def test_nobody_there_is_a_closed_connection(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            port = on.port
        with pytest.raises(ConnectionClosed, match=f"cannot connect to 127.0.0.1:{port}"):
            await Channel.connect("127.0.0.1", port)

    kit.run(main())


def test_a_broker_that_says_nothing_is_a_time_out(kit: Any) -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with scripted(script) as port:
            with pytest.raises(RequestTimedOut):
                await Channel.connect("127.0.0.1", port, timeout=0.05)

    kit.run(main())


GARBAGE = {
    "a frame that is too large": struct.pack(">i", 2**30),
    "a negative length": struct.pack(">i", -5),
    "a frame without a header": struct.pack(">i", 2) + b"\0\0",
    "a body that does not decode": struct.pack(">ii", 5, 0) + b"\xff",
    "bytes behind the body": struct.pack(">ii", 11, 0) + bytes(7),
    "another correlation id": response(
        4, 7, ApiVersionsResponse(throttle_time_ms=0, supported_features=[], finalized_features=[])
    ),
    "an HTTP server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_ends_the_channel_for_all_that_wait(kit: Any, garbage: bytes) -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(garbage)
            await reader.read()

        async with scripted(script) as port:
            channel = await Channel.connect("127.0.0.1", port, negotiate=False)
            futures = [channel.send(kit.heartbeat(), version=4) for _ in range(3)]
            outcomes = await asyncio.gather(*futures, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ConnectionClosed] * 3
            assert channel.closed
            with pytest.raises(ConnectionClosed):
                channel.send(kit.heartbeat(), version=4)
            await channel.wait_closed()

    kit.run(main())


def test_an_early_close_ends_the_channel_for_all_that_wait(kit: Any) -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)

        async with scripted(script) as port:
            channel = await Channel.connect("127.0.0.1", port, negotiate=False)
            future = channel.send(kit.heartbeat(), version=4, timeout=10)
            with pytest.raises(ConnectionClosed) as closed:
                await future
            assert closed.value.code is ErrorCode.NETWORK_EXCEPTION
            assert closed.value.retriable
            await channel.wait_closed()

    kit.run(main())


def test_a_request_that_times_out_ends_the_channel(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port)
            patient = channel.send(kit.produce(acks=-1), version=9, timeout=1000)
            late = channel.send(kit.produce(acks=-1), version=9, timeout=0.02)
            without = channel.send(kit.produce(acks=-1), version=9)
            with pytest.raises(RequestTimedOut, match="Produce"):
                await late
            for other in (patient, without):
                with pytest.raises(ConnectionClosed):
                    await other
            assert channel.closed
            await channel.wait_closed()

    kit.run(main())


def test_a_request_that_was_given_up_and_is_not_answered_in_time_ends_the_channel(kit: Any) -> None:
    """The broker stands still, whoever waits for it: the next request is to go over another connection."""

    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port)
            given_up = channel.send(kit.produce(acks=-1), version=9, timeout=0.02)
            other = channel.send(kit.produce(acks=-1), version=9, timeout=1000)
            given_up.cancel()
            with pytest.raises(ConnectionClosed):
                await other
            assert channel.closed
            await channel.wait_closed()

    kit.run(main())


def test_an_answer_in_time_leaves_no_timer_that_hurts_later_requests(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port)
            await channel.send(kit.heartbeat(), timeout=10)
            slow = channel.send(kit.produce(acks=-1), version=9, timeout=1000)
            first = channel._timer
            assert first is not None
            channel._set_timer(asyncio.get_running_loop().time())  # as if the 10 s were over
            await kit.until(
                lambda: channel._timer is not None and channel._timer.when() > first.when()
            )
            await kit.until(lambda: on.broker.parked)
            assert not slow.done()
            on.broker.settle()
            await slow
            await closing(channel)

    kit.run(main())


def test_a_caller_that_gives_up_loses_only_its_own_answer(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port)
            given_up = channel.send(kit.produce(acks=-1), version=9, timeout=5)
            other = channel.send(kit.produce(acks=-1), version=9, timeout=5)
            given_up.cancel()
            await kit.until(lambda: len(on.broker.parked) == 2)
            on.broker.settle()
            on.broker.settle()
            response = await other
            assert response.responses[0].partition_responses[0].base_offset == 3
            await closing(channel)

    kit.run(main())


def test_closing_sends_what_was_written_and_fails_what_waits(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port)
            channel.send_oneway(kit.produce(acks=0, size=3_000_000), version=9)
            future = channel.send(kit.heartbeat())
            await closing(channel)
            with pytest.raises(ConnectionClosed):
                await future
            await kit.until(lambda: not on.server.connections)
            sizes = [
                r.body.topic_data[0].partition_data[0].records.nbytes
                for r in on.broker.requests
                if r.api_key == 0
            ]
            assert sizes == [3_000_000]
            await closing(channel)

    kit.run(main())


def test_a_broker_that_does_not_read_is_felt(kit: Any) -> None:
    async def main() -> None:
        read = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read.wait()
            await reader.read()

        async with scripted(script) as port:
            channel = await Channel.connect("127.0.0.1", port, negotiate=False)
            assert channel.writable
            sent = 0
            while channel.writable:
                channel.send_oneway(kit.produce(acks=0, size=1_000_000), version=9)
                sent += 1
                await asyncio.sleep(0)
            assert sent < 100
            read.set()
            await channel.drain()
            assert channel.writable
            await closing(channel)

    kit.run(main())


def test_a_message_that_cannot_be_encoded_is_the_callers_error_alone(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            channel = await Channel.connect("127.0.0.1", on.port)
            wrong = kit.heartbeat()
            wrong.generation_id = 2**40
            with pytest.raises(EncodeError):
                channel.send(wrong)
            assert (await channel.send(kit.heartbeat())).error_code == 0
            await closing(channel)

    kit.run(main())


def test_a_refused_negotiation_is_an_error(kit: Any) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            offer = kit.versions_offered()
            offer.error_code = int(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
            on.broker.answers[18] = lambda request: offer
            with pytest.raises(KafkaError, match="CLUSTER_AUTHORIZATION_FAILED"):
                await Channel.connect("127.0.0.1", on.port)

    kit.run(main())

"""Any bytes may arrive on a broker's socket: it answers or hangs up, in bounded memory, and serves the next.

Requests of every API and version are taken, bent, cut and glued, and fed to a connection in pieces of any
size, as a socket would. Nothing may escape from the connection, what it writes must be whole answers, and
nothing of what it took may be left when it has gone.
"""

from __future__ import annotations

import asyncio
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ottla.errors import ErrorCode, KafkaError
from ottla.messages.registry import api
from ottla.network.limits import NetworkLimits
from ottla.network.request import Request
from ottla.network.server import Server
from tests.support.samples import sample, whole_requests

REQUEST_BYTES_MAX = 1 << 20
BUDGET_BYTES = 2 << 20
MEMORY_BYTES_MAX = 16 << 20
"""What one connection may cost at its peak: a few times the budget, for decoded messages weigh more."""


WHOLE_ID = 9
"""The correlation id of the requests before they are bent: ``dispatch`` answers it at once."""


WHOLE = whole_requests(WHOLE_ID)

EXTREMES = st.sampled_from(
    [
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\x80\0\0\0",
        b"\0\0\0\0",
        b"\0\x0f\xff\xff",
        b"\xff\xff\xff\xff\x0f",
        b"\xff" * 10,
        b"\x7f\xff",
        b"\x80\0",
        b"\0",
    ]
)


@st.composite
def bent_requests(draw: st.DrawFn) -> bytes:
    """A request with its length, perhaps damaged."""
    body = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(body) - 1)))
        change = draw(st.sampled_from(("byte", "extreme", "insert", "cut", "glue")))
        if change == "byte" and body:
            body[place] = draw(st.integers(0, 255))
        elif change == "extreme":
            value = draw(EXTREMES)
            body[place : place + len(value)] = value
        elif change == "insert":
            body[place:place] = draw(st.binary(max_size=40))
        elif change == "cut":
            del body[place : place + draw(st.integers(1, 30))]
        else:
            body += draw(st.sampled_from(WHOLE))[place:]
    length = draw(
        st.one_of(st.just(len(body)), st.just(len(body)), st.integers(-(2**31), 2**31 - 1))
    )
    return struct.pack(">i", length) + bytes(body)


STREAMS = st.lists(
    st.one_of(bent_requests(), bent_requests(), st.binary(max_size=200)), min_size=1, max_size=5
).map(b"".join)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 50000)})
        self.written = bytearray()
        self.closing = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def dispatch(request: Request) -> Any:
    """An answer, a future of one, an error or nothing, as the request's correlation id has it."""
    way = request.correlation_id % 5
    if way == 1:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "no")
    response = sample(api(request.api_key).response)
    if way == 2 and request.api_key == 0:
        return None
    if way == 3:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(
            lambda: None if future.done() else future.set_result(response)
        )
        return future
    return response


def refused(request: Request, error: KafkaError) -> Any:
    """The same for every API: what it says is not looked at."""
    return sample(api(request.api_key).response)


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[asyncio.Runner, Server]]:
    """A server without sockets, in a loop of its own."""

    async def make() -> Server:
        limits = NetworkLimits(
            socket_request_max_bytes=REQUEST_BYTES_MAX, queued_max_request_bytes=BUDGET_BYTES
        )
        return Server(dispatch, limits=limits, error_response=refused)

    with asyncio.Runner() as runner:
        server = runner.run(make())
        yield runner, server
        runner.run(server.stop())


async def feed(server: Server, stream: bytes, cuts: list[int]) -> Wire:
    """Feed a new connection, as a transport does, until it hangs up or has had all; then hang up."""
    wire = Wire()
    connection = server.protocol("TEST")
    connection.connection_made(wire)
    turn = 0
    idle = 0
    while stream and not wire.closing and idle < 50:
        if not wire.reading:
            idle += 1
            await asyncio.sleep(0)
            continue
        idle = 0
        buffer = connection.get_buffer(-1)
        assert len(buffer) > 0
        count = min(len(buffer), len(stream), cuts[turn % len(cuts)])
        turn += 1
        buffer[:count] = stream[:count]
        stream = stream[count:]
        connection.buffer_updated(count)
        assert server.budget.used_bytes <= BUDGET_BYTES
    for _ in range(10):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    return wire


def answers(written: bytearray) -> list[bytes]:
    """The frames that were written; fails if the last one is not whole."""
    found = []
    while written:
        (size,) = struct.unpack_from(">i", written)
        assert 4 <= size <= len(written) - 4
        found.append(bytes(written[4 : 4 + size]))
        del written[: 4 + size]
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stream=STREAMS, cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=5))
def test_a_connection_survives_any_bytes(
    stage: tuple[asyncio.Runner, Server], stream: bytes, cuts: list[int]
) -> None:
    runner, server = stage
    wire = runner.run(feed(server, stream, cuts))
    answers(wire.written)
    assert not server.connections
    assert server.budget.used_bytes == 0
    assert not server.budget.contended


def test_every_request_that_is_whole_is_answered(stage: tuple[asyncio.Runner, Server]) -> None:
    runner, server = stage
    for body in WHOLE:
        request = struct.pack(">i", len(body)) + body
        wire = runner.run(feed(server, request, [1 << 20]))
        (answer,) = answers(wire.written)
        assert answer[:4] == WHOLE_ID.to_bytes(4, "big")
        assert not wire.closing


@pytest.mark.parametrize("claimed", [b"\x7f\xff\xff\xff", b"\x00\x0f\xff\x00", b"\x00\xff\xff\xff"])
def test_a_claim_costs_no_memory(stage: tuple[asyncio.Runner, Server], claimed: bytes) -> None:
    """Counts and lengths that a frame does not back, at every place of every request."""
    runner, server = stage
    tracemalloc.start()
    try:
        for body in WHOLE[::3]:
            for place in range(8, min(len(body), 60), 3):
                bent = body[:place] + claimed + body[place + 4 :]
                stream = struct.pack(">i", len(bent)) + bent
                runner.run(feed(server, stream, [1 << 20]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES_MAX

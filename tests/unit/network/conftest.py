"""A toy broker, scripted peers and files, for the tests of connections."""

from __future__ import annotations

import asyncio
import os
import struct
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ottla.errors import KafkaError
from ottla.messages.api_versions import ApiVersion, ApiVersionsResponse
from ottla.messages.fetch import FetchableTopicResponse, FetchRequest, FetchResponse, PartitionData
from ottla.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from ottla.messages.registry import API_NAMES, api, decode_response, encode_request
from ottla.network.limits import NetworkLimits
from ottla.network.request import Request
from ottla.network.server import Server

DEADLINE_S = 20.0


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine, with a deadline and the loop's own checks."""

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await main

    asyncio.run(bounded(), debug=True)


async def _turn() -> None:
    """Let everything run that is ready."""
    await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds; the test's deadline bounds it."""
    while not condition():
        await _turn()


def produce(acks: int = 1, size: int = 10, topic: str = "t") -> ProduceRequest:
    """A Produce of one partition."""
    partition = PartitionProduceData(index=0, records=bytes(size))
    return ProduceRequest(
        transactional_id=None,
        acks=acks,
        timeout_ms=1000,
        topic_data=[TopicProduceData(name=topic, partition_data=[partition])],
    )


def heartbeat() -> HeartbeatRequest:
    """A Heartbeat: an API that is not pipelined."""
    return HeartbeatRequest(group_id="g", generation_id=1, member_id="m")


def fetch() -> FetchRequest:
    """A Fetch that asks for nothing in particular."""
    return FetchRequest(max_wait_ms=0, min_bytes=0, topics=[])


def frame(message: Any, version: int, correlation_id: int = 1) -> bytes:
    """A request with its length."""
    body = b"".join(encode_request(message, version, correlation_id, "test"))
    return struct.pack(">i", len(body)) + body


class Region:
    """A file region that says whether it has been closed."""

    def __init__(self, path: Path, position: int, size: int, *, resident: bool = True) -> None:
        self.position = position
        self.size = size
        self.resident = resident
        self.closed = False
        self._file = path.open("rb")

    def __len__(self) -> int:
        return self.size

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        size = self.size - offset if length is None else length
        return os.pread(self.fileno(), size, self.position + offset)

    def read_resident(self, offset: int, buffer: memoryview) -> int:
        if not self.resident:
            return 0
        return os.preadv(self.fileno(), (buffer,), self.position + offset)

    def close(self) -> None:
        self.closed = True
        self._file.close()


def fetched(*regions: Any) -> FetchResponse:
    """A Fetch response with the regions, a partition each."""
    partitions = [
        PartitionData(partition_index=index, high_watermark=1, records=[region])
        for index, region in enumerate(regions)
    ]
    topic = FetchableTopicResponse(topic="t", partitions=partitions)
    return FetchResponse(throttle_time_ms=0, responses=[topic])


class ToyBroker:
    """Answers Produce with ``base_offset`` = its number; acks=-1 parks the answer until ``settle``.

    ``answers`` overrides the answer to an API by its key.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.parked: list[tuple[Request, asyncio.Future[Any], ProduceResponse]] = []
        self.answers: dict[int, Callable[[Request], Any]] = {
            12: lambda request: HeartbeatResponse(throttle_time_ms=0, error_code=0),
            18: lambda request: versions_offered(),
        }

    def dispatch(self, request: Request) -> Any:
        self.requests.append(request)
        override = self.answers.get(request.api_key)
        if override is not None:
            return override(request)
        assert request.api_key == 0
        response = produced(len(self.requests))
        if request.body.acks == 0:
            return None
        if request.body.acks == 1:
            return response
        future = asyncio.get_running_loop().create_future()
        self.parked.append((request, future, response))
        return future

    def settle(self, index: int = 0) -> None:
        """Give the answer to the parked request at ``index``."""
        _, future, response = self.parked.pop(index)
        if not future.done():
            future.set_result(response)


def produced(base_offset: int, message: str | None = None) -> ProduceResponse:
    """A Produce response of one partition."""
    partition = PartitionProduceResponse(
        index=0, error_code=0, base_offset=base_offset, error_message=message
    )
    topic = TopicProduceResponse(name="t", partition_responses=[partition])
    return ProduceResponse(responses=[topic])


def failed(request: Request, error: KafkaError) -> ProduceResponse:
    """The toy broker's answer to a Produce whose handler raised."""
    response = produced(-1, error.message)
    response.responses[0].partition_responses[0].error_code = error.code
    return response


def versions_offered() -> ApiVersionsResponse:
    """What the toy broker speaks: all of the registry."""
    return ApiVersionsResponse(
        error_code=0,
        api_keys=[
            ApiVersion(
                api_key=key, min_version=api(key).versions.lo, max_version=api(key).versions.hi
            )
            for key in API_NAMES
        ],
        throttle_time_ms=0,
        supported_features=[],
        finalized_features=[],
    )


class Peer:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, message: Any, version: int, correlation_id: int = 1) -> None:
        self.writer.write(frame(message, version, correlation_id))

    async def receive(self) -> bytes:
        """One response, without its length."""
        (size,) = struct.unpack(">i", await self.reader.readexactly(4))
        return await self.reader.readexactly(size)

    async def response(self, api_key: int, version: int) -> tuple[int, Any]:
        """The correlation id and the message of one response."""
        body = await self.receive()
        return int.from_bytes(body[:4], "big"), decode_response(api_key, version, body)

    async def hung_up(self) -> bytes:
        """What still came before the other side closed."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


class Stage:
    """A server with a toy broker, and peers that are closed at the end."""

    def __init__(self, server: Server, broker: ToyBroker, port: int) -> None:
        self.server = server
        self.broker = broker
        self.port = port
        self._peers: list[Peer] = []

    async def peer(self, **options: Any) -> Peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        peer = Peer(reader, writer)
        self._peers.append(peer)
        return peer

    async def close(self) -> None:
        for peer in self._peers:
            await peer.close()
        await self.server.stop(grace_s=0.0)
        assert not self.server.connections
        assert self.server.budget.used_bytes == 0


@asynccontextmanager
async def stage(
    broker: ToyBroker | None = None, limits: NetworkLimits | None = None, **options: Any
) -> AsyncIterator[Stage]:
    """A running server on a free port; afterwards, checks that it holds nothing any more."""
    toy = broker if broker is not None else ToyBroker()
    server = Server(toy.dispatch, limits=limits, error_response=failed, **options)
    listener = await server.listen("127.0.0.1", 0)
    on_stage = Stage(server, toy, listener.port)
    try:
        yield on_stage
    finally:
        await on_stage.close()


class Kit:
    """What a test of this folder works with."""

    Region = Region
    ToyBroker = ToyBroker
    run = staticmethod(run)
    until = staticmethod(until)
    stage = staticmethod(stage)
    produce = staticmethod(produce)
    produced = staticmethod(produced)
    heartbeat = staticmethod(heartbeat)
    fetch = staticmethod(fetch)
    fetched = staticmethod(fetched)
    frame = staticmethod(frame)
    versions_offered = staticmethod(versions_offered)


@pytest.fixture
def kit() -> type[Kit]:
    """The toys of this folder."""
    return Kit


@pytest.fixture(scope="session")
def record_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 8 MiB in which every place is different; nobody writes to it."""
    path = tmp_path_factory.mktemp("network") / "records"
    path.write_bytes(array("Q", range(1 << 20)).tobytes())
    return path

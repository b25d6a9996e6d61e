"""How fast the network room is, with a toy broker that appends nothing: one core, the client in another process.

    python bench/network.py [--seconds 3]

Prints small pipelined Produce requests a second (decoded, answered, encoded), large ones in bytes a second,
and Fetch responses out of a file in bytes a second.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import socket
import struct
import tempfile
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ottla.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from ottla.messages.registry import encode_request
from ottla.network.channel import Channel
from ottla.network.limits import NetworkLimits
from ottla.network.request import Request
from ottla.network.server import Server


class HeldFile:
    """A file region of a file that stays open."""

    def __init__(self, descriptor: int, position: int, size: int) -> None:
        self._descriptor = descriptor
        self.position = position
        self._size = size

    def __len__(self) -> int:
        return self._size

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``offset``."""
        size = self._size - offset if length is None else length
        return os.pread(self._descriptor, size, self.position + offset)

    def read_resident(self, offset: int, buffer: memoryview) -> int:
        """All of it is: it was written a moment ago."""
        return os.preadv(self._descriptor, (buffer,), self.position + offset)

    def close(self) -> None:
        """Nothing to drop."""


def produced(request: Request) -> ProduceResponse:
    """Answer a Produce as if it had been appended."""
    return ProduceResponse(
        responses=[
            TopicProduceResponse(
                name=topic.name,
                partition_responses=[
                    PartitionProduceResponse(index=p.index, base_offset=0)
                    for p in topic.partition_data
                ],
            )
            for topic in request.body.topic_data
        ]
    )


def produce_request(record_bytes: int) -> ProduceRequest:
    """A Produce of one partition."""
    return ProduceRequest(
        transactional_id=None,
        acks=1,
        timeout_ms=30_000,
        topic_data=[
            TopicProduceData(
                name="weather.observations",
                partition_data=[PartitionProduceData(index=0, records=bytes(record_bytes))],
            )
        ],
    )


def produce_frame(record_bytes: int) -> bytes:
    """A Produce v9 request of one partition, with its length."""
    body = b"".join(encode_request(produce_request(record_bytes), 9, 1, "bench"))
    return struct.pack(">i", len(body)) + body


def pump(port: int, frame: bytes, depth: int, seconds: float, pipe: Any) -> None:
    """Keep ``depth`` requests on the way for ``seconds``; send back how many were answered."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(frame)
        size = 4 + struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))[0]
        sock.recv(size - 4, socket.MSG_WAITALL)
        begin = time.perf_counter()
        answered = sent = left_over = 0
        buffer = bytearray(1 << 20)
        batch = frame * max(1, depth // 2)
        step = max(1, depth // 2)
        while time.perf_counter() - begin < seconds:
            while sent - answered <= depth - step:
                sock.sendall(batch)
                sent += step
            left_over += sock.recv_into(buffer)
            answered += left_over // size
            left_over %= size
        pipe.send((answered, time.perf_counter() - begin))


def drain(port: int, frame: bytes, seconds: float, pipe: Any) -> None:
    """Fetch again and again for ``seconds``; send back how many bytes came."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        buffer = memoryview(bytearray(1 << 20))
        received = 0
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            sock.sendall(frame)
            left = struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))[0]
            received += left
            while left:
                left -= sock.recv_into(buffer[: min(left, len(buffer))])
        pipe.send((received, time.perf_counter() - begin))


async def _call(port: int, message: Any, version: int, depth: int, seconds: float) -> int:
    channel = await Channel.connect("127.0.0.1", port, client_id="bench", negotiate=False)
    begin = time.perf_counter()
    answered = 0
    futures = deque(channel.send(message, version=version) for _ in range(depth))
    while time.perf_counter() - begin < seconds:
        await futures.popleft()
        answered += 1
        while len(futures) < depth:
            futures.append(channel.send(message, version=version))
    channel.close()
    for future in futures:
        future.exception() if future.done() else future.cancel()
    await channel.wait_closed()
    return answered


def call(port: int, message: Any, version: int, depth: int, seconds: float, pipe: Any) -> None:
    """Keep ``depth`` requests on the way through our own channel; send back how many were answered."""
    cpu = time.process_time()
    answered = asyncio.run(_call(port, message, version, depth, seconds))
    cpu = time.process_time() - cpu
    print(f"{'':36} the channel used {cpu / max(1, answered) * 1e6:.1f} us a request")
    pipe.send((answered, seconds))


def run(
    dispatch: Callable[[Request], Any], client: Callable[..., None], *arguments: Any
) -> tuple[int, float, float]:
    """Serve one client process; what it counted, its seconds, and our CPU seconds."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    async def serve() -> tuple[int, float, float]:
        server = Server(dispatch, limits=NetworkLimits())
        listener = await server.listen("127.0.0.1", 0)
        process = multiprocessing.Process(
            target=client, args=(listener.port, *arguments, sender), daemon=True
        )
        cpu = time.process_time()
        process.start()
        counted, seconds = await asyncio.get_running_loop().run_in_executor(None, receiver.recv)
        cpu = time.process_time() - cpu
        process.join()
        await server.stop()
        return counted, seconds, cpu

    return asyncio.run(serve())


def each(cpu_s: float, count: int) -> str:
    """CPU time a request, and how many a core could do: it holds on a busy machine too."""
    used_s = cpu_s / max(1, count)
    return f"{used_s * 1e6:7.1f} us each ({1 / used_s:9,.0f}/s on a whole core)"


def main() -> None:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    seconds = options.seconds
    for record_bytes, depth in ((100, 64), (100, 1), (16_384, 16), (1_000_000, 5)):
        name = f"produce {record_bytes} B, {depth} in flight"
        if options.only not in name:
            continue
        frame = produce_frame(record_bytes)
        count, took, cpu = run(produced, pump, frame, depth, seconds)
        print(
            f"{name:36} {count / took:10,.0f} requests/s {count * len(frame) / took / 1e9:7.3f} GB/s"
            f"   broker CPU {each(cpu, count)}"
        )
    for record_bytes, depth in ((100, 64), (1_000_000, 5)):
        name = f"channel {record_bytes} B, {depth} in flight"
        if options.only not in name:
            continue
        count, took, cpu = run(produced, call, produce_request(record_bytes), 9, depth, seconds)
        print(
            f"{name:36} {count / took:10,.0f} requests/s {count * record_bytes / took / 1e9:7.3f} GB/s"
            f"   broker CPU {each(cpu, count)}"
        )
    with tempfile.TemporaryFile() as file:
        file.write(bytes(16 << 20))
        file.flush()
        for region_bytes in (16_384, 65_536, 131_072, 262_144, 1 << 20, 16 << 20):
            name = f"fetch {region_bytes} B"
            if options.only not in name:
                continue

            def fetched(request: Request, size: int = region_bytes) -> FetchResponse:
                return FetchResponse(
                    responses=[
                        FetchableTopicResponse(
                            topic="t",
                            partitions=[
                                PartitionData(
                                    partition_index=0,
                                    high_watermark=1,
                                    records=[HeldFile(file.fileno(), 0, size)],
                                )
                            ],
                        )
                    ]
                )

            count, took, cpu = run(fetched, drain, fetch_frame(), seconds)
            print(
                f"{name:36} {count / region_bytes / took:10,.0f} requests/s"
                f" {count / took / 1e9:7.3f} GB/s   broker CPU {each(cpu, count // region_bytes)}"
            )


def fetch_frame() -> bytes:
    """A Fetch v4 request, with its length; the toy broker does not look at it."""
    from ottla.messages.fetch import FetchRequest

    body = b"".join(encode_request(FetchRequest(topics=[]), 4, 1, "bench"))
    return struct.pack(">i", len(body)) + body


if __name__ == "__main__":
    main()

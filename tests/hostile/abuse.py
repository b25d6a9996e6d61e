"""What a peer that means ill does to a broker: ``python -m tests.hostile.abuse NAME BOOTSTRAP`` until it is ended.

Each of ``ABUSES`` goes on for ever, whatever the broker answers; being cut off is part of the game. A line on
standard output says that the first round is over, so that a test knows that the abuse is under way.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ottla.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from ottla.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsRequest
from ottla.messages.init_producer_id import InitProducerIdRequest
from ottla.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.messages.push_telemetry import PushTelemetryRequest
from ottla.messages.registry import encode_request, encode_size
from ottla.records.batch import HEADER_BYTES, CompressionType, pack_header, read_header
from ottla.records.builder import build_batch
from ottla.records.compression import compress
from ottla.wire.schema import Message
from tests.support.requests import produce_request
from tests.support.wire import Wire

NOW_MS = 1_700_000_000_000
TOPIC = "weather"
COMPACTED = "compacted"
RECOMPRESSED = "recompressed"
PLAIN_BYTES = 48 << 20
KEYLESS = bytes((12, 0, 0, 0, 1, 1, 0))
KEYED = bytes((16, 0, 0, 0, 4, 107, 107, 1, 0))
BAD = (OSError, ConnectionError, AssertionError, ValueError)


def bomb(kind: CompressionType, record: bytes = KEYLESS, plain_bytes: int = PLAIN_BYTES) -> bytes:
    """A small batch of very many records."""
    count = plain_bytes // len(record)
    records = compress(kind, record * count)
    header = read_header(build_batch([(NOW_MS, b"k", b"v", [])]))
    header = header._replace(
        length=HEADER_BYTES - 12 + len(records),
        attributes=int(kind),
        record_count=count,
        last_offset_delta=count - 1,
    )
    batch = bytearray(HEADER_BYTES) + records
    pack_header(batch, header)
    return bytes(batch)


def frame(request: Message, version: int, client_id: str = "abuse") -> bytes:
    """A request as it goes over the wire."""
    chunks = encode_request(request, version, 1, client_id)
    return encode_size(chunks) + b"".join(chunks)


class Rate:
    """At most so many rounds a second: what makes a slow peer slow, and leaves a core to those who are measured.

    It is a part of the abuse, and no test waits for it.
    """

    def __init__(self, rounds_per_second: float) -> None:
        self._pause_s = 1 / rounds_per_second

    def next_round(self) -> None:
        """Return when the next round may begin: a wait for no socket, of which the time-out is the pace."""
        select.select([], [], [], self._pause_s)


class Peer:
    """Connections to one broker that are made again as often as they are cut."""

    def __init__(self, bootstrap: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self.address = (host, int(port))
        self.bootstrap = bootstrap

    def connect(self) -> socket.socket:
        """A socket that never waits to send, and leaves nothing behind when it is closed."""
        sock = socket.create_connection(self.address, timeout=10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.setblocking(False)
        return sock

    def crowd(self, count: int, content: Callable[[int], bytes], *, per_turn: int = 1 << 16) -> Any:
        """``count`` connections, each sending ``content(n)`` over and over and reading nothing."""
        socks: dict[int, tuple[socket.socket, memoryview]] = {}
        rate = Rate(500)
        while True:
            for number in range(count):
                if number not in socks:
                    try:
                        socks[number] = (self.connect(), memoryview(content(number)))
                    except OSError:
                        continue
                sock, left = socks[number]
                try:
                    sent = sock.send(left[:per_turn])
                    left = left[sent:] or memoryview(content(number))
                    socks[number] = (sock, left)
                except BlockingIOError:
                    continue
                except OSError:
                    sock.close()
                    del socks[number]
            yield
            rate.next_round()

    def asking(self, requests: Iterator[tuple[Message, int]], *, client_ids: bool = False) -> Any:
        """One request after the other, with their answers."""
        wire: Wire | None = None
        for number, (request, version) in enumerate(requests):
            try:
                if wire is None:
                    wire = Wire(self.bootstrap)
                if client_ids:
                    wire.client_id = f"client-{number}" + "x" * 200
                wire.ask(request, version)
            except BAD:
                if wire is not None:
                    wire.socket.close()
                wire = None
            yield


def slow_writers(peer: Peer) -> Any:
    """A request a byte at a time, on very many connections."""
    whole = frame(produce_request(TOPIC, build_batch([(NOW_MS, b"k", b"v" * 50_000, [])])), 9)
    return peer.crowd(300, lambda _: whole, per_turn=1)


def slow_readers(peer: Peer) -> Any:
    """Asks for all there is, again and again, and reads nothing."""
    wanted = FetchRequest(
        max_wait_ms=0,
        min_bytes=1,
        max_bytes=50 << 20,
        session_id=0,
        session_epoch=-1,
        topics=[
            FetchTopic(
                topic=TOPIC,
                partitions=[
                    FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=50 << 20)
                ],
            )
        ],
    )
    return peer.crowd(50, lambda _: frame(wanted, 11) * 10)


def hoarders(peer: Peer) -> Any:
    """Announce the largest request there may be, and send a little of it."""
    content = struct.pack(">i", 8 << 20) + bytes(1 << 20)
    socks: list[socket.socket] = []

    def rounds() -> Any:
        rate = Rate(500)
        while True:
            if len(socks) < 60:
                sock = peer.connect()
                socks.append(sock)
                try:
                    sock.send(content[: 70_000 + len(socks)])
                except OSError:
                    socks.remove(sock)
            for sock in list(socks):
                try:
                    if sock.recv(1) == b"":
                        raise ConnectionError
                except BlockingIOError:
                    continue
                except OSError:
                    sock.close()
                    socks.remove(sock)
            yield
            rate.next_round()

    return rounds()


def connection_flood(peer: Peer) -> Any:
    """As many connections as there may be, and more all the time."""
    kept: list[socket.socket] = []
    rate = Rate(100)
    while True:
        for _ in range(20):
            try:
                sock = peer.connect()
            except OSError:
                continue
            if len(kept) < 800:
                kept.append(sock)
            else:
                sock.close()
        yield
        rate.next_round()


def request_flood(peer: Peer) -> Any:
    """Requests without end, their answers never read."""
    whole = frame(MetadataRequest(topics=None), 9) * 200
    return peer.crowd(20, lambda _: whole)


def bad_frames(peer: Peer) -> Any:
    """Lengths that no frame has, and requests that are none."""
    lengths = (-1, 0, 1, 2**31 - 1, -(2**31), 9)
    contents = [struct.pack(">i", n) + bytes(40) for n in lengths]
    contents.append(frame(MetadataRequest(topics=None), 9)[:-1] + b"\xff")
    return peer.crowd(30, lambda n: contents[n % len(contents)])


def _bombs(peer: Peer, topic: str, record: bytes) -> Any:
    batches = [bomb(kind, record) for kind in list(CompressionType)[1:]]
    return peer.asking(
        (produce_request(topic, batches[n % len(batches)]), 9) for n in itertools.count()
    )


def keyless_bombs(peer: Peer) -> Any:
    """Batches that unpack to millions of records without keys, for a compacted topic."""
    return _bombs(peer, COMPACTED, KEYLESS)


def keyed_bombs(peer: Peer) -> Any:
    """The same with keys."""
    return _bombs(peer, COMPACTED, KEYED)


def rewritten_bombs(peer: Peer) -> Any:
    """The same for a topic whose broker compresses anew."""
    return _bombs(peer, RECOMPRESSED, KEYLESS)


def groups(peer: Peer) -> Any:
    """Ever new groups, and ever new members of one, with as much to say as goes into a request."""

    def requests() -> Iterator[tuple[Message, int]]:
        told = bytes(200_000)
        for number in itertools.count():
            yield (
                JoinGroupRequest(
                    group_id="g" if number % 2 else f"g-{number}",
                    session_timeout_ms=60_000,
                    rebalance_timeout_ms=60_000,
                    member_id="",
                    protocol_type="consumer",
                    protocols=[JoinGroupRequestProtocol(name="range", metadata=told)],
                ),
                3,
            )

    return _oneway(peer, requests())


def _oneway(peer: Peer, requests: Iterator[tuple[Message, int]], count: int = 30) -> Any:
    """On many connections, no answer awaited: those of a JoinGroup come late."""
    return peer.crowd(count, lambda _: frame(*next(requests)))


def commits(peer: Peer) -> Any:
    """Offsets of ever new groups, with the longest metadata that a commit may have."""
    return peer.asking(
        (
            OffsetCommitRequest(
                group_id=f"g-{number}",
                topics=[
                    OffsetCommitRequestTopic(
                        name=TOPIC,
                        partitions=[
                            OffsetCommitRequestPartition(
                                partition_index=n,
                                committed_offset=1,
                                committed_metadata="m" * 4000,
                            )
                            for n in range(4)
                        ],
                    )
                ],
            ),
            5,
        )
        for number in itertools.count()
    )


def new_topics(peer: Peer) -> Any:
    """Ever new names in Metadata, hundreds at a time."""
    return peer.asking(
        (
            MetadataRequest(
                topics=[MetadataRequestTopic(name=f"new-{number}-{n}") for n in range(200)],
                allow_auto_topic_creation=True,
            ),
            9,
        )
        for number in itertools.count()
    )


def huge_topics(peer: Peer) -> Any:
    """Topics of two thousand million partitions, and partitions as many to a topic."""

    def requests() -> Iterator[tuple[Message, int]]:
        for number in itertools.count():
            topic = CreatableTopic(
                name=f"huge-{number}", num_partitions=2**31 - 1, replication_factor=1
            )
            yield CreateTopicsRequest(topics=[topic], timeout_ms=1000), 5
            more = CreatePartitionsTopic(name=TOPIC, count=2**31 - 1)
            yield CreatePartitionsRequest(topics=[more], timeout_ms=1000), 3

    return peer.asking(requests())


def fetch_sessions(peer: Peer) -> Any:
    """Ever new sessions over thousands of partitions that are not there."""
    topics = [
        FetchTopic(
            topic=f"absent-{n}",
            partitions=[
                FetchPartition(partition=p, fetch_offset=0, partition_max_bytes=1)
                for p in range(50)
            ],
        )
        for n in range(100)
    ]
    request = FetchRequest(
        max_wait_ms=0, min_bytes=0, max_bytes=1, session_id=0, session_epoch=0, topics=topics
    )
    return peer.asking((request, 11) for _ in itertools.count())


def producers(peer: Peer) -> Any:
    """Ever new producer ids, and client ids that are never the same."""

    def requests() -> Iterator[tuple[Message, int]]:
        for number in itertools.count():
            yield InitProducerIdRequest(transactional_id=None), 3
            batch = build_batch(
                [(NOW_MS, b"k", b"v", [])],
                producer_id=(number * 7919) % 2**60,
                producer_epoch=0,
                base_sequence=0,
            )
            yield produce_request(TOPIC, batch), 9

    return peer.asking(requests(), client_ids=True)


def telemetry(peer: Peer) -> Any:
    """Ever new client instances, each with a push that is as large as may be."""

    def requests() -> Iterator[tuple[Message, int]]:
        for number in itertools.count(1):
            instance = number.to_bytes(16, "big")
            yield GetTelemetrySubscriptionsRequest(client_instance_id=instance), 0
            yield (
                PushTelemetryRequest(
                    client_instance_id=instance,
                    subscription_id=1,
                    compression_type=4,
                    metrics=ZSTD_BOMB if number % 2 else bytes(900_000),
                ),
                0,
            )

    return peer.asking(requests())


ZSTD_BOMB = compress(CompressionType.ZSTD, bytes(PLAIN_BYTES))


def http(peer: Peer) -> Any:
    """Requests without an end, without a line, and very many of them."""
    contents = [
        b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 20_000,
        b"\0" * 9000,
        b"G",
        b"GET /metrics HTTP/1.1\r\n\r\n",
    ]
    return peer.crowd(60, lambda n: contents[n % len(contents)])


def spinning(peer: Peer) -> Any:
    """No abuse: it has a core to itself and does not speak to the broker. What others do to p99 is held against it."""
    while True:
        yield


ABUSES: dict[str, Callable[[Peer], Any]] = {
    each.__name__: each
    for each in (
        spinning,
        slow_writers,
        slow_readers,
        hoarders,
        connection_flood,
        request_flood,
        bad_frames,
        keyless_bombs,
        keyed_bombs,
        rewritten_bombs,
        groups,
        commits,
        new_topics,
        huge_topics,
        fetch_sessions,
        producers,
        telemetry,
        http,
    )
}


def main() -> None:
    """Go on until ended."""
    name, bootstrap = sys.argv[1:]
    for number, _ in enumerate(ABUSES[name](Peer(bootstrap))):
        if number == 0:
            print("under way", flush=True)


if __name__ == "__main__":
    main()

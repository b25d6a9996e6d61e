"""What a broker that means ill can tell our clients: each must return or raise a documented error, in time.

An input's first byte says what is fuzzed: the bytes of a connection, the record bytes of a fetch, the cluster's
metadata, what the members of a group say of themselves, or a whole client whose broker answers as the input has
it (plausibly, bent, with rubbish, not at all).
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ottla.client.admin.admin import AsyncAdmin
from ottla.client.consumer.assignors import MemberSubscription, assignor_named
from ottla.client.consumer.assignors.sticky import decode_sticky_user_data, encode_sticky_user_data
from ottla.client.consumer.consumer import AsyncConsumer
from ottla.client.consumer.fetched import FetchedPartition, Reading
from ottla.client.consumer.positions import PartitionState
from ottla.client.consumer.protocol import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.client.metadata import Metadata
from ottla.client.producer.producer import AsyncProducer
from ottla.client.types import TopicPartition
from ottla.errors import KafkaError
from ottla.messages.metadata import MetadataRequest, MetadataResponse
from ottla.messages.registry import (
    API_NAMES,
    API_VERSIONS,
    api,
    decode_request_header,
    encode_response,
)
from ottla.network.channel import Channel
from ottla.records.builder import build_batch
from ottla.wire.compiler import decode
from ottla.wire.primitives import DecodeError
from tests.support.samples import sample, whole_responses

CONNECTION, RECORDS, METADATA, GROUP, CLIENT = range(5)
NOW_MS = 1_700_000_000_000
TOPIC = "weather"
TOPIC_ID = bytes(range(16))
CLIENT_SECONDS_MAX = 10.0
RESPONSE_BYTES_MAX = 1 << 20
PARTITIONS_MAX = 1000

KEYS = list(API_NAMES)
BATCH = bytes(build_batch([(NOW_MS, b"k", b"v%d" % n, [("h", b"x")]) for n in range(3)]))
TRANSACTION = bytes(
    build_batch([(NOW_MS, b"k", b"v", [])], producer_id=5, producer_epoch=0, base_sequence=0)
)
MARKER = bytes(build_batch([(NOW_MS, b"\0\0\0\0", b"\0\0\0\0\0\0", [])], control=True))
SUBSCRIPTION = encode_subscription(
    MemberSubscription([TOPIC], b"", [TopicPartition(TOPIC, 0)], 1, "rack")
)
ASSIGNMENT = encode_assignment([TopicPartition(TOPIC, 0)])
STICKY = encode_sticky_user_data([TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)], 3)
PLAUSIBLE: dict[str, Any] = {
    "host": "127.0.0.1",
    "node_id": 1,
    "leader_id": 1,
    "controller_id": 1,
    "replica_nodes": [1],
    "isr_nodes": [1],
    "offline_replicas": [],
    "topic_id": TOPIC_ID,
    "name": TOPIC,
    "topic": TOPIC,
    "key": "g",
    "group_id": "g",
    "group": "g",
    "records": BATCH,
    "generation_id": 1,
    "protocol_type": "consumer",
    "protocol_name": "range",
    "member_id": "m",
    "leader": "m",
    "metadata": SUBSCRIPTION,
    "assignment": ASSIGNMENT,
    "high_watermark": 3,
    "last_stable_offset": 3,
    "preferred_read_replica": -1,
    "aborted_transactions": [],
    "group_instance_id": None,
    "error_message": None,
}


def seeds() -> Iterator[bytes]:
    """Answers of every API, batches, subscriptions, and clients with answers that are good, bent and missing."""
    for key, version, frame in whole_responses(0):
        head = bytes((CONNECTION, KEYS.index(key), version))
        yield head + struct.pack(">i", len(frame)) + frame
        if key == MetadataRequest.__api_key__:
            body = frame[5:] if version >= 9 else frame[4:]
            yield bytes((METADATA, version)) + body
    for content in (BATCH, BATCH + TRANSACTION + MARKER, BATCH[:70]):
        yield bytes((RECORDS, 1)) + content
    for content in (SUBSCRIPTION, ASSIGNMENT, STICKY):
        for rule in range(4):
            yield bytes((GROUP, rule)) + content
    for operation in range(len(OPERATIONS)):
        yield bytes((CLIENT, operation))
        for answer in range(6):
            for how in (4, 5, 6, 7):
                yield bytes((CLIENT, operation, *([0] * answer), how, 0, 9, 255, 255))


def one(data: bytes) -> None:
    """Give ``data`` to what its first byte says."""
    if len(data) < 2:
        return
    (_connection, _records, _metadata, _group, _client)[data[0] % 5](data[1:])


# The bytes of a connection


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


_loop = asyncio.new_event_loop()
_strays: list[str] = []
_loop.set_exception_handler(lambda _, context: _strays.append(repr(context)))


def _connection(data: bytes) -> None:
    _loop.run_until_complete(_feed(data))


async def _feed(data: bytes) -> None:
    found = api(KEYS[data[0] % len(KEYS)])
    version = (
        found.versions.lo + data[1] % (found.versions.hi - found.versions.lo + 1)
        if len(data) > 1
        else found.versions.lo
    )
    channel = Channel("broker", 1, response_bytes_max=RESPONSE_BYTES_MAX)
    channel.connection_made(_Transport())
    future = channel.send(sample(found.request), version=version)
    rest = memoryview(data)[2:]
    while rest and not channel.closed:
        buffer = channel.get_buffer(-1)
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        rest = rest[count:]
        channel.buffer_updated(count)
    channel.connection_lost(None)
    with contextlib.suppress(KafkaError):
        await future


# Records, metadata, groups


def _records(data: bytes) -> None:
    state = PartitionState(TopicPartition(TOPIC, 0))
    state.position = data[0] % 4
    try:
        fetched = FetchedPartition(
            state, memoryview(data)[1:], [(0, 5)], Reading(data[0] & 8 == 0, True, None, None)
        )
    except KafkaError:
        return
    for _ in range(10_000):
        if fetched.exhausted:
            return
        try:
            if fetched.take(100) is None:
                return
        except KafkaError:
            return
    raise AssertionError("a fetch has no end")


def _metadata(data: bytes) -> None:
    """This answer after the one before it."""
    metadata = Metadata()
    versions = MetadataRequest.__versions__
    version = versions.lo + data[0] % (versions.hi - versions.lo + 1)
    for content in (data[1:], data[1 : len(data) // 2]):
        try:
            response, _ = decode(MetadataResponse, version, content)
        except DecodeError:
            continue
        metadata.update(response)
        metadata.keep_only({TOPIC})
        metadata.leader_of(TOPIC, 0)
        metadata.new_leader(TOPIC, 0, 1, 2)


def _group(data: bytes) -> None:
    rule = ("range", "roundrobin", "sticky", "cooperative-sticky")[data[0] % 4]
    content = data[1:]
    decode_sticky_user_data(content)
    with contextlib.suppress(KafkaError):
        decode_assignment(content)
    try:
        hostile = decode_subscription(content, None)
    except KafkaError:
        hostile = MemberSubscription([TOPIC], content)
    honest = decode_subscription(SUBSCRIPTION, None)
    assignor = assignor_named(rule)
    assignment = assignor.assign({TOPIC: 3, "other": 2}, {"m": honest, "n": hostile})
    assigned = [partition for partitions in assignment.values() for partition in partitions]
    if not assignor.cooperative:  # which leaves out what changes hands
        assert {TopicPartition(TOPIC, n) for n in range(3)} <= set(assigned)
    assert len(assigned) == len(set(assigned))


# Whole clients


async def _produce(bootstrap: str) -> None:
    async with AsyncProducer(
        bootstrap,
        request_timeout_ms=50,
        delivery_timeout_ms=100,
        max_block_ms=100,
        retry_backoff_ms=1,
    ) as producer:
        await producer.send_and_wait(TOPIC, b"v", partition=0)


async def _consume(bootstrap: str) -> None:
    async with AsyncConsumer(
        bootstrap=bootstrap, auto_offset_reset="earliest", request_timeout_ms=50, retry_backoff_ms=1
    ) as consumer:
        await consumer.assign([(TOPIC, 0)])
        await consumer.poll(0.05)


async def _consume_in_group(bootstrap: str) -> None:
    async with AsyncConsumer(
        TOPIC,
        group="g",
        bootstrap=bootstrap,
        auto_offset_reset="earliest",
        request_timeout_ms=50,
        retry_backoff_ms=1,
        session_timeout_ms=100,
        heartbeat_interval_ms=20,
        max_poll_interval_ms=100,
    ) as consumer:
        await consumer.poll(0.05)
        await consumer.commit(timeout=0.05)


async def _administer(bootstrap: str) -> None:
    async with AsyncAdmin(bootstrap, request_timeout_ms=50) as admin:
        asks: list[Callable[[], Awaitable[Any]]] = [
            admin.list_topics,
            admin.describe_cluster,
            lambda: admin.describe_topics(TOPIC),
            lambda: admin.create_topic("t"),
            lambda: admin.describe_config(topic=TOPIC),
        ]
        for ask in asks:
            try:
                await ask()
            except KafkaError:
                continue


OPERATIONS: tuple[Callable[[str], Awaitable[None]], ...] = (
    _produce,
    _consume,
    _consume_in_group,
    _administer,
)


class _Script:
    """Answers as the input has it; plausible ones when it is used up."""

    def __init__(self, script: bytes) -> None:
        self._script = script
        self._at = 0
        self.port = 0
        self.frames = 0

    def _byte(self) -> int:
        if self._at >= len(self._script):
            return 0
        self._at += 1
        return self._script[self._at - 1]

    def answer(self, frame: bytes) -> bytes | None:
        """The answer with its length; empty for silence, None for hanging up."""
        header, _ = decode_request_header(frame)
        how = self._byte() % 8
        if how == 6:
            return None
        if how == 7:
            return b""
        body = bytearray(self._plausible(header.api_key, header.api_version, header.correlation_id))
        if how == 4:
            place = (self._byte() << 8 | self._byte()) % max(1, len(body))
            patch = bytes(self._byte() for _ in range(1 + self._byte() % 4))
            body[place : place + len(patch)] = patch
        elif how == 5:
            count = self._byte()
            body[4:] = bytes(self._byte() for _ in range(count))
        return struct.pack(">i", len(body)) + body

    def _plausible(self, key: int, version: int, correlation_id: int) -> bytes:
        message = self._fill(api(key).response)
        if key == API_VERSIONS:
            kind = api(key).response.__fields__["api_keys"].of
            message.api_keys = [
                kind(api_key=k, min_version=api(k).versions.lo, max_version=api(k).versions.hi)
                for k in API_NAMES
            ]
        return b"".join(encode_response(key, version, correlation_id, message))

    def _fill(self, cls: Any) -> Any:
        values: dict[str, Any] = {}
        for name, spec in cls.__fields__.items():
            if name == "port":
                values[name] = self.port
            elif spec.tag is not None:
                continue
            elif name in PLAUSIBLE and spec.kind == "string" and name == "metadata":
                values[name] = ""
            elif name in PLAUSIBLE:
                values[name] = PLAUSIBLE[name]
            elif spec.kind == "array" and isinstance(spec.of, type):
                values[name] = [self._fill(spec.of)]
            elif spec.kind == "struct":
                values[name] = self._fill(spec.of)
        return cls(**values)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while self.frames < 300:
                size = int.from_bytes(await reader.readexactly(4), "big")
                frame = await reader.readexactly(size)
                self.frames += 1
                answer = self.answer(frame)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled: the client is done
        finally:
            writer.transport.abort()


def _client(data: bytes) -> None:
    _strays.clear()
    _loop.run_until_complete(_act(OPERATIONS[data[0] % len(OPERATIONS)], _Script(data[1:])))
    assert not _strays, _strays


async def _act(operation: Callable[[str], Awaitable[None]], script: _Script) -> None:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(CLIENT_SECONDS_MAX):
            await operation(f"127.0.0.1:{script.port}")
    except KafkaError:
        pass
    finally:
        server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

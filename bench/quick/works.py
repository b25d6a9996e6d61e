"""What the broker is asked to do: fixed works, each the same so many times."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from bench.broker_process import Connection, Frame, create_topic_frame, require_no_error
from bench.first_record import GroupFrames
from bench.peers import requests
from ottla.messages.api_versions import ApiVersionsRequest
from ottla.messages.heartbeat import HeartbeatRequest
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic

WIDE, WIDE_PARTITIONS = "wide", 100
TOPIC = "quick"
KIB_16 = 16_384
FETCHED_BYTES = 128_000
"""More than a socket takes at once would leave in pieces, and in how many is not ours to say."""
VERSIONS = Frame(ApiVersionsRequest(), 3)
METADATA = Frame(
    MetadataRequest(topics=[MetadataRequestTopic(name=WIDE)], allow_auto_topic_creation=False), 12
)

Do = Callable[[], None]


class Client:
    """Two connections, and the topics that there are by now."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection = Connection(port)
        self.other = Connection(port)
        self._topics: set[str] = set()

    def close(self) -> None:
        """Hang up."""
        self.connection.close()
        self.other.close()

    def topic(self, name: str, partitions: int = 1) -> str:
        """Its name; it is made when first wanted."""
        if name not in self._topics:
            answer = self.connection.answer(create_topic_frame(name, partitions))
            require_no_error(answer.topics[0].error_code)
            self._topics.add(name)
        return name

    def asking(self, frame: bytes, burst: int = 1) -> Do:
        """A request that is sent, so many at once, and answered."""

        def do() -> None:
            self.connection.socket.sendall(frame * burst)
            for _ in range(burst):
                self.connection.receive()

        return do


class Work(NamedTuple):
    """Something that is done so many times; ``prepare`` says how it is done once."""

    name: str
    times: int
    prepare: Callable[[Client], Do]


def produce(
    client: Client, record_bytes: int, batch_bytes: int, codec: str = "none", burst: int = 1
) -> Do:
    """A batch to one partition, acks=1."""
    batch = requests.batch(record_bytes, batch_bytes, codec)
    frame = requests.produce(client.topic(TOPIC), [(0, batch)], 1, client.port)
    return client.asking(frame.bytes, burst)


def produce_wide(client: Client) -> Do:
    """A record to each of many partitions."""
    topic = client.topic(WIDE, WIDE_PARTITIONS)
    batches = [(index, requests.batch(100, 100)) for index in range(WIDE_PARTITIONS)]
    return client.asking(requests.produce(topic, batches, -1, client.port).bytes)


def fetch(client: Client, batch_bytes: int) -> Do:
    """One batch, over and over."""
    topic = client.topic(f"read-{batch_bytes}")
    batch = requests.batch(1_000, batch_bytes)
    client.asking(requests.produce(topic, [(0, batch)], 1, client.port).bytes)()
    return client.asking(requests.fetch(topic, [0], client.port).bytes)


def parked_fetch(client: Client) -> Do:
    """A Fetch at the log's end, which waits for the record that comes then."""
    topic = client.topic(TOPIC)
    load = requests.fetch(topic, [0], client.port)
    frame, place = bytearray(load.bytes), load.places[0].position
    record = requests.produce(topic, [(0, requests.batch(100, 100))], 1, client.port).bytes

    def do() -> None:
        frame[place : place + 8] = _end_of(client.other, topic).to_bytes(8, "big")
        client.connection.socket.sendall(frame)
        client.other.ask(VERSIONS)  # answered: the Fetch waits by now
        client.other.socket.sendall(record)
        client.other.receive()
        client.connection.receive()

    return do


def _end_of(connection: Connection, topic: str) -> int:
    asked = ListOffsetsPartition(partition_index=0, timestamp=-1)
    wanted = ListOffsetsTopic(name=topic, partitions=[asked])
    answer = connection.answer(Frame(ListOffsetsRequest(replica_id=-1, topics=[wanted]), 6))
    offset: int = answer.topics[0].partitions[0].offset
    return offset


def metadata(client: Client) -> Do:
    """Of one topic."""
    client.topic(WIDE, WIDE_PARTITIONS)
    return client.asking(METADATA.bytes)


def versions(client: Client) -> Do:
    """ApiVersions: next to nothing but what every request costs."""
    return client.asking(VERSIONS.bytes)


def come_and_go(client: Client) -> Do:
    """A client that comes, asks what there is, and goes."""
    client.topic(WIDE, WIDE_PARTITIONS)

    def do() -> None:
        connection = Connection(client.port)
        connection.ask(VERSIONS)
        connection.ask(METADATA)
        connection.close()

    return do


def heartbeat(client: Client) -> Do:
    """Of the only member of a group."""
    frames = GroupFrames("quick")
    client.connection.ask(frames.find)
    member = client.connection.answer(frames.introduce).member_id
    joined = client.connection.answer(frames.join(member))
    require_no_error(joined.error_code)
    client.connection.ask(frames.sync(member, joined.generation_id))
    beat = HeartbeatRequest(group_id="quick", generation_id=joined.generation_id, member_id=member)
    require_no_error(client.connection.answer(Frame(beat, 4)).error_code)
    return client.asking(Frame(beat, 4).bytes)


WORKS = (
    Work("produce, one record", 400, partial(produce, record_bytes=100, batch_bytes=100)),
    Work(
        "produce, one record, 16 at once",
        30,
        partial(produce, record_bytes=100, batch_bytes=100, burst=16),
    ),
    Work("produce, 16 KiB", 200, partial(produce, record_bytes=1_000, batch_bytes=KIB_16)),
    Work(
        "produce, 16 KiB, lz4",
        200,
        partial(produce, record_bytes=100, batch_bytes=KIB_16, codec="lz4"),
    ),
    Work("produce, 1 MB", 30, partial(produce, record_bytes=1_000, batch_bytes=1_000_000)),
    Work("produce, one record to each of 100 partitions", 15, produce_wide),
    Work("fetch, 16 KiB", 200, partial(fetch, batch_bytes=KIB_16)),
    Work("fetch, 128 KB", 100, partial(fetch, batch_bytes=FETCHED_BYTES)),
    Work("fetch that waits, with the produce", 100, parked_fetch),
    Work("metadata, 100 partitions", 100, metadata),
    Work("api versions", 200, versions),
    Work("connection, with two requests", 40, come_and_go),
    Work("heartbeat of a group", 300, heartbeat),
)

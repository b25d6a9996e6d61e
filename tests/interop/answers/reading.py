"""What consumers ask of partitions: Fetch, ListOffsets, OffsetForLeaderEpoch."""

from __future__ import annotations

from typing import Any

from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from ottla.records.batch import CompressionType
from ottla.records.builder import build_batch
from tests.interop.answers.asking import Asker
from tests.interop.answers.producing import request as produce_request
from tests.interop.samples import BASE_MS

NOBODYS_ID = b"\x07" * 16


def fill(asker: Asker, topic: str) -> None:
    """Five records in three batches, their times out of order."""
    times = ((0, 5_000), (3_000,), (9_000, 1_000))
    for number, deltas in enumerate(times):
        batch = build_batch([(BASE_MS + delta, b"k", b"v" * 10, ()) for delta in deltas])
        asker.ask(f"records {number} of {topic}", produce_request(asker, topic, batch), 9)


def fetch(asker: Asker, topic: str, offset: int = 0, **fields: Any) -> FetchRequest:
    """A Fetch of one partition; ``fields`` of the request and of the partition."""
    request = {
        name: fields.pop(name)
        for name in ("max_bytes", "isolation_level", "session_id", "session_epoch", "min_bytes")
        if name in fields
    }
    partition = FetchPartition(
        **{"partition": 0, "fetch_offset": offset, "partition_max_bytes": 1 << 20, **fields}
    )
    topic_id = asker.ids.get(topic, NOBODYS_ID)
    return FetchRequest(
        **{"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 1 << 20, **request},
        topics=[FetchTopic(topic=topic, topic_id=topic_id, partitions=[partition])],
    )


def fetch_in_every_version(asker: Asker) -> None:
    topic = asker.topic("fetch")
    fill(asker, topic)
    asker.ask_every("from the start", fetch(asker, topic))
    asker.ask_every("from within a batch", fetch(asker, topic, 1))
    asker.ask_every("at the end", fetch(asker, topic, 5))
    asker.ask_every("committed ones only", fetch(asker, topic, isolation_level=1))


def fetch_what_is_not_there(asker: Asker) -> None:
    topic = asker.topic("fetch.nowhere")
    fill(asker, topic)
    asker.ask_every("past the end", fetch(asker, topic, 6))
    asker.ask_every("before the start", fetch(asker, topic, -2))
    asker.ask_every("a topic that is not there", fetch(asker, "not.there"))
    asker.ask_every("a partition that is not there", fetch(asker, topic, partition=9))
    asker.ask_every("a negative partition", fetch(asker, topic, partition=-1))
    asker.ask_every("no topics", FetchRequest(max_wait_ms=0))
    asker.ask_every("an empty name", fetch(asker, ""))


def fetch_with_epochs(asker: Asker) -> None:
    topic = asker.topic("fetch.epochs")
    fill(asker, topic)
    for epoch in (0, 1, -1, -2):
        asker.ask(f"leader epoch {epoch}", fetch(asker, topic, current_leader_epoch=epoch), 12)
        asker.ask(
            f"last fetched epoch {epoch}", fetch(asker, topic, 2, last_fetched_epoch=epoch), 12
        )


def fetch_within_limits(asker: Asker) -> None:
    topic = asker.topic("fetch.limits")
    fill(asker, topic)
    for size in (0, 1, 100, 200):
        asker.ask(
            f"{size} bytes of the partition", fetch(asker, topic, partition_max_bytes=size), 12
        )
        asker.ask(f"{size} bytes in all", fetch(asker, topic, max_bytes=size), 12)
    asker.ask("a negative number of bytes", fetch(asker, topic, partition_max_bytes=-1), 12)
    asker.ask("a negative number in all", fetch(asker, topic, max_bytes=-1), 12)
    asker.ask("more than there is", fetch(asker, topic, min_bytes=1 << 30), 12)
    asker.ask("an isolation level that is none", fetch(asker, topic, isolation_level=2), 12)


def fetch_as_a_follower(asker: Asker) -> None:
    topic = asker.topic("fetch.follower")
    fill(asker, topic)
    for replica in (7, -2, -3):
        request = fetch(asker, topic)
        request.replica_id = replica
        asker.ask(f"replica {replica}", request, 12)


def fetch_sessions(asker: Asker) -> None:
    topic = asker.topic("fetch.sessions", 2)
    for version in (7, 12, 13, 17):
        fill_one = build_batch([(BASE_MS, b"k", b"v", ())])

        def words(what: str, version: int = version) -> str:
            return f"{what}, version {version}"

        opened = asker.ask(
            words("a session begins"), fetch(asker, topic, 999, session_epoch=0), version
        )
        opened = asker.ask(
            words("a session that works"), fetch(asker, topic, session_epoch=0), version
        )
        number = opened.session_id
        more = FetchRequest(max_wait_ms=0, min_bytes=1, session_id=number, session_epoch=1)
        asker.ask(words("what has changed"), more, version)
        asker.ask(words(f"{version} records"), produce_request(asker, topic, fill_one), 9)
        more.session_epoch = 2
        asker.ask(words("what has changed since"), more, version)
        asker.ask(words("the same epoch again"), more, version)
        more.session_epoch = 99
        asker.ask(words("an epoch from the future"), more, version)
        more.session_epoch = 3
        more.forgotten_topics_data = [
            ForgottenTopic(topic=topic, topic_id=asker.ids[topic], partitions=[0])
        ]
        asker.ask(words("without the partition"), more, version)
        more.session_epoch, more.session_id = 1, 12345
        asker.ask(words("a session that nobody opened"), more, version)
        more.session_epoch, more.session_id = -1, number
        asker.ask(words("the session's end"), more, version)


def offsets(asker: Asker, topic: str, timestamp: int, **fields: Any) -> ListOffsetsRequest:
    """A ListOffsets of one partition."""
    isolation = fields.pop("isolation_level", 0)
    partition = ListOffsetsPartition(**{"partition_index": 0, "timestamp": timestamp, **fields})
    return ListOffsetsRequest(
        replica_id=-1,
        isolation_level=isolation,
        topics=[ListOffsetsTopic(name=topic, partitions=[partition])],
        timeout_ms=5_000,
    )


def list_offsets(asker: Asker) -> None:
    topic = asker.topic("offsets")
    asker.ask_every("the latest of nothing", offsets(asker, topic, -1))
    asker.ask_every("the earliest of nothing", offsets(asker, topic, -2))
    asker.ask_every("the maximum of nothing", offsets(asker, topic, -3))
    asker.ask_every("a time in nothing", offsets(asker, topic, BASE_MS))
    fill(asker, topic)
    for special in (-1, -2, -3, -4, -5, -6, -7, -100):
        asker.ask_every(f"timestamp {special}", offsets(asker, topic, special))
    for delta in (-1, 0, 1, 3_000, 5_001, 9_000, 9_001):
        found = asker.ask(f"{delta} ms later", offsets(asker, topic, BASE_MS + delta), 7)
        for each in found.topics[0].partitions:
            at = None if each.timestamp < 0 else each.timestamp - BASE_MS
            asker.note(f"the time found {delta} ms later", at)


def list_offsets_that_are_not_there(asker: Asker) -> None:
    topic = asker.topic("offsets.nowhere")
    asker.ask_every("a topic that is not there", offsets(asker, "not.there", -1))
    asker.ask_every("a partition that is not there", offsets(asker, topic, -1, partition_index=9))
    asker.ask_every("an impossible name", offsets(asker, "no spaces", -1))
    for epoch in (0, 1, -2):
        asker.ask(f"epoch {epoch}", offsets(asker, topic, -1, current_leader_epoch=epoch), 7)
    asker.ask("committed ones", offsets(asker, topic, -1, isolation_level=1), 7)
    asker.ask("an isolation level that is none", offsets(asker, topic, -1, isolation_level=5), 7)
    twice = offsets(asker, topic, -1)
    twice.topics[0].partitions *= 2
    asker.ask_every("one partition twice", twice)
    follower = offsets(asker, topic, -1)
    follower.replica_id = 7
    asker.ask("as a follower", follower, 7)


def list_offsets_in_compressed_batches(asker: Asker) -> None:
    topic = asker.topic("offsets.compressed")
    for codec in CompressionType:
        times = [BASE_MS + codec * 10_000 + delta for delta in (0, 7, 3)]
        batch = build_batch([(at, None, b"v", ()) for at in times], compression=codec)
        asker.ask(f"{codec.name}", produce_request(asker, topic, batch), 9)
    asker.ask_every("the maximum", offsets(asker, topic, -3))
    for codec in CompressionType:
        for delta in (1, 7, 8):
            at = BASE_MS + codec * 10_000 + delta
            asker.ask(f"{delta} ms into {codec.name}", offsets(asker, topic, at), 7)


def epoch_ends(asker: Asker) -> None:
    topic = asker.topic("epochs")

    def ends(words: str, name: str, index: int, current: int, epoch: int) -> None:
        partition = OffsetForLeaderPartition(
            partition=index, current_leader_epoch=current, leader_epoch=epoch
        )
        asker.ask_every(
            words,
            OffsetForLeaderEpochRequest(
                replica_id=-1, topics=[OffsetForLeaderTopic(topic=name, partitions=[partition])]
            ),
        )

    ends("an empty log", topic, 0, -1, 0)
    fill(asker, topic)
    for epoch in (0, 1, 5, -1, -2):
        ends(f"the end of {epoch}", topic, 0, -1, epoch)
        ends(f"leader epoch {epoch}", topic, 0, epoch, 0)
    ends("a partition that is not there", topic, 9, -1, 0)
    ends("a topic that is not there", "not.there", 0, -1, 0)


QUESTIONS = (
    fetch_in_every_version,
    fetch_what_is_not_there,
    fetch_with_epochs,
    fetch_within_limits,
    fetch_as_a_follower,
    fetch_sessions,
    list_offsets,
    list_offsets_that_are_not_there,
    list_offsets_in_compressed_batches,
    epoch_ends,
)

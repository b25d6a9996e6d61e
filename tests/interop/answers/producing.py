"""What producers ask: Produce and InitProducerId."""

from __future__ import annotations

from typing import Any

from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.init_producer_id import InitProducerIdRequest
from ottla.messages.offset_fetch import OffsetFetchRequest
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.batch import CompressionType, pack_header, read_header
from ottla.records.builder import build_batch
from tests.interop.answers.asking import Asker
from tests.interop.samples import BASE_MS

RECORDS = [(BASE_MS, b"key", b"value", ())]


def records(**fields: Any) -> bytearray:
    """A batch of one record."""
    return build_batch(RECORDS, **fields)


def request(
    asker: Asker, topic: str, data: Any, partition: int = 0, **fields: Any
) -> ProduceRequest:
    """One partition's records, under the topic's name and id."""
    each = PartitionProduceData(index=partition, records=data)
    topic_id = asker.ids.get(topic, b"\x07" * 16)
    return ProduceRequest(
        **{"acks": -1, "timeout_ms": 5_000, **fields},
        topic_data=[TopicProduceData(name=topic, topic_id=topic_id, partition_data=[each])],
    )


def produce_in_every_version(asker: Asker) -> None:
    topic = asker.topic("produce")
    asker.ask_every("a record", request(asker, topic, records()))
    asker.ask_every("a record with acks=1", request(asker, topic, records(), acks=1))


def produce_to_nowhere(asker: Asker) -> None:
    topic = asker.topic("produce.nowhere")
    asker.ask_every("a topic that is not there", request(asker, "not.there", records()))
    asker.ask_every("a partition that is not there", request(asker, topic, records(), 7))
    asker.ask_every("a negative partition", request(asker, topic, records(), -1))
    asker.ask_every("an impossible topic name", request(asker, "no spaces", records()))
    asker.ask_every("an empty topic name", request(asker, "", records()))


def produce_in_odd_ways(asker: Asker) -> None:
    topic = asker.topic("produce.odd")
    for acks in (2, -2):
        asker.ask(f"acks={acks}", request(asker, topic, records(), acks=acks), 9)
    asker.ask("acks=2 and no topic", request(asker, "not.there", records(), acks=2), 9)
    asker.ask("no topics", ProduceRequest(acks=-1, timeout_ms=1_000), 9)
    asker.ask("a timeout below nothing", request(asker, topic, records(), timeout_ms=-1), 9)
    asker.ask("empty records", request(asker, topic, b""), 9)


def produce_damaged_batches(asker: Asker) -> None:
    topic = asker.topic("produce.damaged")
    good = bytes(records())
    damaged = bytearray(good)
    damaged[-1] ^= 1
    asker.ask_every("a wrong checksum", request(asker, topic, bytes(damaged)))
    asker.ask_every("two batches", request(asker, topic, good + good))
    asker.ask_every("half a batch", request(asker, topic, good[:40]))
    asker.ask_every("a batch that lacks its last byte", request(asker, topic, good[:-1]))
    asker.ask_every("a batch and a byte", request(asker, topic, good + b"\0"))
    for magic in (0, 1, 3):
        other = bytearray(good)
        other[16] = magic
        asker.ask(f"magic {magic}", request(asker, topic, bytes(other)), 9)
    asker.ask("a control batch", request(asker, topic, records(control=True)), 9)
    asker.ask("a base offset that is not 0", request(asker, topic, records(base_offset=5)), 9)


def with_header(data: bytearray, **fields: int) -> bytearray:
    """A batch with other fields in its header, and the checksum that goes with them."""
    changed = bytearray(data)
    pack_header(changed, read_header(changed)._replace(**fields))
    return changed


def produce_untrue_headers(asker: Asker) -> None:
    topic = asker.topic("produce.headers")
    two = build_batch(RECORDS * 2)
    for fields in (
        {"record_count": 1},
        {"record_count": 3},
        {"record_count": 0},
        {"record_count": -1},
        {"record_count": 2**31 - 1},
        {"last_offset_delta": 0},
        {"last_offset_delta": 5},
        {"last_offset_delta": -1},
        {"max_timestamp_ms": BASE_MS + 5},
        {"max_timestamp_ms": -1},
        {"base_timestamp_ms": BASE_MS + 7},
        {"leader_epoch": 77},
        {"base_offset": -1},
        {"attributes": 5},
        {"attributes": 7},
        {"attributes": 0x8},
        {"attributes": 0x40},
        {"attributes": 0x80},
        {"attributes": 1},
    ):
        asker.ask(f"a header with {fields}", request(asker, topic, with_header(two, **fields)), 9)


def produce_what_is_too_large(asker: Asker) -> None:
    topic = asker.topic("produce.large", max_message_bytes=1_000)
    large = build_batch([(BASE_MS, None, b"x" * 2_000, ())])
    asker.ask_every("a record that is too large", request(asker, topic, large))
    small = build_batch([(BASE_MS, None, b"x" * 2_000, ())], compression=CompressionType.GZIP)
    asker.ask("a record that compression makes small", request(asker, topic, small), 9)


def produce_with_codecs(asker: Asker) -> None:
    topic = asker.topic("produce.codecs")
    for codec in CompressionType:
        batch = build_batch(RECORDS * 3, compression=codec)
        asker.ask(f"{codec.name} in version 3", request(asker, topic, batch), 3)
        asker.ask(f"{codec.name} in version 9", request(asker, topic, batch), 9)


def produce_in_time(asker: Asker) -> None:
    topic = asker.topic("produce.time", message_timestamp_after_max_ms=1_000)
    later = build_batch([(BASE_MS + 86_400_000, b"", b"", ())])
    asker.ask_every("a record from tomorrow", request(asker, topic, later))
    topic = asker.topic("produce.before", message_timestamp_before_max_ms=1_000)
    asker.ask_every("a record from yesterday", request(asker, topic, records()))
    nowhen = build_batch([(-1, b"", b"", ())])
    asker.ask_every("a record without a time", request(asker, topic, nowhen))
    topic = asker.topic("produce.append", message_timestamp_type="LogAppendTime")
    asker.ask_every("a record that gets its time", request(asker, topic, records()))


def produce_to_a_compacted_topic(asker: Asker) -> None:
    topic = asker.topic("produce.compact", cleanup_policy="compact")
    keyless = build_batch([(BASE_MS, None, b"x", ()), (BASE_MS, b"k", b"x", ())])
    asker.ask_every("a record without a key", request(asker, topic, keyless))
    asker.ask("a record with one", request(asker, topic, records()), 9)


def produce_to_internal_topics(asker: Asker) -> None:
    asker.ask("its coordinator", FindCoordinatorRequest(key="internal"), 3)
    asker.ask("its offsets", OffsetFetchRequest(group_id="internal", topics=[]), 7)
    asker.ask("to __consumer_offsets", request(asker, "__consumer_offsets", records()), 9)


def produce_to_some_of_many(asker: Asker) -> None:
    topic = asker.topic("produce.some", 2)
    data = [
        TopicProduceData(
            name=name,
            partition_data=[PartitionProduceData(index=i, records=records()) for i in (0, 1, 2)],
        )
        for name in (topic, "not.there")
    ]
    for version in (3, 8, 9, 12):
        many = ProduceRequest(acks=-1, timeout_ms=5_000, topic_data=data)
        asker.ask(f"good and bad partitions, version {version}", many, version)


def produce_in_sequence(asker: Asker) -> None:
    topic = asker.topic("produce.sequence")

    def batch(producer: int, sequence: int, epoch: int = 0, count: int = 1) -> bytearray:
        return build_batch(
            RECORDS * count, producer_id=producer, producer_epoch=epoch, base_sequence=sequence
        )

    made = asker.ask("a producer id", InitProducerIdRequest(transactional_id=None), 4)
    one = made.producer_id
    steps: list[tuple[str, bytearray]] = [
        ("the first sequence", batch(one, 0, count=2)),
        ("the next one", batch(one, 2)),
        ("the same again", batch(one, 2)),
        ("the first again", batch(one, 0, count=2)),
        ("a part of the first", batch(one, 0)),
        ("an overlap", batch(one, 1, count=4)),
        ("a gap", batch(one, 9)),
        ("a later epoch that does not begin at 0", batch(one, 3, epoch=1)),
        ("a later epoch", batch(one, 0, epoch=1)),
        ("the earlier epoch", batch(one, 3)),
        ("a producer nobody knows, from 0", batch(99_999, 0)),
        ("a producer nobody knows, from 7", batch(99_998, 7)),
        ("an epoch without a producer", batch(-1, 0)),
        ("a producer without a sequence", batch(one, -1, epoch=1)),
        ("a producer without an epoch", batch(one, 1, epoch=-1)),
        ("the highest sequence of a new producer", batch(99_997, 2**31 - 1)),
        ("and the one after it", batch(99_997, 0)),
    ]
    for words, data in steps:
        asker.ask(words, request(asker, topic, data), 9)


def six_batches_and_each_again(asker: Asker) -> None:
    topic = asker.topic("produce.six")
    for sequence in [*range(7), *range(7)]:
        data = build_batch(RECORDS, producer_id=4_000, producer_epoch=0, base_sequence=sequence)
        again = f"batch {sequence} again"
        words = again if f"batch {sequence}" in asker.answers else f"batch {sequence}"
        asker.ask(words, request(asker, topic, data), 9)


def producer_ids(asker: Asker) -> None:
    none = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=-1)
    asker.ask_every("an id", none)
    for fields in ({"producer_id": 5, "producer_epoch": 0}, {"producer_id": 5}):
        bound = InitProducerIdRequest(transactional_id=None, **fields)
        asker.ask_every(f"an id after {fields}", bound, (3, 4, 5))
    asker.ask_every("an empty transactional id", InitProducerIdRequest(transactional_id=""))


def transactions(asker: Asker) -> None:
    topic = asker.topic("produce.transactions")
    asker.ask("its coordinator", FindCoordinatorRequest(key="tx", key_type=1), 3)
    bound = InitProducerIdRequest(transactional_id="tx", transaction_timeout_ms=10_000)
    asker.ask("a transactional id", bound, 4)
    batch = records(producer_id=1, producer_epoch=0, base_sequence=0, transactional=True)
    asker.ask("a transactional batch", request(asker, topic, batch, transactional_id="tx"), 9)
    asker.ask("a transactional batch without an id", request(asker, topic, batch), 9)


QUESTIONS = (
    produce_in_every_version,
    produce_to_nowhere,
    produce_in_odd_ways,
    produce_damaged_batches,
    produce_untrue_headers,
    produce_what_is_too_large,
    produce_with_codecs,
    produce_in_time,
    produce_to_a_compacted_topic,
    produce_to_internal_topics,
    produce_to_some_of_many,
    produce_in_sequence,
    six_batches_and_each_again,
    producer_ids,
    transactions,
)

"""Clients of a cluster that go on through every failover and write down what they are told.

Producers are those of ``tests.crash.load`` with a cluster's patience; here are the readers. A consumer reads on from
where it was, whatever happens to its leader, and never seeks: it is to be given each offset once. ``Watcher`` asks
the leaders for high watermarks. An error that an application would have to handle is a fault.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ottla import Consumer
from ottla.errors import ErrorCode
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.records.batch import iter_batches
from tests.cluster.history import NOWHERE, History, Order
from tests.crash.checker import Mark, Partition
from tests.crash.load import LibrdkafkaLoad, Load, OttlaLoad
from tests.interop.raw import LATEST, RawClient
from tests.support.requests import fetch_request

POLL_S = 0.1
SETTLE_S = 0.05
BETWEEN_BURSTS_S = 0.015
"""What a producer waits between two bursts: three brokers on two cores are to be busy, and not to be late."""
CLOSE_S = 30.0
"""How long a client may take to close; librdkafka needs milliseconds, and no broker."""
ANSWER_S = 3.0
"""How long a watcher waits for an answer: a broker that is stopped gives none."""

IMPATIENT_LIBRDKAFKA: dict[str, object] = {
    "socket.timeout.ms": 3_000,
    "request.timeout.ms": 3_000,
    "topic.metadata.refresh.interval.ms": 1_000,
}
"""A broker that is stopped, not dead, resets no connection: only time tells its clients to look for another."""

IMPATIENT_OTTLA = {"request_timeout_ms": 3_000, "metadata_max_age_ms": 1_000}


def producers(
    bootstrap: str, seed: int, history: History, places: Sequence[Partition]
) -> list[Load]:
    """One of each kind: librdkafka's and ours, idempotent and not, all with acks=all."""
    # librdkafka (2.16) doubles idempotent records by itself. For OUT_OF_ORDER_SEQUENCE_NUMBER it begins a new epoch for all
    # partitions (rd_kafka_idemp_drain_epoch_bump) as soon as nothing is in flight; what another one has appended, but
    # answered with NOT_LEADER_OR_FOLLOWER (as Kafka's DelayedProduce does) or not in time, is then sent again as sequences
    # of the new epoch (its issue 4953). That answer is right, here as in Kafka (ProducerAppendInfo.checkSequence), and was
    # seen from both sides, with DEBUG here and debug=eos,msg there, in two cases:
    # - Of two requests in flight the first one is refused and the second one is not: the broker has begun to lead in between
    #   (8350 NOT_LEADER_OR_FOLLOWER, 8354 out of order), or the disk was full for one (28 KAFKA_STORAGE_ERROR, 29).
    # - Between two brokers: the thread of a new leader (rd_kafka_toppar_producer_serve) takes the partition's queue,
    #   lets its lock go, and then looks whether the old leader still has something. If that one's thread puts the last
    #   refused batch back in between, the drain is taken for done and what lies behind is sent first (1873 refused by the
    #   old leader, 1878 sent to the new one, whose last is 1872; 1745-1749 of another partition, appended and uncommitted
    #   when its leader went, came again as 0-4 of epoch 1).
    # Within one epoch brokers let nothing in twice and leave no gap: to that they are held.
    one_at_a_time = {**IMPATIENT_LIBRDKAFKA, "enable.idempotence": False, "max.in.flight": 1}
    ours_at_a_time = {**IMPATIENT_OTTLA, "idempotent": False, "max_in_flight": 1}
    kinds: list[tuple[type[LibrdkafkaLoad | OttlaLoad], str, dict[str, Any], Order]] = [
        (LibrdkafkaLoad, "librdkafka", dict(IMPATIENT_LIBRDKAFKA), Order.ONCE_AN_EPOCH),
        (LibrdkafkaLoad, "librdkafka-plain", one_at_a_time, Order.NONE),
        (OttlaLoad, "ottla", dict(IMPATIENT_OTTLA), Order.ONCE),
        (OttlaLoad, "ottla-plain", ours_at_a_time, Order.FIRST_COPIES),
    ]
    made: list[LibrdkafkaLoad | OttlaLoad] = []
    for kind, name, settings, order in kinds:
        history.producer(name, order)
        made.append(kind(name, bootstrap, seed, history, list(places), settings))
    for load in made:
        load.pause_s = BETWEEN_BURSTS_S
    return list(made)


class Reader(Load):
    """A consumer of some partitions, from their first offset on."""

    def __init__(
        self, name: str, bootstrap: str, seed: int, history: History, places: Sequence[Partition]
    ) -> None:
        super().__init__(name, bootstrap, seed)
        self.history = history
        self.places = places
        self.next_offset = dict.fromkeys(places, 0)
        """By partition, where it reads on."""

    def given(self, place: Partition, offset: int, value: bytes | None) -> None:
        """It was given a record."""
        self.history.read(self.name, place, offset, Mark.decode(value or b""))
        self.next_offset[place] = offset + 1


class LibrdkafkaReader(Reader):
    """librdkafka's consumer with partitions assigned by hand.

    Version 2.16 can lock itself up for good, seen once in some fifty of these runs with its stacks: its main thread, in
    rd_kafka_toppar_handle_OffsetForLeaderEpoch, asks with the partition's lock held for the client's (by way of
    rd_kafka_topic_leader_query0), and a broker's thread in rd_kafka_broker_fail the other way round (for the partition's,
    in rd_kafka_toppar_undelegate). It then does not even close, which needs no broker: that tells it from one that
    is given nothing, and somebody may read on in its place.
    """

    def hangs(self) -> bool:
        """End it; whether it does not come to an end."""
        self.stopped.set()
        self.join(CLOSE_S)
        return self.is_alive()

    def successor(self) -> LibrdkafkaReader:
        """One that reads on where this one stopped."""
        another = LibrdkafkaReader(self.name, self.bootstrap, 0, self.history, self.places)
        another.next_offset.update(self.next_offset)
        return another

    def work(self) -> None:
        """Read until stopped."""
        import confluent_kafka

        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.name,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 100,
                "reconnect.backoff.ms": 5,
                "reconnect.backoff.max.ms": 50,
                "log_level": 0,
                **IMPATIENT_LIBRDKAFKA,
            }
        )
        try:
            consumer.assign([confluent_kafka.TopicPartition(*at) for at in _flat(self.next_offset)])
            while not self.stopped.is_set():
                for message in consumer.consume(500, POLL_S):
                    error = message.error()
                    if error is None:
                        place = (message.topic(), message.partition())
                        self.given(place, message.offset(), message.value())
                    elif not error.retriable() and error.code() not in _PASSING:
                        self.faults.append(f"{self.name}: {error}")
        finally:
            consumer.close()


# What librdkafka tells an application of connections that come and go, and mends by itself.
_ALL_BROKERS_DOWN = -187
_TRANSPORT = -195
_PASSING = (_ALL_BROKERS_DOWN, _TRANSPORT)


def _flat(offsets: dict[Partition, int]) -> list[tuple[str, int, int]]:
    return [(topic, index, offset) for (topic, index), offset in offsets.items()]


class OttlaReader(Reader):
    """Ottla's own consumer with partitions assigned by hand."""

    def work(self) -> None:
        """Read until stopped."""
        with Consumer(
            bootstrap=self.bootstrap,
            auto_offset_reset="none",
            fetch_max_wait_ms=100,
            retry_backoff_ms=5,
            retry_backoff_max_ms=50,
            **IMPATIENT_OTTLA,
        ) as consumer:
            consumer.assign(self.places)
            for place in self.places:
                consumer.seek(place, 0)
            while not self.stopped.is_set():
                for record in consumer.poll(POLL_S):
                    self.given((record.topic, record.partition), record.offset, record.value)


class Watcher(Load):
    """Asks the leaders, as they are known, for their high watermarks, under the epoch that is known."""

    def __init__(
        self, name: str, bootstrap: str, seed: int, history: History, places: Sequence[Partition]
    ) -> None:
        super().__init__(name, bootstrap, seed)
        self.history = history
        self.places = places
        self.at = dict.fromkeys(places, 0)
        self.connections: dict[tuple[str, int], RawClient] = {}

    def work(self) -> None:
        """Round after round; whoever does not answer is asked again in the next."""
        while not self.stopped.is_set():
            for place, (address, epoch) in self._leaders().items():
                try:
                    self._ask(self._connection(address), place, epoch)
                except OSError:
                    self._forget(address)
                if self.stopped.is_set():
                    return
            self.pause(SETTLE_S)

    def _leaders(self) -> dict[Partition, tuple[tuple[str, int], int]]:
        """By partition, where its leader is and its epoch, as the first broker says that answers."""
        topics = [MetadataRequestTopic(name=name) for name in {place[0] for place in self.places}]
        request = MetadataRequest(topics=topics, allow_auto_topic_creation=False)
        addresses = self.bootstrap.split(",")
        self.random.shuffle(addresses)
        for text in addresses:
            host, _, port = text.rpartition(":")
            address = (host, int(port))
            try:
                answer = self._connection(address).call(request, 12)
            except OSError:
                self._forget(address)
                continue
            where = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
            return {
                (topic.name, one.partition_index): (where[one.leader_id], one.leader_epoch)
                for topic in answer.topics
                for one in topic.partitions
                if one.leader_id in where
            }
        return {}

    def _ask(self, client: RawClient, place: Partition, epoch: int) -> None:
        topic, partition = place
        asked = time.monotonic()
        request = fetch_request(topic, self.at[place], current_leader_epoch=epoch)
        request.topics[0].partitions[0].partition = partition
        data = client.call(request, 12).responses[0].partitions[0]
        if self._answered(data.error_code, f"{place}: Fetch at {self.at[place]}"):
            last_read = self._last_offset(bytes(data.records or b""))
            self.history.watermark(asked, place, epoch, data.high_watermark, last_read)
            self.at[place] = max(self.at[place], last_read + 1)
        asked = time.monotonic()
        latest = ListOffsetsPartition(
            partition_index=partition, timestamp=LATEST, current_leader_epoch=epoch
        )
        wanted = ListOffsetsTopic(name=topic, partitions=[latest])
        found = client.call(ListOffsetsRequest(replica_id=-1, topics=[wanted]), 7)
        data = found.topics[0].partitions[0]
        if self._answered(data.error_code, f"{place}: ListOffsets"):
            self.history.watermark(asked, place, None, data.offset)

    def _answered(self, error_code: int, what: str) -> bool:
        code = ErrorCode(error_code)
        if code not in (ErrorCode.NONE, *_OF_A_FAILOVER):
            self.faults.append(f"{self.name}: {what}: {code.name}")
        return code == ErrorCode.NONE

    @staticmethod
    def _last_offset(records: bytes) -> int:
        return max((header.last_offset for _, header in iter_batches(records)), default=NOWHERE)

    def _connection(self, address: tuple[str, int]) -> RawClient:
        if address not in self.connections:
            client = RawClient(f"{address[0]}:{address[1]}", self.name)
            client.socket.settimeout(ANSWER_S)
            self.connections[address] = client
        return self.connections[address]

    def _forget(self, address: tuple[str, int]) -> None:
        client = self.connections.pop(address, None)
        if client is not None:
            client.close()

    def disconnect(self) -> None:
        """Close what is connected."""
        for address in list(self.connections):
            self._forget(address)


_OF_A_FAILOVER = (
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.UNKNOWN_LEADER_EPOCH,
    ErrorCode.OFFSET_NOT_AVAILABLE,
    ErrorCode.LEADER_NOT_AVAILABLE,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.REPLICA_NOT_AVAILABLE,
)
"""What a client is told while leaders change, and asks again."""

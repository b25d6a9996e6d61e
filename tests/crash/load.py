"""Clients that go on through every crash of the broker and tell the checker what they know.

Each is a thread. A client that meets what it should never meet (a fatal error, an answer that no retry mends)
notes it in ``faults``, and the test ends with that.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ottla import Producer
from ottla.errors import ErrorCode
from ottla.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.messages.init_producer_id import InitProducerIdRequest
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.records.builder import build_batch
from tests.crash.checker import CommittedOffsets, History, Mark, Partition, Topics
from tests.interop.raw import RawClient
from tests.support.requests import produce_request

PADDING_BYTES_MAX = 400
PAUSE_S = 0.005
BURST_MAX = 5
RECONNECT_S = 0.005
NEVER_MS = 3_600_000
TOPIC_RESOURCE = 2
TIMESTAMP_MS = 1_700_000_000_000


class Sending(Protocol):
    """What is told of records that are sent and acknowledged; ``History`` is one."""

    def send(self, partition: Partition, producer: str) -> Mark:
        """The mark of the next record."""
        ...

    def acknowledge(self, partition: Partition, offset: int, mark: Mark) -> None:
        """The record is at ``offset``; -1: it is there, somewhere."""
        ...


def refused(error_code: int, what: str) -> bool:
    """Whether an answer leaves open what became of the request; an error that no retry mends is raised."""
    code = ErrorCode(error_code)
    if code != ErrorCode.NONE and not code.retriable:
        raise AssertionError(f"{what}: {code.name}")
    return code != ErrorCode.NONE


class Load(threading.Thread):
    """A client in a thread; ``stop`` it and see ``faults``."""

    def __init__(self, name: str, bootstrap: str, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.bootstrap = bootstrap
        self.random = random.Random(f"{seed}:{name}")
        self.stopped = threading.Event()
        self.abandoned = threading.Event()
        """Nobody waits for what is still to be acknowledged."""
        self.faults: list[str] = []
        self.pause_s = PAUSE_S
        """Between two bursts of records."""
        self.key = name.encode()
        """What its records have as key."""

    def run(self) -> None:
        """Work until stopped; an exception is a fault."""
        try:
            self.work()
        except Exception as error:
            self.faults.append(f"{self.name}: {error!r}")
        finally:
            self.disconnect()

    def work(self) -> None:
        """The client's work, until ``stopped``."""
        raise AssertionError("a Load has work")

    def disconnect(self) -> None:
        """Give up what is connected, if it does not do so itself."""

    def pause(self, seconds: float) -> None:
        """Let time go by, but not the end."""
        self.stopped.wait(seconds)

    def content(self, mark: Mark) -> bytes:
        """A record's value: its mark and padding of some length."""
        return mark.encode() + b" " + b"x" * self.random.randrange(PADDING_BYTES_MAX)


class LibrdkafkaLoad(Load):
    """librdkafka's idempotent producer, several requests in flight."""

    def __init__(
        self,
        name: str,
        bootstrap: str,
        seed: int,
        history: Sending,
        places: list[Partition],
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """``settings``: librdkafka's, in place of these."""
        super().__init__(name, bootstrap, seed)
        import confluent_kafka

        self.history = history
        self.places = places
        self._untold: dict[Partition, int] = {}
        """By partition, what the next record of a batch without an offset would seem to have."""
        self.producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "batch.num.messages": 30,
                "message.timeout.ms": NEVER_MS,
                "queue.buffering.max.messages": 2_000,
                "retry.backoff.ms": 5,
                "retry.backoff.max.ms": 20,
                "reconnect.backoff.ms": 5,
                "reconnect.backoff.max.ms": 20,
                "log_level": 0,
                "error_cb": self._error,
                **(settings or {}),
            }
        )

    def work(self) -> None:
        """Produce in small bursts, and at the end until all is acknowledged."""
        while not self.stopped.is_set():
            for _ in range(self.random.randrange(BURST_MAX)):
                self._produce(self.random.choice(self.places))
            self.producer.poll(self.pause_s)
        if self.abandoned.is_set():
            self.producer.purge()
        if self.producer.flush(60.0):
            self.faults.append(f"{self.name}: some records were never acknowledged")

    def _produce(self, place: Partition) -> None:
        if len(self.producer) >= 1_900:
            return
        mark = self.history.send(place, self.name)
        topic, partition = place

        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                self.faults.append(f"{self.name}: {mark} failed: {error}")
            else:
                self.history.acknowledge(place, self._known(place, message.offset()), mark)

        self.producer.produce(
            topic, self.content(mark), self.key, partition=partition, on_delivery=delivered
        )

    def _known(self, place: Partition, offset: int | None) -> int:
        """The offset that the broker told, -1 if it told none.

        An answer of DUPLICATE_SEQUENCE_NUMBER is a success without an offset: -1. librdkafka counts on from there:
        the records of the batch get -1, 0, 1, …
        """
        if offset is None or offset < 0:
            self._untold[place] = 0
            return -1
        if offset == self._untold.get(place):
            self._untold[place] = offset + 1
            return -1
        self._untold.pop(place, None)
        return offset

    def _error(self, error: Any) -> None:
        if error.fatal():
            self.faults.append(f"{self.name}: fatal: {error}")


class OttlaLoad(Load):
    """Ottla's own idempotent producer."""

    def __init__(
        self,
        name: str,
        bootstrap: str,
        seed: int,
        history: Sending,
        places: list[Partition],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """``settings``: the producer's, in place of these."""
        super().__init__(name, bootstrap, seed)
        self.history = history
        self.places = places
        self.settings: dict[str, Any] = {
            "linger_ms": 2,
            "batch_size": 4_000,
            "delivery_timeout_ms": NEVER_MS,
            "max_block_ms": NEVER_MS,
            "retry_backoff_ms": 5,
            "retry_backoff_max_ms": 20,
            "buffer_memory": 500_000,
            **(settings or {}),
        }

    def work(self) -> None:
        """Produce in small bursts, and at the end until all is acknowledged."""
        with Producer(self.bootstrap, **self.settings) as producer:
            while not self.stopped.is_set():
                for _ in range(self.random.randrange(BURST_MAX)):
                    self._produce(producer, self.random.choice(self.places))
                self.pause(self.pause_s)

    def _produce(self, producer: Producer, place: Partition) -> None:
        mark = self.history.send(place, self.name)

        def delivered(metadata: Any, error: BaseException | None) -> None:
            if error is not None:
                self.faults.append(f"{self.name}: {mark} failed: {error!r}")
            else:
                self.history.acknowledge(place, metadata.offset, mark)

        topic, partition = place
        producer.send(
            topic, self.content(mark), self.key, partition=partition, on_delivery=delivered
        )


class RequestLoad(Load):
    """A client that sends one request after the other on a plain connection, again after each crash."""

    def __init__(self, name: str, bootstrap: str, seed: int) -> None:
        super().__init__(name, bootstrap, seed)
        self.connection: RawClient | None = None
        self.waiting_for = ""
        """What it has asked for and has no answer to yet."""

    def connected(self) -> RawClient | None:
        """The connection, made again where need be; None if there is no broker just now."""
        if self.connection is None:
            try:
                self.connection = RawClient(self.bootstrap, self.name)
            except OSError:
                self.pause(RECONNECT_S)
        return self.connection

    def try_to(self, what: str, request: Callable[[RawClient], Any]) -> Any:
        """The answer to one request; None if the connection broke: nobody knows what became of it."""
        connection = self.connected()
        if connection is None:
            return None
        self.waiting_for = what
        try:
            answer = request(connection)
        except OSError:
            self.disconnect()
            return None
        self.waiting_for = ""
        return answer

    def insist(self, what: str, request: Callable[[RawClient], Any]) -> Any:
        """The answer to one request, asked again after each crash; None once stopped."""
        while not self.stopped.is_set():
            answer = self.try_to(what, request)
            if answer is not None:
                return answer
        return None

    def disconnect(self) -> None:
        """Give the connection up."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class PlainLoad(RequestLoad):
    """An idempotent producer of few lines: a batch goes out again until it is acknowledged."""

    def __init__(
        self, name: str, bootstrap: str, seed: int, history: History, places: list[Partition]
    ) -> None:
        super().__init__(name, bootstrap, seed)
        self.history = history
        self.places = places
        self.sequences = dict.fromkeys(places, 0)

    def work(self) -> None:
        """Produce batch by batch; the last one is seen through, too."""
        answer = self.insist(
            "producer id", lambda c: c.call(InitProducerIdRequest(transactional_id=None), 4)
        )
        while not self.stopped.is_set():
            self._batch(answer.producer_id, self.random.choice(self.places))
            self.pause(PAUSE_S)

    def _batch(self, producer_id: int, place: Partition) -> None:
        marks = [self.history.send(place, self.name) for _ in range(self.random.randrange(1, 6))]
        batch = build_batch(
            [(TIMESTAMP_MS, None, self.content(mark), ()) for mark in marks],
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=self.sequences[place],
        )
        self.sequences[place] += len(marks)
        topic, partition = place
        request = produce_request(topic, bytes(batch), partition=partition)
        while True:
            answer = self.try_to("produce", lambda c: c.call(request, 9))
            if answer is None:
                if self.abandoned.is_set():
                    return
                continue
            (data,) = answer.responses[0].partition_responses
            code = ErrorCode(data.error_code)
            if code in (ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER):
                break
            if not code.retriable:
                raise AssertionError(f"{place} refused: {code.name}")
            self.pause(RECONNECT_S)
        for delta, mark in enumerate(marks):
            offset = data.base_offset + delta if code == ErrorCode.NONE else -1
            self.history.acknowledge(place, offset, mark)


class CommitLoad(RequestLoad):
    """Commits ever higher offsets for a group."""

    def __init__(self, name: str, bootstrap: str, seed: int, topic: str) -> None:
        super().__init__(name, bootstrap, seed)
        self.offsets = CommittedOffsets()
        self.topic = topic

    def work(self) -> None:
        """Commit after commit."""
        find = FindCoordinatorRequest(key_type=0, coordinator_keys=[self.name])
        self.insist("coordinator", lambda c: c.call(find))
        while not self.stopped.is_set():
            self._commit(self.offsets.attempt())
            self.pause(PAUSE_S)

    def _commit(self, offset: int) -> None:
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
        topic = OffsetCommitRequestTopic(name=self.topic, partitions=[partition])
        request = OffsetCommitRequest(group_id=self.name, topics=[topic])
        answer = self.try_to("commit", lambda c: c.call(request, 8))
        if answer is None:
            return
        if not refused(answer.topics[0].partitions[0].error_code, "commit refused"):
            self.offsets.acknowledge(offset)


class SettingLoad(RequestLoad):
    """Sets a topic's ``max.message.bytes`` to ever higher numbers, ``LEAST`` and one more each time."""

    LEAST = 1_000_000

    def __init__(self, name: str, bootstrap: str, seed: int, topic: str) -> None:
        super().__init__(name, bootstrap, seed)
        self.values = CommittedOffsets()
        self.topic = topic

    def work(self) -> None:
        """Change after change."""
        while not self.stopped.is_set():
            self._set(self.values.attempt())
            self.pause(PAUSE_S)

    def _set(self, number: int) -> None:
        config = AlterableConfig(
            name="max.message.bytes", config_operation=0, value=str(self.LEAST + number)
        )
        resource = AlterConfigsResource(
            resource_type=TOPIC_RESOURCE, resource_name=self.topic, configs=[config]
        )
        request = IncrementalAlterConfigsRequest(resources=[resource])
        answer = self.try_to("alter a topic", lambda c: c.call(request, 1))
        if answer is None:
            return
        if not refused(answer.responses[0].error_code, "settings refused"):
            self.values.acknowledge(number)


class DeletionLoad(RequestLoad):
    """Writes to a partition and deletes its oldest record, again and again: the log's start moves on."""

    PADDING = bytes(1_500)

    def __init__(self, name: str, bootstrap: str, seed: int, topic: str) -> None:
        super().__init__(name, bootstrap, seed)
        self.starts = CommittedOffsets()
        self.written: dict[int, bytes] = {}
        self.topic = topic
        self._number = 0

    def work(self) -> None:
        """One record after the other, and for each an older one less."""
        while not self.stopped.is_set():
            if self._write():
                self._delete_record(self.starts.attempt())
            self.pause(PAUSE_S)

    def _write(self) -> bool:
        self._number += 1
        value = b"%d " % self._number + self.PADDING
        request = produce_request(self.topic, bytes(build_batch([(TIMESTAMP_MS, None, value, ())])))
        answer = self.try_to("produce", lambda c: c.call(request, 9))
        if answer is None:
            return False
        (data,) = answer.responses[0].partition_responses
        if refused(data.error_code, "not written"):
            return False
        self.written[data.base_offset] = value
        return True

    def _delete_record(self, offset: int) -> None:
        partition = DeleteRecordsPartition(partition_index=0, offset=offset)
        topic = DeleteRecordsTopic(name=self.topic, partitions=[partition])
        request = DeleteRecordsRequest(topics=[topic], timeout_ms=20_000)
        answer = self.try_to("delete records", lambda c: c.call(request, 2))
        if answer is None:
            return
        (result,) = answer.topics[0].partitions
        if not refused(result.error_code, "records not deleted"):
            self.starts.acknowledge(offset)


class TopicLoad(RequestLoad):
    """Creates topics, writes a record to each, and deletes the older ones."""

    KEPT = 6

    def __init__(self, name: str, bootstrap: str, seed: int, history: History) -> None:
        super().__init__(name, bootstrap, seed)
        self.history = history
        self.topics = Topics()
        self.kept: list[str] = []
        self.written: list[Partition] = []
        self._number = 0

    def work(self) -> None:
        """One topic after the other."""
        while not self.stopped.is_set():
            self._make_topic()
            if len(self.kept) > self.KEPT:
                self._remove_topic(self.kept.pop(0))
            self.pause(self.random.uniform(0.0, 0.15))

    def _make_topic(self) -> None:
        if self.connected() is None:
            return
        name = f"made-{self._number}"
        self._number += 1
        self.topics.begin(name)
        create = CreateTopicsRequest(
            topics=[CreatableTopic(name=name, num_partitions=2, replication_factor=1)]
        )
        answer = self.try_to("create a topic", lambda c: c.call(create, 7))
        if answer is None or refused(answer.topics[0].error_code, f"{name} not created"):
            return
        self.topics.created(name, answer.topics[0].topic_id)
        self.kept.append(name)
        place = (name, self.random.randrange(2))
        mark = self.history.send(place, self.name)
        batch = build_batch([(TIMESTAMP_MS, None, mark.encode(), ())])
        request = produce_request(name, bytes(batch), partition=place[1])
        answer = self.try_to("produce", lambda c: c.call(request, 9))
        if answer is not None:
            (data,) = answer.responses[0].partition_responses
            if refused(data.error_code, f"{place} refused"):
                return
            self.history.acknowledge(place, data.base_offset, mark)
            self.written.append(place)

    def _remove_topic(self, name: str) -> None:
        self.written = [place for place in self.written if place[0] != name]
        self.topics.begin(name)
        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=name)], timeout_ms=20_000)
        answer = self.try_to("delete a topic", lambda c: c.call(request, 6))
        if answer and not refused(answer.responses[0].error_code, f"{name} not deleted"):
            self.topics.deleted(name)

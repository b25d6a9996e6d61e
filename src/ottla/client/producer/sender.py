"""Takes batches out of the accumulator to the partitions' leaders, and brings the answers back.

One task of the loop. It sleeps until something is due: a full batch, the end of a linger or a back-off, an
answer, a connection, new metadata. Which batch may go, and what an error means for it, are the
accumulator's rules; here are requests and connections.
"""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import Any

from ottla.client.cluster import Cluster
from ottla.client.metadata import Node
from ottla.client.producer.accumulator import Accumulator, Calls
from ottla.client.producer.chosen_intake import Batch
from ottla.client.producer.settings import ProducerSettings
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.network.channel import Channel
from ottla.records.builder import build_batch
from ottla.topic_ids import ZERO_ID

log = logger(__name__)

PRODUCE = 0
TOPIC_ID_VERSION = 13
INIT_PRODUCER_ID_TIMEOUT_MS = 60_000

STALE_METADATA = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.REQUEST_TIMED_OUT,
    }
)


def now_ms() -> int:
    """Milliseconds that never go back."""
    return time.monotonic_ns() // 1_000_000


class Sender:
    """The producer's task. ``lock`` guards the accumulator against the application's threads."""

    def __init__(
        self,
        cluster: Cluster,
        accumulator: Accumulator,
        lock: threading.Lock,
        settings: ProducerSettings,
    ) -> None:
        self._cluster = cluster
        self._accumulator = accumulator
        self._lock = lock
        self._settings = settings
        self._wake = asyncio.Event()
        self._in_flight: dict[int, int] = {}
        self._held_until_ms: dict[int, int] = {}
        self._awaited: set[int] = set()
        self._identity: asyncio.Task[None] | None = None
        self.identity_error: KafkaError | None = None
        """Why there is no producer id, if there never will be."""

    def wake(self) -> None:
        """Look again. Called on the loop."""
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        accumulator = self._accumulator
        while True:
            now = now_ms()
            self._wake.clear()
            slots: dict[int, int] = {}
            with self._lock:
                calls = accumulator.expire(now)
                drained = accumulator.drain(partial(self._leader_of, slots, now), slots, now)
                sleep_ms: int | None = 0
                if not drained.by_node:
                    due = accumulator.next_look_ms(now)
                    sleep_ms = None if due is None else max(due - now, 1)
                    lingering = sleep_ms is not None and sleep_ms <= self._settings.limits.linger_ms
                    accumulator.arm(lingering=lingering)
            run_calls(calls)
            self._see_to_identity()  # behind the drain, which may have found the epochs used up
            if drained.leaderless:
                self._cluster.add_topics(*drained.leaderless)  # perhaps idle until now
                self._cluster.request_refresh()
            for node_id, batches in drained.by_node.items():
                self._send(node_id, batches)
            if sleep_ms == 0:
                await asyncio.sleep(0)  # let the channels write before more is encoded
            elif not self._wake.is_set():
                await self._sleep(sleep_ms)

    async def _sleep(self, sleep_ms: int | None) -> None:
        timer = None
        if sleep_ms is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(sleep_ms / 1000, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _leader_of(self, slots: dict[int, int], now: int, topic: str, partition: int) -> int | None:
        node_id = self._cluster.metadata.leader_of(topic, partition)
        if node_id is not None and node_id not in slots:
            slots[node_id] = self._free_slots(self._cluster.metadata.nodes[node_id], now)
        return node_id

    def _free_slots(self, node: Node, now: int) -> int:
        if node.node_id in self._awaited:
            return 0
        channel = self._cluster.connections.ready(node, "main")
        if channel is None:
            self._awaited.add(node.node_id)
            self._cluster.connections.connect(node, "main", partial(self._connected, node))
            return 0
        held_until = self._held_until_ms.get(node.node_id, 0)
        if held_until > now:
            self._awaited.add(node.node_id)
            loop = asyncio.get_running_loop()
            loop.call_later((held_until - now) / 1000, self._usable, node)
            return 0
        if not channel.writable:
            self._awaited.add(node.node_id)
            task = asyncio.get_running_loop().create_task(channel.drain())
            task.add_done_callback(lambda _: self._usable(node))
            return 0
        return self._settings.limits.max_in_flight - self._in_flight.get(node.node_id, 0)

    def _connected(self, node: Node) -> None:
        if self._cluster.connections.ready(node, "main") is None:
            self._cluster.request_refresh()  # it may have moved, or another leads by now
        self._usable(node)

    def _usable(self, node: Node) -> None:
        self._awaited.discard(node.node_id)
        self.wake()

    # Producer id

    def _see_to_identity(self) -> None:
        accumulator = self._accumulator
        if (
            not self._settings.limits.idempotent
            or accumulator.producer_id >= 0
            or not accumulator.incomplete
        ):
            return
        if self.identity_error is not None:
            # What came after the refusal: it would wait for its delivery time-out in vain, and hear of that only.
            self._abandon(self.identity_error)
        elif self._identity is None:
            self._identity = asyncio.get_running_loop().create_task(self._get_identity())

    async def _get_identity(self) -> None:
        from ottla.messages.init_producer_id import InitProducerIdRequest

        request = InitProducerIdRequest(
            transactional_id=None, transaction_timeout_ms=INIT_PRODUCER_ID_TIMEOUT_MS
        )
        try:
            while True:
                try:
                    node_id = await self._cluster.any_node()
                    answer = await self._cluster.send(node_id, request)
                    if answer.error_code:
                        raise KafkaError(answer.error_code, "InitProducerId")
                except KafkaError as error:
                    if not error.retriable and error.code is not ErrorCode.BROKER_NOT_AVAILABLE:
                        self._give_up(error)
                        return
                    await asyncio.sleep(self._settings.limits.retry_backoff_ms / 1000)
                    continue
                with self._lock:
                    self._accumulator.producer_id = answer.producer_id
                    self._accumulator.producer_epoch = answer.producer_epoch
                return
        finally:
            self._identity = None
            self.wake()

    def _give_up(self, error: KafkaError) -> None:
        self.identity_error = error
        log.warning("no producer id: nothing can be sent", error=str(error))
        self._abandon(error)

    def _abandon(self, error: KafkaError) -> None:
        with self._lock:
            calls = self._accumulator.abandon(error)
        run_calls(calls)

    def cancel(self) -> None:
        """Stop asking for a producer id."""
        if self._identity is not None:
            self._identity.cancel()

    # Requests

    def _send(self, node_id: int, batches: list[Batch]) -> None:
        node = self._cluster.metadata.nodes[node_id]
        channel = self._cluster.connections.ready(node, "main")
        try:
            batches = [batch for batch in batches if self._encode(batch)]
            if not batches:
                return
            if channel is None:
                raise KafkaError(ErrorCode.NETWORK_EXCEPTION, "the connection is gone")
            request, version, names = self._request(channel, batches)
            if self._settings.acks == 0:
                channel.send_oneway(request, version=version)
                with self._lock:
                    calls = [c for b in batches for c in self._accumulator.complete(b, -1, -1)]
                run_calls(calls)
                return
            timeout = self._cluster.settings.request_timeout_ms / 1000
            future = channel.send(request, version=version, timeout=timeout)
        except KafkaError as error:
            self._failed(batches, error)
            return
        self._in_flight[node_id] = self._in_flight.get(node_id, 0) + 1
        future.add_done_callback(partial(self._answered, node_id, batches, names))

    def _encode(self, batch: Batch) -> bool:
        if batch.payload is None:
            try:
                batch.payload = build_batch(
                    batch.records(),
                    timestamps_ms=batch.timestamps,
                    compression=self._settings.compression,
                    producer_id=batch.producer_id,
                    producer_epoch=batch.producer_epoch,
                    base_sequence=batch.base_sequence,
                )
            except Exception as error:  # a record that no batch can hold: not the others' fault
                log.error("a batch cannot be encoded", error=error, topic=batch.topic)
                self._failed([batch], KafkaError(ErrorCode.INVALID_RECORD, str(error)))
                return False
        return True

    def _request(
        self, channel: Channel, batches: list[Batch]
    ) -> tuple[ProduceRequest, int, dict[bytes, str]]:
        """The request, its version, and the names of its topics if it is one that goes by id."""
        version = channel.version_for(PRODUCE)
        metadata = self._cluster.metadata
        if version >= TOPIC_ID_VERSION and any(
            metadata.topic_id(batch.topic) == ZERO_ID for batch in batches
        ):
            version = channel.version_for(PRODUCE, (0, TOPIC_ID_VERSION - 1))
        topics: dict[str, TopicProduceData] = {}
        for batch in batches:
            topic = topics.get(batch.topic)
            if topic is None:
                topic = topics[batch.topic] = TopicProduceData(
                    name=batch.topic, topic_id=metadata.topic_id(batch.topic), partition_data=[]
                )
            topic.partition_data.append(
                PartitionProduceData(index=batch.partition, records=batch.payload)
            )
        request = ProduceRequest(
            acks=self._settings.acks,
            timeout_ms=self._cluster.settings.request_timeout_ms,
            topic_data=list(topics.values()),
        )
        names = {}
        if version >= TOPIC_ID_VERSION:
            names = {topic.topic_id: name for name, topic in topics.items()}
        return request, version, names

    def _answered(
        self,
        node_id: int,
        batches: list[Batch],
        names: dict[bytes, str],
        future: asyncio.Future[Any],
    ) -> None:
        self._in_flight[node_id] -= 1
        self.wake()
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            if not isinstance(error, KafkaError):
                error = KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, repr(error))
            self._failed(batches, error)
            return
        response = future.result()
        if response.throttle_time_ms > 0:
            self._held_until_ms[node_id] = now_ms() + response.throttle_time_ms
        outcome: dict[tuple[str | None, int], Any] = {}
        for topic in response.responses:
            name = names.get(bytes(topic.topic_id)) if names else topic.name
            for found in topic.partition_responses:
                outcome[name, found.index] = found
        self._settle(batches, outcome)

    def _settle(self, batches: list[Batch], outcome: dict[tuple[str | None, int], Any]) -> None:
        calls: Calls = []
        accumulator = self._accumulator
        stale = False
        with self._lock:
            for batch in batches:
                if batch.done:
                    continue
                found = outcome.get((batch.topic, batch.partition))
                if found is None:
                    error = KafkaError(ErrorCode.UNKNOWN_TOPIC_ID, "not in the broker's answer")
                elif not found.error_code:
                    calls += accumulator.complete(
                        batch, found.base_offset, found.log_append_time_ms
                    )
                    continue
                else:
                    error = KafkaError(found.error_code, found.error_message)
                    stale = stale or not self._take_leader(batch, found.current_leader)
                calls += accumulator.reject(batch, error, now_ms())
                stale = stale or (found is None)
                self._note_failure(batch, error)
        run_calls(calls)
        if stale:
            self._cluster.request_refresh()

    def _take_leader(self, batch: Batch, leader: Any) -> bool:
        """Whether the answer itself named the new leader (KIP-951)."""
        return leader is not None and self._cluster.metadata.new_leader(
            batch.topic, batch.partition, leader.leader_id, leader.leader_epoch
        )

    def _failed(self, batches: list[Batch], error: KafkaError) -> None:
        with self._lock:
            calls = [
                call
                for batch in batches
                if not batch.done
                for call in self._accumulator.reject(batch, error, now_ms())
            ]
        for batch in batches:
            self._note_failure(batch, error)
        run_calls(calls)
        if error.code in STALE_METADATA:
            self._cluster.request_refresh()
        self.wake()

    def _note_failure(self, batch: Batch, error: KafkaError) -> None:
        write = log.warning if batch.done else log.debug
        write(
            "records not delivered" if batch.done else "a batch is sent again",
            topic=batch.topic,
            partition=batch.partition,
            records=len(batch),
            error=str(error),
        )


def run_calls(calls: Calls) -> None:
    """Tell those who wait; what one of them raises concerns nobody else."""
    for call in calls:
        try:
            call()
        except Exception as error:
            log.error("a delivery callback failed", error=error)

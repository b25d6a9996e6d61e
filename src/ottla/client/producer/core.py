"""What the asynchronous and the synchronous producer have in common.

``intake.take`` is the path of every record: short, under the lock, never waiting. Only when it says no
(unknown topic, no room) the caller waits in ``make_ready`` and tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from time import time_ns

from ottla.client.cluster import Cluster
from ottla.client.dice import dice
from ottla.client.errors import BufferFull, RequestTimeout
from ottla.client.partitioner import KeyPartitioner
from ottla.client.producer.accumulator import Accumulator
from ottla.client.producer.chosen_intake import Intake
from ottla.client.producer.sender import Sender, now_ms, run_calls
from ottla.client.producer.settings import ProducerSettings
from ottla.client.settings import ConnectionSettings
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger

log = logger(__name__)

_FORBIDDEN = frozenset(
    {ErrorCode.TOPIC_AUTHORIZATION_FAILED, ErrorCode.CLUSTER_AUTHORIZATION_FAILED}
)
_PERMANENT = frozenset({ErrorCode.INVALID_TOPIC_EXCEPTION, *_FORBIDDEN})

TOPIC_IDLE_MS = 300_000
"""For how long a topic that nobody writes to is asked for (KIP-526, metadata.max.idle.ms)."""

ROOM_BATCHES = 4
"""Who has waited for room gets so much of it: waking a thread for each batch costs more than the batch."""


class ProducerCore:
    """Records in on any thread (under ``lock``), everything else on one loop."""

    def __init__(
        self,
        connection: ConnectionSettings,
        settings: ProducerSettings,
        *,
        threads: bool = False,
    ) -> None:
        """``threads``: whether records come from other threads than the loop's."""
        self.settings = settings
        self.cluster = Cluster(connection)
        self.lock = threading.Lock()
        self.signal: Callable[[], None] = self.wake
        """Wakes the sender; replaced where records come from another thread."""
        self.accumulator = Accumulator(
            settings.limits, lambda: self.signal(), dice.randrange, now_ms
        )
        self._sender = Sender(self.cluster, self.accumulator, self.lock, settings)
        self._task: asyncio.Task[None] | None = None
        limits = settings.limits
        self._room_to_wait_for = min(ROOM_BATCHES * limits.batch_size, limits.buffer_memory // 4)
        self._room: list[tuple[asyncio.Future[None], int]] = []
        self.intake = Intake(
            self.accumulator.buffer,
            self.lock,
            threads,
            min(limits.max_request_size, limits.buffer_memory),
            settings.key_serializer,
            settings.value_serializer,
            settings.partitioner,
            not isinstance(settings.partitioner, KeyPartitioner),
            time_ns,
        )

    @property
    def closed(self) -> bool:
        """Whether no more records are taken."""
        return self.intake.closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self.intake.closed = closed

    # Lifetime, on the loop

    async def start(self) -> None:
        """Begin to send."""
        if self._task is None and not self.closed:
            self.cluster.on_update.append(self._metadata_changed)
            self.cluster.start()
            self._task = asyncio.get_running_loop().create_task(self._sender.run())

    async def flush(self, timeout: float | None) -> None:
        """Wait until all records sent so far are settled; ``RequestTimeout`` after ``timeout`` seconds."""
        with self.lock:
            batches = self.accumulator.begin_flush()
            left = len(batches)
            settled = asyncio.get_running_loop().create_future()

            def one_done() -> None:
                nonlocal left
                left -= 1
                if not left and not settled.done():
                    settled.set_result(None)

            for batch in batches:
                if batch.listeners is None:
                    batch.listeners = []
                batch.listeners.append(one_done)
        try:
            if batches:
                async with asyncio.timeout(timeout):
                    await settled
        except TimeoutError:
            raise RequestTimeout(f"flush: {left} batches are under way after {timeout} s") from None
        finally:
            with self.lock:
                self.accumulator.end_flush()

    async def close(self, timeout: float | None) -> None:
        """Send what is there, then stop; what is not delivered within ``timeout`` seconds fails."""
        if self.closed:
            return
        self.closed = True
        try:
            if self._task is not None:
                with contextlib.suppress(RequestTimeout):
                    await self.flush(timeout)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._sender.cancel()
        with (
            self.lock
        ):  # before anything is waited for: a second interruption leaves nobody waiting
            given_up = sum(map(len, self.accumulator.incomplete))
            calls = self.accumulator.abandon(
                RequestTimeout("the producer was closed before the record was acknowledged")
            )
        if given_up:
            log.warning("closed before all records were acknowledged", records=given_up)
        run_calls(calls)
        self._make_room()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self.cluster.close()

    # Records

    async def make_ready(self, topic: str, partition: int | None, size_bytes: int) -> None:
        """Wait until the topic is known and the buffer has room; at most ``max_block_ms`` each.

        Raises ``KafkaError`` where waiting is in vain, ``RuntimeError`` on a closed producer.
        """
        self._check_open()
        await self.start()
        if self._sender.identity_error is not None:
            raise self._sender.identity_error
        await self.partitions_of(topic, -1 if partition is None else partition)
        try:
            async with asyncio.timeout(self.settings.max_block_ms / 1000):
                if not self.accumulator.has_room(size_bytes):
                    await self._wait_for_room(max(size_bytes, self._room_to_wait_for))
        except TimeoutError:
            if not self.accumulator.has_room(size_bytes):
                raise BufferFull(
                    f"no room for {size_bytes} bytes within {self.settings.max_block_ms} ms"
                ) from None
        self._check_open()

    async def partitions_of(self, topic: str, at_least: int = -1) -> int:
        """The topic's number of partitions, once partition ``at_least`` is among them."""

        def known() -> int | None:
            found = self.cluster.metadata.topics.get(topic)
            if found is None:
                code = self.cluster.metadata.errors.get(topic)
                if code in _PERMANENT:
                    raise KafkaError(code, topic)
                return None
            return len(found.partitions) if at_least < len(found.partitions) else None

        self.cluster.add_topics(topic)
        with self.lock:
            self.accumulator.used_at_ms[topic] = now_ms()
        errors = self.cluster.metadata.errors
        if errors.get(topic) in _FORBIDDEN:
            # It may be allowed by now: the next answer says (``KafkaProducer.waitOnMetadata``).
            del errors[topic]
        what = f"topic {topic}" if at_least < 0 else f"partition {at_least} of topic {topic}"
        count = await self.cluster.wait_for(known, self.settings.max_block_ms, what)
        with self.lock:
            self.accumulator.topic(topic)
        self._metadata_changed()
        return count

    async def _wait_for_room(self, size_bytes: int) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room.append((waiter, size_bytes))
        with self.lock:
            self.accumulator.when_settled = self._make_room
        self.wake()
        self._make_room()
        await waiter

    def _make_room(self) -> None:
        """Wake those for whom there is room by now, and those who wait in vain."""
        left = []
        for waiter, size_bytes in self._room:
            if waiter.done():
                continue
            if self.closed or self.accumulator.has_room(size_bytes):
                waiter.set_result(None)
            else:
                left.append((waiter, size_bytes))
        self._room = left
        if not left:
            self.accumulator.when_settled = None

    def _metadata_changed(self) -> None:
        with self.lock:
            for name, state in self.accumulator.topics.items():
                found = self.cluster.metadata.topics.get(name)
                if found is not None:
                    self.accumulator.update_topic(
                        state,
                        len(found.partitions),
                        [p.partition for p in found.partitions.values() if p.leader >= 0],
                        found.topic_id,
                    )
        self._forget_idle_topics()
        self.wake()

    def _forget_idle_topics(self) -> None:
        """Ask no more for what nobody writes to: a topic that has been deleted would be made anew because of us."""
        used_at_ms = self.accumulator.used_at_ms
        since_ms = now_ms() - max(TOPIC_IDLE_MS, self.settings.max_block_ms)
        with self.lock:
            idle = {name for name, at_ms in used_at_ms.items() if at_ms < since_ms}
            if idle:
                idle -= {batch.topic for batch in self.accumulator.incomplete}
            for name in idle:
                del used_at_ms[name]
            used = set(used_at_ms)
        if idle:
            self.cluster.set_topics(used)

    def wake(self) -> None:
        """Let the sender look again. Called on the loop."""
        self._sender.wake()

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("the producer is closed")

"""The synchronous producer: ``ottla.Producer``. The same core on a thread of its own."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from ottla.client.loop_thread import LoopThread
from ottla.client.producer.chosen_intake import Delivery, Headers, OnDelivery, Sending
from ottla.client.producer.core import ProducerCore
from ottla.client.producer.settings import ProducerOptions, producer_settings
from ottla.client.settings import split_options

EXIT_TIMEOUT_S = 10.0
"""How long the interpreter's end waits for records of a producer that was not closed."""


class Producer:
    """Sends records to topics, from any number of threads.

    The settings are those of ``ottla.aio.Producer``; serializers and partitioner are called in the thread that sends,
    in several at once where several do. Records go out in the background: ``send`` returns
    at once with a handle (it waits only for an unknown topic or a full buffer), and ``close``, or the end
    of the ``with`` block, waits until everything is acknowledged. One that is not closed is when the
    interpreter ends, with ``EXIT_TIMEOUT_S`` for what is under way. It does not live on in a forked process.
    """

    def __init__(
        self, bootstrap: str | Sequence[str] | None = None, **options: Unpack[ProducerOptions]
    ) -> None:
        connection, own = split_options(bootstrap, options, "ottla-producer")
        self._core = ProducerCore(connection, producer_settings(**own), threads=True)
        self._sending = Sending(self._core.intake, self._make_ready)
        if type(self).send is Producer.send:  # without our frame where nobody has another
            self.send = self._sending.send  # type: ignore[method-assign]
        self._thread = LoopThread("ottla-producer", self._forked)
        atexit.register(self.close, EXIT_TIMEOUT_S)
        self._core.signal = self._signal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> Delivery:
        """Take a record; it is sent in the background.

        ``result()`` of what this returns gives the record's ``RecordMetadata``;
        ``on_delivery(metadata, error)`` is called on the producer's thread, with one of the two. Raises
        ``KafkaError`` for an impossible topic, ``BufferFull``, ``RecordTooLarge``, ``TypeError`` or
        ``ValueError`` for what can't be a record.
        """
        return self._sending.send(topic, value, key, partition, timestamp_ms, headers, on_delivery)

    def _make_ready(self, topic: str, partition: int | None, size_bytes: int) -> None:
        if self._core.closed:
            raise RuntimeError("the producer is closed")
        self._thread.run(self._core.make_ready(topic, partition, size_bytes))

    def partitions_for(self, topic: str) -> int:
        """The topic's number of partitions."""

        async def ask() -> int:
            await self._core.start()
            return await self._core.partitions_of(topic)

        return self._thread.run(ask())

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all records taken so far are acknowledged or failed; nothing lingers.

        Raises ``RequestTimeout`` after ``timeout`` seconds.
        """
        self._thread.run(self._core.flush(timeout))

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop; what is not acknowledged after ``timeout`` seconds fails."""
        atexit.unregister(self.close)
        if not self._core.closed:
            try:
                self._thread.run(self._core.close(timeout))
            finally:
                if self._core.closed:
                    self._thread.stop()

    def _forked(self) -> None:
        """The records in the buffer are the parent's to send; a thread of it may have held the lock."""
        self._core.lock = threading.Lock()
        self._core.closed = True
        atexit.unregister(self.close)

    def _signal(self) -> None:
        self._thread.call_soon(self._core.wake)

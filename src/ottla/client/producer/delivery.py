"""What ``send`` returns: a small handle on a record's place in its batch.

Nothing is allocated for waiting until somebody waits; then one event or future serves that wait. The handles
are bare tuples underneath, because a class of its own costs twice as much to make.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from ottla.client.errors import RequestTimeout
from ottla.client.producer.batch import Batch
from ottla.client.types import RecordMetadata
from ottla.errors import KafkaError

new_delivery: Any = tuple.__new__
"""Makes a handle out of its fields."""


class AsyncDelivery(tuple[Batch, int]):
    """A record on its way: ``await delivery`` gives its ``RecordMetadata`` or raises ``KafkaError``.

    It may be awaited any number of times, or not at all. Cancelling who waits does not take the record
    back.
    """

    __slots__ = ()

    def done(self) -> bool:
        """Whether the record's fate is known."""
        batch, index = self
        return batch.part_of(index)[0].done

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        first, place = self
        batch, index = first.part_of(place)
        while not batch.done:
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            _listen(batch, partial(_set, settled))
            yield from settled
            batch, index = first.part_of(place)
        return _metadata(batch, index)


class Delivery(tuple[Batch, int, threading.Lock]):
    """A record on its way, as a ``concurrent.futures.Future`` would tell of it."""

    __slots__ = ()

    def done(self) -> bool:
        """Whether the record's fate is known."""
        batch, index, lock = self
        with lock:
            return batch.part_of(index)[0].done

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Where the record went; waits up to ``timeout`` seconds (None: as long as it takes).

        Raises ``KafkaError`` when it was not delivered, ``RequestTimeout`` (a ``TimeoutError``) when the
        wait was too short.
        """
        batch, index = self._wait(timeout)
        return _metadata(batch, index)

    def exception(self, timeout: float | None = None) -> KafkaError | None:
        """Why the record was not delivered; None when it was. Waits as ``result`` does."""
        return self._wait(timeout)[0].error

    def add_done_callback(self, callback: Callable[[Delivery], Any]) -> None:
        """Call back with this handle once the fate is known: at once if it is, else on the producer's thread."""
        first, index, lock = self
        with lock:
            batch = first.part_of(index)[0]
            if not batch.done:
                _listen(batch, lambda: callback(self))
                return
        callback(self)

    def _wait(self, timeout: float | None) -> tuple[Batch, int]:
        first, place, lock = self
        with lock:
            batch, index = first.part_of(place)
            if batch.done:
                return batch, index
            settled = threading.Event()
            _listen(batch, settled.set)
        if not settled.wait(timeout):
            raise RequestTimeout(f"no acknowledgement within {timeout} s")
        with lock:
            return first.part_of(place)

    def __repr__(self) -> str:
        return f"<Delivery {'done' if self.done() else 'under way'}>"


def _set(settled: asyncio.Future[None]) -> None:
    if not settled.done():
        settled.set_result(None)


def _listen(batch: Batch, listener: Callable[[], object]) -> None:
    if batch.listeners is None:
        batch.listeners = []
    batch.listeners.append(listener)


def _metadata(batch: Batch, index: int) -> RecordMetadata:
    if batch.error is not None:
        raise batch.error.with_traceback(None)
    return batch.metadata(index)

"""Members of a group, each polling in a thread of its own, and what happens to them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import ottla

GROUP_SETTINGS: dict[str, Any] = {
    "auto_offset_reset": "earliest",
    "heartbeat_interval_ms": 50,
    "session_timeout_ms": 10_000,
    "fetch_max_wait_ms": 50,
    "auto_commit_interval_ms": 200,
}


class Member:
    """A consumer that polls until it is stopped; ``handle`` gets every batch in the polling thread."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        group: str,
        handle: Callable[[ottla.Consumer, list[ottla.Record]], None] | None = None,
        **settings: Any,
    ) -> None:
        self.consumer = ottla.Consumer(
            group=group, bootstrap=bootstrap, **{**GROUP_SETTINGS, **settings}
        )
        self.records: list[ottla.Record] = []
        self.events: list[tuple[str, list[ottla.TopicPartition]]] = []
        self.error: BaseException | None = None
        self._topic = topic
        self._handle = handle
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def partitions(self) -> set[int]:
        """The partitions that it reads now."""
        return {partition.partition for partition in self.consumer.assignment()}

    def stop(self) -> None:
        """Close the consumer; raises what went wrong in its thread."""
        self._stopping.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _note(self, what: str) -> Callable[[list[ottla.TopicPartition]], None]:
        return lambda partitions: self.events.append((what, partitions))

    def _work(self) -> None:
        try:
            with self.consumer as consumer:
                consumer.subscribe(
                    [self._topic],
                    on_assigned=self._note("assigned"),
                    on_revoked=self._note("revoked"),
                    on_lost=self._note("lost"),
                )
                while not self._stopping.is_set():
                    records = consumer.poll(0.1)
                    if records and self._handle is not None:
                        self._handle(consumer, records)
                    self.records += records
        except BaseException as error:
            self.error = error


def shared(partitions: int, *members: Any) -> bool:
    """Whether every partition has one owner and no member has two more than another."""
    owned = [member.partitions for member in members]
    sizes = sorted(len(mine) for mine in owned)
    return sum(sizes) == partitions == len(set().union(*owned)) and sizes[-1] - sizes[0] <= 1

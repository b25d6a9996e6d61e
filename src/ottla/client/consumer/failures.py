"""What went wrong in the background and is the application's to know, until its next ``poll``.

A failure that concerns positions is dropped if all of those have moved since: it has been seen to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ottla.client.consumer.positions import PartitionState
from ottla.errors import KafkaError


class Failures:
    """First come, first raised."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[KafkaError, list[tuple[PartitionState, int]]]] = deque()

    def add(self, error: KafkaError, states: Iterable[PartitionState] = ()) -> None:
        """Have it raised; ``states`` are the partitions that it concerns.

        What is tried again while no ``poll`` comes fails again: the same failure waits once.
        """
        concerned = [(state, state.version) for state in states]
        is_there = bool(concerned) and any(
            other.code is error.code and others == concerned for other, others in self._waiting
        )
        if not is_there:
            self._waiting.append((error, concerned))

    def raise_next(self) -> None:
        """Raise the first that still holds, if there is one."""
        while self._waiting:
            error, concerned = self._waiting.popleft()
            if not concerned or any(state.version == version for state, version in concerned):
                raise error

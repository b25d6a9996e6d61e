"""Producer ids, from blocks that the controller has made durable.

Rule: an id is given out once in a cluster's life (INVARIANTS 38). What is left of a block when the broker
stops is lost, which is what makes a restart safe. Source: ``RPCProducerIdManager``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class ProducerIds:
    """Gives producer ids one by one."""

    def __init__(self, allocate: Callable[[], Awaitable[tuple[int, int]]]) -> None:
        """``allocate`` returns the first id of a new block and how many there are."""
        self._allocate = allocate
        self._next = 0
        self._end = 0
        self._lock = asyncio.Lock()

    async def next(self) -> int:
        """An id that nobody has had. Raises ``KafkaError`` if the controller gives no block."""
        async with self._lock:
            if self._next == self._end:
                self._next, count = await self._allocate()
                self._end = self._next + count
            producer_id = self._next
            self._next += 1
            return producer_id

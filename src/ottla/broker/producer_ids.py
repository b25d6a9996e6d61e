"""Producer ids, from blocks that the controller has made durable.

Rule: an id is given out once in a cluster's life (INVARIANTS 38). What is left of a block when the broker
stops is lost, which is what makes a restart safe. Source: ``RPCProducerIdManager``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

ANSWER_TIMEOUT_S = 10.0
"""How long a producer waits for a block; it asks again."""


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


async def allocate(broker: Broker) -> tuple[int, int]:
    """A new block from the controller: its first id and how many there are. Raises ``KafkaError``."""
    from ottla.messages.allocate_producer_ids import (
        AllocateProducerIdsRequest,
        AllocateProducerIdsResponse,
    )

    request = AllocateProducerIdsRequest(broker_id=broker.node_id, broker_epoch=broker.broker_epoch)
    answer: AllocateProducerIdsResponse = await broker.controller_link.send(
        request, timeout_s=ANSWER_TIMEOUT_S
    )
    if answer.error_code:
        raise KafkaError(ErrorCode(answer.error_code))
    return answer.producer_id_start, answer.producer_id_len

"""Blocks of producer ids: each is given to one broker, for good (invariant 38)."""

from __future__ import annotations

from ottla.controller.cluster_state import ClusterState
from ottla.controller.office import try_again, write
from ottla.controller.refusals import answer_for
from ottla.coordination import znodes
from ottla.coordination.store import Create, Operation, Set, Store, StoreError
from ottla.coordination.znodes import ProducerIdBlock
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.allocate_producer_ids import AllocateProducerIdsRequest

PRODUCER_ID_BLOCK_SIZE = 1000
_PRODUCER_ID_MAX = 2**63 - 1


class ProducerIdBlocks:
    """Gives blocks out, for whoever holds the controller's office."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def allocate(self, state: ClusterState, owner: int) -> tuple[int, int]:
        """The first and the number of ids that are the broker's alone. Raises KafkaError."""
        try:
            return await try_again(lambda: self._allocate_once(state, owner))
        except StoreError as error:
            raise answer_for(error) from error

    async def allocate_for(
        self, state: ClusterState, request: AllocateProducerIdsRequest
    ) -> tuple[int, int]:
        """The same for a broker that asks under its epoch. Raises KafkaError."""
        live = state.brokers.get(request.broker_id)
        if live is None:
            raise KafkaError(ErrorCode.BROKER_ID_NOT_REGISTERED)
        if live.epoch != request.broker_epoch:
            raise KafkaError(ErrorCode.STALE_BROKER_EPOCH)
        return await self.allocate(state, request.broker_id)

    async def _allocate_once(self, state: ClusterState, owner: int) -> tuple[int, int]:
        (znode,) = await self._store.get_many([znodes.PRODUCER_ID_BLOCK])
        latest = ProducerIdBlock.decode(znode.data) if znode is not None else None
        first = latest.last + 1 if latest is not None else 0
        if first > _PRODUCER_ID_MAX - PRODUCER_ID_BLOCK_SIZE:
            raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, "Exhausted all producer ids.")
        block = ProducerIdBlock(owner, first, first + PRODUCER_ID_BLOCK_SIZE - 1)
        operation: Operation = (
            Create(znodes.PRODUCER_ID_BLOCK, block.encode())
            if znode is None
            else Set(znodes.PRODUCER_ID_BLOCK, block.encode(), znode.stat.version)
        )
        await write(self._store, state, [[operation]])
        return first, PRODUCER_ID_BLOCK_SIZE

"""The controller's office: an epoch is taken once, and who was followed by another writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ottla.controller.office import ControllerMoved, remove, run_for_office
from ottla.coordination import znodes
from ottla.coordination.embedded import EmbeddedStore
from ottla.coordination.store import Operation


class Overtaken:
    """A session whose first multi comes only after another broker has been the controller, and is gone."""

    def __init__(self, own: EmbeddedStore, other: EmbeddedStore) -> None:
        self._own, self._other = own, other
        self.others_epoch = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    async def multi(self, operations: Sequence[Operation]) -> Any:
        if not self.others_epoch:
            other = await run_for_office(self._other, 2, now_ms=0)
            assert other is not None
            self.others_epoch = other.controller_epoch
            await self._other.delete(znodes.CONTROLLER)
        return await self._own.multi(operations)


async def test_who_read_the_epoch_before_another_took_office_takes_the_one_after_it(
    cluster: Any,
) -> None:
    await cluster.start(1, 2)
    store: Any = Overtaken(cluster.sessions[1], cluster.sessions[2])
    state = await run_for_office(store, 1, now_ms=0)
    assert state is not None
    assert (store.others_epoch, state.controller_epoch) == (1, 2)


async def test_who_was_followed_by_another_controller_deletes_nothing(cluster: Any) -> None:
    await cluster.start(1, 2)
    store = cluster.sessions[1]
    state = await run_for_office(store, 1, now_ms=0)
    assert state is not None
    await store.create(znodes.REASSIGN_PARTITIONS)
    await cluster.sessions[2].set(znodes.CONTROLLER_EPOCH, znodes.encode_controller_epoch(2))
    with pytest.raises(ControllerMoved):
        await remove(store, state, znodes.REASSIGN_PARTITIONS)
    assert await store.exists(znodes.REASSIGN_PARTITIONS) is not None

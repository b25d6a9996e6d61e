"""The brokers' registrations, each read and watched.

Rules: a registration has one watch, which fires when it is altered or gone; who was not there, or not read, has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ottla.controller.cluster_state import LiveBroker
from ottla.coordination import znodes
from ottla.coordination.store import NoNode, Store, StoreError, Watch, WatchEvent
from ottla.coordination.znodes import BrokerRegistration, MalformedZnode
from ottla.logs import logger

log = logger(__name__)

BROKER_ID_MAX = 2**31 - 1
"""Whoever registers under a greater number, by hand, can be named in no request."""


class Registrations:
    """The brokers that are registered, for whoever holds the controller's office."""

    def __init__(self, store: Store, altered: Callable[[], None]) -> None:
        """``altered`` is called when one of the registrations that were read is another, or gone."""
        self._store = store
        self._altered = altered
        self._watched: set[int] = set()

    async def read(self, watch: Watch) -> dict[int, LiveBroker]:
        """Them by broker id; ``watch`` sees others come and go."""
        try:
            names = await self._store.children(znodes.BROKER_IDS, watch=watch)
            broker_ids = sorted(
                int(name) for name in names if name.isdecimal() and int(name) <= BROKER_ID_MAX
            )
            read = await asyncio.gather(*map(self._read_one, broker_ids))
        except StoreError:
            self._watched.clear()  # nobody knows which of them the store watches
            raise
        found = {
            broker_id: live
            for broker_id, live in zip(broker_ids, read, strict=True)
            if live is not None
        }
        self._watched &= found.keys()  # there is no watch on what was not there
        return found

    async def _read_one(self, broker_id: int) -> LiveBroker | None:
        try:
            znode = await self._store.get(
                znodes.broker_path(broker_id), watch=self._watch_of(broker_id)
            )
        except NoNode:
            return None
        try:
            registration = BrokerRegistration.decode(broker_id, znode.data)
        except MalformedZnode as error:  # nobody could reach it; the others must not suffer
            log.error("a broker's registration can't be read", reason=str(error))
            return None
        return LiveBroker(registration, znode.stat.czxid)

    def _watch_of(self, broker_id: int) -> Watch | None:
        if broker_id in self._watched:
            return None
        self._watched.add(broker_id)

        def on_change(event: WatchEvent) -> None:
            self._watched.discard(broker_id)
            self._altered()

        return on_change

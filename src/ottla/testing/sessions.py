"""Sessions of the brokers of a ``Cluster`` with the store that they share, which a test can hold or end.

A ``BrokersConnector`` is one broker's. While it is held nothing of its session reaches the store and nothing comes
back: the session is SUSPENDED, what is asked fails with ConnectionLoss, events wait; after the session timeout the
store ends it, as ZooKeeper does, and the broker is told so only once it is no longer held.

Rule: what the store tells a broker (events, changes of state) runs in that broker's context, whoever caused it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from ottla.clock import boottime
from ottla.coordination.embedded import Keeper
from ottla.coordination.embedded_session import EmbeddedStore
from ottla.coordination.store import (
    ANY_VERSION,
    ConnectionLoss,
    Created,
    Operation,
    OperationResult,
    SessionState,
    Stat,
    Watch,
    WatchEvent,
    Znode,
)

_T = TypeVar("_T")

MARGIN_S = 0.05
"""A session is taken for dead so much before the store ends it."""


class BrokersConnector:
    """Opens one broker's sessions, and holds or ends them."""

    def __init__(self, keeper: Keeper, session_timeout_ms: int) -> None:
        self.keeper = keeper
        self.session_timeout_ms = session_timeout_ms
        self.held = False
        self._dead = False
        self._released: asyncio.Future[None] | None = None
        self.session: HeldSession | None = None

    async def connect(self) -> HeldSession:
        """A new session; waits while this broker is held. Raises ConnectionLoss once the broker is dead."""
        while self.held and not self._dead:
            await asyncio.shield(self._release())
        if self._dead:
            raise ConnectionLoss("the broker is dead")
        self.session = HeldSession(self, await self.keeper.connect())
        return self.session

    async def close(self) -> None:
        """End the session that is open."""
        if self.session is not None:
            await self.session.close()

    def hold(self) -> None:
        """Let nothing through any more."""
        self.held = True
        if self.session is not None:
            self.session.hold()

    def release(self) -> None:
        """Let everything through again."""
        self.held = False
        if self.session is not None:
            self.session.release()
        if self._released is not None:
            self._released.set_result(None)
            self._released = None

    async def expire(self) -> None:
        """The store ends the session now."""
        if self.session is not None:
            await self.session.expire()

    def die(self) -> None:
        """The broker is gone without a word: its session lives on until its timeout."""
        self._dead = True
        self.hold()
        if self._released is not None:
            self._released.set_result(None)
            self._released = None

    def _release(self) -> asyncio.Future[None]:
        if self._released is None:
            self._released = asyncio.get_running_loop().create_future()
        return self._released


class HeldSession:
    """One session, with what a network may do to it; keeps the ``Store`` contract."""

    def __init__(self, connector: BrokersConnector, store: EmbeddedStore) -> None:
        self._connector = connector
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._context: Context = copy_context()
        self._listeners: list[Callable[[SessionState], None]] = []
        self._held_at: float | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[Watch, WatchEvent]] = []
        self._told = SessionState.CONNECTED
        store.on_state(self._changed)

    @property
    def session_id(self) -> int:
        """Compare with ``Stat.ephemeral_owner``."""
        return self._store.session_id

    @property
    def state(self) -> SessionState:
        """As it is known to the broker."""
        return self._told

    @property
    def session_timeout_ms(self) -> int | None:
        """As it was asked for."""
        return self._connector.session_timeout_ms

    @property
    def lives_until(self) -> float:
        """A timeout from now, or from when it was held; less a margin."""
        if self._told is SessionState.EXPIRED:
            return -math.inf
        since = boottime() if self._held_at is None else self._held_at
        return since + self._connector.session_timeout_ms / 1000 - MARGIN_S

    def on_state(self, listener: Callable[[SessionState], None]) -> None:
        """Call ``listener`` at every later change."""
        self._listeners.append(listener)

    # What a test does to it

    def hold(self) -> None:
        """Out of touch, until ``release`` or the timeout."""
        if self._held_at is not None or self._told is SessionState.EXPIRED:
            return
        self._held_at = boottime()
        self._expiry = self._loop.call_later(
            self._connector.session_timeout_ms / 1000, self._time_out
        )
        self._tell(SessionState.SUSPENDED)

    def release(self) -> None:
        """In touch again; what happened meanwhile is told now."""
        if self._held_at is None:
            return
        self._held_at = None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._store.state is SessionState.EXPIRED:
            self._tell(SessionState.EXPIRED)
            return
        self._tell(SessionState.CONNECTED)
        waiting, self._waiting = self._waiting, []
        for watch, event in waiting:
            self._loop.call_soon(watch, event, context=self._context)

    async def expire(self) -> None:
        """The store ends it now."""
        await self._connector.keeper.expire(self._store.session_id)

    def _time_out(self) -> None:
        self._expiry = None
        ending = self._loop.create_task(self.expire())
        ending.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _changed(self, state: SessionState) -> None:
        """The store has ended it; a broker that is held does not hear of it."""
        if self._held_at is None:
            self._tell(state)

    def _tell(self, state: SessionState) -> None:
        if state is self._told:
            return
        self._told = state
        for listener in self._listeners:
            self._loop.call_soon(listener, state, context=self._context)

    # The store's contract

    async def create(
        self, path: str, data: bytes = b"", *, ephemeral: bool = False, sequential: bool = False
    ) -> Created:
        """Create a znode."""
        return await self._ask(
            lambda: self._store.create(path, data, ephemeral=ephemeral, sequential=sequential)
        )

    async def get(self, path: str, *, watch: Watch | None = None) -> Znode:
        """Data and stat."""
        return await self._ask(lambda: self._store.get(path, watch=self._watch(watch)))

    async def get_many(self, paths: Sequence[str]) -> list[Znode | None]:
        """Many reads as one."""
        return await self._ask(lambda: self._store.get_many(paths))

    async def exists(self, path: str, *, watch: Watch | None = None) -> Stat | None:
        """The stat, or None."""
        return await self._ask(lambda: self._store.exists(path, watch=self._watch(watch)))

    async def children(self, path: str, *, watch: Watch | None = None) -> list[str]:
        """The children's names."""
        return await self._ask(lambda: self._store.children(path, watch=self._watch(watch)))

    async def set(self, path: str, data: bytes, version: int = ANY_VERSION) -> Stat:
        """Replace the data."""
        return await self._ask(lambda: self._store.set(path, data, version))

    async def delete(self, path: str, version: int = ANY_VERSION) -> None:
        """Delete a znode."""
        await self._ask(lambda: self._store.delete(path, version))

    async def multi(self, operations: Sequence[Operation]) -> list[OperationResult]:
        """All or nothing."""
        return await self._ask(lambda: self._store.multi(operations))

    async def close(self) -> None:
        """End the session; one that is held ends at its timeout."""
        if self._held_at is None:
            await self._store.close()
        self._told = SessionState.EXPIRED

    async def _ask(self, ask: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What the store answers, unless the session is held before the answer is here."""
        if self._held_at is not None:
            raise ConnectionLoss("out of touch with the store")
        answer = await ask()
        if self._held_at is not None:
            raise ConnectionLoss("the answer is lost")
        return answer

    def _watch(self, watch: Watch | None) -> Watch | None:
        return None if watch is None else _Seen(self, watch)

    def seen(self, watch: Watch, event: WatchEvent) -> None:
        """The store tells of an event."""
        if self._held_at is not None:
            self._waiting.append((watch, event))
        elif self._told is not SessionState.EXPIRED:
            self._context.run(watch, event)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A watch as the store has it: equal to another one of the same watch, as the store takes two such for one."""

    session: HeldSession
    watch: Watch

    def __call__(self, event: WatchEvent) -> None:
        self.session.seen(self.watch, event)

"""A session with the embedded store, and how it may be cut off from it as from a ZooKeeper that can't be reached.

A session without a timeout, a single broker's, lives as long as the process. One with a timeout stands for a
broker's session with a real ensemble, for tests of clusters in one process: it may be *held*, and is then in every
respect like a client whose packets are lost. Nothing it asks is done, no answer and no event reaches it; after a
third of its timeout it finds itself SUSPENDED and what was under way fails with ConnectionLoss; after the whole the
keeper ends it, as all others see at once and itself when it is released.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ottla.clock import boottime
from ottla.coordination.store import (
    ANY_VERSION,
    REQUEST_BYTES_MAX,
    ConnectionLoss,
    Create,
    Created,
    Delete,
    Operation,
    OperationResult,
    RequestTooLarge,
    SessionExpired,
    SessionState,
    Set,
    Stat,
    Watch,
    WatchEvent,
    Znode,
    request_bytes,
)

if TYPE_CHECKING:
    from ottla.coordination.embedded import Keeper

SUSPENDED_AFTER = 1 / 3
"""As a part of the timeout: when a held session notices."""
SAFE = 0.95
"""As a part of the timeout: for so long after it was held a session cannot have expired."""

_T = TypeVar("_T")


class EmbeddedStore:
    """One session with the embedded store; keeps the ``Store`` contract."""

    def __init__(
        self, keeper: Keeper, session_id: int, session_timeout_ms: int | None = None
    ) -> None:
        self._keeper = keeper
        self._session_id = session_id
        self._timeout_ms = session_timeout_ms
        self._state = SessionState.CONNECTED
        self._listeners: list[Callable[[SessionState], None]] = []
        self._hold: _Hold | None = None

    @property
    def session_id(self) -> int:
        """Compare with ``Stat.ephemeral_owner``."""
        return self._session_id

    @property
    def state(self) -> SessionState:
        """CONNECTED until closed or expired, or held."""
        return self._state

    @property
    def session_timeout_ms(self) -> int | None:
        """None: the keeper is in this process and never misses us."""
        return self._timeout_ms

    @property
    def lives_until(self) -> float:
        """For ever without a timeout; with one, as long from now, or from when it was held."""
        if self._timeout_ms is None:
            return math.inf
        since = boottime() if self._hold is None else self._hold.since
        return since + self._timeout_ms / 1000 * SAFE

    def on_state(self, listener: Callable[[SessionState], None]) -> None:
        """Call ``listener`` at every change."""
        self._listeners.append(listener)

    # Operations

    async def create(
        self, path: str, data: bytes = b"", *, ephemeral: bool = False, sequential: bool = False
    ) -> Created:
        """Create a znode."""
        operation = Create(path, data, ephemeral, sequential)
        self._admit((operation,))
        return await self._ask(partial(self._keeper.create, self._session_id, operation))

    async def get(self, path: str, *, watch: Watch | None = None) -> Znode:
        """Data and stat."""
        watch = self._holdable(watch)
        return await self._read(partial(self._keeper.tree.get, self._session_id, path, watch))

    async def get_many(self, paths: Sequence[str]) -> list[Znode | None]:
        """Many reads as one."""
        return await self._read(partial(self._keeper.tree.get_many, self._session_id, paths))

    async def exists(self, path: str, *, watch: Watch | None = None) -> Stat | None:
        """The stat, or None."""
        watch = self._holdable(watch)
        return await self._read(partial(self._keeper.tree.exists, self._session_id, path, watch))

    async def children(self, path: str, *, watch: Watch | None = None) -> list[str]:
        """The children's names."""
        watch = self._holdable(watch)
        return await self._read(partial(self._keeper.tree.children, self._session_id, path, watch))

    async def set(self, path: str, data: bytes, version: int = ANY_VERSION) -> Stat:
        """Replace the data."""
        (stat,) = await self.multi((Set(path, data, version),))
        assert isinstance(stat, Stat)
        return stat

    async def delete(self, path: str, version: int = ANY_VERSION) -> None:
        """Delete a znode."""
        await self.multi((Delete(path, version),))

    async def multi(self, operations: Sequence[Operation]) -> list[OperationResult]:
        """All or nothing."""
        self._admit(operations)
        return await self._ask(partial(self._keeper.write, self._session_id, operations))

    async def close(self) -> None:
        """End the session; a held one's end is its expiry."""
        if self._state is SessionState.EXPIRED:
            return
        self._state = SessionState.EXPIRED
        if self._hold is None:
            await self._keeper.end_session(self._session_id)
        else:
            self._hold.fail(SessionExpired("the session was closed"))

    # The session's life, by its keeper

    def mark_expired(self) -> None:
        """The keeper ended the session: refuse everything from now on and say so."""
        if self._state is SessionState.EXPIRED:
            return
        if self._hold is not None:
            self._hold.stop()
            self._hold.fail(SessionExpired("the session has ended"))
        self._enter(SessionState.EXPIRED)

    def hold(self) -> None:
        """Cut the session off. It must have a timeout."""
        assert self._timeout_ms is not None
        if self._hold is None and self._state is not SessionState.EXPIRED:
            timeout_s = self._timeout_ms / 1000
            loop = asyncio.get_running_loop()
            self._hold = _Hold(
                boottime(),
                loop.call_later(timeout_s * SUSPENDED_AFTER, self._suspend),
                loop.call_later(timeout_s, self._expire),
            )

    def release(self) -> None:
        """Let everything through again, in order; or learn that the keeper has ended the session."""
        hold, self._hold = self._hold, None
        if hold is None:
            return
        hold.stop()
        if self._state is SessionState.EXPIRED:  # closed meanwhile
            self._keeper.forget(self._session_id)
            return
        if hold.is_over:
            hold.fail(SessionExpired("the session has ended"))
            self._enter(SessionState.EXPIRED)
            return
        for watch, event in hold.events:
            watch(event)
        if self._state is SessionState.SUSPENDED:
            self._enter(SessionState.CONNECTED)
        hold.let_go()

    def take(self, watch: Watch, event: WatchEvent) -> None:
        """A watch of this session fired."""
        if self._hold is None:
            watch(event)
        else:
            self._hold.events.append((watch, event))

    def _suspend(self) -> None:
        assert self._hold is not None
        self._hold.fail(ConnectionLoss("the store is out of reach"))
        if self._state is SessionState.CONNECTED:
            self._enter(SessionState.SUSPENDED)

    def _expire(self) -> None:
        assert self._hold is not None
        self._hold.is_over = True
        self._keeper.forget(self._session_id)
        self._hold.fail(ConnectionLoss("the store is out of reach; nothing was asked of it"))

    def _enter(self, state: SessionState) -> None:
        self._state = state
        for listener in self._listeners:
            asyncio.get_running_loop().call_soon(listener, state)

    # Calls

    async def _read(self, run: Callable[[], _T]) -> _T:
        self._require_session()
        return await self._ask(partial(self._keeper.submit, run))

    async def _ask(self, submit: Callable[[], Awaitable[_T]]) -> _T:
        if self._hold is not None:
            await self._hold.wait()
            self._require_session()
        if self._timeout_ms is None:
            return await submit()
        try:
            return await submit()
        finally:
            if self._hold is not None:  # the answer is on its way: it comes late, or never
                await self._hold.wait()

    def _holdable(self, watch: Watch | None) -> Watch | None:
        if watch is None or self._timeout_ms is None:
            return watch
        return _HoldableWatch(self, watch)

    def _admit(self, operations: Sequence[Operation]) -> None:
        self._require_session()
        weight = request_bytes(operations)
        if weight > REQUEST_BYTES_MAX:
            raise RequestTooLarge(f"{weight} bytes in one request, more than {REQUEST_BYTES_MAX}")

    def _require_session(self) -> None:
        if self._state is SessionState.EXPIRED:
            raise SessionExpired("the session has ended")


class _HoldableWatch:
    """A watch that is told when its session can be; equal to another of the same session and watch."""

    __slots__ = ("_store", "_watch")

    def __init__(self, store: EmbeddedStore, watch: Watch) -> None:
        self._store = store
        self._watch = watch

    def __call__(self, event: WatchEvent) -> None:
        self._store.take(self._watch, event)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _HoldableWatch)
            and self._store is other._store
            and self._watch == other._watch
        )

    def __hash__(self) -> int:
        return hash((id(self._store), self._watch))


class _Hold:
    """What a cut-off session has waiting."""

    def __init__(
        self, since: float, suspension: asyncio.TimerHandle, expiry: asyncio.TimerHandle
    ) -> None:
        self.since = since
        self.events: list[tuple[Watch, WatchEvent]] = []
        self.is_over = False
        self._timers = (suspension, expiry)
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Return when the session is let go; raises what it fails with."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def let_go(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    def fail(self, error: Exception) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

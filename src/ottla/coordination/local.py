"""The store of the brokers of one machine, as each of them has it: sessions over a Unix socket.

Who offers it is ``local_server``, in the process that started the brokers. Rules beside those of ``store``:

- A connection is a session, and its end is the session's: there is no other way back to it. So a store that is
  gone is EXPIRED at once; one that hangs is SUSPENDED after a third of the session timeout without a word.
- Every answer proves that the session lived when its request was read, which was after it was sent: it lives on
  for a timeout from there (``lives_until``). Heartbeats see to it that there are answers.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ottla.clock import boottime
from ottla.coordination.local_frames import (
    ANSWER_BYTES,
    PATHS_IN_ONE,
    Frames,
    MalformedFrame,
    fields,
    frame,
    packed_operation,
    unpacked_created,
    unpacked_error,
    unpacked_result,
    unpacked_stat,
    unpacked_znode,
    want,
)
from ottla.coordination.local_socket import address_of
from ottla.coordination.session_lease import MARGIN
from ottla.coordination.store import (
    ANY_VERSION,
    REQUEST_BYTES_MAX,
    ConnectionLoss,
    Create,
    Created,
    Delete,
    EventType,
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
from ottla.logs import logger

log = logger(__name__)

HEARTBEATS = 12
"""In a session timeout."""
SUSPENDED_AFTER = 1 / 3
"""As a part of the timeout: so long without a word."""


class LocalStores:
    """Opens a broker's sessions with the store behind a socket."""

    def __init__(self, path: str | Path, session_timeout_ms: int) -> None:
        self._path = Path(path)
        self._timeout_ms = session_timeout_ms
        self._sessions: set[LocalStore] = set()

    async def connect(self) -> LocalStore:
        """A new session. Raises ConnectionLoss where the store can't be reached in time."""
        store = LocalStore(self._timeout_ms)
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                await store.open(self._path)
        except (TimeoutError, OSError) as error:
            store.abandon()
            raise ConnectionLoss(f"no session with the store at {self._path}: {error}") from None
        except BaseException:
            store.abandon()
            raise
        self._sessions = {one for one in self._sessions if one.state is not SessionState.EXPIRED}
        self._sessions.add(store)
        return store

    async def close(self) -> None:
        """End the sessions that are still open."""
        for store in list(self._sessions):
            await store.close()


class _Call(NamedTuple):
    future: asyncio.Future[Any]
    sent_at: float
    unpack: Callable[[Any], Any] | None
    watch: tuple[bool, str, Watch] | None


class LocalStore(asyncio.Protocol):
    """One session; keeps the ``Store`` contract."""

    def __init__(self, session_timeout_ms: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_ms = session_timeout_ms
        self._timeout_s = session_timeout_ms / 1000
        self._state = SessionState.CONNECTED
        self._listeners: list[Callable[[SessionState], None]] = []
        self._session_id = 0
        self._frames = Frames(ANSWER_BYTES)
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, _Call] = {}
        self._last_call = 0
        self._lives_until = -math.inf
        self._heard_at = boottime()
        self._heartbeat: asyncio.TimerHandle | None = None
        self._watches: dict[tuple[bool, str], dict[Watch, None]] = {}

    async def open(self, path: Path) -> None:
        """Connect, and have a session. Raises ``OSError``, ``StoreError``."""
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.setblocking(False)
            with address_of(path) as address:
                await self._loop.sock_connect(connecting, address)
            await self._loop.create_unix_connection(lambda: self, sock=connecting)
        except BaseException:
            connecting.close()
            raise
        self._session_id = await self._ask("open", self._timeout_ms, unpack=_integer)
        self._beat()

    @property
    def session_id(self) -> int:
        """Compare with ``Stat.ephemeral_owner``."""
        return self._session_id

    @property
    def state(self) -> SessionState:
        """EXPIRED once the connection is gone, or after ``close``."""
        return self._state

    @property
    def session_timeout_ms(self) -> int | None:
        """As it was asked for."""
        return self._timeout_ms

    @property
    def lives_until(self) -> float:
        """See above."""
        return self._lives_until

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
        created: Created = await self._ask(
            "create", packed_operation(operation), unpack=unpacked_created
        )
        return created

    async def get(self, path: str, *, watch: Watch | None = None) -> Znode:
        """Data and stat."""
        znode: Znode = await self._read("get", path, watch, False, unpacked_znode)
        return znode

    async def get_many(self, paths: Sequence[str]) -> list[Znode | None]:
        """Many reads as few."""
        parts = [
            list(paths[start : start + PATHS_IN_ONE])
            for start in range(0, len(paths), PATHS_IN_ONE)
        ]
        self._require_session()
        answers = await asyncio.gather(
            *(self._ask("get_many", part, unpack=_unpacked_znodes) for part in parts)
        )
        return [znode for answer in answers for znode in answer]

    async def exists(self, path: str, *, watch: Watch | None = None) -> Stat | None:
        """The stat, or None."""
        stat: Stat | None = await self._read("exists", path, watch, False, _stat_or_none)
        return stat

    async def children(self, path: str, *, watch: Watch | None = None) -> list[str]:
        """The children's names."""
        names: list[str] = await self._read("children", path, watch, True, _names)
        return names

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
        packed = [packed_operation(operation) for operation in operations]
        results: list[OperationResult] = await self._ask("multi", packed, unpack=_unpacked_results)
        return results

    async def close(self) -> None:
        """End the session. Raises ConnectionLoss where the store gives no answer; it ends all the same."""
        if self._state is SessionState.EXPIRED:
            return
        self._state = SessionState.EXPIRED
        self._lives_until = -math.inf
        try:
            async with asyncio.timeout(self._timeout_s * SUSPENDED_AFTER):
                await self._send("close")
        except TimeoutError:
            raise ConnectionLoss("the store did not say that the session has ended") from None
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the connection, which ends the session."""
        self._state = SessionState.EXPIRED
        self._lives_until = -math.inf
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._fail(lambda _: True)

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The store is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The session is over."""
        was = self._state
        self.abandon()
        if was is not SessionState.EXPIRED:
            self._tell(SessionState.EXPIRED)

    def data_received(self, data: bytes) -> None:
        """Answers and events, in order."""
        self._heard_at = boottime()
        if self._state is SessionState.SUSPENDED:
            self._state = SessionState.CONNECTED
            self._tell(self._state)
        try:
            for message in self._frames.feed(data):
                if message[0] == 0:
                    self._fire(*fields(message, int, str, str, bool)[1:])
                elif len(message) == 3:
                    self._answered(*message)
                else:
                    raise MalformedFrame("no answer")
        except (MalformedFrame, ValueError) as error:
            log.error("the store speaks nonsense", reason=str(error))
            self.connection_lost(None)

    def _fire(self, event_type: str, path: str, of_children: bool) -> None:
        event = WatchEvent(EventType(event_type), path)
        for watch in self._watches.pop((of_children, path), ()):
            watch(event)

    def _answered(self, call_id: int, refused: Any, value: Any) -> None:
        call = self._calls.pop(call_id, None)
        if call is None:  # it was given up
            return
        if self._state is not SessionState.EXPIRED:
            lives_until = call.sent_at + self._timeout_s * (1 - MARGIN)
            self._lives_until = max(self._lives_until, lives_until)
        error = result = None
        try:
            if refused:
                error = unpacked_error(value)
            elif call.unpack is not None:
                result = call.unpack(value)
        except MalformedFrame as malformed:
            if not call.future.done():
                call.future.set_exception(ConnectionLoss(str(malformed)))
            raise
        if call.watch is not None and error is None:
            of_children, path, watch = call.watch
            self._watches.setdefault((of_children, path), {})[watch] = None
        if call.future.done():
            return
        if error is not None:
            call.future.set_exception(error)
        else:
            call.future.set_result(result)

    # The heart

    def _beat(self) -> None:
        if self._state is SessionState.EXPIRED:
            return
        interval_s = self._timeout_s / HEARTBEATS
        self._heartbeat = self._loop.call_later(interval_s, self._beat)
        self._send("ping").add_done_callback(_no_matter)
        patience_s = self._timeout_s * SUSPENDED_AFTER
        now = boottime()
        if now - self._heard_at > patience_s:
            if self._state is SessionState.CONNECTED:
                self._state = SessionState.SUSPENDED
                self._tell(self._state)
            self._fail(lambda call: now - call.sent_at > patience_s)

    def _tell(self, state: SessionState) -> None:
        for listener in self._listeners:
            self._loop.call_soon(listener, state)

    # Calls

    async def _read(
        self,
        verb: str,
        path: str,
        watch: Watch | None,
        of_children: bool,
        unpack: Callable[[Any], Any],
    ) -> Any:
        self._require_session()
        watching = None if watch is None else (of_children, path, watch)
        return await self._send(verb, path, watch is not None, unpack=unpack, watch=watching)

    async def _ask(
        self, verb: str, *arguments: Any, unpack: Callable[[Any], Any] | None = None
    ) -> Any:
        self._require_session()
        return await self._send(verb, *arguments, unpack=unpack)

    def _send(
        self,
        verb: str,
        *arguments: Any,
        unpack: Callable[[Any], Any] | None = None,
        watch: tuple[bool, str, Watch] | None = None,
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            future.set_exception(ConnectionLoss("the store is gone"))
            return future
        self._last_call += 1
        self._calls[self._last_call] = _Call(future, boottime(), unpack, watch)
        self._transport.write(frame([self._last_call, verb, *arguments]))
        return future

    def _fail(self, which: Callable[[_Call], bool]) -> None:
        for call_id, call in list(self._calls.items()):
            if which(call):
                del self._calls[call_id]
                if not call.future.done():
                    call.future.set_exception(ConnectionLoss("the store gave no answer"))

    def _admit(self, operations: Sequence[Operation]) -> None:
        self._require_session()
        weight = request_bytes(operations)
        if weight > REQUEST_BYTES_MAX:
            raise RequestTooLarge(f"{weight} bytes in one request, more than {REQUEST_BYTES_MAX}")

    def _require_session(self) -> None:
        if self._state is SessionState.EXPIRED:
            raise SessionExpired("the session has ended")


def _integer(value: Any) -> int:
    return want(int, value)


def _stat_or_none(value: Any) -> Stat | None:
    return None if value is None else unpacked_stat(value)


def _names(value: Any) -> list[str]:
    return [want(str, name) for name in want(list, value)]


def _unpacked_znodes(value: Any) -> list[Znode | None]:
    return [unpacked_znode(one) for one in want(list, value)]


def _unpacked_results(value: Any) -> list[OperationResult]:
    return [unpacked_result(one) for one in want(list, value)]


def _no_matter(future: asyncio.Future[Any]) -> None:
    """Nobody waits for it."""
    if not future.cancelled():
        future.exception()

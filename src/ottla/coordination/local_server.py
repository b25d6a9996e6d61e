"""Offers an embedded store to the brokers of this machine over a Unix socket: a session each.

Rules:
- A session ends at once when its broker lets go of the socket, which the system does for a process that dies. One
  that is silent for the session timeout is ended, and so is one whose socket *we* closed (it spoke nonsense), but
  only after the timeout: until then its owner may believe in it.
- The timeout counts from when we read what came: that is later than it was sent, so that whoever sent it and got
  an answer knows for how long at least it lives.
- The order of answers and events is the embedded store's: an event goes out before any answer that shows what
  caused it.
- Only this user's processes get at the socket: it lies in a directory of mode 0700.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ottla.coordination.embedded import Keeper
from ottla.coordination.embedded_session import EmbeddedStore
from ottla.coordination.local_frames import (
    PATHS_IN_ONE,
    REQUEST_BYTES,
    Frames,
    MalformedFrame,
    fields,
    frame,
    packed_created,
    packed_error,
    packed_znode,
    unpacked_operation,
    want,
)
from ottla.coordination.local_socket import address_of
from ottla.coordination.store import Create, SessionState, StoreError, WatchEvent
from ottla.logs import logger

log = logger(__name__)

TIMEOUT_MS_MAX = 24 * 3600 * 1000
LOOKS = 10
"""How often in a session timeout a silent session is looked for."""


class StoreServer:
    """The socket, and the sessions that came through it."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self.peers: set[_Peer] = set()

    async def start(self, path: Path) -> None:
        """Listen at ``path``, in a directory that is made for it. Raises ``OSError``."""
        listening = _listening(path)
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(lambda: _Peer(self), sock=listening)
        except BaseException:
            listening.close()
            raise
        self._path = path

    async def close(self) -> None:
        """Take no more, and let go of those that are there. The keeper stays."""
        if self._server is not None:
            self._server.close()
        for peer in list(self.peers):
            peer.hang_up()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _listening(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)  # an earlier life's: who starts another has the store's lock
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_of(path) as address:
            listening.bind(address)
    except BaseException:
        listening.close()
        raise
    return listening


class _Peer(asyncio.Protocol):
    """One broker's end."""

    def __init__(self, server: StoreServer) -> None:
        self._server = server
        self._keeper = server.keeper
        self._loop = asyncio.get_running_loop()
        self._frames = Frames(REQUEST_BYTES)
        self._transport: asyncio.Transport
        self._store: EmbeddedStore | None = None
        self._session_id = 0
        self._timeout_s = 0.0
        self._heard_at = 0.0
        self._look: asyncio.TimerHandle | None = None
        self._closed_by_us = False
        self._verbs: dict[
            str, Callable[[list[Any]], tuple[asyncio.Future[Any], Callable[..., Any]]]
        ]
        self._verbs = {
            "create": self._create,
            "multi": self._multi,
            "get": self._get,
            "exists": self._exists,
            "children": self._children,
            "get_many": self._get_many,
        }

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A broker is there; its session comes with its first words."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.peers.add(self)

    def data_received(self, data: bytes) -> None:
        """Do what it asks, in order."""
        self._heard_at = self._loop.time()
        if self._closed_by_us:
            return
        try:
            for message in self._frames.feed(data):
                self._take(message)
        except MalformedFrame as error:
            log.error("a broker speaks nonsense to the store", reason=str(error))
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, or we let go of it."""
        self._server.peers.discard(self)
        if self._look is not None:
            self._look.cancel()
        if self._store is None:
            return
        if self._closed_by_us:
            self._loop.call_later(self._timeout_s, self._end)
        else:
            self._end()

    def hang_up(self) -> None:
        """Let go of a broker that may still believe in its session."""
        self._closed_by_us = True
        self._transport.abort()

    def _end(self) -> None:
        store, self._store = self._store, None
        if store is not None and store.state is not SessionState.EXPIRED:
            self._keeper.drop_session(self._session_id).add_done_callback(_no_matter)

    def _ended(self, state: SessionState) -> None:
        """The keeper ended the session: its owner is told by the end of the connection."""
        self._store = None
        self._transport.abort()

    def _look_for_silence(self) -> None:
        silent_s = self._loop.time() - self._heard_at
        if silent_s > self._timeout_s:
            log.warning("a broker's session has expired", session=self._session_id)
            self._end()
            self._transport.abort()
            return
        self._look = self._loop.call_later(self._timeout_s / LOOKS, self._look_for_silence)

    # What is said

    def _take(self, message: list[Any]) -> None:
        if len(message) < 2:
            raise MalformedFrame("no verb")
        call, verb, *arguments = message
        if verb == "open" and self._store is None:
            self._open(call, arguments)
            return
        if self._store is None:
            if self._session_id:  # it is over, and the connection with it
                return
            raise MalformedFrame("no session")
        if verb == "ping":
            self._send([call, 0, None])
        elif verb == "close":
            self._end()
            settled = self._keeper.submit(lambda: None)  # behind the end, in order
            settled.add_done_callback(partial(self._answer, call, _as_it_is))
        elif (do := self._verbs.get(want(str, verb))) is not None:
            future, pack = do(arguments)
            future.add_done_callback(partial(self._answer, call, pack))
        else:
            raise MalformedFrame("an unknown verb")

    def _open(self, call: int, arguments: list[Any]) -> None:
        (timeout_ms,) = fields(arguments, int)
        if not 0 < timeout_ms <= TIMEOUT_MS_MAX:
            raise MalformedFrame(f"a session timeout of {timeout_ms} ms")
        try:
            self._store = self._keeper.open_session()
        except StoreError as error:
            self._send([call, 1, packed_error(error)])
            return
        self._store.on_state(self._ended)
        self._session_id = self._store.session_id
        self._timeout_s = timeout_ms / 1000
        self._look = self._loop.call_later(self._timeout_s / LOOKS, self._look_for_silence)
        self._send([call, 0, self._session_id])

    def _answer(self, call: int, pack: Callable[[Any], Any], future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._send([call, 0, pack(future.result())])
        else:
            self._send([call, 1, packed_error(error)])

    def _send(self, message: list[Any]) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame(message))

    # Verbs

    def _create(self, arguments: list[Any]) -> tuple[asyncio.Future[Any], Callable[..., Any]]:
        (message,) = fields(arguments, list)
        operation = unpacked_operation(message)
        if not isinstance(operation, Create):
            raise MalformedFrame("no create")
        return self._keeper.create(self._session_id, operation), packed_created

    def _multi(self, arguments: list[Any]) -> tuple[asyncio.Future[Any], Callable[..., Any]]:
        (messages,) = fields(arguments, list)
        operations = [unpacked_operation(message) for message in messages]
        return self._keeper.write(self._session_id, operations), _as_it_is

    def _get(self, arguments: list[Any]) -> tuple[asyncio.Future[Any], Callable[..., Any]]:
        path, watch = fields(arguments, str, bool)
        event = self._data_event if watch else None
        read = partial(self._keeper.tree.get, self._session_id, path, event)
        return self._keeper.submit(read), packed_znode

    def _exists(self, arguments: list[Any]) -> tuple[asyncio.Future[Any], Callable[..., Any]]:
        path, watch = fields(arguments, str, bool)
        event = self._data_event if watch else None
        read = partial(self._keeper.tree.exists, self._session_id, path, event)
        return self._keeper.submit(read), _as_it_is

    def _children(self, arguments: list[Any]) -> tuple[asyncio.Future[Any], Callable[..., Any]]:
        path, watch = fields(arguments, str, bool)
        event = self._children_event if watch else None
        read = partial(self._keeper.tree.children, self._session_id, path, event)
        return self._keeper.submit(read), _as_it_is

    def _get_many(self, arguments: list[Any]) -> tuple[asyncio.Future[Any], Callable[..., Any]]:
        (paths,) = fields(arguments, list)
        if len(paths) > PATHS_IN_ONE:
            raise MalformedFrame(f"{len(paths)} paths in one read")
        for path in paths:
            want(str, path)
        read = partial(self._keeper.tree.get_many, self._session_id, paths)
        return self._keeper.submit(read), _packed_znodes

    # Watches: equal ones of a session are one, so that a path that is watched twice is told of once

    def _data_event(self, event: WatchEvent) -> None:
        self._send([0, event.type.value, event.path, False])

    def _children_event(self, event: WatchEvent) -> None:
        self._send([0, event.type.value, event.path, True])


def _as_it_is(value: Any) -> Any:
    return value


def _packed_znodes(znodes: list[Any]) -> list[Any]:
    return [packed_znode(znode) for znode in znodes]


def _no_matter(future: asyncio.Future[None]) -> None:
    """The store closed or failed meanwhile: the session is over either way."""
    if not future.cancelled():
        future.exception()

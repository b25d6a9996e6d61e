"""kazoo's client, bent so that an event loop can rely on it. The only module that knows kazoo.

What kazoo does on three threads is done on one here, its connection's, and what that reads reaches the loop in
the order in which the server sent it: so a watch's event comes before the answer that shows its cause. Further:

- Nothing of ours blocks kazoo's thread, and the loop never waits for it: answers go into a queue, and the loop is
  woken once for all that came together.
- A request is taken only for the connection that the loop knows of. kazoo would send it on the next one, where
  the watches of the last are not yet put back, so that it could see what they were to tell of.
- kazoo sees no dead connection while requests are sent on it (only silence makes it ping), so ``cut`` is there
  for who counts heartbeats. It also waits a whole session timeout for a server that doesn't answer its call, and
  up to an hour between calls: bounded here by a part of the session timeout, so that the session can be saved.
- A session that ended is not followed by another.
- Requests are numbered on from connection to connection, as the Java client does it; kazoo begins at 1 again. A server
  tells a session's own write from those of others by session and number: what an earlier connection of the session
  sent, and what is committed only now, would be taken for the write of the same number that waits, and answer it.
- An answer with another number than the oldest request's says no more than that this connection is not to be trusted:
  kazoo's thread would end, and the session with it.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import CloseInstance, Connect, Watch
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import KazooRetry

from ottla.coordination.connect_string import Server
from ottla.coordination.zookeeper_requests import Request

if TYPE_CHECKING:
    import ssl

_CALL = 1 / 10
"""A server is called for so long, as a part of the session timeout, before the next is tried."""
_ANSWER = 1 / 6
"""And so long may it take to take up a session that it should know."""
_CALL_MIN_S = 0.2
"""However short a session was asked for: the ensemble grants a longer one."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
_FAREWELL_S = 5.0
"""How long the end of a session is waited for; what is not answered by then expires by itself."""

_logger = logging.getLogger(__name__)
_logger.setLevel(logging.ERROR)  # kazoo's; what an operator should know the store says itself


class LinkState(Enum):
    """What became of the connection."""

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    EXPIRED = "expired"
    REFUSED = "refused"  # by the server's authentication
    CLOSED = "closed"


class LinkChange(NamedTuple):
    """A change, and what is known with it."""

    state: LinkState
    session_id: int
    timeout_ms: int
    """As it was granted."""
    zxid: int
    """The last transaction that this session has seen."""
    generation: int


Reply = Callable[[Any, Exception | None], None]


class Link:
    """One session's connection, to one server after the other."""

    def __init__(
        self,
        servers: Sequence[Server],
        timeout_ms: int,
        *,
        on_change: Callable[[LinkChange], None],
        on_event: Callable[[int, str], None],
        digest: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``on_change`` and ``on_event`` (type and path) are called on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._on_event = on_event
        self._arrived: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_waking = False
        self._lock = threading.Lock()
        self._generation = 0
        self._is_up = False
        self._client = _Client(servers, timeout_ms, self, digest, tls)

    def open(self) -> None:
        """Begin to call the servers."""
        self._client.start_async()

    def submit(self, request: Request, generation: int, reply: Reply) -> bool:
        """Send ``request`` on the connection that came with ``generation``; False if that is gone."""
        with self._lock:
            if not self._is_up or generation != self._generation:
                return False
            self._client._call(request, _Result(self, reply))
            return True

    def cut(self) -> None:
        """Give the connection up, for another server to be called."""
        sock = self._client._connection._socket
        if sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS, too, without its goodbye

    async def end(self) -> None:
        """Close the session, if a server answers soon, and free everything."""
        done = self._loop.create_future()

        def tell() -> None:
            if not done.done():
                done.set_result(None)

        def run() -> None:
            try:
                self._client.end(self.cut)
            finally:
                with suppress(RuntimeError):  # the loop didn't wait for us
                    self._loop.call_soon_threadsafe(tell)

        threading.Thread(target=run, name="ottla-zookeeper-end", daemon=True).start()
        await done

    # On kazoo's thread

    def hand_over(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call ``function`` on the loop, after all that was handed over before."""
        self._arrived.append((function, arguments))
        if not self._is_waking:
            self._is_waking = True
            with suppress(RuntimeError):  # the loop was closed without us
                self._loop.call_soon_threadsafe(self._take)

    def event(self, kind: int, path: str) -> None:
        """A watch fired."""
        self.hand_over(self._on_event, kind, path)

    def changed(self, state: LinkState) -> None:
        """The connection is another, or none."""
        client = self._client
        with self._lock:
            self._generation += 1
            self._is_up = state is LinkState.CONNECTED
            change = LinkChange(
                state,
                client._session_id or 0,
                client.granted_ms,
                client.last_zxid,
                self._generation,
            )
            client.forget_queue()  # what slipped in since kazoo gave up on the rest
        self.hand_over(self._on_change, change)

    # On the loop

    def _take(self) -> None:
        self._is_waking = False  # before the queue is looked at: what comes later wakes us again
        arrived = self._arrived
        while arrived:
            function, arguments = arrived.popleft()
            try:
                function(*arguments)
            except Exception as error:  # a listener's fault must not keep answers from others
                told = {"message": "fault in a listener of the store", "exception": error}
                self._loop.call_exception_handler(told)


class _Result:
    """What kazoo gives an answer to."""

    __slots__ = ("_link", "_reply")

    def __init__(self, link: Link, reply: Reply) -> None:
        self._link = link
        self._reply = reply

    def set(self, value: Any = None) -> None:
        self._link.hand_over(self._reply, value, None)

    def set_exception(self, error: Exception) -> None:
        self._link.hand_over(self._reply, None, error)


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's seam to threads and sockets, without its two threads for callbacks."""

    def __init__(self, call_timeout_s: float, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._call_timeout_s = call_timeout_s
        self._tls = tls

    def start(self) -> None:
        self._running = True

    def stop(self) -> None:
        self._running = False

    def dispatch_callback(self, callback: Any) -> None:
        """Watches are read as they come (``_Connection``); of their end the store knows."""

    def spawn(self, func: Callable[..., None], *args: Any, **kwargs: Any) -> threading.Thread:
        thread = threading.Thread(
            target=func, args=args, kwargs=kwargs, name="ottla-zookeeper", daemon=True
        )
        thread.start()
        return thread

    def select(
        self, readers: Sequence[Any], writers: Sequence[Any], _: Sequence[Any], timeout: float
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """As ``select.select``; kazoo's makes an epoll object each time, and forgets what TLS has read."""
        decoded = [each for each in readers if getattr(each, "pending", int)()]
        if decoded:
            timeout = 0
        poll = select.poll()  # a cluster's broker runs on Linux or macOS
        sockets = {each.fileno(): each for each in (*readers, *writers)}
        for each in readers:
            poll.register(each.fileno(), select.POLLIN)
        for each in writers:
            poll.register(each.fileno(), select.POLLOUT)
        ready = [sockets[number] for number, _ in poll.poll(max(timeout, 0) * 1000)]
        readable = [each for each in readers if each in ready or each in decoded]
        return readable, [each for each in writers if each in ready], []

    def create_connection(
        self, address: tuple[str, int], hostname: str = "", timeout: float = 0, **_: Any
    ) -> Any:
        timeout = max(min(timeout, self._call_timeout_s), _CALL_MIN_S)
        sock = socket.create_connection(address, timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return sock
            return self._tls.wrap_socket(sock, server_hostname=hostname or address[0])
        except BaseException:
            sock.close()
            raise


class _Connection(ConnectionHandler):  # type: ignore[misc]
    _numbered = 0

    @property
    def _xid(self) -> int:
        return self._numbered

    @_xid.setter
    def _xid(self, number: int) -> None:
        """kazoo sets 0 for each connection, and no other time: it counts from 1 again after 2**31 - 1."""
        self._numbered = number or self._numbered

    def _invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        client = self.client
        is_call = isinstance(request, Connect)
        if is_call and client._session_id:
            timeout = min(timeout, client._session_timeout / 1000 * _ANSWER)
        if is_call:
            timeout = max(timeout, _CALL_MIN_S)
        answer = super()._invoke(timeout, request, xid)
        if is_call:
            client.granted_ms = answer[0].time_out
        return answer

    def _read_response(self, header: Any, buffer: bytes, offset: int) -> Any:
        """Source: ``CommitProcessor.run``, which matches commits by session and number."""
        waiting = self.client._pending
        if not waiting or waiting[0][2] != header.xid:
            expected = waiting[0][2] if waiting else "none"
            raise ConnectionDropped(f"an answer to request {header.xid}, {expected} is waited for")
        return super()._read_response(header, buffer, offset)

    def _read_watch_event(self, buffer: bytes, offset: int) -> None:
        watch, _ = Watch.deserialize(buffer, offset)
        self.client.link.event(watch.type, watch.path)


class _Client(KazooClient):  # type: ignore[misc]
    def __init__(
        self,
        servers: Sequence[Server],
        timeout_ms: int,
        link: Link,
        digest: str | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        timeout_s = timeout_ms / 1000
        handler = _Handler(timeout_s * _CALL, tls)
        pauses = KazooRetry(
            max_tries=-1,
            delay=_FIRST_PAUSE_S,
            max_delay=min(_LONGEST_PAUSE_S, timeout_s * _CALL),
            sleep_func=handler.sleep_func,
        )
        super().__init__(
            hosts=",".join(
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in servers
            ),
            timeout=timeout_s,
            handler=handler,
            auth_data=[("digest", digest)] if digest else None,
            connection_retry=pauses,
            logger=_logger,
        )
        self.link = link
        self.granted_ms = timeout_ms
        self._connection = _Connection(self, self._conn_retry.copy(), logger=_logger)
        self.add_listener(self._changed)

    def forget_queue(self) -> None:
        """Fail what waits to be sent. On kazoo's thread."""
        self._notify_pending(self._state)

    def end(self, cut: Callable[[], None]) -> None:
        """Close the session where it can be done soon, and the thread and sockets. On a thread."""
        connection = self._connection
        is_told = self._live.is_set()
        self._stopped.set()
        if is_told:
            self._queue.append((CloseInstance, None))
        writer = connection._write_sock
        if writer is not None:
            with suppress(OSError):
                writer.send(b"\0")
        thread = connection._connection_routine
        if thread is not None:
            if is_told:
                thread.join(min(_FAREWELL_S, self.granted_ms / 3000))
            while thread.is_alive():
                cut()
                thread.join(_FIRST_PAUSE_S)
        connection.stop()
        self.handler.stop()
        self.close()

    def _changed(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self.link.changed(LinkState.CONNECTED)
        elif state == KazooState.SUSPENDED:
            self.link.changed(LinkState.SUSPENDED)
        elif self._state == KeeperState.EXPIRED_SESSION:
            self._stopped.set()  # or kazoo would open another session
            self.link.changed(LinkState.EXPIRED)
        elif self._state == KeeperState.AUTH_FAILED:
            self._stopped.set()
            self.link.changed(LinkState.REFUSED)
        else:
            self.link.changed(LinkState.CLOSED)

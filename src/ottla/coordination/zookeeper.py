"""The store of a cluster: sessions with an Apache ZooKeeper ensemble (3.5 or later), by way of kazoo.

Rules beside those of ``store``:

- A call that is under way when the connection is lost raises ConnectionLoss. One that is made meanwhile waits for
  the next connection, but no longer than a session timeout, and is then sure not to have been done.
- Watches outlive a connection: what changed in between fires them before anything is read on the next one.
- EXPIRED is what the ensemble says: one that was down for an hour still knows its sessions. Who needs to know
  what may have happened behind its back asks ``lives_until`` (``session_lease`` has its proof).
- The loop and kazoo's thread never wait for each other (``zookeeper_link``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.clock import boottime
from ottla.coordination import zookeeper_requests as requests
from ottla.coordination.connect_string import ConnectString
from ottla.coordination.store import (
    ANY_VERSION,
    REQUEST_BYTES_MAX,
    ConnectionLoss,
    Create,
    Created,
    Delete,
    NodeExists,
    NoNode,
    NotAuthorized,
    Operation,
    OperationResult,
    RequestTooLarge,
    SessionExpired,
    SessionState,
    Set,
    Stat,
    StoreError,
    Watch,
    WatchEvent,
    Znode,
    request_bytes,
    validate_path,
)
from ottla.coordination.zookeeper_heart import Heart
from ottla.coordination.zookeeper_link import Link, LinkChange, LinkState
from ottla.coordination.zookeeper_requests import Acl, Request
from ottla.coordination.zookeeper_watches import EVENT_TYPES, Watches
from ottla.logs import logger

if TYPE_CHECKING:
    import ssl

log = logger(__name__)

_IN_FLIGHT_MAX = 100
"""kazoo's thread is woken with a byte for each; some 200 fit in its socket before sending one would block."""
_READS_IN_ONE = 500
"""Paths in a multi-read: an answer of some 100 kB, which a follower gives without the leader."""


class ZooKeeper:
    """An ensemble; ``connect`` opens sessions with it."""

    def __init__(
        self,
        connect: str,
        *,
        session_timeout_ms: int = 18_000,
        connection_timeout_ms: int | None = None,
        max_in_flight: int = 10,
        digest: str | None = None,
        tls: ssl.SSLContext | None = None,
        acl: Callable[[str], Sequence[Acl]] = lambda path: (requests.WORLD_ALL,),
    ) -> None:
        """``connect`` is ``host:port,host:port/chroot``; raises ValueError if it is not.

        ``digest`` (``user:password``) is who we are to ZooKeeper; ``acl`` says who may do what with a new
        znode, by its path below the chroot. ``connection_timeout_ms`` None means the session timeout.
        """
        self.address = ConnectString.parse(connect)
        self.session_timeout_ms = session_timeout_ms
        self.connection_timeout_ms = connection_timeout_ms or session_timeout_ms
        self.max_in_flight = min(max_in_flight, _IN_FLIGHT_MAX)
        self.digest = digest
        self.tls = tls
        self.acl = acl
        self._sessions: set[ZooKeeperStore] = set()

    async def connect(self) -> ZooKeeperStore:
        """A new session, and the chroot if it is not there yet.

        Raises ConnectionLoss if no server opens one in ``connection_timeout_ms``, NotAuthorized.
        """
        store = ZooKeeperStore(self)
        self._sessions.add(store)
        try:
            async with asyncio.timeout(self.connection_timeout_ms / 1000):
                await store.open()
        except TimeoutError:
            await store.close()
            raise ConnectionLoss(
                f"ZooKeeper at {self.address} opened no session within {self.connection_timeout_ms} ms"
            ) from None
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """End the sessions that are still open."""
        await asyncio.gather(*(store.close() for store in list(self._sessions)))

    def ended(self, store: ZooKeeperStore) -> None:
        """The session is closed."""
        self._sessions.discard(store)


class _Call(NamedTuple):
    request: Request
    future: asyncio.Future[Any]
    interpret: Callable[[Any], Any] | None


class ZooKeeperStore:
    """One session; keeps the ``Store`` contract."""

    def __init__(self, ensemble: ZooKeeper) -> None:
        self._ensemble = ensemble
        self._chroot = ensemble.address.chroot
        self._loop = asyncio.get_running_loop()
        self._state = SessionState.SUSPENDED
        self._listeners: list[Callable[[SessionState], None]] = []
        self._session_id = 0
        self._timeout_ms = ensemble.session_timeout_ms
        self._generation = 0
        self._is_closed = False
        self._end: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._waiting: deque[_Call] = deque()
        self._in_flight = 0
        self._give_up: asyncio.TimerHandle | None = None
        self._watches = Watches()
        self._last_zxid = 0
        self._can_read_many = True
        self._link = Link(
            ensemble.address.servers,
            ensemble.session_timeout_ms,
            on_change=self._changed,
            on_event=self._event,
            digest=ensemble.digest,
            tls=ensemble.tls,
        )
        self._heart = Heart(
            boottime(),
            self._full("/"),
            submit=lambda request, reply: self._link.submit(request, self._generation, reply),
            cut=self._link.cut,
        )
        self._link.open()

    @property
    def session_id(self) -> int:
        """Compare with ``Stat.ephemeral_owner``."""
        return self._session_id

    @property
    def state(self) -> SessionState:
        """As the connection has it; EXPIRED once the ensemble said so, or after ``close``."""
        return self._state

    @property
    def session_timeout_ms(self) -> int | None:
        """As the ensemble granted it."""
        return self._timeout_ms

    @property
    def lives_until(self) -> float:
        """See ``session_lease``."""
        return self._heart.lives_until

    def on_state(self, listener: Callable[[SessionState], None]) -> None:
        """Call ``listener`` at every change."""
        self._listeners.append(listener)

    # Operations

    async def create(
        self, path: str, data: bytes = b"", *, ephemeral: bool = False, sequential: bool = False
    ) -> Created:
        """Create a znode."""
        validate_path(path + "0" if sequential else path)
        if path == "/" and not sequential:
            raise NodeExists(path)  # not a server's business: it takes the path for a bad one
        operation = Create(self._full(path), data, ephemeral, sequential)
        _admit((operation,))
        created = await self._ask(requests.create(operation, self._ensemble.acl(path)))
        return Created(self._below(created.path), created.stat)

    async def get(self, path: str, *, watch: Watch | None = None) -> Znode:
        """Data and stat."""
        request = requests.get(self._checked(path), watch=watch is not None)
        znode: Znode = await self._ask(request, self._registering(self._watches.data, path, watch))
        return znode

    async def get_many(self, paths: Sequence[str]) -> list[Znode | None]:
        """Many reads in few requests, one behind the other."""
        full = [self._checked(path) for path in paths]
        if not self._can_read_many:
            return await self._get_each(full)
        asked = [
            self._ask(requests.multi_read(full[start : start + _READS_IN_ONE]))
            for start in range(0, len(full), _READS_IN_ONE)
        ]
        try:
            answers = await _all(asked)
        except StoreError as error:
            if error.args != requests.error_of(requests.UNIMPLEMENTED).args:
                raise
            self._can_read_many = False  # before 3.6
            try:
                return await self._get_each(full)
            except ConnectionLoss:  # it also hangs up on whom it does not understand
                return await self._get_each(full)
        znodes = [znode for answer in answers for znode in answer]
        for znode in znodes:
            if isinstance(znode, StoreError):
                raise znode
        return znodes

    async def exists(self, path: str, *, watch: Watch | None = None) -> Stat | None:
        """The stat, or None."""
        request = requests.exists(self._checked(path), watch=watch is not None)
        found = self._registering(self._watches.data, path, watch)
        missed = self._registering(self._watches.absent, path, watch)
        stat: Stat | None = await self._ask(
            request, lambda stat: missed(stat) if stat is None else found(stat)
        )
        return stat

    async def children(self, path: str, *, watch: Watch | None = None) -> list[str]:
        """The children's names."""
        request = requests.children(self._checked(path), watch=watch is not None)
        names: list[str] = await self._ask(
            request, self._registering(self._watches.children, path, watch)
        )
        return names

    async def set(self, path: str, data: bytes, version: int = ANY_VERSION) -> Stat:
        """Replace the data."""
        operation = Set(self._checked(path), data, version)
        _admit((operation,))
        stat: Stat = await self._ask(requests.write(operation))
        return stat

    async def delete(self, path: str, version: int = ANY_VERSION) -> None:
        """Delete a znode."""
        await self._ask(requests.write(Delete(self._checked(path), version)))

    async def multi(self, operations: Sequence[Operation]) -> list[OperationResult]:
        """All or nothing."""
        acl = self._ensemble.acl
        placed: list[tuple[Operation, Sequence[Acl]]] = []
        for operation in operations:
            path = operation.path
            if isinstance(operation, Create):
                validate_path(path + "0" if operation.sequential else path)
                placed.append((operation._replace(path=self._full(path)), acl(path)))
            else:
                validate_path(path)
                placed.append((operation._replace(path=self._full(path)), ()))
        if not placed:
            return []
        _admit(operations)
        results: list[OperationResult] = await self._ask(requests.multi(placed))
        if not self._chroot:
            return results
        return [self._below(each) if isinstance(each, str) else each for each in results]

    async def close(self) -> None:
        """End the session: its ephemeral znodes go at once, if a server can be told soon."""
        if self._end is None:
            self._is_closed = True
            self._over("the session was closed")
            self._end = self._loop.create_task(self._link.end())
        await asyncio.shield(self._end)
        self._ensemble.ended(self)

    # Opening

    async def open(self) -> None:
        """Return once the session is open and its heart beats. Raises NotAuthorized, ConnectionLoss."""
        await asyncio.shield(self._opened)
        await self._make_chroot()
        self._heart.start()

    async def _make_chroot(self) -> None:
        """Create the znode that all our paths are below, as Kafka does, if it isn't there."""
        parts = self._chroot.split("/")[1:]
        for depth in range(1, len(parts) + 1):
            path = "/" + "/".join(parts[:depth])
            if await self._ask(requests.exists(path, watch=False)) is not None:
                continue
            try:
                await self._ask(requests.create(Create(path), self._ensemble.acl("/")))
            except NodeExists:
                continue  # another broker was quicker

    # Calls

    def _ask(
        self, request: Request, interpret: Callable[[Any], Any] | None = None
    ) -> asyncio.Future[Any]:
        """Queue a request; ``interpret`` sees its answer before anything that comes after it."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._state is SessionState.EXPIRED:
            future.set_exception(SessionExpired("the session has ended"))
        elif request.weight > requests.MAX_BYTES:
            future.set_exception(
                RequestTooLarge(f"{request.weight} bytes, more than {requests.MAX_BYTES}")
            )
        else:
            self._waiting.append(_Call(request, future, interpret))
            if self._state is SessionState.SUSPENDED:
                self._set_give_up()
            self._send()
        return future

    def _send(self) -> None:
        while self._waiting and self._in_flight < self._ensemble.max_in_flight:
            call = self._waiting[0]
            if call.future.cancelled():
                self._waiting.popleft()
                continue
            if not self._link.submit(call.request, self._generation, partial(self._reply, call)):
                return  # the link has lost its connection; we shall hear of it
            self._waiting.popleft()
            self._in_flight += 1

    def _reply(self, call: _Call, value: Any, error: Exception | None) -> None:
        self._in_flight -= 1
        future = call.future
        failure = self._error(error) if error else requests.refusal(call.request, value)
        if isinstance(failure, ConnectionLoss) and self._state is SessionState.CONNECTED:
            self._suspend()  # the link is about to say so
        if failure is None and call.interpret is not None:
            value = call.interpret(value)
        if not future.done():
            if failure is None:
                future.set_result(value)
            else:
                future.set_exception(failure)
        self._send()

    def _error(self, error: Exception) -> StoreError:
        code = getattr(error, "code", None)
        if isinstance(code, int):
            return requests.error_of(code)
        if self._state is SessionState.EXPIRED:
            return SessionExpired("the session has ended")
        return ConnectionLoss(str(error) or type(error).__name__)

    async def _get_each(self, paths: list[str]) -> list[Znode | None]:
        reads = [self._ask(requests.get(path, watch=False)) for path in paths]
        znodes: list[Znode | None] = []
        for answer in await asyncio.gather(*reads, return_exceptions=True):
            if isinstance(answer, BaseException) and not isinstance(answer, NoNode):
                raise answer
            znodes.append(None if isinstance(answer, BaseException) else answer)
        return znodes

    # Paths

    def _full(self, path: str) -> str:
        if not self._chroot:
            return path
        return self._chroot if path == "/" else self._chroot + path

    def _below(self, path: str) -> str:
        return path[len(self._chroot) :] or "/"

    def _checked(self, path: str) -> str:
        validate_path(path)
        return self._full(path)

    # Watches

    def _registering(
        self, watches: dict[str, dict[Watch, None]], path: str, watch: Watch | None
    ) -> Callable[[Any], Any]:
        def register(answer: Any) -> Any:
            if watch is not None:
                watches.setdefault(path, {})[watch] = None
            return answer

        return register

    def _event(self, kind: int, path: str) -> None:
        event_type = EVENT_TYPES.get(kind)
        if event_type is not None and self._state is not SessionState.EXPIRED:
            self._watches.fire(WatchEvent(event_type, self._below(path)))

    # The session's life

    def _changed(self, change: LinkChange) -> None:
        self._generation = change.generation
        if self._state is SessionState.EXPIRED:
            return
        if change.state is LinkState.CONNECTED:
            self._connected(change)
        elif change.state is LinkState.SUSPENDED:
            self._last_zxid = change.zxid
            self._suspend()
        elif change.state is LinkState.REFUSED and not self._opened.done():
            self._opened.set_exception(NotAuthorized("ZooKeeper refused our name"))
        else:
            log.warning("ZooKeeper session expired", session=f"{self._session_id:#x}")
            self._over("the session has expired")

    def _connected(self, change: LinkChange) -> None:
        if not self._session_id:
            self._session_id, self._timeout_ms = change.session_id, change.timeout_ms
            self._heart.granted(self._timeout_ms / 1000)
        else:
            for request in self._watches.put_back(self._last_zxid, self._full):
                self._link.submit(request, self._generation, _ignore)
            log.info("ZooKeeper is in reach again", servers=str(self._ensemble.address))
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        self._enter(SessionState.CONNECTED)
        if not self._opened.done():
            self._opened.set_result(None)
        self._heart.resume()
        self._send()

    def _suspend(self) -> None:
        self._heart.stop()
        if self._state is SessionState.CONNECTED:
            log.warning("ZooKeeper is out of reach", servers=str(self._ensemble.address))
            self._enter(SessionState.SUSPENDED)

    def _enter(self, state: SessionState) -> None:
        if state is not self._state:
            self._state = state
            for listener in list(self._listeners):
                listener(state)

    def _set_give_up(self) -> None:
        if self._give_up is None:
            self._give_up = self._loop.call_later(self._timeout_ms / 1000, self._fail_waiting)

    def _fail_waiting(self) -> None:
        self._give_up = None
        self._fail(ConnectionLoss("ZooKeeper is out of reach; nothing was asked of it"))

    def _fail(self, error: StoreError) -> None:
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(error)

    def _over(self, reason: str) -> None:
        self._heart.stop()
        if self._give_up is not None:
            self._give_up.cancel()
        self._watches = Watches()
        if self._is_closed:
            self._state = SessionState.EXPIRED
        else:
            self._enter(SessionState.EXPIRED)
        self._fail(SessionExpired(reason))
        if not self._opened.done():
            self._opened.set_exception(SessionExpired(reason))
            self._opened.exception()  # nobody may be waiting for it


def _admit(operations: Sequence[Operation]) -> None:
    weight = request_bytes(operations)
    if weight > REQUEST_BYTES_MAX:
        raise RequestTooLarge(f"{weight} bytes in one request, more than {REQUEST_BYTES_MAX}")


async def _all(futures: list[asyncio.Future[Any]]) -> list[Any]:
    """Their results, or the first one's error once all have ended."""
    answers = await asyncio.gather(*futures, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


def _ignore(value: Any, error: Exception | None) -> None:
    """Of a request that nobody waits for: where it fails the connection goes, and it is made again."""

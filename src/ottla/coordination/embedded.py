"""The store of a broker that has no ZooKeeper: one tree in this process, its durable znodes in SQLite.

Rules: calls of all sessions wait in one queue and run in order. What is waiting when a transaction
begins shares it: each call is still applied whole and in its turn, and nothing of the batch, reads
included, is answered before the batch is durable. The disk is touched on one thread, never on the loop.
A full disk fails the batch and leaves the store as it was; after any other failure of a commit the
store answers ConnectionLoss for good, because what reached the disk is unknown.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ottla.clock import Clock, SystemClock
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
    StoreError,
    Watch,
    WatchEvent,
    Znode,
    request_bytes,
)
from ottla.coordination.tree import Tree
from ottla.logs import logger

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from ottla.coordination.sqlite_file import SqliteFile

log = logger(__name__)

IN_MEMORY = ":memory:"
_T = TypeVar("_T")


class _Call(NamedTuple):
    run: Callable[[], Any]
    future: asyncio.Future[Any]
    alone: bool  # ends a session: must not be rolled back with others


class _Answer(NamedTuple):
    future: asyncio.Future[Any]
    value: Any
    error: Exception | None
    events: list[tuple[Watch, WatchEvent]]


class Keeper:
    """The embedded store: what a ZooKeeper ensemble is to its clients. ``connect`` opens sessions."""

    def __init__(
        self,
        tree: Tree,
        clock: Clock,
        file: SqliteFile | None = None,
        thread: ThreadPoolExecutor | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._tree = tree
        self._clock = clock
        self._file = file
        self._thread = thread
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Call] = deque()
        self._scheduled = False
        self._commit: asyncio.Future[None] | None = None
        self._sessions: dict[int, EmbeddedStore] = {}
        self._closed = False
        self._failure: BaseException | None = None

    @classmethod
    async def open(
        cls,
        path: str | Path = IN_MEMORY,
        *,
        initial: Sequence[Operation] = (),
        clock: Clock | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> Keeper:
        """Open the store file at ``path``, or make it with the znodes of ``initial`` in it.

        ``:memory:`` keeps nothing. ``on_failure`` is called once if the disk fails later. Raises
        StoreFileError if the file is locked, damaged or can't be made.
        """
        clock = clock or SystemClock()
        if str(path) == IN_MEMORY:
            return cls(_planted(initial, clock), clock, on_failure=on_failure)
        from concurrent.futures import ThreadPoolExecutor

        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ottla-store")
        try:
            loop = asyncio.get_running_loop()
            tree, file = await loop.run_in_executor(thread, _open_file, Path(path), initial, clock)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(tree, clock, file, thread, on_failure)

    async def connect(self) -> EmbeddedStore:
        """A new session. It lives until closed or expired: nothing can come between it and us."""
        if self._closed or self._failure is not None:
            raise ConnectionLoss("the store is closed")
        store = EmbeddedStore(self, self._tree.open_session())
        self._sessions[store.session_id] = store
        return store

    async def expire(self, session_id: int) -> None:
        """End a session as ZooKeeper does when its client was silent for too long (for tests)."""
        store = self._sessions.pop(session_id, None)
        if store is not None:
            store.mark_expired()
            await self.end_session(session_id)

    async def end_session(self, session_id: int) -> None:
        """Remove the session's ephemeral znodes and watches, in turn with all other calls."""
        self._sessions.pop(session_id, None)
        await self.submit(partial(self._tree.close_session, session_id), alone=True)

    async def close(self) -> None:
        """Finish what is under way, fail what waits, close the file. Sessions end with it."""
        if self._closed:
            return
        self._closed = True
        if self._commit is not None:
            await asyncio.wait((self._commit,))
        self._fail_waiting("the store was closed")
        for store in list(self._sessions.values()):
            store.mark_expired()
        self._sessions.clear()
        if self._thread is not None and self._file is not None:
            await self._loop.run_in_executor(self._thread, self._file.close)
            self._thread.shutdown(wait=True)

    # The queue

    def submit(self, run: Callable[[], _T], *, alone: bool = False) -> asyncio.Future[_T]:
        """Run ``run`` on the tree in its turn; the future has its result once that is durable."""
        future: asyncio.Future[_T] = self._loop.create_future()
        if self._closed or self._failure is not None:
            future.set_exception(ConnectionLoss("the store is closed or its disk has failed"))
            return future
        self._waiting.append(_Call(run, future, alone))
        self._schedule()
        return future

    def write(
        self, session_id: int, operations: Sequence[Operation]
    ) -> asyncio.Future[list[OperationResult]]:
        """Submit one atomic change."""
        return self.submit(lambda: self._tree.write(session_id, operations, self._clock.now_ms()))

    def create(self, session_id: int, operation: Create) -> asyncio.Future[Created]:
        """Submit one create, answered with its stat."""
        return self.submit(lambda: self._tree.create(session_id, operation, self._clock.now_ms()))

    @property
    def tree(self) -> Tree:
        """What the submitted calls read."""
        return self._tree

    def _schedule(self) -> None:
        # Not at once: calls of the same turn of the loop are to share a transaction.
        if not self._scheduled and self._commit is None and self._waiting:
            self._scheduled = True
            self._loop.call_soon(self._run_batch)

    def _run_batch(self) -> None:
        self._scheduled = False
        if self._commit is not None:
            return
        answers: list[_Answer] = []
        while self._waiting and not (self._waiting[0].alone and answers):
            call = self._waiting.popleft()
            value: Any = None
            error: Exception | None = None
            try:
                value = call.run()
            except Exception as refused:  # the caller's to handle, not the loop's
                error = refused
            answers.append(_Answer(call.future, value, error, self._tree.take_events()))
            if call.alone:
                break
        changes = self._tree.changes()
        if changes is None or self._file is None:
            self._tree.settle()
            self._answer(answers)
        else:
            assert self._thread is not None
            self._commit = self._loop.run_in_executor(self._thread, self._file.commit, changes)
            self._commit.add_done_callback(partial(self._committed, answers))
        self._schedule()

    def _committed(self, answers: list[_Answer], commit: asyncio.Future[None]) -> None:
        self._commit = None
        error = commit.exception()
        if error is None:
            self._tree.settle()
            self._answer(answers)
            self._schedule()
            return
        self._tree.roll_back()
        for answer in answers:
            if not answer.future.done():
                answer.future.set_exception(ConnectionLoss(f"not stored: {error}"))
        if isinstance(error, StoreError):  # no room: rolled back whole, the next may find some
            log.error("coordination store has no room on its disk", reason=str(error))
            self._schedule()
        else:
            self._fail(error)

    def _answer(self, answers: list[_Answer]) -> None:
        for future, value, error, events in answers:
            for watch, event in events:  # before whatever may read the change
                self._loop.call_soon(watch, event)
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        import sqlite3

        # The disk's doing needs no traceback, a fault of ours does.
        worldly = isinstance(error, (sqlite3.Error, OSError))
        told = {"reason": str(error)} if worldly else {"error": error}
        log.error("coordination store failed and takes no more changes", **told)
        self._fail_waiting(f"the store's disk has failed: {error}")
        if self._on_failure is not None:
            self._on_failure(error)

    def _fail_waiting(self, reason: str) -> None:
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(ConnectionLoss(reason))


class EmbeddedStore:
    """One session with the embedded store; keeps the ``Store`` contract."""

    def __init__(self, keeper: Keeper, session_id: int) -> None:
        self._keeper = keeper
        self._session_id = session_id
        self._state = SessionState.CONNECTED
        self._listeners: list[Callable[[SessionState], None]] = []

    @property
    def session_id(self) -> int:
        """Compare with ``Stat.ephemeral_owner``."""
        return self._session_id

    @property
    def state(self) -> SessionState:
        """CONNECTED until closed or expired; never SUSPENDED."""
        return self._state

    @property
    def session_timeout_ms(self) -> int | None:
        """None: the keeper is in this process and never misses us."""
        return None

    @property
    def lives_until(self) -> float:
        """For ever."""
        return math.inf

    def on_state(self, listener: Callable[[SessionState], None]) -> None:
        """Call ``listener`` when the session expires."""
        self._listeners.append(listener)

    def mark_expired(self) -> None:
        """The keeper ended the session: refuse everything from now on and say so."""
        if self._state is SessionState.EXPIRED:
            return
        self._state = SessionState.EXPIRED
        for listener in self._listeners:
            asyncio.get_running_loop().call_soon(listener, self._state)

    async def create(
        self, path: str, data: bytes = b"", *, ephemeral: bool = False, sequential: bool = False
    ) -> Created:
        """Create a znode."""
        operation = Create(path, data, ephemeral, sequential)
        self._admit((operation,))
        return await self._keeper.create(self._session_id, operation)

    async def get(self, path: str, *, watch: Watch | None = None) -> Znode:
        """Data and stat."""
        return await self._read(partial(self._keeper.tree.get, self._session_id, path, watch))

    async def get_many(self, paths: Sequence[str]) -> list[Znode | None]:
        """Many reads as one."""
        return await self._read(partial(self._keeper.tree.get_many, self._session_id, paths))

    async def exists(self, path: str, *, watch: Watch | None = None) -> Stat | None:
        """The stat, or None."""
        return await self._read(partial(self._keeper.tree.exists, self._session_id, path, watch))

    async def children(self, path: str, *, watch: Watch | None = None) -> list[str]:
        """The children's names."""
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
        return await self._keeper.write(self._session_id, operations)

    async def close(self) -> None:
        """End the session."""
        if self._state is SessionState.EXPIRED:
            return
        self._state = SessionState.EXPIRED
        await self._keeper.end_session(self._session_id)

    async def _read(self, run: Callable[[], _T]) -> _T:
        self._require_session()
        return await self._keeper.submit(run)

    def _admit(self, operations: Sequence[Operation]) -> None:
        self._require_session()
        weight = request_bytes(operations)
        if weight > REQUEST_BYTES_MAX:
            raise RequestTooLarge(f"{weight} bytes in one request, more than {REQUEST_BYTES_MAX}")

    def _require_session(self) -> None:
        if self._state is SessionState.EXPIRED:
            raise SessionExpired("the session has ended")


def _planted(initial: Sequence[Operation], clock: Clock) -> Tree:
    tree = Tree(zxid_epoch=1)
    if initial:
        session_id = tree.open_session()
        tree.write(session_id, initial, clock.now_ms())
        tree.close_session(session_id)
    return tree


def _open_file(path: Path, initial: Sequence[Operation], clock: Clock) -> tuple[Tree, SqliteFile]:
    """Runs on the store's thread."""
    from ottla.coordination.sqlite_file import SqliteFile, StoreFileError

    if not path.exists():
        tree = _planted(initial, clock)
        changes = tree.changes()
        tree.settle()
        return tree, SqliteFile.create(path, changes.upserts if changes else (), zxid_epoch=1)
    file, rows, zxid_epoch = SqliteFile.open(path)
    try:
        return Tree(rows, zxid_epoch=zxid_epoch), file
    except ValueError as error:
        file.close()
        raise StoreFileError(f"{path} is damaged: {error}") from error

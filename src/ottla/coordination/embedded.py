"""The store of a broker that has no ZooKeeper: one tree in this process, its durable znodes in SQLite.

Rules: calls of all sessions wait in one queue and run in order. What is waiting when a transaction
begins shares it: each call is still applied whole and in its turn, and nothing of the batch, reads
included, is answered before the batch is durable. The disk is touched on one thread, never on the loop.
A full disk fails the batch and leaves the store as it was; after any other failure of a commit the
store answers ConnectionLoss for good, because what reached the disk is unknown.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ottla.clock import Clock, SystemClock
from ottla.coordination.embedded_session import EmbeddedStore
from ottla.coordination.store import (
    ConnectionLoss,
    Create,
    Created,
    Operation,
    OperationResult,
    SessionState,
    StoreError,
    Watch,
    WatchEvent,
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
        self._ended: dict[int, EmbeddedStore] = {}  # held, and not told yet
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

    async def connect(self, *, session_timeout_ms: int | None = None) -> EmbeddedStore:
        """A new session. Without a timeout nothing can come between it and us but its close."""
        return self.open_session(session_timeout_ms)

    def open_session(self, session_timeout_ms: int | None = None) -> EmbeddedStore:
        """What ``connect`` does, at once. Raises ConnectionLoss where the store is closed or has failed."""
        if self._closed or self._failure is not None:
            raise ConnectionLoss("the store is closed")
        store = EmbeddedStore(self, self._tree.open_session(), session_timeout_ms)
        self._sessions[store.session_id] = store
        return store

    async def expire(self, session_id: int) -> None:
        """End a session as ZooKeeper does when its client was silent for too long (for tests)."""
        store = self._sessions.pop(session_id, None)
        if store is not None:
            store.mark_expired()
            await self.end_session(session_id)

    def hold(self, session_id: int) -> None:
        """Cut a session that has a timeout off (for tests): it is SUSPENDED, and then ended."""
        self._sessions[session_id].hold()

    def release(self, session_id: int) -> None:
        """Let it through again, or tell it that it was ended."""
        store = self._sessions.get(session_id) or self._ended.pop(session_id, None)
        if store is not None:
            store.release()

    def forget(self, session_id: int) -> None:
        """End the session of a client that was silent for too long and can't be told."""
        store = self._sessions.pop(session_id, None)
        if store is not None and not self._closed and self._failure is None:
            if store.state is not SessionState.EXPIRED:
                self._ended[session_id] = store
            self.submit(partial(self._tree.close_session, session_id), alone=True)

    async def end_session(self, session_id: int) -> None:
        """Remove the session's ephemeral znodes and watches, in turn with all other calls."""
        await self.drop_session(session_id)

    def drop_session(self, session_id: int) -> asyncio.Future[None]:
        """What ``end_session`` waits for."""
        self._sessions.pop(session_id, None)
        return self.submit(partial(self._tree.close_session, session_id), alone=True)

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
        self._ended.clear()
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


class TimedSessions:
    """A broker's way to a keeper that it shares with others: sessions with a timeout, which can be cut off.

    For clusters in one process; ``embedded_session`` says what is cut off.
    """

    def __init__(self, keeper: Keeper, session_timeout_ms: int) -> None:
        self.keeper = keeper
        self._timeout_ms = session_timeout_ms
        self._stores: list[EmbeddedStore] = []
        self._is_held = False

    async def connect(self) -> EmbeddedStore:
        """A new session; raises ConnectionLoss while it is held."""
        if self._is_held:
            raise ConnectionLoss("the store is out of reach")
        self._stores = [each for each in self._stores if each.state is not SessionState.EXPIRED]
        store = await self.keeper.connect(session_timeout_ms=self._timeout_ms)
        self._stores.append(store)
        return store

    def hold(self) -> None:
        """From now on the keeper hears nothing of this broker."""
        self._is_held = True
        for store in self._stores:
            store.hold()

    def release(self) -> None:
        """It hears of it again."""
        self._is_held = False
        for store in self._stores:
            store.release()

    async def expire(self) -> None:
        """End its sessions at once, as if it had been silent for too long."""
        for store in self._stores:
            await self.keeper.expire(store.session_id)

    async def close(self) -> None:
        """End its sessions in order. The keeper stays."""
        for store in self._stores:
            await store.close()


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

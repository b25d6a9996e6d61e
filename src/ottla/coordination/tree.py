"""ZooKeeper's tree of znodes with its sessions and watches: no I/O, no clock, no loop.

Rules: a ``write`` applies whole or not at all, under one zxid. ``changes`` names the durable rows that
are to be written before anything may be answered; ephemeral znodes are never among them. Then comes
``settle``, or ``roll_back``, which undoes all since the last ``settle``, fired watches included.
Source of the semantics: ZooKeeper's ``PrepRequestProcessor``, ``DataTree`` and ``PathUtils``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from ottla.coordination.store import (
    ANY_VERSION,
    BadArguments,
    BadVersion,
    Check,
    Create,
    Created,
    Delete,
    EventType,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
    Operation,
    OperationResult,
    SessionExpired,
    Set,
    Stat,
    StoreError,
    Watch,
    WatchEvent,
    Znode,
    validate_path,
)

_ZXID_EPOCH_BITS = 32


class Row(NamedTuple):
    """A durable znode as it is kept on disk. ``creates`` counts the children ever created."""

    path: str
    data: bytes
    czxid: int
    mzxid: int
    pzxid: int
    ctime_ms: int
    mtime_ms: int
    version: int
    creates: int


class Changes(NamedTuple):
    """What one transaction on disk has to do."""

    upserts: list[Row]
    deletes: list[str]


class _Node:
    __slots__ = (
        "children",
        "creates",
        "ctime_ms",
        "czxid",
        "data",
        "mtime_ms",
        "mzxid",
        "owner",
        "pzxid",
        "version",
    )

    def __init__(self, data: bytes, zxid: int, now_ms: int, owner: int = 0) -> None:
        self.data = data
        self.czxid = self.mzxid = self.pzxid = zxid
        self.ctime_ms = self.mtime_ms = now_ms
        self.version = 0
        self.creates = 0
        self.owner = owner
        self.children: set[str] | None = None  # most znodes are leaves

    def stat(self) -> Stat:
        child_count = len(self.children) if self.children else 0
        return Stat(
            self.czxid,
            self.mzxid,
            self.pzxid,
            self.ctime_ms,
            self.mtime_ms,
            self.version,
            self.creates * 2 - child_count,  # DataNode.copyStat: creations plus deletions
            self.owner,
            len(self.data),
            child_count,
        )


class _Session:
    __slots__ = ("ephemerals", "watched")

    def __init__(self) -> None:
        self.ephemerals: set[str] = set()
        self.watched: set[tuple[bool, str]] = set()


_WatchKey = tuple[int, Watch]


class Tree:
    """All znodes, sessions and watches of one store."""

    def __init__(self, rows: Iterable[Row] = (), *, zxid_epoch: int = 1) -> None:
        """Load ``rows``; new zxids start above ``zxid_epoch << 32``. Raises ValueError for orphans."""
        self._nodes: dict[str, _Node] = {"/": _Node(b"", 0, 0)}
        self._zxid = zxid_epoch << _ZXID_EPOCH_BITS
        self._sessions: dict[int, _Session] = {}
        self._last_session_id = self._zxid
        self._watches: dict[bool, dict[str, dict[_WatchKey, None]]] = {False: {}, True: {}}
        self._undo: list[Callable[[], None]] = []
        self._dirty: set[str] = set()
        self._events: list[tuple[Watch, WatchEvent]] = []
        for row in rows:
            self._load(row)

    def _load(self, row: Row) -> None:
        node = _Node(row.data, row.czxid, row.ctime_ms)
        node.mzxid, node.pzxid = row.mzxid, row.pzxid
        node.mtime_ms, node.version, node.creates = row.mtime_ms, row.version, row.creates
        if row.path == "/":
            node.children = self._nodes["/"].children
        else:
            parent_path, name = _split(row.path)
            parent = self._nodes.get(parent_path)
            if parent is None:
                raise ValueError(f"znode {row.path} has no parent")
            if parent.children is None:
                parent.children = set()
            parent.children.add(name)
        self._nodes[row.path] = node
        self._zxid = max(self._zxid, row.mzxid, row.pzxid)

    # Sessions

    def open_session(self) -> int:
        """A new session's id."""
        self._last_session_id += 1
        self._sessions[self._last_session_id] = _Session()
        return self._last_session_id

    def close_session(self, session_id: int) -> None:
        """End a session: its watches and ephemeral znodes go. Touches no durable row."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        for is_child_watch, path in session.watched:
            table = self._watches[is_child_watch]
            watchers = {key: None for key in table.get(path, ()) if key[0] != session_id}
            if watchers:
                table[path] = watchers
            else:
                table.pop(path, None)
        self._zxid += 1
        for path in sorted(session.ephemerals):
            self._remove(path, self._nodes[path], self._zxid)

    # Reads

    def get(self, session_id: int, path: str, watch: Watch | None = None) -> Znode:
        """Raises NoNode, SessionExpired."""
        self._require_session(session_id)
        node = self._node(path)
        self._add_watch(session_id, False, path, watch)
        return Znode(node.data, node.stat())

    def get_many(self, session_id: int, paths: Sequence[str]) -> list[Znode | None]:
        """None where there is no znode; raises SessionExpired."""
        self._require_session(session_id)
        found = (self._nodes.get(path) for path in paths)
        return [Znode(node.data, node.stat()) if node is not None else None for node in found]

    def exists(self, session_id: int, path: str, watch: Watch | None = None) -> Stat | None:
        """The stat or None; either way the watch stands. Raises SessionExpired."""
        self._require_session(session_id)
        validate_path(path)
        node = self._nodes.get(path)
        self._add_watch(session_id, False, path, watch)
        return node.stat() if node is not None else None

    def children(self, session_id: int, path: str, watch: Watch | None = None) -> list[str]:
        """The children's names, sorted. Raises NoNode, SessionExpired."""
        self._require_session(session_id)
        node = self._node(path)
        self._add_watch(session_id, True, path, watch)
        return sorted(node.children) if node.children else []

    # Writes

    def write(
        self, session_id: int, operations: Sequence[Operation], now_ms: int
    ) -> list[OperationResult]:
        """Apply all operations or none; raises the first failing one's error with its index."""
        self._require_session(session_id)
        undo_mark, event_mark = len(self._undo), len(self._events)
        dirty: set[str] = set()
        results: list[OperationResult] = []
        for index, operation in enumerate(operations):
            try:
                results.append(self._apply(session_id, operation, self._zxid + 1, now_ms, dirty))
            except Exception as error:
                self._undo_to(undo_mark)
                del self._events[event_mark:]
                if isinstance(error, StoreError):
                    error.operation_index = index
                raise
        self._zxid += 1
        self._dirty |= dirty
        return results

    def create(self, session_id: int, operation: Create, now_ms: int) -> Created:
        """One create with its stat."""
        (path,) = self.write(session_id, (operation,), now_ms)
        assert isinstance(path, str)
        return Created(path, self._nodes[path].stat())

    def _apply(
        self, session_id: int, operation: Operation, zxid: int, now_ms: int, dirty: set[str]
    ) -> OperationResult:
        if isinstance(operation, Create):
            return self._create(session_id, operation, zxid, now_ms, dirty)
        node = self._node(operation.path)
        if operation.version not in (ANY_VERSION, node.version):
            raise BadVersion(
                f"{operation.path} has version {node.version}, not {operation.version}"
            )
        if isinstance(operation, Check):
            return None
        if isinstance(operation, Delete):
            if operation.path == "/":
                raise BadArguments("the root can't be deleted")
            if node.children:
                raise NotEmpty(operation.path)
            self._remove(operation.path, node, zxid)
            if not node.owner:
                dirty.add(operation.path)
                dirty.add(_split(operation.path)[0])
            return None
        return self._set(operation, node, zxid, now_ms, dirty)

    def _create(
        self, session_id: int, operation: Create, zxid: int, now_ms: int, dirty: set[str]
    ) -> str:
        path = operation.path
        validate_path(path + "0" if operation.sequential else path)
        if path == "/":
            raise NodeExists(path)
        parent_path, name = _split(path)
        parent = self._nodes.get(parent_path)
        if parent is None:
            raise NoNode(parent_path)
        if operation.sequential:
            suffix = f"{parent.creates:010d}"
            path, name = path + suffix, name + suffix
        if path in self._nodes:
            raise NodeExists(path)
        if parent.owner:
            raise NoChildrenForEphemerals(parent_path)
        owner = session_id if operation.ephemeral else 0
        self._undo.append(partial(self._undo_create, path, parent.creates, parent.pzxid))
        self._nodes[path] = _Node(operation.data, zxid, now_ms, owner)
        if parent.children is None:
            parent.children = set()
        parent.children.add(name)
        parent.creates += 1
        parent.pzxid = zxid
        if owner:
            self._sessions[session_id].ephemerals.add(path)
        if not owner:
            dirty.add(path)
        if not owner or operation.sequential:  # a sequence number must not be given out again
            dirty.add(parent_path)
        self._fire(EventType.CREATED, path, False)
        self._fire(EventType.CHILDREN_CHANGED, parent_path, True)
        return path

    def _set(self, operation: Set, node: _Node, zxid: int, now_ms: int, dirty: set[str]) -> Stat:
        self._undo.append(
            partial(self._undo_set, node, node.data, node.mzxid, node.mtime_ms, node.version)
        )
        node.data, node.mzxid, node.mtime_ms = operation.data, zxid, now_ms
        node.version += 1
        if not node.owner:
            dirty.add(operation.path)
        self._fire(EventType.DATA_CHANGED, operation.path, False)
        return node.stat()

    def _remove(self, path: str, node: _Node, zxid: int) -> None:
        parent_path, name = _split(path)
        parent = self._nodes[parent_path]
        self._undo.append(partial(self._undo_remove, path, node, parent.pzxid))
        del self._nodes[path]
        assert parent.children is not None
        parent.children.discard(name)
        parent.pzxid = zxid
        if node.owner in self._sessions:
            self._sessions[node.owner].ephemerals.discard(path)
        self._fire(EventType.DELETED, path, False)
        self._fire(EventType.DELETED, path, True)
        self._fire(EventType.CHILDREN_CHANGED, parent_path, True)

    # A transaction's end

    def take_events(self) -> list[tuple[Watch, WatchEvent]]:
        """The watches that fired since the last call, in order."""
        events, self._events = self._events, []
        return events

    def changes(self) -> Changes | None:
        """The durable rows to write before anything since the last ``settle`` may be answered."""
        if not self._dirty:
            return None
        upserts: list[Row] = []
        deletes: list[str] = []
        for path in sorted(self._dirty):
            node = self._nodes.get(path)
            if node is None or node.owner:
                deletes.append(path)
            else:
                upserts.append(_row(path, node))
        return Changes(upserts, deletes)

    def settle(self) -> None:
        """What was done is durable (or needed no disk): it won't be undone."""
        self._undo.clear()
        self._dirty.clear()

    def roll_back(self) -> None:
        """Undo everything since the last ``settle``; its watches stand again, its events are gone."""
        self._undo_to(0)
        self._dirty.clear()
        self._events.clear()

    def _undo_to(self, mark: int) -> None:
        while len(self._undo) > mark:
            self._undo.pop()()

    def _undo_create(self, path: str, creates: int, pzxid: int) -> None:
        parent_path, name = _split(path)
        node, parent = self._nodes.pop(path), self._nodes[parent_path]
        assert parent.children is not None
        parent.children.discard(name)
        parent.creates, parent.pzxid = creates, pzxid
        if node.owner in self._sessions:
            self._sessions[node.owner].ephemerals.discard(path)

    def _undo_set(self, node: _Node, data: bytes, mzxid: int, mtime_ms: int, version: int) -> None:
        node.data, node.mzxid, node.mtime_ms, node.version = data, mzxid, mtime_ms, version

    def _undo_remove(self, path: str, node: _Node, pzxid: int) -> None:
        parent_path, name = _split(path)
        parent = self._nodes[parent_path]
        assert parent.children is not None
        parent.children.add(name)
        parent.pzxid = pzxid
        self._nodes[path] = node
        if node.owner in self._sessions:
            self._sessions[node.owner].ephemerals.add(path)

    # Watches

    def _add_watch(
        self, session_id: int, is_child_watch: bool, path: str, watch: Watch | None
    ) -> None:
        if watch is not None:
            self._watches[is_child_watch].setdefault(path, {})[(session_id, watch)] = None
            self._sessions[session_id].watched.add((is_child_watch, path))

    def _fire(self, event_type: EventType, path: str, is_child_watch: bool) -> None:
        watchers = self._watches[is_child_watch].pop(path, None)
        if watchers:
            self._undo.append(partial(self._rearm, is_child_watch, path, watchers))
            event = WatchEvent(event_type, path)
            self._events.extend((watch, event) for _, watch in watchers)

    def _rearm(self, is_child_watch: bool, path: str, watchers: dict[_WatchKey, None]) -> None:
        self._watches[is_child_watch].setdefault(path, {}).update(watchers)

    # Look-ups

    def _node(self, path: str) -> _Node:
        node = self._nodes.get(path)
        if node is None:
            validate_path(path)
            raise NoNode(path)
        return node

    def _require_session(self, session_id: int) -> None:
        if session_id not in self._sessions:
            raise SessionExpired("the session has ended")


def _row(path: str, node: _Node) -> Row:
    return Row(
        path,
        node.data,
        node.czxid,
        node.mzxid,
        node.pzxid,
        node.ctime_ms,
        node.mtime_ms,
        node.version,
        node.creates,
    )


def _split(path: str) -> tuple[str, str]:
    parent, _, name = path.rpartition("/")
    return parent or "/", name

"""The coordination store as the rooms above see it: one ZooKeeper session, asynchronous.

Rules that every store keeps, because ZooKeeper keeps them:

- A change is answered only once it is durable, and changes apply in one order for all sessions.
- A watch fires once. Its event is delivered before any read shows what caused it.
- A ``multi`` applies whole or not at all; each operation sees the effect of those before it.
- An ephemeral znode goes with its session and has no children. A session that ended never comes back.
- A sequential znode's name ends in the 10 digits of the number of children created there so far.

Nothing here that ZooKeeper (by way of kazoo) can't give. Errors carry ZooKeeper's meaning and names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

ANY_VERSION = -1
"""The version that matches whatever version a znode has."""

REQUEST_BYTES_MAX = 1_000_000
"""What one request may weigh: ZooKeeper's ``jute.maxbuffer`` (1,048,575) less room for its header."""


class StoreError(Exception):
    """A refused or failed operation. ``operation_index`` is its place in a ``multi``, otherwise 0."""

    operation_index: int = 0


class NoNode(StoreError):
    """There is no znode at the path (or, for a create, no parent)."""


class NodeExists(StoreError):
    """There already is a znode at the path."""


class BadVersion(StoreError):
    """The znode's data version is another than the expected one."""


class NotEmpty(StoreError):
    """A znode that has children can't be deleted."""


class NoChildrenForEphemerals(StoreError):
    """An ephemeral znode can't have children."""


class BadArguments(StoreError):
    """A path that ZooKeeper would not take."""


class NotAuthorized(StoreError):
    """The znode's access list does not let this session do it, or the session's name was refused."""


class RequestTooLarge(StoreError):
    """The request weighs more than ``REQUEST_BYTES_MAX``; nothing was sent."""


class SessionExpired(StoreError):
    """The session has ended: nothing was done, and nothing will be done through it again."""


class ConnectionLoss(StoreError):
    """The answer is lost: the change may have been applied or not."""


class SessionState(Enum):
    """How a session stands with its store."""

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    """Out of touch: the session may already have expired without our knowing."""
    EXPIRED = "expired"


class EventType(Enum):
    """What a watch saw."""

    CREATED = "created"
    DELETED = "deleted"
    DATA_CHANGED = "data changed"
    CHILDREN_CHANGED = "children changed"


class WatchEvent(NamedTuple):
    """What happened where."""

    type: EventType
    path: str


Watch = Callable[[WatchEvent], None]
"""Called on the event loop, at most once per registration; must neither block nor raise."""


class Stat(NamedTuple):
    """A znode's bookkeeping. Times in milliseconds since 1970."""

    czxid: int
    """The transaction that created it: for ``/brokers/ids/N`` the broker epoch."""
    mzxid: int
    pzxid: int
    ctime_ms: int
    mtime_ms: int
    version: int
    """Changes of the data since it was created."""
    cversion: int
    """Changes of the set of children (creations and deletions)."""
    ephemeral_owner: int
    """The owning session's id, 0 for a durable znode."""
    data_length: int
    num_children: int


class Znode(NamedTuple):
    """What a read returns."""

    data: bytes
    stat: Stat


class Created(NamedTuple):
    """What a create returns: the path with its sequence digits, if any."""

    path: str
    stat: Stat


class Create(NamedTuple):
    """An operation: create a znode. In a ``multi`` its result is the path."""

    path: str
    data: bytes = b""
    ephemeral: bool = False
    sequential: bool = False


class Set(NamedTuple):
    """An operation: set the data. In a ``multi`` its result is the new ``Stat``."""

    path: str
    data: bytes
    version: int = ANY_VERSION


class Delete(NamedTuple):
    """An operation: delete a znode without children. In a ``multi`` its result is None."""

    path: str
    version: int = ANY_VERSION


class Check(NamedTuple):
    """An operation: go on only if the znode exists with this version. Its result is None."""

    path: str
    version: int = ANY_VERSION


Operation = Create | Set | Delete | Check
OperationResult = str | Stat | None


class Store(Protocol):
    """One session with the coordination store."""

    @property
    def session_id(self) -> int:
        """Compare with ``Stat.ephemeral_owner`` to know one's own znodes."""
        ...

    @property
    def state(self) -> SessionState:
        """How the session stands now, as far as it is known here."""
        ...

    @property
    def session_timeout_ms(self) -> int | None:
        """After so much silence the session expires, as it was granted; None: never."""
        ...

    @property
    def lives_until(self) -> float:
        """Until this moment of ``ottla.clock.boottime()`` the session can't have expired.

        It moves on as long as the store answers. Behind it the session may be over, and others may be
        told so, without our knowing: what only its owner may do must not be done any more.
        """
        ...

    def on_state(self, listener: Callable[[SessionState], None]) -> None:
        """Call ``listener`` on the loop at every later change of ``state``."""
        ...

    async def create(
        self, path: str, data: bytes = b"", *, ephemeral: bool = False, sequential: bool = False
    ) -> Created:
        """Create a znode; raises NodeExists, NoNode (no parent), NoChildrenForEphemerals."""
        ...

    async def get(self, path: str, *, watch: Watch | None = None) -> Znode:
        """Data and stat; raises NoNode, and then leaves no watch. Seen: data changed, deleted."""
        ...

    async def get_many(self, paths: Sequence[str]) -> list[Znode | None]:
        """Many reads in one go (pipelined, not one snapshot): None where there is no znode."""
        ...

    async def exists(self, path: str, *, watch: Watch | None = None) -> Stat | None:
        """The stat, or None. Seen: created, data changed, deleted."""
        ...

    async def children(self, path: str, *, watch: Watch | None = None) -> list[str]:
        """The children's names in no certain order; raises NoNode. Seen: children changed, deleted."""
        ...

    async def set(self, path: str, data: bytes, version: int = ANY_VERSION) -> Stat:
        """Replace the data; raises NoNode, BadVersion."""
        ...

    async def delete(self, path: str, version: int = ANY_VERSION) -> None:
        """Delete a znode; raises NoNode, BadVersion, NotEmpty."""
        ...

    async def multi(self, operations: Sequence[Operation]) -> list[OperationResult]:
        """All or nothing, under one zxid.

        Raises the first failing operation's error, which carries its ``operation_index``.
        """
        ...

    async def close(self) -> None:
        """End the session: its ephemeral znodes go at once."""
        ...


class Connector(Protocol):
    """Where sessions come from: a ``Store`` is one session, and after EXPIRED it takes a new one."""

    async def connect(self) -> Store:
        """A new session. Raises ConnectionLoss where the store can't be reached in time."""
        ...

    async def close(self) -> None:
        """End all sessions that are still open."""
        ...


def request_bytes(operations: Sequence[Operation]) -> int:
    """What a request weighs against ``REQUEST_BYTES_MAX`` (rounded up, no byte-exact jute)."""
    total = 0
    for operation in operations:
        total += 64 + len(operation.path)  # header, ACL, flags; paths are ASCII here
        if isinstance(operation, Create | Set):
            total += len(operation.data)
    return total


def validate_path(path: str) -> None:
    """Refuse what ZooKeeper's ``PathUtils.validatePath`` refuses; raises BadArguments."""
    if path == "/":
        return
    if not path.startswith("/"):
        raise BadArguments(f"{path!r} does not start with a slash")
    for part in path[1:].split("/"):
        if part in ("", ".", ".."):
            raise BadArguments(f"{path!r} has an empty or relative part")
    if any(_is_refused(character) for character in path):
        raise BadArguments(f"{path!r} has a character that a path can't hold")


def _is_refused(character: str) -> bool:
    return (
        character <= "\x1f"
        or "\x7f" <= character <= "\x9f"
        or "\ud800" <= character <= "\uf8ff"
        or "\ufff0" <= character <= "\uffff"
    )

"""A request as the handlers see it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ottla.network.budget import SMALL_BYTES_MAX

if TYPE_CHECKING:
    import asyncio

    from ottla.network.budget import SharedBudget
    from ottla.wire.schema import Message


class Peer(Protocol):
    """Who sent a request: what a handler may know of the connection."""

    peer_host: str
    peer_port: int
    listener_name: str
    connection_id: str
    principal: str
    client_software_name: str
    client_software_version: str

    def close(self, reason: str, **fields: Any) -> None:
        """Hang up, with ``reason`` and ``fields`` in the log."""
        ...

    def answer_now(self, future: asyncio.Future[Any], answer: Any) -> None:
        """Settle a parked answer, and write it in this turn of the loop. Not from within a request's handling."""
        ...


def ends_of(transport: asyncio.BaseTransport) -> tuple[str, int, str]:
    """The peer's host and port, and our own as ``host:port``, as far as the transport has such."""
    peer = transport.get_extra_info("peername") or ("", 0)
    here = transport.get_extra_info("sockname") or ("", 0)
    host, port = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else ("", 0)
    return host, port, f"{here[0]}:{here[1]}" if isinstance(here, tuple) else str(here)


class Unsettled:
    """An answer that is known once the server has settled what requests left to be done together.

    A handler returns it in place of the answer; the connection has the server settle, which it does before
    anything else happens on the event loop, and then asks.
    """

    __slots__ = ()

    def settle(self) -> Message | Answers | asyncio.Future[Any] | None:
        """The answer: a message, a future of one, or None where none is due, as here."""
        return None

    def run(self) -> Run | None:
        """What takes the requests behind this one that are like it; None if they are to be handled like others."""
        return None

    def spreads(self) -> bool:
        """Whether it is worth waiting for what others bring that are read with it: each writes to the same few places."""
        return False

    def kind(self) -> Kind | None:
        """What takes those that come later and are like it, from others, too; None if they are to be handled like others."""
        return None


class Request:
    """One request, decoded.

    The body's memory (records above all) belongs to this request alone: it may be written to and kept.
    ``received_ms`` is the wall time at which it was read; ``started_s`` the steady clock's then, where requests
    are measured.
    """

    __slots__ = (
        "_budget",
        "api_key",
        "api_version",
        "body",
        "client_id",
        "connection",
        "correlation_id",
        "frame_bytes",
        "give_way",
        "received_ms",
        "started_s",
    )

    count = 1
    """How many requests it stands for."""

    def __init__(
        self,
        api_key: int,
        api_version: int,
        correlation_id: int,
        client_id: str | None,
        body: Any,
        connection: Peer,
        received_ms: int = 0,
        budget: SharedBudget | None = None,
        frame_bytes: int = 0,
    ) -> None:
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.body = body
        self.connection = connection
        self.received_ms = received_ms
        self._budget = budget
        self.frame_bytes = frame_bytes
        self.started_s = 0.0
        self.give_way: Callable[[], None] | None = None
        """For whoever parks its answer and is not to hold up what comes behind it: called then, to answer at once."""

    @property
    def budget(self) -> SharedBudget | None:
        """What the request's bytes go back to, as long as they have not."""
        return self._budget

    def release(self) -> None:
        """Give the request's bytes back to the broker's budget; a second call does nothing.

        The connection calls it when the request has been answered. A handler that parks its answer and
        holds no reference to the records any more calls it early (and drops ``body.…records``), so that
        a thousand Produce requests that wait for a sync do not hold up the ones after them.
        """
        budget = self._budget
        if budget is not None:
            self._budget = None
            budget.release(self.frame_bytes)

    def __repr__(self) -> str:
        return (
            f"Request(api_key={self.api_key}, api_version={self.api_version}, "
            f"correlation_id={self.correlation_id}, client_id={self.client_id!r})"
        )


class Run(Unsettled):
    """Requests of one connection that came with one read, each like ``first`` but for its records.

    They are small, and handled one after the other, as any are, and answered together: what differs is only that nobody
    looks again at what was found for the first one, on the same turn of the event loop. A run begins empty.
    """

    __slots__ = ("_budget", "api_key", "api_version", "count", "frame_bytes", "started_s")

    give_way = None

    def __init__(
        self, api_key: int, api_version: int, started_s: float, budget: SharedBudget | None
    ) -> None:
        self._budget = budget
        self.api_key = api_key
        self.api_version = api_version
        self.started_s = started_s
        self.count = 0
        """How many requests it has taken."""
        self.frame_bytes = 0
        """The bytes of their frames; ``release`` gives them back."""

    def joined(self, correlation_id: int, records: memoryview, frame_bytes: int) -> bool:
        """Whether the request was handled with the run; otherwise nothing has happened to it."""
        if frame_bytes > SMALL_BYTES_MAX or not self.take(correlation_id, records):
            return False
        self.count += 1
        self.frame_bytes += frame_bytes
        return True

    @abstractmethod
    def take(self, correlation_id: int, records: memoryview) -> bool:
        """Handle one more request; False if it is not for a run, and nothing was done. Raises nothing."""

    @abstractmethod
    def settle(self) -> Answers | asyncio.Future[Answers]:
        """The answers of all of them, in their order."""

    def release(self) -> None:
        """Give the frames' bytes back to the broker's budget; a second call does nothing."""
        budget = self._budget
        if budget is not None:
            self._budget = None
            budget.release_small(self.frame_bytes)


class Kind(Protocol):
    """Requests that are alike but for their records, whoever sends them. Of each kind there is one object."""

    def begin(self, received_ms: int, started_s: float, budget: SharedBudget | None) -> Run | None:
        """An empty run of such requests; None where what was known of them does not hold any more."""
        ...


class Joined:
    """Requests of one connection that were handled in a run with those of others, and are not answered yet."""

    __slots__ = ("count",)

    api_key = 0
    api_version = 0
    frame_bytes = 0
    give_way = None

    def __init__(self, count: int) -> None:
        self.count = count

    def release(self) -> None:
        """The run has given its bytes back."""


class Answers(NamedTuple):
    """Answers, encoded, each with its length before it: those of a run, or the one of a request in which nothing failed."""

    encoded: bytes
    error_codes: tuple[int, ...] = ()
    """Of those that failed."""
    apart: Sequence[bytes] = ()
    """Of a run: each request's."""

"""A request as the handlers see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

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


class Unsettled:
    """An answer that is known once the server has settled what requests left to be done together.

    A handler returns it in place of the answer; the connection has the server settle, which it does before
    anything else happens on the event loop, and then asks.
    """

    __slots__ = ()

    def settle(self) -> Message | asyncio.Future[Any] | None:
        """The answer: a message, a future of one, or None where none is due, as here."""
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
        "received_ms",
        "started_s",
    )

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

"""The heartbeats of a session with ZooKeeper: each goes through the quorum and extends the session's lease.

One is under way at a time. One that is not answered for a third of the session timeout will not be: the
connection is given up, while there is time enough to take the session to another server. So it is where a server says
that it does not know the session and yet keeps the connection, as it does if the session ended (or moved) while it was
being taken up: writes fail there for ever, and only the next connection is told that the session is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from ottla.clock import boottime
from ottla.coordination import zookeeper_requests as requests
from ottla.coordination.session_lease import SessionLease
from ottla.coordination.store import Check, ConnectionLoss, SessionExpired
from ottla.coordination.zookeeper_requests import Request
from ottla.logs import logger

log = logger(__name__)

_LOST_AFTER = 1 / 3
"""As a part of the session timeout."""

Submit = Callable[[Request, Callable[[Any, Exception | None], None]], bool]
"""Sends a request on the connection of the moment; False if that is gone."""


class Heart:
    """Beats from ``start`` on while there is a connection (``resume``) until there is none (``stop``)."""

    def __init__(
        self, asked_at_s: float, path: str, *, submit: Submit, cut: Callable[[], None]
    ) -> None:
        """``asked_at_s`` is when the session was asked for; ``path`` a znode that it can read."""
        self._asked_at_s = asked_at_s
        self._path = path
        self._submit = submit
        self._cut = cut
        self._timeout_s = 0.0
        self._lease = SessionLease(asked_at_s, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._is_started = False

    @property
    def lives_until(self) -> float:
        """See ``session_lease``."""
        return self._lease.lives_until

    def granted(self, timeout_s: float) -> None:
        """The session is there, with this timeout."""
        self._timeout_s = timeout_s
        self._lease = SessionLease(self._asked_at_s, timeout_s)

    def start(self) -> None:
        """``path`` is there: begin."""
        self._is_started = True
        self._beat()

    def resume(self) -> None:
        """There is a connection again."""
        if self._is_started:
            self.stop()
            self._beat()

    def stop(self) -> None:
        """There is none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        sent = boottime()
        probe = requests.multi(((Check(self._path), ()),))
        if self._submit(probe, partial(self._answered, probe, sent)):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._timeout_s * _LOST_AFTER, self._cut)

    def _answered(self, probe: Request, sent: float, answer: Any, error: Exception | None) -> None:
        if error is not None or self._timer is None:
            return  # the connection is lost, and somebody stops us
        self.stop()
        now = boottime()
        refusal = requests.refusal(probe, answer)
        if isinstance(refusal, SessionExpired | ConnectionLoss):
            log.warning(
                "ZooKeeper does not know our session on this connection",
                reason=str(refusal) or type(refusal).__name__,
            )
            self._cut()
            return  # there will be another connection, or none
        if refusal is not None:
            log.error("ZooKeeper does not let us see our path", error=refusal)
        else:
            self._lease.answered(sent, now)
        pause_s = max(0.0, sent + self._lease.interval_s - now)
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._beat)

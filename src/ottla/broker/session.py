"""The broker's session with the coordination store, and those after it: what the broker's life in a cluster hangs by.

Rules:
- A registration lives as long as its session, and its transaction is the broker's epoch. One that another
  session holds under this id is waited for, as long as that may outlive its owner; then it is another broker's.
- A session that expired took everything with it: the lease ends, whoever led or followed by it resigns, and a new
  session is sought, registers anew, and is told anew. What was meant for the life before is refused.
- Out of touch, nothing is done at once: the lease runs out by itself, and who waits is told when it does. If the
  session turns out to be alive, what was held up goes on.

Source: ``KafkaZkClient.registerBroker``, ``KafkaController.onBrokerStartup``; the fence by time is our own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from ottla.clock import boottime
from ottla.coordination import znodes
from ottla.coordination.bootstrap import register_broker
from ottla.coordination.store import (
    ConnectionLoss,
    NoNode,
    SessionExpired,
    SessionState,
    StoreError,
)
from ottla.errors import KafkaError
from ottla.logs import logger
from ottla.replication.lease import FOREVER, Lease

if TYPE_CHECKING:
    from ottla.coordination.store import Connector, Store
    from ottla.coordination.znodes import BrokerRegistration

log = logger(__name__)

REGISTRATION_MARGIN_S = 2.0
"""How much longer than a session timeout a registration may outlive its owner: the server looks by ticks."""

RETRY_MIN_S, RETRY_MAX_S = 0.1, 2.0
"""Pauses between attempts to have a session again."""

_T = TypeVar("_T")

LEASE_CHECK_S = 0.05
"""How soon a lease that is over and renewed again is noticed, for what was held up."""


class Session:
    """The session of the moment; ``store`` is it, ``lease`` says for how long it surely lives."""

    def __init__(
        self,
        lease: Lease,
        *,
        registration: Callable[[], BrokerRegistration],
        ended: Callable[[], None],
        renewed: Callable[[], Awaitable[None]],
        registered: Callable[[], Awaitable[None]],
        lease_ended: Callable[[], None],
        lease_renewed: Callable[[], None],
    ) -> None:
        """``ended`` is called when a session expired; ``renewed`` once there is another, before it registers.

        ``registered`` is called after that, but not for the first registration.
        """
        self.store: Store
        self.lease = lease
        self.broker_epoch = -1
        """The transaction that made this broker's registration; -1 before it has one."""
        self.oldest_epoch = -1
        """What is meant for an earlier broker epoch than this is not for us any more."""
        self._registration = registration
        self._ended = ended
        self._renewed = renewed
        self._registered = registered
        self._lease_ended = lease_ended
        self._lease_renewed = lease_renewed
        self._connector: Connector
        self.registered = asyncio.Event()
        """Set once this process has registered: before that nothing is meant for it."""
        self._expired = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held_up = False
        self._closed = False

    async def open(self, connector: Connector) -> Store:
        """The first session. Raises ``StoreError``."""
        self._connector = connector
        await self._connect()
        return self.store

    async def ask(self, question: Callable[[Store], Awaitable[_T]]) -> _T:
        """What a broker has to know before it can register: asked again while the store gives no answer.

        For reads, and for what may be repeated. If the session expires meanwhile, another one is asked. Raises what
        else ``question`` raises, and ConnectionLoss where the store is in this process: it does not come back.
        """
        while True:
            store = self.store
            try:
                return await question(store)
            except (ConnectionLoss, SessionExpired) as error:
                if store.session_timeout_ms is None:
                    raise
                log.warning("the store gives no answer yet", reason=str(error))
                if isinstance(error, SessionExpired):
                    await self._begin_again()
                else:
                    await asyncio.sleep(RETRY_MIN_S)

    async def register(self) -> None:
        """Announce the broker, by another session if this one has expired meanwhile; hold on to it from now on.

        Raises ``KafkaError`` (DUPLICATE_BROKER_REGISTRATION), ``StoreError``.
        """
        while True:
            try:
                await self._register()
                break
            except SessionExpired:
                await self._begin_again()
        self._task = asyncio.create_task(self._hold(), name="session")

    async def register_anew(self, registration: BrokerRegistration) -> None:
        """Say something else in the registration; it stays the same one, with its epoch.

        Raises ``StoreError``: ``SessionExpired`` also where the registration is not this session's any more.
        """
        store = self.store
        path = znodes.broker_path(registration.broker_id)
        try:
            stat = await store.exists(path)
            if stat is None or stat.czxid != self.broker_epoch:
                raise SessionExpired(path)
            await store.set(path, registration.encode(), stat.version)
        except NoNode as error:
            raise SessionExpired(path) from error

    async def close(self) -> None:
        """Leave: the registration goes at once. A second call does nothing."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._leave(self.store)

    # One session

    async def _connect(self) -> None:
        self.store = store = await self._connector.connect()
        self._expired.clear()
        store.on_state(lambda state: self._state_changed(store, state))
        self.lease.renew_from(lambda: store.lives_until)
        self._watch_lease()
        if store.state is SessionState.EXPIRED:
            self._state_changed(store, store.state)

    async def _connect_again(self) -> None:
        pause = RETRY_MIN_S
        while True:
            await self._leave(self.store)
            try:
                await self._connect()
                return
            except (StoreError, OSError) as error:
                log.warning("no new session with the store yet", reason=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MAX_S)

    async def _begin_again(self) -> None:
        while True:
            await self._connect_again()
            try:
                await self._renewed()
                return
            except StoreError as error:
                log.warning("no new session with the store yet", reason=str(error))
            except Exception as error:
                log.error("no new session with the store yet", error=error)
                await asyncio.sleep(RETRY_MAX_S)

    async def _leave(self, store: Store) -> None:
        try:
            await store.close()
        except (
            StoreError
        ) as error:  # it is gone, or its disk failed: there is nothing left to leave
            log.warning("the store was not left in order", reason=str(error))

    async def _register(self) -> None:
        """Raises ``KafkaError`` (DUPLICATE_BROKER_REGISTRATION), ``StoreError``."""
        loop = asyncio.get_running_loop()
        store, registration = self.store, self._registration()
        timeout_ms = store.session_timeout_ms
        wait_s = 0.0 if timeout_ms is None else timeout_ms / 1000 + REGISTRATION_MARGIN_S
        deadline = loop.time() + wait_s
        told = False
        while True:
            try:
                epoch = await register_broker(store, registration)
                break
            except ConnectionLoss:
                if timeout_ms is None:  # what is in this process does not come back
                    raise
                await asyncio.sleep(RETRY_MIN_S)
            except KafkaError:
                if loop.time() >= deadline:
                    raise
                if not told:
                    log.warning("waiting for an older registration to expire", seconds=wait_s)
                    told = True
                await self._until_gone(znodes.broker_path(registration.broker_id), deadline)
        self.broker_epoch = self.oldest_epoch = epoch
        self.registered.set()
        log.info("registered", broker_epoch=epoch)

    async def _until_gone(self, path: str, deadline: float) -> None:
        gone = asyncio.Event()
        with suppress(TimeoutError, ConnectionLoss):
            if await self.store.exists(path, watch=lambda _event: gone.set()) is not None:
                async with asyncio.timeout_at(deadline):
                    await gone.wait()

    def _state_changed(self, store: Store, state: SessionState) -> None:
        if store is not self.store or self._closed:
            return
        if state is SessionState.SUSPENDED:
            log.warning("out of touch with the store")
        elif state is SessionState.EXPIRED and not self._expired.is_set():
            log.error("the session with the store has expired", broker_epoch=self.broker_epoch)
            self._give_up()

    def _give_up(self) -> None:
        """The session, and all that was led and followed by it, counts no more."""
        self.lease.revoke()
        self.oldest_epoch = self.broker_epoch + 1
        self._expired.set()
        self._ended()

    async def _hold(self) -> None:
        """Have a session, as long as the broker lives."""
        while True:
            await self._expired.wait()
            await self._begin_again()
            try:
                await self._register()
                await self._registered()
            except SessionExpired:
                continue
            except Exception as error:  # whatever it is, this broker is to come back
                log.error("the broker is not registered", error=error)
                self._give_up()
                await asyncio.sleep(RETRY_MAX_S)

    # The lease

    def _watch_lease(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        end = self.lease.end
        if end == FOREVER:
            self._look_at_lease()
            return
        wait_s = LEASE_CHECK_S if self._held_up else max(end - boottime(), 0.0) + 0.001
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._lease_due)

    def _lease_due(self) -> None:
        self._timer = None
        self._look_at_lease()
        self._watch_lease()

    def _look_at_lease(self) -> None:
        over = self.lease.is_over()
        if over and not self._held_up:
            self._held_up = True
            if not self._expired.is_set():
                log.error(
                    "out of touch for too long: nothing is acknowledged until the store answers"
                )
            self._lease_ended()
        elif not over and self._held_up:
            self._held_up = False
            self._lease_renewed()

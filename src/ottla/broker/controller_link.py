"""This broker's way to the controller of the moment, for what only the controller may do.

Rules:
- Where this broker is the controller, its own is asked in the process; else one connection over the brokers'
  listener, to whom ``/controller`` names. It is looked up again when that changes, when the connection broke, by another
  session, and when the answer is NOT_CONTROLLER. Requests under way to a controller that is gone, and a connection to
  it that is not made yet, are given up at once.
- Who asks while a connection is being made waits for that one, and no longer than it said.
- A request is sent once: what became of one that got no answer only its sender can find out.

Source: ``BrokerToControllerChannelManager``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ottla.coordination import znodes
from ottla.coordination.store import NoNode, StoreError
from ottla.coordination.znodes import BrokerRegistration, ControllerZnode, MalformedZnode
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.registry import API_NAMES, module_name

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.coordination.store import Store, WatchEvent
    from ottla.network.channel import Channel
    from ottla.wire.schema import Message

CREATE_TOPICS = 19

CONNECT_TIMEOUT_S = 5.0


class ControllerLink:
    """What a broker asks its controller by."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._channel: Channel | None = None
        self._store: Store | None = None
        """The session that sees when whom we have a connection to is the controller no more."""
        self._attempt: asyncio.Task[Channel] | None = None
        self._moved = asyncio.Event()

    async def send(self, request: Message, *, timeout_s: float) -> Any:
        """The controller's answer, whatever codes are in it; it is waited for ``timeout_s``, connecting included.

        Raises ``KafkaError``: NOT_CONTROLLER (nobody is, or nobody knows who), NETWORK_EXCEPTION,
        REQUEST_TIMED_OUT.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                if self._broker.controller.is_active:
                    return await self._ask_own(request)
                channel = await self._connected()
        except TimeoutError as error:
            raise KafkaError(ErrorCode.REQUEST_TIMED_OUT) from error
        left_s = deadline - asyncio.get_running_loop().time()
        answer = await channel.send(request, timeout=left_s)
        if _is_refused(answer):
            self._forget(channel, "it is not the controller")
        return answer

    def close(self) -> None:
        """Ask nothing any more."""
        if self._attempt is not None:
            self._attempt.cancel()
        if self._channel is not None:
            self._forget(self._channel, "the broker stops")

    async def _ask_own(self, request: Any) -> Any:
        name = module_name(API_NAMES[type(request).__api_key__])
        if type(request).__api_key__ == CREATE_TOPICS:
            from ottla.broker.handlers.create_topics import create

            return await create(self._broker, request)
        return await getattr(self._broker.controller, name)(request)

    def _forget(self, channel: Channel, reason: str) -> None:
        if self._channel is channel:
            self._channel = None
        channel.abort(reason)

    async def _connected(self) -> Channel:
        channel = self._channel
        if channel is not None:
            if not channel.closed and self._store is self._broker.session.store:
                return channel
            self._forget(channel, "the controller is looked up again")
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = asyncio.create_task(self._find(), name="controller link")
            attempt.add_done_callback(self._found)
        await asyncio.wait((attempt,))  # who gives up does not end it for the others
        if attempt.cancelled():
            raise KafkaError(ErrorCode.NOT_CONTROLLER, "the broker stops")
        return attempt.result()

    def _found(self, attempt: asyncio.Task[Channel]) -> None:
        self._attempt = None
        if not attempt.cancelled():
            attempt.exception()  # perhaps nobody waits for it any more

    async def _find(self) -> Channel:
        """A connection to who is the controller when it is made."""
        while True:
            self._moved.clear()
            connecting = asyncio.create_task(self._connect())
            moving = asyncio.create_task(self._moved.wait())
            try:
                await asyncio.wait((connecting, moving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                connecting.cancel()
                moving.cancel()
                await asyncio.wait((connecting, moving))
            if connecting.cancelled() or (connecting.exception() and self._moved.is_set()):
                continue
            if not self._moved.is_set():
                return connecting.result()

    def _on_change(self, event: WatchEvent) -> None:
        self._moved.set()
        if self._channel is not None:
            self._forget(self._channel, "another controller is elected")

    async def _connect(self) -> Channel:
        from ottla.network.channel import Channel

        self._store = store = self._broker.session.store
        try:
            found = await store.get(znodes.CONTROLLER, watch=self._on_change)
            controller = ControllerZnode.decode(found.data).broker_id
            registration = await store.get(znodes.broker_path(controller))
            endpoints = BrokerRegistration.decode(controller, registration.data).endpoints
        except NoNode as error:
            raise KafkaError(ErrorCode.NOT_CONTROLLER, "there is no controller now") from error
        except (StoreError, MalformedZnode) as error:
            raise KafkaError(ErrorCode.NOT_CONTROLLER, str(error)) from error
        listener = self._broker.config.inter_broker_listener
        for endpoint in endpoints:
            if endpoint.listener == listener:
                self._channel = await Channel.connect(
                    endpoint.host,
                    endpoint.port,
                    client_id=f"broker-{self._broker.node_id}-controller-link",
                    timeout=CONNECT_TIMEOUT_S,
                )
                return self._channel
        raise KafkaError(
            ErrorCode.NOT_CONTROLLER, f"the controller, {controller}, has no listener {listener}"
        )


def _is_refused(answer: Any) -> bool:
    codes = [getattr(answer, "error_code", 0)]
    codes += [getattr(topic, "error_code", 0) for topic in getattr(answer, "topics", ())]
    return ErrorCode.NOT_CONTROLLER in codes

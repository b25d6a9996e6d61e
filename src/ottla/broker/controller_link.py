"""This broker's way to the controller of the moment, for what only the controller may do.

Rules:
- Where this broker is the controller, its own is asked in the process; else one connection over the brokers'
  listener, to whom ``/controller`` names. It is looked up again when that changes, when the connection broke, and
  when the answer is NOT_CONTROLLER; requests under way to a controller that is gone are given up at once.
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
    from ottla.coordination.store import WatchEvent
    from ottla.network.channel import Channel
    from ottla.wire.schema import Message

CREATE_TOPICS = 19

CONNECT_TIMEOUT_S = 5.0


class ControllerLink:
    """What a broker asks its controller by."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._channel: Channel | None = None
        self._turn = asyncio.Lock()

    async def send(self, request: Message, *, timeout_s: float) -> Any:
        """The controller's answer, whatever codes are in it.

        Raises ``KafkaError``: NOT_CONTROLLER (nobody is, or nobody knows who), NETWORK_EXCEPTION,
        REQUEST_TIMED_OUT.
        """
        if self._broker.controller.is_active:
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._ask_own(request)
            except TimeoutError as error:
                raise KafkaError(ErrorCode.REQUEST_TIMED_OUT) from error
        channel = await self._connected()
        answer = await channel.send(request, timeout=timeout_s)
        if _is_refused(answer):
            self._forget(channel, "it is not the controller")
        return answer

    def close(self) -> None:
        """Ask nothing any more."""
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
        async with self._turn:
            channel = self._channel
            if channel is None or channel.closed:
                channel = self._channel = await self._connect()
            return channel

    async def _connect(self) -> Channel:
        from ottla.network.channel import Channel

        store = self._broker.session.store
        changed = asyncio.Event()
        made: list[Channel] = []

        def on_change(event: WatchEvent) -> None:
            changed.set()
            for channel in made:
                self._forget(channel, "another controller is elected")

        try:
            found = await store.get(znodes.CONTROLLER, watch=on_change)
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
                channel = await Channel.connect(
                    endpoint.host,
                    endpoint.port,
                    client_id=f"broker-{self._broker.node_id}-controller-link",
                    timeout=CONNECT_TIMEOUT_S,
                )
                made.append(channel)
                if changed.is_set():
                    channel.abort("another controller is elected")
                return channel
        raise KafkaError(
            ErrorCode.NOT_CONTROLLER, f"the controller, {controller}, has no listener {listener}"
        )


def _is_refused(answer: Any) -> bool:
    codes = [getattr(answer, "error_code", 0)]
    codes += [getattr(topic, "error_code", 0) for topic in getattr(answer, "topics", ())]
    return ErrorCode.NOT_CONTROLLER in codes

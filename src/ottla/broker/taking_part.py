"""A broker's part in its cluster: the registration, the controller of each session, and what their ends mean.

Rules: settings are caught up with before a new registration, and the controller runs for office after it: whoever
hears of this broker finds it ready to be told. What was led and followed by a session that is over counts no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.controlling import new_controller
from ottla.broker.session import Session
from ottla.coordination.znodes import BrokerRegistration

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.coordination.znodes import Endpoint


def session_of(broker: Broker) -> Session:
    """The broker's sessions with its store."""

    def ended() -> None:
        broker.replicas.resign()
        broker.group_loading.resign_all()

    async def renewed() -> None:
        if not broker.has_rooms:  # they will be made with the session of then
            return
        await broker.controller.close()
        await broker.config_listener.go_on(broker.session.store)
        broker.controller = new_controller(broker)

    async def registered() -> None:
        await broker.controller.start()

    def lease_ended() -> None:
        for partition in broker.replicas:
            partition.lease_ended()

    def lease_renewed() -> None:
        for partition in broker.replicas:
            partition.lease_renewed()

    return Session(
        broker.lease,
        registration=broker.registration,
        ended=ended,
        renewed=renewed,
        registered=registered,
        lease_ended=lease_ended,
        lease_renewed=lease_renewed,
    )


SHORT_TOLD_MAX = 1000
"""So many short replicas are told of by name, in a znode that holds a megabyte; of more, all are suspected."""


def registration_of(broker: Broker, endpoints: tuple[Endpoint, ...]) -> BrokerRegistration:
    """What the others are told of the broker."""
    registration = BrokerRegistration(
        broker.node_id,
        endpoints,
        broker.config.broker_rack,
        broker.clock.now_ms(),
        unclean=broker.may_have_lost,
        short=frozenset(broker.short),
    )
    if len(broker.short) > SHORT_TOLD_MAX:
        return registration._replace(unclean=True, short=frozenset())
    return registration

"""Leaving a cluster in order: what this broker leads is led by others before it closes (controlled shutdown).

Rules: the controller is asked while everything is still answered, so that clients hear who leads now. As in Kafka
it is asked ``controlled.shutdown.max.retries`` times; then, or where nobody else lives, the broker just goes. What has been
handed over is not copied any more: its new leader would want to let this broker into the ISR that it has just left.
Source: ``KafkaServer.controlledShutdown``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

log = logger(__name__)

ANSWER_TIMEOUT_S = 30.0
"""``controller.socket.timeout.ms``, as long as Kafka waits for one answer."""

LOOK_S = 0.1
"""How often it is looked, between two attempts, whether anybody else is left."""


async def hand_over(broker: Broker) -> bool:
    """Have the controller move all leaderships; whether none was left here."""
    from ottla.messages.controlled_shutdown import (
        ControlledShutdownRequest,
        ControlledShutdownResponse,
    )

    config = broker.config
    broker.replicas.is_leaving = True
    for attempt in range(config.controlled_shutdown_max_retries):
        if attempt:
            await _pause(broker, config.controlled_shutdown_retry_backoff_ms / 1000)
        if not _has_others(broker):
            return False
        request = ControlledShutdownRequest(
            broker_id=broker.node_id, broker_epoch=broker.broker_epoch
        )
        try:
            answer: ControlledShutdownResponse = await broker.controller_link.send(
                request, timeout_s=ANSWER_TIMEOUT_S
            )
        except KafkaError as error:
            log.warning("controlled shutdown was not answered", reason=str(error))
            continue
        left = len(answer.remaining_partitions)
        if not answer.error_code and not left:
            log.info("all leaderships are handed over")
            return True
        log.warning(
            "controlled shutdown is not complete",
            error=ErrorCode(answer.error_code).name,
            partitions=left,
        )
    log.warning("the broker stops although it may still lead")
    return False


def _has_others(broker: Broker) -> bool:
    """Whether there may be somebody to hand over to."""
    return bool(broker.metadata.brokers.keys() - {broker.node_id}) and not broker.lease.is_over()


async def _pause(broker: Broker, pause_s: float) -> None:
    """Wait, but not for nobody."""
    for _ in range(max(1, round(pause_s / LOOK_S))):
        if not _has_others(broker):
            return
        await asyncio.sleep(min(LOOK_S, pause_s))

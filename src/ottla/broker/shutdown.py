"""Leaving a cluster in order: what this broker leads is led by others before it closes (controlled shutdown).

Rules: the controller is asked while everything is still answered, so that clients hear who leads now. As in Kafka
it is asked ``controlled.shutdown.max.retries`` times; then, or where nobody else lives, the broker just goes.
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


async def hand_over(broker: Broker) -> bool:
    """Have the controller move all leaderships; whether none was left here."""
    from ottla.messages.controlled_shutdown import (
        ControlledShutdownRequest,
        ControlledShutdownResponse,
    )

    config = broker.config
    for attempt in range(config.controlled_shutdown_max_retries):
        if not broker.metadata.brokers.keys() - {broker.node_id} or broker.lease.is_over():
            return False
        if attempt:
            await asyncio.sleep(config.controlled_shutdown_retry_backoff_ms / 1000)
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

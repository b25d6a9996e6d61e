"""A running broker's part in ``ottla log verify --quarantine``: it takes out of service what was marked.

Rules: only what has the mark in its directory is taken out; who waits there for a commitment is told
KAFKA_STORAGE_ERROR, and so is everybody after; a group that lives in it is unloaded, as its offsets can't be
trusted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.broker.internal_topics import CONSUMER_OFFSETS
from ottla.log.quarantine import take_requests
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.log.disk import Disk

log = logger(__name__)

QUARANTINE_CHECK_INTERVAL_MS = 1_000


async def take_out_of_service(broker: Broker, disk: Disk, log_directory: str) -> None:
    """Carry out the requests in ``log_directory``. Raises ``OSError``."""
    for name, reason in await asyncio.to_thread(take_requests, disk, log_directory):
        partition = broker.replicas.get(name.topic, name.partition)
        if partition is None or not partition.log.directory.startswith(f"{log_directory}/"):
            continue
        if name.topic == CONSUMER_OFFSETS:
            broker.groups.unload(name.partition)
        partition.log.quarantine(reason)
        partition.storage_failed()
        log.error(
            "partition taken out of service",
            topic=name.topic,
            partition=name.partition,
            reason=reason,
        )

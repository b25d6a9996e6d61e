"""The id of a broker of a cluster that was given none: what its data says, else the next one in the store.

Source: ``KafkaServer.getOrGenerateBrokerId``, ``KafkaZkClient.generateBrokerId``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.coordination import znodes
from ottla.coordination.bootstrap import prepare_layout
from ottla.log.checkpoints import CorruptCheckpoint, decode_meta_properties
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.coordination.store import Connector
    from ottla.settings.broker_config import BrokerConfig

log = logger(__name__)


async def with_id(config: BrokerConfig, connector: Connector) -> BrokerConfig:
    """The settings with an id in them. Raises ``StoreError``."""
    known = await asyncio.to_thread(_known_id, config.data_directories)
    if known is None:
        store = await connector.connect()
        try:
            await prepare_layout(store)
            stat = await store.set(znodes.BROKER_SEQUENCE_ID, b"")
        finally:
            await store.close()
        known = config.reserved_broker_max_id + stat.version
        log.info("a node id is generated", node_id=known)
    return config.with_node_id(known)


def _known_id(directories: Iterable[str]) -> int | None:
    """As ``meta.properties`` says; what can't be read is seen to when the directories are opened."""
    for directory in directories:
        try:
            with open(f"{directory}/meta.properties", "rb") as file:
                return decode_meta_properties(file.read()).broker_id
        except (OSError, CorruptCheckpoint):
            continue
    return None

"""Topics that come into being because somebody asked for them: a client's, and the broker's own.

Rules: an internal topic is created once, however many ask at once. What can't be created now is not there yet:
a client is told to ask again (LEADER_NOT_AVAILABLE, COORDINATOR_NOT_AVAILABLE). Source:
``AutoTopicCreationManager``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.broker.internal_topics import (
    CONSUMER_OFFSETS,
    partitions_of,
    replication_factor_of,
    settings_of,
)
from ottla.broker.metadata_cache import INTERNAL_TOPICS
from ottla.controller.topics import NewTopic
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

log = logger(__name__)


class TopicCreation:
    """What one broker has created."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._turn = asyncio.Lock()

    async def create(self, names: list[str]) -> dict[str, ErrorCode]:
        """Create topics that a client asked about; why not, for those that are not there now."""
        errors: dict[str, ErrorCode] = {}
        wanted = []
        try:
            for name in names:
                if name == CONSUMER_OFFSETS:
                    await self.ensure_internal(name)
                elif name in INTERNAL_TOPICS:
                    errors[name] = ErrorCode.INVALID_TOPIC_EXCEPTION
                else:
                    wanted.append(NewTopic(name))
            for result in await self._broker.controller.create_topics(wanted):
                if result.error not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                    errors[result.name] = result.error
        except KafkaError as error:
            log.warning("topics were not created", topics=names, reason=str(error))
            return dict.fromkeys(names, ErrorCode.LEADER_NOT_AVAILABLE)
        return errors

    async def ensure_internal(self, name: str) -> None:
        """Create an internal topic if it is not there. Raises ``KafkaError``."""
        broker = self._broker
        if name in broker.metadata.topics:
            return
        async with self._turn:  # a hundred clients ask at once when a broker is new
            if name in broker.metadata.topics:
                return
            config = broker.config
            topic = NewTopic(
                name,
                partitions_of(name, config),
                replication_factor_of(name, config, alone=not broker.in_cluster),
                configs=settings_of(name, config),
            )
            (result,) = await broker.controller.create_topics([topic])
            if result.error not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, result.message)

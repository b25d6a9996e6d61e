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
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

log = logger(__name__)

TIMEOUT_MS = 5_000
"""How long the controller may take; a client asks again."""

ON_ITS_WAY = (
    ErrorCode.TOPIC_ALREADY_EXISTS,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_CONTROLLER,
)
"""What the controller says of a topic that is there, or will be, though this broker does not know it."""


class TopicCreation:
    """What one broker has created."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._turn = asyncio.Lock()

    async def create(self, names: list[str]) -> dict[str, ErrorCode]:
        """Create topics that a client asked about; why not, for those that are not known here now."""
        errors: dict[str, ErrorCode] = {}
        wanted = []
        try:
            for name in names:
                if name == CONSUMER_OFFSETS:
                    await self.ensure_internal(name)
                elif name in INTERNAL_TOPICS:
                    errors[name] = ErrorCode.INVALID_TOPIC_EXCEPTION
                else:
                    wanted.append(
                        CreatableTopic(name=name, num_partitions=-1, replication_factor=-1)
                    )
            for result in await self._ask(wanted):
                code = ErrorCode(result.error_code)
                if code in ON_ITS_WAY:
                    code = ErrorCode.LEADER_NOT_AVAILABLE
                if code or result.name not in self._broker.metadata.topics:
                    errors[result.name] = code or ErrorCode.LEADER_NOT_AVAILABLE
        except KafkaError as error:
            log.warning("topics were not created", topics=names, reason=str(error))
            return dict.fromkeys(names, ErrorCode.LEADER_NOT_AVAILABLE)
        return errors

    async def ensure_internal(self, name: str) -> None:
        """Create an internal topic if it is not there. Raises ``KafkaError`` (COORDINATOR_NOT_AVAILABLE)."""
        broker = self._broker
        if name in broker.metadata.topics:
            return
        async with self._turn:  # a hundred clients ask at once when a broker is new
            if name in broker.metadata.topics:
                return
            config = broker.config
            topic = CreatableTopic(
                name=name,
                num_partitions=partitions_of(name, config),
                replication_factor=replication_factor_of(name, config, alone=not broker.in_cluster),
                configs=[
                    CreatableTopicConfig(name=key, value=value)
                    for key, value in settings_of(name, config).items()
                ],
            )
            try:
                (result,) = await self._ask([topic])
            except KafkaError as error:
                raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, error.message) from error
            if result.error_code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, result.error_message)

    async def _ask(self, topics: list[CreatableTopic]) -> list[CreatableTopicResult]:
        """Have the controller create them. Raises ``KafkaError``."""
        if not topics:
            return []
        request = CreateTopicsRequest(topics=topics, timeout_ms=TIMEOUT_MS)
        answer: CreateTopicsResponse = await self._broker.controller_link.send(
            request, timeout_s=TIMEOUT_MS / 1000
        )
        return answer.topics

"""Altering settings on behalf of clients: conditional on what was read, and told to every listener.

Rules: an alteration that loses to another writer is done again on top of what that one wrote. The controller
does it in turn with all that it changes, and in its office; any other broker writes by itself, as in Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence

from ottla.controller.cluster_state import ClusterState
from ottla.controller.configs import (
    CLIENT_METRICS,
    TOPICS,
    ConfigAlteration,
    ConfigResult,
    read_config,
    write_config,
)
from ottla.controller.office import try_again, write
from ottla.controller.refusals import answer_for
from ottla.controller.topics import unknown_topic
from ottla.coordination import znodes
from ottla.coordination.store import Create, Store, StoreError
from ottla.errors import KafkaError
from ottla.logs import logger

log = logger(__name__)


class ConfigChanges:
    """Alters settings by one session."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def alter(
        self, state: ClusterState | None, wanted: Sequence[ConfigAlteration], validate_only: bool
    ) -> list[ConfigResult]:
        """One result for each of ``wanted``, in order; ``state`` is the controller's, None for another broker."""
        return [await self._alter(state, item, validate_only) for item in wanted]

    async def _alter(
        self, state: ClusterState | None, item: ConfigAlteration, validate_only: bool
    ) -> ConfigResult:
        try:
            if item.entity_type == TOPICS and not await self._is_topic(state, item.entity):
                raise unknown_topic(item.entity)
            await try_again(lambda: self._alter_once(state, item, validate_only))
        except KafkaError as error:
            return ConfigResult(item.entity_type, item.entity, error.code, error.message)
        except StoreError as error:
            answer = answer_for(error)
            return ConfigResult(item.entity_type, item.entity, answer.code, answer.message)
        return ConfigResult(item.entity_type, item.entity)

    async def _is_topic(self, state: ClusterState | None, name: str) -> bool:
        if state is not None:
            return name in state.topics and name not in state.deleting
        topic, deletion = await self._store.get_many(
            [znodes.topic_path(name), znodes.delete_topic_path(name)]
        )
        return topic is not None and deletion is None

    async def _alter_once(
        self, state: ClusterState | None, item: ConfigAlteration, validate_only: bool
    ) -> None:
        stored = await read_config(self._store, item.entity_type, item.entity)
        altered = item.alter(dict(stored.config))
        if validate_only:
            return
        operations = write_config(item.entity_type, item.entity, altered, stored.version)
        if not operations:
            return
        parent = znodes.CLIENT_METRICS_CONFIG
        if item.entity_type == CLIENT_METRICS and await self._store.exists(parent) is None:
            operations.insert(0, Create(parent))
        if state is not None:
            await write(self._store, state, [operations])
        else:
            await self._store.multi(operations)
        log.info("settings altered", entity=f"{item.entity_type}/{item.entity}")

"""Requests to a group's coordinator, wherever it is by now.

The coordinator is looked up when it is not known, and again when a broker says that it is not the one or
the connection breaks. ``call`` goes on until there is an answer that is the caller's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ottla.client.cluster import Cluster
from ottla.client.dice import dice
from ottla.client.errors import RequestTimeout
from ottla.client.metadata import Node
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.wire.schema import Message

FIND_COORDINATOR = 10
_BATCHED_VERSION = 4

MOVED = frozenset({ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE})
_AGAIN = frozenset({*MOVED, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS})


class GroupLink:
    """The way to one group's coordinator. A member's connection is its own: a JoinGroup may wait there."""

    def __init__(self, cluster: Cluster, group: str, purpose: str | None = None) -> None:
        """``purpose`` of the connection, where it need not be the group's own."""
        self._cluster = cluster
        self.group = group
        self._purpose = f"group {group}" if purpose is None else purpose
        self.node: Node | None = None
        self._told_by: int | None = None
        """Who was asked last for the coordinator; another one, if its answer was of no use."""

    def forget(self) -> None:
        """The coordinator must be looked up again."""
        self.node = None

    async def call(
        self,
        request: Message | Callable[[Any], tuple[Message, int | None]],
        code_of: Callable[[Any], int],
        *,
        timeout_ms: float,
        answer_within_ms: float | None = None,
    ) -> Any:
        """The coordinator's answer; ``code_of`` reads the error code that may say "not me" or "not yet".

        ``request`` may be made for the channel, and is then given with its version. Raises ``KafkaError``
        when the coordinator cannot be found, ``RequestTimeout`` when nobody answered in ``timeout_ms``.
        ``answer_within_ms`` bounds a single attempt (by default the request time-out).
        """
        attempt_ms = answer_within_ms or self._cluster.settings.request_timeout_ms
        reason: KafkaError | None = None
        failures = 0
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while True:
                    try:
                        node = self.node or await self._find()
                        channel = await self._cluster.connections.channel(
                            node.host, node.port, self._purpose
                        )
                        message, version = (
                            request(channel) if callable(request) else (request, None)
                        )
                        answer = await channel.send(
                            message, version=version, timeout=attempt_ms / 1000
                        )
                        code = code_of(answer)
                        if code not in _AGAIN:
                            self._told_by = None
                            return answer
                        reason = KafkaError(code)
                        if code in MOVED:
                            self.forget()
                    except KafkaError as error:
                        if not error.retriable:
                            raise
                        reason = error
                        self.forget()
                        self._cluster.request_refresh()
                    failures += 1
                    await asyncio.sleep(self._backoff_s(failures))
        except TimeoutError:
            raise RequestTimeout(
                f"group {self.group}: {reason or 'no answer'} within {timeout_ms:.0f} ms"
            ) from None

    def _backoff_s(self, failures: int) -> float:
        settings = self._cluster.settings
        backoff = settings.retry_backoff_ms * (1 << min(failures - 1, 10))
        return min(backoff, settings.retry_backoff_max_ms) * dice.uniform(0.8, 1.2) / 1000

    async def _find(self) -> Node:
        node_id = self._told_by = await self._cluster.any_node(but=self._told_by)
        channel = await self._cluster.channel(node_id)
        version = channel.version_for(FIND_COORDINATOR)
        request = FindCoordinatorRequest(key=self.group, key_type=0, coordinator_keys=[self.group])
        timeout = self._cluster.settings.request_timeout_ms / 1000
        answer = await channel.send(request, version=version, timeout=timeout)
        found = answer.coordinators[0] if version >= _BATCHED_VERSION else answer
        if found.error_code:
            raise KafkaError(found.error_code, found.error_message or f"group {self.group}")
        self.node = Node(found.node_id, found.host, found.port)
        return self.node

"""FindCoordinator (key 10): which broker coordinates a group.

Behaviour
- The leader of the group's partition of ``__consumer_offsets``, which is created when it is first needed;
  the answer waits for that. A broker that would name itself, and must take it that another leads by now, names
  nobody.
- Transactions are not supported yet: a transactional id is answered with
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which clients take as final (an unknown error would be retried).

Versions: 1 the kind of key, 4 many keys in one request, 6 share groups (refused: INVALID_REQUEST).
Errors: COORDINATOR_NOT_AVAILABLE, INVALID_GROUP_ID, INVALID_REQUEST,
TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
Source: ``KafkaApis.handleFindCoordinatorRequest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.internal_topics import CONSUMER_OFFSETS
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

GROUP = 0
TRANSACTION = 1
NOWHERE = -1


async def handle(broker: Broker, request: Request) -> FindCoordinatorResponse:
    """Answer each key."""
    body: FindCoordinatorRequest = request.body
    keys = body.coordinator_keys if request.api_version >= 4 else [body.key]
    listener = request.connection.listener_name
    found = [await _find(broker, listener, body.key_type, key) for key in keys]
    if request.api_version >= 4:
        return FindCoordinatorResponse(coordinators=found)
    only = found[0]
    return FindCoordinatorResponse(
        error_code=only.error_code,
        # Before version 4 Kafka put the name of no error here, too.
        error_message=only.error_message or "NONE",
        node_id=only.node_id,
        host=only.host,
        port=only.port,
    )


async def _find(broker: Broker, listener: str, key_type: int, key: str) -> Coordinator:
    answer = Coordinator(key=key, node_id=NOWHERE, port=NOWHERE)
    try:
        if key_type == TRANSACTION:
            raise KafkaError(
                ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                "transactions are not supported by this broker",
            )
        if key_type != GROUP:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"no coordinator of type {key_type}")
        await broker.topic_creation.ensure_internal(CONSUMER_OFFSETS)
        leader = broker.metadata.leader_of(CONSUMER_OFFSETS, broker.groups.partition_for(key))
        is_fenced = leader == broker.node_id and broker.lease.is_over()
        for node_id, host, port, _ in broker.endpoints(listener):
            if node_id == leader and not is_fenced:
                answer.node_id, answer.host, answer.port = node_id, host, port
                return answer
        raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    except KafkaError as error:
        answer.error_code = error.code
        answer.error_message = error.message
    return answer

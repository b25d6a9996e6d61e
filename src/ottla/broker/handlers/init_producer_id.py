"""InitProducerId (key 22): a producer id, so that a producer's retries are told from new records.

Behaviour: each call gives an id that was never given before, with epoch 0; also to a producer that sends
its old id and epoch (version 3), as only a transactional id has a memory. Ids come from blocks of 1,000 that
the controller has made durable first (INVARIANTS 38).
Errors: COORDINATOR_LOAD_IN_PROGRESS, as in Kafka, whatever keeps the controller from giving a block now (a broker
whose session has just ended is not registered): clients ask again; INVALID_REQUEST for an empty transactional id, and for an id without an epoch or an epoch without an id; TRANSACTIONAL_ID_AUTHORIZATION_FAILED for any other:
transactions are not supported yet, and clients take this error as final.
Source: ``TransactionCoordinator.handleInitProducerId``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> InitProducerIdResponse:
    """Give the next id."""
    body: InitProducerIdRequest = request.body
    if body.transactional_id is not None:
        return InitProducerIdResponse(
            error_code=ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            if body.transactional_id
            else ErrorCode.INVALID_REQUEST,
            producer_id=-1,
            producer_epoch=-1,
        )
    if (body.producer_id < 0) != (body.producer_epoch < 0):
        return InitProducerIdResponse(
            error_code=ErrorCode.INVALID_REQUEST, producer_id=-1, producer_epoch=-1
        )
    try:
        producer_id = await broker.producer_ids.next()
    except KafkaError as error:
        code = error.code
        if code is not ErrorCode.UNKNOWN_SERVER_ERROR:  # which means that there are no more
            code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        return InitProducerIdResponse(error_code=code, producer_id=-1, producer_epoch=-1)
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)

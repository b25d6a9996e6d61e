"""What a client is told where the controller, or its store, could not do as asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable

from ottla.coordination.store import RequestTooLarge, SessionExpired, StoreError
from ottla.errors import ErrorCode, KafkaError


def answer_for(error: StoreError) -> KafkaError:
    """What a client is told of a store's failure."""
    if isinstance(error, SessionExpired):
        return not_controller()
    if isinstance(error, RequestTooLarge):
        return KafkaError(ErrorCode.INVALID_REQUEST, f"Too large for one change: {error}")
    return KafkaError(
        ErrorCode.REQUEST_TIMED_OUT, f"The change may or may not have been made: {error}"
    )


def not_controller() -> KafkaError:
    """The answer of a broker that is not, or no more, the controller."""
    return KafkaError(
        ErrorCode.NOT_CONTROLLER, "This is not the correct controller for this cluster."
    )


async def gather_refusals(calls: Iterable[Awaitable[None]]) -> list[KafkaError | None]:
    """Run all; a failure of one is its own, unless it means that we are not the controller."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    answers: list[KafkaError | None] = []
    for outcome in outcomes:
        if isinstance(outcome, KafkaError):
            answers.append(outcome)
        elif isinstance(outcome, StoreError) and not isinstance(outcome, SessionExpired):
            answers.append(answer_for(outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            answers.append(None)
    return answers

"""Requests whose answers are not out yet, and what becomes of an answer that nobody is going to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ottla.errors import KafkaError
from ottla.logs import logger
from ottla.messages.registry import encode_response
from ottla.network.outbox import close_regions
from ottla.network.request import Answers, Request, Run
from ottla.wire.primitives import EncodeError
from ottla.wire.schema import Message

if TYPE_CHECKING:
    import asyncio

    from ottla.network.request import Unsettled

log = logger(__name__)

Outcome: TypeAlias = "Message | Answers | asyncio.Future[Any] | Unsettled | None"
"""What is known of an answer: all, that it will be known, that it has to be settled first, that none is due."""


class Parked:
    """A request, or a run of them, whose answer is not out yet."""

    __slots__ = ("answer", "request")

    def __init__(self, request: Request | Run, answer: Outcome) -> None:
        self.request = request
        self.answer = answer


def dispose(request: Request | Run, answer: Message | Answers) -> None:
    """Close the file regions of an answer that nobody will read."""
    if isinstance(request, Run) or isinstance(answer, Answers):
        return  # nothing but bytes
    try:
        chunks = encode_response(
            request.api_key, request.api_version, request.correlation_id, answer
        )
    except EncodeError as error:
        log.error("an answer cannot be encoded", error=error, api_key=request.api_key)
        return
    close_regions(chunks)


def dispose_future(request: Request | Run, future: asyncio.Future[Any]) -> None:
    """As ``dispose``, with the answer that a handler has come to after its connection went."""
    if future.cancelled():
        return
    error = future.exception()
    if error is not None:
        if not isinstance(error, KafkaError):
            log.error("a request failed", error=error, api_key=request.api_key)
        return
    answer = future.result()
    if answer is not None:
        dispose(request, answer)

"""Requests whose answers are not out yet, and what becomes of an answer that nobody is going to read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import GeneratorType
from typing import Any, TypeAlias

from ottla.errors import KafkaError
from ottla.logs import logger
from ottla.network.request import Answers, Joined, Request, Run, Unsettled
from ottla.network.sending import close_regions
from ottla.network.stepping import Encoded, encoded
from ottla.wire.primitives import EncodeError
from ottla.wire.schema import Message

log = logger(__name__)

Outcome: TypeAlias = "Message | Answers | Encoded | asyncio.Future[Any] | Unsettled | None"
"""What is known of an answer: all, that it will be known, that it has to be settled first, that none is due."""


class Parked:
    """A request, or a run of them, whose answer is not out yet."""

    __slots__ = ("answer", "request")

    def __init__(self, request: Request | Run | Joined, answer: Outcome) -> None:
        self.request = request
        self.answer = answer


def drop(
    request: Request | Run | Joined,
    answer: Any,
    run: Callable[[Awaitable[Message | None]], asyncio.Task[Message | None]],
    settled: Callable[[asyncio.Future[Any]], None],
) -> None:
    """Let go of an answer that is not going to be written.

    A future is cancelled; a coroutine runs on (``run`` starts it where it has not begun). ``settled`` is what they
    would have called.
    """
    request.release()
    if answer is None or isinstance(answer, Unsettled):
        return
    if isinstance(answer, Message | Answers):
        dispose(request, answer)
        return
    if isinstance(answer, Encoded):
        close_regions(answer.chunks)
        return
    if isinstance(answer, GeneratorType):
        answer.close()
        return
    future = answer if asyncio.isfuture(answer) else run(answer)
    future.remove_done_callback(settled)
    future.add_done_callback(lambda done: dispose_future(request, done))
    if not isinstance(future, asyncio.Task):
        future.cancel()


def dispose(request: Request | Run | Joined, answer: Message | Answers) -> None:
    """Close the file regions of an answer that nobody will read."""
    if not isinstance(request, Request) or isinstance(answer, Answers):
        return  # nothing but bytes
    try:
        chunks = encoded(request, answer)
    except EncodeError as error:
        log.error("an answer cannot be encoded", error=error, api_key=request.api_key)
        return
    close_regions(chunks)


def dispose_future(request: Request | Run | Joined, future: asyncio.Future[Any]) -> None:
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

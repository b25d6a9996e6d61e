"""A request that is too much for one go: decoded, handled and answered in steps.

Rules:
- A frame above ``STEPWISE_BYTES`` is decoded in steps; a handler may be a generator, and its answer is encoded
  in steps then. The connection takes the steps in its turns (``turns``) and handles nothing else meanwhile:
  what comes later on the same connection comes later, as with every parked request.
- Produce is no such request: its bytes are records, which nobody looks at one by one, and it must keep its place
  among those that are gathered.
- Between two steps other connections change things. So a handler looks at each partition in one step, as if it were
  asked for each alone; what must be one change is done in one step.
- Who leaves has no further step taken. ``GeneratorExit`` is a handler's occasion to let go of what it holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import GeneratorType
from typing import Any, TypeAlias, TypeVar

from ottla.messages.registry import encode_response, encode_response_in_steps
from ottla.network.request import Answers, Request, Unsettled
from ottla.network.sending import close_regions
from ottla.wire.schema import Message

STEPWISE_BYTES = 8 * 1024
"""A frame above this is decoded in steps; some 300 partitions of a Fetch."""

T = TypeVar("T")
Steps: TypeAlias = "Generator[None, None, T]"

Answer: TypeAlias = "Message | Awaitable[Message | Answers | None] | Unsettled | Steps[Any] | None"
"""What a handler may answer with."""

Dispatch: TypeAlias = Callable[[Request], Answer]

WORKING = Unsettled()
"""The answer of a request that is still being worked on."""


class Encoded:
    """An answer that has been encoded already."""

    __slots__ = ("chunks", "message")

    def __init__(self, message: Message, chunks: list[Any]) -> None:
        self.message = message
        self.chunks = chunks


def begun(steps: Steps[T]) -> T | Steps[T]:
    """Take the first step; what has come to its end with that is worth no turns."""
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    return steps


def run(steps: Steps[T]) -> T:
    """Take all steps at once, for who waits for nobody."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


def answer_in_steps(dispatch: Dispatch, request: Request) -> Steps[Any]:
    """The answer to a request whose body is to be decoded in steps; a message of it is ``Encoded``."""
    request.body = (yield from request.body)[0]
    answer = dispatch(request)
    if type(answer) is GeneratorType:
        answer = yield from answer
    if isinstance(answer, Message):
        return (yield from encode_in_steps(request, answer))
    return answer


def handle_in_steps(request: Request, steps: Steps[Any]) -> Steps[Any]:
    """The answer that a handler makes in steps; a message is ``Encoded``."""
    answer = yield from steps
    if isinstance(answer, Message):
        return (yield from encode_in_steps(request, answer))
    return answer


def encoded(request: Request, message: Message) -> list[Any]:
    """The answer as chunks. Raises ``EncodeError``."""
    return encode_response(request.api_key, request.api_version, request.correlation_id, message)


def encode_in_steps(request: Request, message: Message) -> Steps[Encoded]:
    """The answer, encoded. Its file regions are closed where the peer leaves meanwhile."""
    key, version, correlation_id = request.api_key, request.api_version, request.correlation_id
    try:
        chunks = yield from encode_response_in_steps(key, version, correlation_id, message)
    except GeneratorExit:
        close_regions(encoded(request, message))
        raise
    return Encoded(message, chunks)

"""The way out of a connection: the answers to its requests, in their order, and what is told where there is none.

Rules: an answer goes out when those before it are out. What is settled or awaited keeps its place meanwhile. An
answer that cannot be made, encoded or sent ends the connection with a line in the log; no traceback goes over
the wire. ``connection.Connection`` is the other half: the way in, the turns, the end.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from ottla.logs import logger
from ottla.network.decoding import FETCH, PIPELINED
from ottla.network.failing import error_answer
from ottla.network.outbox import Outbox
from ottla.network.parked import Outcome, Parked
from ottla.network.request import Answers, Joined, Request, Run, Unsettled
from ottla.network.sending import close_regions
from ottla.network.stepping import STEPWISE_BYTES, Encoded, Steps, encode_in_steps, encoded
from ottla.wire.primitives import EncodeError
from ottla.wire.schema import Message

if TYPE_CHECKING:
    from ottla.network.server import Server

log = logger(__name__)

READY = (Message, Answers, Encoded)
"""An answer is all there. (A tuple: a union would be made anew each time.)"""


PENDING = Unsettled()
"""What is told of an answer that a run of several connections will have."""


class Answering(asyncio.BufferedProtocol):
    """The answers of one connection."""

    __slots__ = (
        "_answers",
        "_in_flight",
        "_loop",
        "_lost",
        "_outbox",
        "_paused",
        "_server",
        "_unsettled",
        "_woken",
        "active",
        "connection_id",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = server.loop
        self._outbox: Outbox
        self._answers: deque[Parked] = deque()
        self._in_flight = 0
        self._unsettled = 0
        self._woken = False
        self._paused = False
        self._lost = False
        self.active = True
        self.connection_id = ""

    @abstractmethod
    def close(self, reason: str, **fields: Any) -> None:
        """Close after what has been written is out."""

    @abstractmethod
    def abort(self, reason: str) -> None:
        """Cut off at once."""

    @abstractmethod
    def _advance(self, granted: bool = False) -> None: ...

    @abstractmethod
    def _wake(self) -> None: ...

    @abstractmethod
    def settle_late(self) -> None:
        """Go on behind a turn whose end was put off."""

    @abstractmethod
    def _start(self, request: Request, steps: Steps[Any]) -> None: ...

    def _append(self, request: Request, answer: Outcome) -> None:
        self._answers.append(Parked(request, answer))
        self._in_flight += 1

    def _popped(self) -> None:
        self._in_flight -= self._answers.popleft().request.count

    def _give(self, request: Request, message: Message) -> None:
        if self._answers or not self._outbox.ready:
            self._append(request, message)
        else:
            self._put(request, message)

    def _future(self, answer: Any) -> asyncio.Future[Any]:
        """What a handler's awaitable comes to."""
        future: asyncio.Future[Any]
        future = answer if asyncio.isfuture(answer) else self._server.run(answer)
        future.add_done_callback(self._settled)
        return future

    def _settle(self) -> None:
        """Have done what the last answers wait for, and write those that there are then."""
        self._server.settle()
        count, self._unsettled = self._unsettled, 0
        answers = self._answers
        for parked in tuple(islice(answers, len(answers) - count, None)):
            assert isinstance(parked.answer, Unsettled)
            answer: Outcome
            try:
                answer = parked.answer.settle()
            except Exception as error:
                answer = self._failed(parked.request, error)
            parked.answer = answer
            if asyncio.isfuture(answer):
                answer.add_done_callback(self._settled)
        self._answer_settled()

    def _settles_later(self) -> bool:
        """Whether what is not settled waits for those that are read with it; then ``settle_late`` is called."""
        last = self._answers[-1].answer
        return isinstance(last, Unsettled) and last.spreads() and self._server.joining.late(self)

    def _settled(self, _: asyncio.Future[Any] | None) -> None:
        """A parked answer is there. One sync answers many: they are written together."""
        if len(self._answers) == 1:
            self._advance()
        elif not self._woken:
            self._woken = True
            self._loop.call_soon(self._wake)

    def answer_now(self, future: asyncio.Future[Any], answer: Any) -> None:
        """Settle a parked answer, and write it in this turn of the loop. Not from within a request's handling."""
        future.remove_done_callback(self._settled)
        future.set_result(answer)
        if not self._lost:
            self._advance()

    def _answer_settled(self) -> None:
        """Write the answers that are there, as far as none is missing before them."""
        while self._answers and self._outbox.ready:
            parked = self._answers[0]
            answer = parked.answer
            if isinstance(answer, READY):
                self._popped()
                self._put(parked.request, answer)
            elif answer is None:
                self._popped()
                request = parked.request
                request.release()
                if self._server.meter is not None and isinstance(request, Request):
                    self._server.meter.answered(request, None)
            elif isinstance(answer, Unsettled):
                return
            elif answer.done():
                self._popped()
                request = parked.request
                outcome = self._outcome(request, answer)
                if outcome is None:
                    continue
                if (
                    isinstance(outcome, Message)
                    and isinstance(request, Request)
                    and request.frame_bytes > STEPWISE_BYTES
                    and request.api_key not in PIPELINED
                ):
                    self._start(request, encode_in_steps(request, outcome))
                    return
                self._put(request, outcome)
            else:
                return

    def _outcome(
        self, request: Request | Run | Joined, future: asyncio.Future[Any]
    ) -> Message | Answers | None:
        try:
            outcome: Message | Answers | None = future.result()
        except asyncio.CancelledError:
            request.release()
            self.close("a request was given up", api_key=request.api_key)
            return None
        except Exception as error:
            return self._failed(request, error)
        if outcome is None:
            request.release()
        return outcome

    def _failed(self, request: Request | Run | Joined, error: Exception) -> Message | None:
        """The answer to a request whose handler raised; ``None`` if there is none, and we hang up."""
        code, message = error_answer(
            self._server.error_response, request, self.connection_id, error
        )
        if message is None:
            request.release()
            self.close("a request failed", api_key=request.api_key, code=code.name)
        return message

    def _not_encoded(self, request: Request | Run | Joined, error: EncodeError) -> None:
        log.error("an answer cannot be encoded", error=error, api_key=request.api_key)
        self.close("an answer cannot be encoded", api_key=request.api_key)

    def _put(self, request: Request | Run | Joined, answer: Message | Answers | Encoded) -> None:
        request.release()
        self.active = True
        if isinstance(answer, Answers):
            meter = self._server.meter
            if meter is not None and isinstance(request, Run):
                meter.run_answered(request, answer)
            elif meter is not None and isinstance(request, Request):
                meter.answered(request, None)  # nothing in it has failed
            self._outbox.put_encoded(answer.encoded)
            return
        assert isinstance(request, Request)
        if isinstance(answer, Encoded):
            message, chunks = answer.message, answer.chunks
        else:
            message = answer
            try:
                chunks = encoded(request, message)
            except EncodeError as error:
                self._not_encoded(request, error)
                return
        meter = self._server.meter
        if meter is not None:
            meter.answered(request, message)
            if request.api_key == FETCH:
                meter.sent(FETCH, chunks)
        try:
            self._outbox.put(chunks)
        except (OSError, EOFError) as error:
            close_regions(chunks)
            log.error("records cannot be read", error=error, peer=self.connection_id)
            self.abort("records cannot be read")

    def answer_joined(self, answer: bytes) -> None:
        """The answers to the requests that were handled with those of others; nothing was parked before them."""
        self._outbox.write(answer)
        if self._paused:
            self._advance()

    def park_joined(self, count: int) -> Parked:
        """The answers of so many come later."""
        parked = Parked(Joined(count), PENDING)
        self._answers.append(parked)
        self._in_flight += count
        if self._paused:
            self._advance()
        return parked

    def joined_answered(self, parked: Parked, answer: Answers) -> None:
        """They are there, for whoever is still there to read them."""
        parked.answer = answer
        if not self._lost:
            self._settled(None)

    def _outbox_ready(self, error: BaseException | None) -> None:
        if error is not None:
            if not isinstance(error, ConnectionError):
                log.error("records cannot be sent", error=error, peer=self.connection_id)
            self.abort("an answer could not be sent")
        elif not self._lost:
            self._advance()

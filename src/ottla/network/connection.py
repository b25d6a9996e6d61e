"""The broker's end of one connection: bytes in, requests dispatched in order, answers out in order.

Rules:
- Answers go out in the order of the requests. A handler's answer is a message (written at once when nothing
  is ahead of it), a future of one, or ``None`` (acks=0). No task is made but for a coroutine. One that is
  ``Unsettled`` is asked for after the requests that came with it have been handled, too: the server settles
  what they left to be done together, before this turn ends.
- As in Kafka a request is handled when the ones before it on its connection have been answered, so that a
  Heartbeat behind a JoinGroup sees what the join has brought. The exception is ``PIPELINED``: Produce
  requests are appended in order while earlier ones wait for their sync; at most
  ``requests_in_flight_max`` of them.
- A peer that does not read gets nothing handled; one that sends what it must not is cut off with one line in
  the log. No traceback goes over the wire.
- When the connection dies its futures are cancelled; a coroutine (a change of cluster state, say) runs on,
  and its answer is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.registry import (
    API_VERSIONS,
    encode_response,
)
from ottla.network.decoding import PRODUCE, RequestReader
from ottla.network.framing import FrameError, Framer
from ottla.network.outbox import Outbox, close_regions
from ottla.network.parked import Outcome, Parked, dispose, dispose_future
from ottla.network.request import Answers, Request, Run, Unsettled
from ottla.wire.primitives import DecodeError, EncodeError
from ottla.wire.schema import Message

if TYPE_CHECKING:
    from ottla.network.budget import Waiter
    from ottla.network.server import Server

log = logger(__name__)

Answer: TypeAlias = "Message | Awaitable[Message | None] | Unsettled | None"
Dispatch: TypeAlias = Callable[[Request], Answer]
ErrorResponse: TypeAlias = Callable[[Request, KafkaError], Message | None]
SupportedVersions: TypeAlias = Mapping[int, tuple[int, int]]

FETCH = 1

PIPELINED = frozenset({PRODUCE})
"""Keys of the APIs of which a request is handled while earlier ones of the same kind are parked: Produce."""

SLOW_GRACE_S = 5.0
SLOW_BYTES_PER_S = 256 * 1024
"""A peer that holds memory which others wait for has a grace, and then to send at least so fast."""

REQUESTS_PER_TURN = 64
"""How many requests of one connection are handled before the others have their turn."""

TURN_S = 0.002
"""How long requests of one connection are handled before that: of costly ones fewer than so many."""


class Connection(asyncio.BufferedProtocol):
    """One accepted connection. Made by ``Server``; its attributes are what a handler may know of the peer."""

    __slots__ = (
        "_answers",
        "_closing",
        "_framer",
        "_held",
        "_in_flight",
        "_large_frames",
        "_loop",
        "_lost",
        "_outbox",
        "_paused",
        "_reader",
        "_server",
        "_transport",
        "_unsettled",
        "_waiter",
        "_woken",
        "active",
        "active_at",
        "client_software_name",
        "client_software_version",
        "connection_id",
        "listener_name",
        "peer_host",
        "peer_port",
        "principal",
        "progressed_at",
        "serial",
        "waiting_since",
    )

    def __init__(self, server: Server, listener_name: str, serial: int) -> None:
        self._server = server
        self._loop = server.loop
        self._framer = Framer(
            server.limits.socket_request_max_bytes,
            server.scratch,
            server.budget.reserve,
            server.frame_memory,
        )
        self._answers: deque[Parked] = deque()
        self._in_flight = 0
        self._held: memoryview | None = None
        self._waiter: Waiter | None = None
        self._large_frames = 0
        self._unsettled = 0
        self._woken = False
        self._reader = RequestReader(server.apis)
        self._paused = False
        self._closing = False
        self._lost = False
        self.serial = serial
        self.listener_name = listener_name
        self.peer_host = ""
        self.peer_port = 0
        self.connection_id = ""
        self.principal = "User:ANONYMOUS"
        self.client_software_name = "unknown"
        self.client_software_version = "unknown"
        self.active = True
        self.active_at = self.progressed_at = self.waiting_since = self._loop.time()

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast("asyncio.Transport", transport)
        buffer_bytes = self._server.limits.write_buffer_bytes
        self._outbox = Outbox(self._transport, self._loop, buffer_bytes, self._outbox_ready)
        peer = transport.get_extra_info("peername") or ("", 0)
        here = transport.get_extra_info("sockname") or ("", 0)
        if isinstance(peer, tuple):
            self.peer_host, self.peer_port = str(peer[0]), int(peer[1])
        local = f"{here[0]}:{here[1]}" if isinstance(here, tuple) else str(here)
        self.connection_id = f"{local}-{self.peer_host}:{self.peer_port}-{self.serial}"
        self._server.connection_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport reads to."""
        return self._framer.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        self.active = True
        self._framer.received(nbytes)
        self._advance()

    def eof_received(self) -> None:
        """The peer sends no more. What it sent has been handled; an answer that is parked dies."""

    def pause_writing(self) -> None:
        """The peer does not read as fast as we answer."""
        self._outbox.pause()

    def resume_writing(self) -> None:
        """The peer has read."""
        self.active = True
        self._outbox.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: forget what was owed."""
        self._closing = self._lost = True
        self._outbox.lost()
        self._forget()
        self._server.connection_lost(self)

    # -- what the server calls

    @property
    def owes(self) -> bool:
        """Whether an answer is owed, or waits for the peer to read it."""
        return bool(self._answers) or self._held is not None or self._outbox.owes

    def finish(self) -> None:
        """Handle no further request, and close when what is owed has been answered."""
        if self._woken:  # an answer of this moment makes room for the request behind it
            self._advance()
        self._closing = True
        self._read_or_pause()
        if not self._answers:
            self._end()

    def close(self, reason: str, **fields: Any) -> None:
        """Close after what has been written is out; parked answers die. One line in the log says why."""
        if self._unsettled:
            self._settle()
        if not self._closing:
            log.warning("connection closed", reason=reason, peer=self.connection_id, **fields)
        self._closing = True
        self._forget()
        if not self._outbox.sending:
            self._outbox.flush()
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Cut off at once."""
        if not self._lost:
            log.warning("connection cut off", reason=reason, peer=self.connection_id)
            self._closing = True
            self._forget()
            self._outbox.abort()

    def sweep(self, now: float) -> None:
        """Called every few seconds: cut off a peer that is idle, or stalls, or hoards memory."""
        limits = self._server.limits
        if self.active:
            self.active = False
            self.active_at = now
        if self._outbox.progressed():
            self.progressed_at = now
        elif (now - self.progressed_at) * 1000 > limits.write_stall_ms:
            self.abort("the peer does not read its answers")
            return
        if not self._framer.reserved or self._framer.large_frames != self._large_frames:
            self._large_frames = self._framer.large_frames
            self.waiting_since = now
        elif self._server.budget.contended and self._late(now):
            self.abort("a request comes too slowly while others wait for memory")
            return
        idle_ms = limits.connections_max_idle_ms
        if idle_ms >= 0 and (now - self.active_at) * 1000 > idle_ms and not self.owes:
            log.info("idle connection closed", peer=self.connection_id)
            self.finish()

    def _late(self, now: float) -> bool:
        grace_s = min(self._server.limits.write_stall_ms / 1000, SLOW_GRACE_S)
        due_bytes = (now - self.waiting_since - grace_s) * SLOW_BYTES_PER_S
        return self._framer.filled < due_bytes

    # -- requests in

    def _advance(self) -> None:
        """Do whatever can be done now; called after every event."""
        if self._closing and not self._answers:
            self._end()
            return
        self._answer_settled()
        if not self._closing:
            self._dispatch_frames()
            if self._unsettled:
                self._settle()
                if self._held is not None and self._may_dispatch(self._held):
                    self._loop.call_soon(self._take_turn)
        if not self._lost and not self._outbox.sending:
            self._outbox.flush()
        self._framer.keep()
        self._read_or_pause()
        if self._closing and not self._answers:
            self._end()

    def _end(self) -> None:
        if not self._lost and not self._outbox.sending:
            self._outbox.flush()
            self._transport.close()

    def _dispatch_frames(self) -> None:
        framer = self._framer
        now_ms = self._server.clock.now_ms()
        turns = REQUESTS_PER_TURN
        time = self._loop.time
        end = time() + TURN_S
        before: Unsettled | None = None
        while True:
            frame = self._held
            if frame is None:
                try:
                    frame = framer.next_frame()
                except FrameError as error:
                    self.close(str(error))
                    return
                if frame is None:
                    if framer.starved:
                        self._wait_for_memory()
                    return
            if not turns or not self._may_dispatch(frame):
                self._held = frame
                if not turns:
                    self._loop.call_soon(self._take_turn)
                return
            self._held = None
            turns -= 1
            if before is not None:
                before = self._joined(before, frame)
            if before is None:
                before = self._handle(frame, now_ms)
            if time() > end:
                turns = 0
            if self._closing:
                return

    def _take_turn(self) -> None:
        self._woken = False
        if not self._lost:
            self._advance()

    def _may_dispatch(self, frame: memoryview) -> bool:
        if not self._outbox.ready:
            return False
        answers = self._answers
        if not answers:
            return True
        # Only pipelined requests are dispatched behind others, so that the last one speaks for all.
        return (
            self._in_flight < self._server.limits.requests_in_flight_max
            and answers[-1].request.api_key in PIPELINED
            and len(frame) > 1
            and (frame[0] << 8 | frame[1]) in PIPELINED
        )

    def _wait_for_memory(self) -> None:
        if self._waiter is None:
            self._waiter = self._server.budget.wait(self._framer.starved, self._memory_granted)

    def _memory_granted(self) -> None:
        self._waiter = None
        self._framer.grant()
        self._loop.call_soon(self._take_turn)

    def _read_or_pause(self) -> None:
        """Read as long as a whole request could be handled, or none has come."""
        pause = (
            self._held is not None
            or self._framer.starved > 0
            or self._outbox.sending
            or self._closing
        )
        if pause != self._paused:
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _joined(self, before: Unsettled, frame: memoryview) -> Run | None:
        """The run behind ``before`` if the request was handled with it; if not, nothing has happened to it."""
        alike = self._reader.alike(frame)
        if alike is None:
            return None
        run = before if isinstance(before, Run) else before.run()
        if run is None or not run.joined(*alike, len(frame)):
            return None
        if run.count == 1:
            self._answers.append(Parked(run, run))
            self._unsettled += 1
        self._in_flight += 1
        return run

    def _handle(self, frame: memoryview, now_ms: int) -> Unsettled | None:
        """Handle one request; its answer if others may join it."""
        server = self._server
        frame_bytes = len(frame)
        try:
            (key, version, correlation_id, client_id), body = self._reader.read(frame)
        except DecodeError as error:
            server.budget.release(frame_bytes)
            self.close("malformed request", error=str(error))
            return None
        except Exception as error:  # ours to mend; the peer learns nothing of it
            server.budget.release(frame_bytes)
            log.error("a request could not be decoded", error=error, peer=self.connection_id)
            self.close("a request could not be decoded")
            return None
        if body is None:
            server.budget.release(frame_bytes)
            self._refuse(key, version, correlation_id, server.apis.get(key))
            return None
        request = Request(
            key, version, correlation_id, client_id, body, self, now_ms, server.budget, frame_bytes
        )
        if server.meter is not None:
            request.started_s = monotonic()
        try:
            answer = server.dispatch(request)
        except Exception as error:
            self._settle()  # what it and those before it have left to be done together
            answer = self._failed(request, error)
            if answer is None:
                return None
        if self._unsettled and not isinstance(answer, Unsettled):
            self._settle()  # those that are not settled are the last ones
        if self._closing and self._transport.is_closing():  # the handler hung up
            self._drop(request, answer)
        elif isinstance(answer, Unsettled):
            self._append(request, answer)
            self._unsettled += 1
            return answer
        elif answer is None:
            request.release()
            if server.meter is not None:
                server.meter.answered(request, None)
        elif isinstance(answer, Message):
            if self._answers or not self._outbox.ready:
                self._append(request, answer)
            else:
                self._put(request, answer)
        elif asyncio.isfuture(answer):
            self._park(request, answer)
        else:
            self._park(request, server.run(answer))
        return None

    def _refuse(
        self, key: int, version: int, correlation_id: int, supported: tuple[int, int] | None
    ) -> None:
        """As Kafka: a version of ApiVersions is answered in version 0 (KIP-511), all else is closed."""
        if key != API_VERSIONS or supported is None:
            self.close("unsupported API", api_key=key, api_version=version)
            return
        from ottla.messages.api_versions import ApiVersion, ApiVersionsResponse

        message = ApiVersionsResponse(
            error_code=ErrorCode.UNSUPPORTED_VERSION,
            api_keys=[ApiVersion(api_key=key, min_version=supported[0], max_version=supported[1])],
            throttle_time_ms=0,
            supported_features=[],
            finalized_features=[],
        )
        request = Request(key, 0, correlation_id, None, None, self)
        if self._answers or not self._outbox.ready:
            self._append(request, message)
        else:
            self._put(request, message)

    # -- answers out

    def _append(self, request: Request, answer: Outcome) -> None:
        self._answers.append(Parked(request, answer))
        self._in_flight += 1

    def _popped(self) -> None:
        self._in_flight -= self._answers.popleft().request.count

    def _park(self, request: Request, future: asyncio.Future[Any]) -> None:
        self._append(request, future)
        future.add_done_callback(self._settled)

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

    def _settled(self, _: asyncio.Future[Any]) -> None:
        """A parked answer is there. One sync answers many: they are written together."""
        if len(self._answers) == 1:
            self._advance()
        elif not self._woken:
            self._woken = True
            self._loop.call_soon(self._take_turn)

    def _answer_settled(self) -> None:
        """Write the answers that are there, as far as none is missing before them."""
        while self._answers and self._outbox.ready:
            parked = self._answers[0]
            answer = parked.answer
            if isinstance(answer, Message | Answers):
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
                outcome = self._outcome(parked.request, answer)
                if outcome is not None:
                    self._put(parked.request, outcome)
            else:
                return

    def _outcome(
        self, request: Request | Run, future: asyncio.Future[Any]
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

    def _failed(self, request: Request | Run, error: Exception) -> Message | None:
        """The answer to a request whose handler raised; ``None`` if there is none, and we hang up."""
        if not isinstance(error, KafkaError):
            log.error(
                "a request failed",
                error=error,
                api_key=request.api_key,
                api_version=request.api_version,
                peer=self.connection_id,
            )
            error = KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
        message = None
        if self._server.error_response is not None and isinstance(request, Request):
            try:
                message = self._server.error_response(request, error)
            except Exception as second:
                log.error("no answer could be made of an error", error=second)
        if message is None:
            request.release()
            self.close("a request failed", api_key=request.api_key, code=error.code.name)
        return message

    def _put(self, request: Request | Run, answer: Message | Answers) -> None:
        request.release()
        self.active = True
        if isinstance(request, Run):
            assert isinstance(answer, Answers)
            if self._server.meter is not None:
                self._server.meter.run_answered(request, answer)
            self._outbox.put_encoded(answer.encoded)
            return
        assert isinstance(answer, Message)
        try:
            chunks = encode_response(
                request.api_key, request.api_version, request.correlation_id, answer
            )
        except EncodeError as error:
            log.error("an answer cannot be encoded", error=error, api_key=request.api_key)
            self.close("an answer cannot be encoded", api_key=request.api_key)
            return
        meter = self._server.meter
        if meter is not None:
            meter.answered(request, answer)
            if request.api_key == FETCH:
                meter.sent(FETCH, chunks)
        try:
            self._outbox.put(chunks)
        except (OSError, EOFError) as error:
            close_regions(chunks)
            log.error("records cannot be read", error=error, peer=self.connection_id)
            self.abort("records cannot be read")

    def _outbox_ready(self, error: BaseException | None) -> None:
        if error is not None:
            if not isinstance(error, ConnectionError):
                log.error("records cannot be sent", error=error, peer=self.connection_id)
            self.abort("an answer could not be sent")
        elif not self._lost:
            self._advance()

    # -- the end

    def _forget(self) -> None:
        """Drop what is owed: cancel futures, close file regions, give memory back."""
        if self._waiter is not None:
            self._server.budget.withdraw(self._waiter)
            self._waiter = None
        self._server.budget.release(self._framer.abandon())
        if self._held is not None:
            self._server.budget.release(len(self._held))
            self._held = None
        answers, self._answers = self._answers, deque()
        for parked in answers:
            self._drop(parked.request, parked.answer)

    def _drop(self, request: Request | Run, answer: Answer | Outcome) -> None:
        """Let go of an answer that is not going to be written."""
        request.release()
        if answer is None or isinstance(answer, Unsettled):
            return
        if isinstance(answer, Message | Answers):
            dispose(request, answer)
            return
        future = answer if asyncio.isfuture(answer) else self._server.run(answer)
        future.remove_done_callback(self._settled)
        future.add_done_callback(lambda done: dispose_future(request, done))
        if not isinstance(future, asyncio.Task):
            future.cancel()

"""The broker's end of one connection: bytes in, requests dispatched in order, answers out in order.

Rules:
- Answers go out in the order of the requests. A handler's answer is a message (written at once when nothing
  is ahead of it), a future of one, or ``None`` (acks=0). No task is made but for a coroutine. One that is
  ``Unsettled`` is asked for after the requests that came with it have been handled, too: the server settles
  what they left to be done together, before this turn ends.
- As in Kafka a request is handled when the ones before it on its connection have been answered, so that a
  Heartbeat behind a JoinGroup sees what the join has brought. The exception is ``PIPELINED``: Produce
  requests are appended in order while earlier ones wait for their sync; at most
  ``requests_in_flight_max`` of them. A parked request that is to hold up nobody (``Request.give_way``) is
  answered as soon as another one comes behind it.
- A connection has a turn, and one that has more to do gives way to others (``turns``); a request that is too
  much for a turn is handled in steps (``stepping``).
- A peer that does not read gets nothing handled; one that sends what it must not is cut off with one line in
  the log. No traceback goes over the wire.
- When the connection dies its futures are cancelled; a coroutine (a change of cluster state) runs on, its answer dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from types import GeneratorType
from typing import TYPE_CHECKING, Any, cast

from ottla.logs import logger
from ottla.network.answering import READY, Answering
from ottla.network.decoding import PIPELINED, RequestReader
from ottla.network.failing import refusal
from ottla.network.framing import FrameError, Framer
from ottla.network.outbox import Outbox
from ottla.network.parked import Parked, drop
from ottla.network.request import Joined, Request, Run, Unsettled, ends_of
from ottla.network.stepping import (
    STEPWISE_BYTES,
    WORKING,
    Steps,
    answer_in_steps,
    handle_in_steps,
)
from ottla.network.trickle import PIECE_BYTES, Trickle
from ottla.network.turns import BUSY_S, REQUESTS_PER_TURN
from ottla.network.watch import Watch
from ottla.wire.primitives import DecodeError, EncodeError
from ottla.wire.schema import Message

if TYPE_CHECKING:
    from ottla.network.budget import Waiter
    from ottla.network.joining import Runs
    from ottla.network.server import Server

log = logger(__name__)


class Connection(Answering):
    """One accepted connection. Made by ``Server``; its attributes are what a handler may know of the peer."""

    __slots__ = (
        "_busy",
        "_closing",
        "_framer",
        "_held",
        "_long",
        "_queued",
        "_reader",
        "_transport",
        "_trickle",
        "_turns",
        "_waiter",
        "_watch",
        "_work",
        "client_software_name",
        "client_software_version",
        "listener_name",
        "peer_host",
        "peer_port",
        "principal",
        "serial",
    )

    def __init__(self, server: Server, listener_name: str, serial: int) -> None:
        super().__init__(server)
        self._framer = Framer(
            server.limits.socket_request_max_bytes,
            server.scratch,
            server.budget.reserve,
            server.frame_memory,
            server.budget if server.limits.queued_max_request_bytes >= 0 else None,
        )
        self._held: memoryview | None = None
        self._waiter: Waiter | None = None
        self._turns = server.turns
        self._busy = self._long = False
        self._queued = False
        self._work: Steps[Any] | None = None
        self._reader = RequestReader(server.apis)
        self._closing = False
        self.serial = serial
        self.listener_name = listener_name
        self.peer_host = ""
        self.peer_port = 0
        self.principal = "User:ANONYMOUS"
        self.client_software_name = "unknown"
        self.client_software_version = "unknown"
        self._watch = Watch(self._loop.time())

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        buffer_bytes = server.limits.write_buffer_bytes
        self._outbox = Outbox(
            self._transport, self._loop, buffer_bytes, self._outbox_ready, server.sending
        )
        self._trickle = Trickle(transport)
        self.peer_host, self.peer_port, local = ends_of(transport)
        self.connection_id = f"{local}-{self.peer_host}:{self.peer_port}-{self.serial}"
        self._server.connection_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport reads to."""
        return self._framer.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        self.active = True
        if self._reader.kind is None or not self._may_join(nbytes):
            self._framer.received(nbytes)
            self._advance()
        if nbytes < PIECE_BYTES or self._trickle.gathers > 1:
            self._trickle.came(self._framer)

    def eof_received(self) -> bool:
        """The peer sends no more. An answer that is parked dies; but first what it sent is handled, and what is sent is out.

        Whether there is such: then we read no more, and meet the end again when we go on reading. asyncio's TLS closes
        whatever we say, with a warning: who lets a listener speak TLS (none does yet) must have handled here what waits."""
        wait = (self._queued or self._outbox.sending) and not self._lost
        if wait and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        return wait

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
        self._be_busy(False, False)
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
        self._end()

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
        watch = self._watch
        if self.active:
            self.active = False
            watch.active_at = now
        reason = watch.verdict(now, self._framer, self._outbox, limits, self._server.budget)
        if reason is not None:
            self.abort(reason)
        elif watch.is_idle(now, limits.connections_max_idle_ms) and not self.owes:
            log.info("idle connection closed", peer=self.connection_id)
            self.finish()

    # -- requests that come together on several connections

    def _may_join(self, nbytes: int) -> bool:
        """Whether what has come are requests that may be of the kind of the last one: then they wait for those of this moment."""
        if (
            self._answers
            or self._queued
            or self._held is not None
            or self._long
            or self._closing
            or not self._outbox.ready
        ):
            return False
        frame = self._framer.only_frame(nbytes)
        if frame is None and not self._framer.keep_several(nbytes):
            return False
        self._held = frame
        self._queued = True
        self._server.joining.add(self)
        return True

    def join(self, runs: Runs, received_ms: int) -> bool:
        """Whether all requests that wait were handled in one of the runs; if not, ``go_on`` handles the others."""
        kind, reader, framer = self._reader.kind, self._reader, self._framer
        if kind is None or self._closing or self._answers:
            return False
        frame = self._held
        for _ in range(min(REQUESTS_PER_TURN, self._server.limits.requests_in_flight_max)):
            if frame is None:
                try:
                    frame = self._held = framer.next_frame()
                except FrameError:  # ``go_on`` finds it again, and hangs up
                    return False
                if frame is None:
                    if framer.starved:
                        return False
                    break
            alike = reader.alike(frame)
            if alike is None:
                reader.kind = None  # who asks for other things waits for nobody
                return False
            found = runs.get(kind)
            if found is None:
                found = self._server.joining.begin(kind, runs, received_ms)
                if found is None:
                    reader.kind = None
                    return False
            if not found[0].joined(*alike, len(frame)):
                return False
            found[1].append(self)
            frame = self._held = None
        else:
            return False  # it has more than a turn's worth of them, or than may be in flight
        framer.keep()
        self._queued = False
        return True

    def wait_longer(self) -> None:
        """There was no time for it: it reads on where there is room, for most send no more than what waits.

        To pause, and to read again behind the answer, costs more than to handle the request.
        """
        if self._framer.crowded:
            self._read_or_pause()

    def go_on(self) -> None:
        """It was waited with those of others for nothing: handle it like any."""
        self._turn_came()

    # -- requests in

    def _advance(self, granted: bool = False) -> None:
        """Do whatever can be done now; called after every event. ``granted``: it is our turn in the queue."""
        # From here on ``cpu`` is what the thread's clock said at the turn's beginning, if it was asked.
        if self._closing and not self._answers:
            self._end()
            return
        turns = self._turns
        waited = self._queued
        begin = turns.time()
        cpu = turns.cpu() if self._long and turns.long > 1 else None
        self._answer_settled()
        if not self._queued:
            if self._busy and not granted and turns.contended:
                self._wait_for_turn()
            else:
                self._take_turn(begin, cpu)
        self._let_out()
        self._framer.keep()
        self._read_or_pause(waited)
        long = turns.time() - begin > BUSY_S and not self._lost
        if long or self._long or self._busy:
            self._be_busy(long, long and turns.is_busy(cpu))
        if self._closing and not self._answers:
            self._end()

    def _end(self) -> None:
        if not self._lost and not self._outbox.sending:
            self._outbox.flush()
            self._transport.close()

    def _take_turn(self, begin: float, cpu: float | None) -> None:
        if self._work is not None:
            self._go_on(begin, cpu)
            self._answer_settled()
        if not self._closing:
            self._dispatch_frames(begin, cpu)
            if self._unsettled and not self._settles_later():
                self._settle_turn()

    def _settle_turn(self) -> None:
        self._settle()
        if self._held is not None and self._may_dispatch(self._held):
            self._wait_for_turn()

    def settle_late(self) -> None:
        """The turn is over, but for what was left to be done with what others bring, which is done."""
        if self._unsettled:
            self._settle_turn()
            self._let_out()
            self._read_or_pause()
            if self._closing and not self._answers:
                self._end()

    def _let_out(self) -> None:
        if not self._lost and not self._outbox.lags:
            self._outbox.flush()

    def _dispatch_frames(self, begin: float, cpu: float | None) -> None:
        framer = self._framer
        now_ms = self._server.clock.now_ms()
        left = REQUESTS_PER_TURN
        turns = self._turns
        time = turns.time
        end = turns.end(begin)
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
            if left != REQUESTS_PER_TURN and time() > end:
                end = turns.end_again(cpu)
                if not end:
                    left = 0
            if not left or not self._may_dispatch(frame):
                self._held = frame
                if not left:
                    self._wait_for_turn()
                    return
                if not self._way_is_made():
                    return
            self._held = None
            left -= 1
            if before is not None:
                before = self._joined(before, frame)
            if before is None:
                before = self._handle(frame, now_ms)
            if self._closing:
                return

    def _wait_for_turn(self) -> None:
        if not self._queued:
            self._queued = True
            self._turns.wait(self._turn_came)

    def _turn_came(self) -> None:
        self._queued = False
        if not self._lost:
            self._advance(granted=True)

    def _be_busy(self, long: bool, busy: bool) -> None:
        self._turns.long += long - self._long
        self._turns.busy += busy - self._busy
        self._long, self._busy = long, busy

    def _wake(self) -> None:
        self._woken = False
        if not self._lost:
            self._advance()

    def _start(self, request: Request, steps: Steps[Any]) -> None:
        """Work on a request in steps, in the turns to come."""
        if self._unsettled:
            self._settle()
        self._append(request, WORKING)
        self._work = steps
        self._wait_for_turn()

    def _go_on(self, begin: float, cpu: float | None) -> None:
        """Take steps until the turn is over or the request is done; it is the only one that is parked."""
        parked = self._answers[0]
        work = self._work
        assert work is not None
        turns = self._turns
        self._server.joining.settle_late()
        end = turns.end(begin)
        answer: Any
        try:
            while True:
                next(work)
                if self._work is None:  # the handler hung up: nobody waits for the rest
                    work.close()
                    return
                if turns.time() > end:
                    end = turns.end_again(cpu)
                if not end:
                    self._wait_for_turn()
                    return
        except StopIteration as done:
            answer = done.value
        except DecodeError as error:
            self.close("malformed request", error=str(error))
            return
        except EncodeError as error:
            self._not_encoded(parked.request, error)
            return
        except Exception as error:
            self._work = None
            answer = self._failed(parked.request, error)
        self._work = None
        if self._closing and self._transport.is_closing():
            self._drop(parked.request, answer)
            return
        ready = answer is None or isinstance(answer, READY)
        parked.answer = answer if ready else self._future(answer)

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

    def _way_is_made(self) -> bool:
        """Whether the held request may be handled, once a parked one was answered that gives way to it."""
        give_way = self._answers[-1].request.give_way if self._answers else None
        if give_way is None:
            return False
        self._server.joining.settle_late()
        give_way()
        self._answer_settled()
        return self._held is not None and self._may_dispatch(self._held)

    def _wait_for_memory(self) -> None:
        if self._waiter is None:
            self._waiter = self._server.budget.wait(
                self._framer.starved, self._memory_granted, self._framer.grower
            )

    def _memory_granted(self) -> None:
        self._waiter = None
        self._framer.grant()
        self._loop.call_soon(self._wake)

    def _read_or_pause(self, waited: bool = True) -> None:
        """Read as long as a whole request could be handled, or none has come; once more (rarely) while a turn is waited for."""
        pause = (
            self._held is not None
            or (self._queued and (waited or self._framer.crowded))
            or self._framer.starved > 0
            or self._outbox.lags
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
            refused = refusal(key, server.apis.get(key))
            if refused is None:
                self.close("unsupported API", api_key=key, api_version=version)
            else:
                self._give(Request(key, 0, correlation_id, None, None, self), refused)
            return None
        request = Request(
            key, version, correlation_id, client_id, body, self, now_ms, server.budget, frame_bytes
        )
        if server.meter is not None:
            request.started_s = monotonic()
        if key not in PIPELINED:
            server.joining.settle_late()
        if frame_bytes > STEPWISE_BYTES and type(body) is GeneratorType:
            self._start(request, answer_in_steps(server.dispatch, request))
            return None
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
            if self._reader.kind is None and self._reader.follows:
                self._reader.kind = answer.kind()
            return answer
        elif answer is None:
            request.release()
            if server.meter is not None:
                server.meter.answered(request, None)
        elif isinstance(answer, Message):
            self._give(request, answer)
        elif isinstance(answer, GeneratorType):
            self._start(request, handle_in_steps(request, answer))
        else:
            self._append(request, self._future(answer))
        return None

    # -- the end

    def _forget(self) -> None:
        """Drop what is owed: cancel futures, close file regions, give memory back."""
        budget = self._server.budget
        if self._waiter is not None:
            budget.withdraw(self._waiter)
            self._waiter = None
        budget.release(self._framer.abandon())
        if self._held is not None:
            budget.release(len(self._held))
            self._held = None
        if self._unsettled:  # nobody asks any more, but it is appended
            self._unsettled = 0
            self._server.settle()
        work, self._work = self._work, None
        if (
            work is not None and not cast("GeneratorType[None, None, Any]", work).gi_running
        ):  # else it sees that it is not wanted
            work.close()
        answers, self._answers = self._answers, deque()
        for parked in answers:
            self._drop(parked.request, parked.answer)

    def _drop(self, request: Request | Run | Joined, answer: Any) -> None:
        """Let go of an answer that is not going to be written."""
        drop(request, answer, self._server.run, self._settled)

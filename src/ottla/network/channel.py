"""A client's end of a connection: requests out, as many at once as the caller likes; responses in, in order.

Rules:
- ``send`` returns a future, and writes nothing by itself unless it is told so: the requests of one turn of the event
  loop leave in one write, up to ``JOIN_BYTES_MAX``. Record bytes above that are handed to the socket as they are, never joined or
  copied by us; they must not be changed once they have been given.
- A response's byte fields are memoryviews of memory that belongs to that response alone: a fetched batch is
  decoded from where the socket put it.
- Another thread may read in the loop's place (``lend``), while nothing else uses the channel or its loop.
- A response that is not to the oldest request, does not decode or is too large ends the channel: all that wait
  get ``ConnectionClosed``. So does a request that times out, for the answers behind it cannot come either.
  A caller that cancels its future only loses its answer: the broker has as much time for it as before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ottla.errors import ErrorCode, KafkaError
from ottla.messages.registry import API_VERSIONS, api, decode_response, encode_request
from ottla.network.framing import FrameError, Framer
from ottla.wire.primitives import DecodeError
from ottla.wire.schema import Message

if TYPE_CHECKING:
    import socket
    from ssl import SSLContext

RESPONSE_BYTES_MAX = 256 * 1024 * 1024
"""The largest response that is read: five times what a consumer asks for by default."""

WRITE_BUFFER_BYTES = 1024 * 1024
"""Requests that may wait for the broker to read them before ``writable`` says no."""

JOIN_BYTES_MAX = 256 * 1024
"""What leaves in one write is joined up to this: copying 128 KB takes 10 us, a write of a few bytes beside it and the
wake-up that it is to the broker as much and more."""

NEGOTIATION_VERSION = 3
"""The version of ApiVersions that is tried first: the newest that brokers of the last years all know."""


SOFTWARE_VERSION = "0.1.0"
"""What a broker is told about us (KIP-511)."""

_UNSUPPORTED = int(ErrorCode.UNSUPPORTED_VERSION).to_bytes(2, "big")


class ConnectionClosed(KafkaError):
    """The connection ended before the answer came: what became of the request is not known."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.NETWORK_EXCEPTION, message)


class RequestTimedOut(KafkaError):
    """No answer within the time allowed: what became of the request is not known."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.REQUEST_TIMED_OUT, message)


class UnsupportedVersion(KafkaError):
    """The broker and we have no version of an API in common."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.UNSUPPORTED_VERSION, message)


class _Pending:
    """A request that waits for its answer."""

    __slots__ = ("api_key", "correlation_id", "deadline", "future", "version")

    def __init__(
        self,
        api_key: int,
        version: int,
        correlation_id: int,
        deadline: float | None,
        future: asyncio.Future[Any],
    ) -> None:
        self.api_key = api_key
        self.version = version
        self.correlation_id = correlation_id
        self.deadline = deadline
        self.future = future


class Channel(asyncio.BufferedProtocol):
    """A connection to one broker. Made by ``connect``."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        client_id: str | None = None,
        response_bytes_max: int = RESPONSE_BYTES_MAX,
    ) -> None:
        self.host = host
        self.port = port
        self.client_id = client_id
        self.api_versions: dict[int, tuple[int, int]] = {}
        """What the broker offers, by API key."""
        self._loop = asyncio.get_running_loop()
        self._framer = Framer(response_bytes_max)
        self._pending: deque[_Pending] = deque()
        self._out: list[Any] = []
        self.taker: Callable[[asyncio.Future[Any], Any, int], bool] | None = None
        """Called with an answer's future, the answer and its size as soon as it is there: who waits for the future hears of
        it in a later turn of the loop. The future stays undone if it returns that it has taken the answer."""
        self.lent: socket.socket | None = None
        """What another thread reads in the loop's place."""
        self._correlation_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._reason: str | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        client_id: str | None = None,
        ssl: SSLContext | None = None,
        timeout: float = 10.0,
        response_bytes_max: int = RESPONSE_BYTES_MAX,
        negotiate: bool = True,
    ) -> Channel:
        """Connect and ask the broker for its versions, all within ``timeout`` seconds.

        Raises ``ConnectionClosed`` if there is nobody or it hangs up, ``RequestTimedOut``, or
        ``UnsupportedVersion`` if the broker speaks no version of ApiVersions that we do.
        """
        channel = cls(host, port, client_id=client_id, response_bytes_max=response_bytes_max)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                await loop.create_connection(lambda: channel, host, port, ssl=ssl)
                if negotiate:
                    await channel._negotiate()
        except TimeoutError as error:
            channel.abort("no answer in time")
            raise RequestTimedOut(f"{host}:{port} did not answer within {timeout} s") from error
        except (OSError, ValueError, OverflowError) as error:  # ValueError: a host that is no name
            channel.abort("not connected")
            raise ConnectionClosed(f"cannot connect to {host}:{port}: {error}") from error
        except BaseException:
            channel.abort("given up while connecting")
            raise
        return channel

    # -- what callers use

    @property
    def closed(self) -> bool:
        """Whether the channel is of no use any more."""
        return self._reason is not None

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answers."""
        return len(self._pending)

    @property
    def writable(self) -> bool:
        """Whether the broker reads as fast as we send; if not, ``drain`` before sending more."""
        return self._writable.is_set()

    async def drain(self) -> None:
        """Wait until the channel is writable, or closed."""
        await self._writable.wait()

    def version_for(self, api_key: int, wanted: tuple[int, int] | None = None) -> int:
        """The newest version of an API that the broker offers, we speak and ``wanted`` allows.

        Raises ``UnsupportedVersion`` if there is none.
        """
        spoken = api(api_key)
        lo, hi = spoken.versions
        if wanted is not None:
            lo, hi = max(lo, wanted[0]), min(hi, wanted[1])
        offered = self.api_versions.get(api_key)
        if offered is None:
            raise UnsupportedVersion(f"{self.host}:{self.port} does not offer {spoken.name}")
        if max(lo, offered[0]) > min(hi, offered[1]):
            raise UnsupportedVersion(
                f"{self.host}:{self.port} offers {spoken.name} {offered[0]}-{offered[1]}, "
                f"wanted is {lo}-{hi}"
            )
        return min(hi, offered[1])

    def send(
        self,
        message: Message,
        *,
        version: int | None = None,
        timeout: float | None = None,
        at_once: bool = False,
    ) -> asyncio.Future[Any]:
        """Send a request; the future is its response, or raises ``ConnectionClosed`` or ``RequestTimedOut``.

        ``timeout`` is in seconds. ``at_once``: write it now, with what waits to be written before it. Raises ``ConnectionClosed`` if the channel is closed already,
        ``UnsupportedVersion``, and ``EncodeError`` for a message that the version cannot hold.
        """
        key = type(message).__api_key__
        if version is None:
            version = self.version_for(key)
        correlation_id = self._write(message, version, at_once)
        future: asyncio.Future[Any] = self._loop.create_future()
        deadline = None
        if timeout is not None:
            deadline = self._loop.time() + timeout
            if self._timer is None or self._timer.when() > deadline:
                self._set_timer(deadline)
        self._pending.append(_Pending(key, version, correlation_id, deadline, future))
        return future

    def send_oneway(self, message: Message, *, version: int | None = None) -> None:
        """Send a request that gets no answer: a Produce with acks=0."""
        if version is None:
            version = self.version_for(type(message).__api_key__)
        self._write(message, version)

    def set_option(self, level: int, option: int, value: int) -> None:
        """Set an option of the socket, as ``socket.setsockopt``. Raises ``OSError``."""
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(level, option, value)

    def close(self) -> None:
        """Send what has been written, then close; requests without an answer get ``ConnectionClosed``."""
        if self._reason is None:
            self._flush()
        self._end("closed by us")
        transport = self._transport
        if transport is not None:
            transport.close()

    def abort(self, reason: str) -> None:
        """Close without sending what has been written."""
        self._end(reason)
        transport = self._transport
        if transport is not None:
            transport.abort()

    # -- read by another thread

    def lend(self) -> bool:
        """Read no more here: ``read_lent`` is called now and then, until ``give_back``. Whether that can be."""
        transport = self._transport
        if self._reason is not None or transport is None or self.lent is not None:
            return False
        if transport.get_extra_info("sslcontext") is not None:
            return False
        # asyncio shows its sockets without the calls that read; another descriptor would have to be closed in time.
        self.lent = getattr(transport.get_extra_info("socket"), "_sock", None)
        if self.lent is None:
            return False
        transport.pause_reading()
        return True

    def give_back(self) -> None:
        """Read here again; on the loop."""
        self.lent = None
        if self._transport is not None:
            self._transport.resume_reading()

    def read_lent(self) -> bool:
        """Read what has come; False where the connection has ended, which is left to the loop to meet."""
        framer = self._framer
        while (sock := self.lent) is not None and self._reason is None:
            place = framer.buffer()
            try:
                count = sock.recv_into(place)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                return False
            if not count:
                return False
            self.buffer_updated(count)
            if count < len(place):
                return True
        return False

    async def wait_closed(self) -> None:
        """Wait until the socket is closed."""
        if self._transport is not None:
            await asyncio.shield(self._closed)

    # -- what the transport calls

    _transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if self._reason is not None:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport reads to."""
        return self._framer.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        framer = self._framer
        framer.received(nbytes)
        try:
            while (frame := framer.next_frame()) is not None:
                self._answered(frame)
        except (FrameError, DecodeError) as error:
            self.abort(f"garbage from the broker: {error}")
        framer.keep()

    def eof_received(self) -> None:
        """The broker has hung up; ``connection_lost`` follows."""

    def pause_writing(self) -> None:
        """The broker does not read as fast as we send."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The broker has read."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        reason = f"{exc}" if exc is not None else "the broker closed it"
        self._end(reason)
        if not self._closed.done():
            self._closed.set_result(None)

    # -- inside

    def _write(self, message: Message, version: int, at_once: bool = False) -> int:
        if self._reason is not None:
            raise self._closed_error()
        correlation_id = self._correlation_id
        chunks = encode_request(message, version, correlation_id, self.client_id)
        self._correlation_id = (correlation_id + 1) & 0x7FFFFFFF
        out = self._out
        if not out and not at_once:
            self._loop.call_soon(self._flush)
        out.append(sum(map(len, chunks)).to_bytes(4, "big"))
        out.extend(chunks)
        if at_once:
            self._flush()
        return correlation_id

    def _flush(self) -> None:
        out = self._out
        transport = self._transport
        if not out or transport is None:
            return
        self._out = []
        run: list[Any] = []
        size = 0
        for chunk in out:
            if size + len(chunk) > JOIN_BYTES_MAX:
                if run:
                    transport.write(b"".join(run))
                    run = []
                    size = 0
                if len(chunk) > JOIN_BYTES_MAX:
                    transport.write(memoryview(chunk))
                    continue
            run.append(chunk)
            size += len(chunk)
        if run:
            transport.write(b"".join(run))

    def _answered(self, frame: memoryview) -> None:
        if len(frame) < 4:
            raise DecodeError(f"response of {len(frame)} bytes")
        correlation_id = int.from_bytes(frame[:4], "big", signed=True)
        try:
            pending = self._pending.popleft()
        except IndexError:
            raise DecodeError(f"response {correlation_id} to no request") from None
        try:
            message = self._decode(pending, correlation_id, frame)
        except DecodeError:
            self._pending.appendleft(pending)
            raise
        future = pending.future
        if not future.done() and not (self.taker and self.taker(future, message, len(frame))):
            future.set_result(message)

    def _decode(self, pending: _Pending, correlation_id: int, frame: memoryview) -> Any:
        if pending.correlation_id != correlation_id:
            raise DecodeError(f"response {correlation_id} where {pending.correlation_id} was due")
        version = pending.version
        if pending.api_key == API_VERSIONS and bytes(frame[4:6]) == _UNSUPPORTED:
            version = 0  # a broker that does not know our version answers in its oldest (KIP-511)
        return decode_response(pending.api_key, version, frame)

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._look_at_deadlines)

    def _look_at_deadlines(self) -> None:
        self._timer = None
        now = self._loop.time()
        nearest: float | None = None
        late = False
        for pending in self._pending:
            if pending.deadline is None:
                continue
            if pending.deadline <= now:
                late = True
                if pending.future.done():
                    continue  # its caller has given up before, the broker has still not answered
                name = api(pending.api_key).name
                pending.future.set_exception(
                    RequestTimedOut(f"{name} to {self.host}:{self.port} was not answered in time")
                )
            elif nearest is None or pending.deadline < nearest:
                nearest = pending.deadline
        if late:
            self.abort("a request was not answered in time")
        elif nearest is not None:
            self._set_timer(nearest)

    def _end(self, reason: str) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        self.lent = None
        self._writable.set()
        self._out.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending = self._pending, deque()
        for waiting in pending:
            if not waiting.future.done():
                waiting.future.set_exception(self._closed_error())

    def _closed_error(self) -> ConnectionClosed:
        return ConnectionClosed(f"connection to {self.host}:{self.port}: {self._reason}")

    async def _negotiate(self) -> None:
        from ottla.messages.api_versions import ApiVersionsRequest

        request = ApiVersionsRequest(
            client_software_name="ottla", client_software_version=SOFTWARE_VERSION
        )
        response = await self.send(request, version=NEGOTIATION_VERSION)
        if response.error_code == ErrorCode.UNSUPPORTED_VERSION:
            response = await self.send(request, version=_offered(response, NEGOTIATION_VERSION - 1))
        if response.error_code:
            raise KafkaError(response.error_code, f"{self.host}:{self.port} refused ApiVersions")
        self.api_versions = {
            offered.api_key: (offered.min_version, offered.max_version)
            for offered in response.api_keys
        }


def _offered(response: Any, newest: int) -> int:
    """The newest version of ApiVersions that a refusal offers; 0 where it says nothing (KIP-511)."""
    for offered in response.api_keys:
        if offered.api_key == API_VERSIONS:
            version = min(newest, int(offered.max_version))
            if version < offered.min_version:
                raise UnsupportedVersion(
                    f"ApiVersions {offered.min_version}-{offered.max_version} is all that is offered"
                )
            return version
    return 0

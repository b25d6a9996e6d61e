"""A client of few lines: one blocking socket, requests out, responses in. For tests of the broker's answers."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

from ottla.messages import registry
from ottla.records.builder import build_batch
from ottla.wire.schema import Message

DEADLINE_S = 20.0


class Wire:
    """A connection to a broker; ``ask`` sends a request in a version and returns the response."""

    def __init__(self, bootstrap: str, client_id: str | None = "test") -> None:
        host, _, port = bootstrap.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        self.client_id = client_id
        self._correlation_id = 0

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, request: Message, version: int) -> int:
        """Send without waiting; returns the correlation id."""
        self._correlation_id += 1
        chunks = registry.encode_request(request, version, self._correlation_id, self.client_id)
        self.socket.sendall(registry.encode_size(chunks) + b"".join(chunks))
        return self._correlation_id

    def receive(self, request: Message, version: int, correlation_id: int) -> Any:
        """The next response, which must be the one to ``correlation_id``."""
        frame = self.receive_frame()
        assert registry.read_correlation_id(frame) == correlation_id
        return registry.decode_response(type(request).__api_key__, version, frame)

    def ask(self, request: Message, version: int) -> Any:
        """Send a request and wait for its response."""
        return self.receive(request, version, self.send(request, version))

    def receive_frame(self) -> bytes:
        """The next frame without its length; raises ``ConnectionError`` when the broker hangs up."""
        size = int.from_bytes(self._exactly(4), "big", signed=True)
        return self._exactly(size)

    def is_hung_up(self) -> bool:
        """Whether the broker closes the connection without another byte."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionError(f"hung up after {len(data)} of {size} bytes")
            data += piece
        return bytes(data)


def batch(*values: bytes, key: bytes | None = None, **fields: Any) -> bytes:
    """A record batch with these values, timestamps from 1,700,000,000,000 on."""
    records = [(1_700_000_000_000 + i, key, value, ()) for i, value in enumerate(values)]
    return bytes(build_batch(records, **fields))

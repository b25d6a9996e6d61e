"""One connection's requests, decoded; a Produce that is like the one before it is not decoded again.

Rules: what comes out is what decoding says, whether it was done or not (``messages.produce_shape``). A large
request that is no Produce is decoded in steps (``stepping``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ottla.messages.produce_shape import ProduceShape
from ottla.messages.registry import RequestHeader, api, decode_request_header
from ottla.network.stepping import STEPWISE_BYTES
from ottla.wire.compiler import decode, decode_in_steps
from ottla.wire.primitives import DecodeError

if TYPE_CHECKING:
    from ottla.network.request import Kind

PRODUCE = 0
FETCH = 1

PIPELINED = frozenset({PRODUCE})
"""Keys of the APIs of which a request is handled while earlier ones of the same kind are parked: Produce."""

LEARN_EVERY = 16
"""A producer that writes to many partitions in turn is not worth learning a new shape for each request."""


class RequestReader:
    """``apis`` gives the versions that are accepted, by API key."""

    __slots__ = ("_apis", "_follows", "_shape", "_unlike", "kind")

    def __init__(self, apis: Mapping[int, tuple[int, int]]) -> None:
        self._apis = apis
        self._shape: ProduceShape | None = None
        self._follows = False
        self._unlike = 0
        self.kind: Kind | None = None
        """What is known of the requests that ``alike`` finds; forgotten when it goes by another one."""

    @property
    def follows(self) -> bool:
        """Whether the last request read was a Produce whose like is known again."""
        return self._follows

    def alike(self, frame: memoryview) -> tuple[int, memoryview] | None:
        """Correlation id and records of the request in ``frame``; None unless it is a Produce like the last one read."""
        shape = self._shape
        if shape is None or not self._follows:
            return None
        try:
            return shape.alike(frame)
        except DecodeError:  # ``read`` says what is wrong with it
            return None

    def read(self, frame: memoryview) -> tuple[RequestHeader, Any]:
        """The header and the body of the request in ``frame``; None for the body of one that is not accepted.

        The body of a large one is a generator that decodes it in steps, to a pair like ``decode``'s.
        Raises ``DecodeError``.
        """
        if self._shape is not None:
            alike = self._shape.match(frame)
            if alike is not None:
                self._follows = True
                self._unlike = 0
                return alike
        self._follows = False
        header, position = decode_request_header(frame)
        key, version = header.api_key, header.api_version
        supported = self._apis.get(key)
        if supported is None or not supported[0] <= version <= supported[1]:
            return header, None
        if key != PRODUCE and len(frame) > STEPWISE_BYTES:
            return header, decode_in_steps(api(key).request, version, frame, position)
        body: Any = decode(api(key).request, version, frame, position)[0]
        if key == PRODUCE:
            if self._unlike % LEARN_EVERY == 0:
                self._shape = ProduceShape.of(frame, header, body)
                self.kind = None
                self._follows = self._shape is not None
            self._unlike += 1
        return header, body

"""Peers that send a request in very small pieces: the kernel gathers them.

Each piece costs a read as dear as that of a whole request. So after ``PIECES`` of less than ``PIECE_BYTES`` that complete
nothing, the socket is readable only when more of the request is there (``SO_RCVLOWAT``): 4 KiB, or
what is missing of it if that is less. A peer that closes is seen at once. Not where TLS has its own pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.capabilities import wake_at

if TYPE_CHECKING:
    import asyncio

    from ottla.network.framing import Framer

PIECE_BYTES = 128
PIECES = 8
GATHERED_BYTES = 4096


class Trickle:
    """What is known of the pieces of one connection."""

    __slots__ = ("_pieces", "_socket", "gathers")

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._pieces = 0
        self._socket: Any = None
        if transport.get_extra_info("sslcontext") is None:
            self._socket = transport.get_extra_info("socket")
        self.gathers = 1
        """How many bytes must be there before the socket is readable."""

    def came(self, framer: Framer) -> None:
        """A small piece has come, or what was gathered, and been handled."""
        wanting = framer.wanting
        self._pieces = self._pieces + 1 if wanting else 0
        gathers = min(wanting, GATHERED_BYTES) if self._pieces >= PIECES else 1
        if gathers != self.gathers and self._socket is not None:
            self.gathers = gathers
            wake_at(self._socket, gathers)

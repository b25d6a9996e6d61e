"""Every bound of the network room, named after the setting that sets it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class NetworkLimits(NamedTuple):
    """Bounds for the connections of one server. -1 means none where Kafka says so."""

    socket_request_max_bytes: int = 100 * 1024 * 1024
    """The largest request that is read."""
    queued_max_request_bytes: int = -1
    """Bytes of all requests that are being read, handled or parked at once."""
    max_connections: int = 2**31 - 1
    """Connections at once; further ones wait in the listen queue."""
    max_connections_per_ip: int = 2**31 - 1
    """Connections at once from one address; further ones are closed."""
    ip_limits: Mapping[str, int] = MappingProxyType({})
    """Addresses with a ``max_connections_per_ip`` of their own."""
    connections_max_idle_ms: int = 600_000
    """A connection on which nothing moved for so long is closed, unless an answer is owed on it. -1: never."""
    socket_send_buffer_bytes: int = -1
    """The kernel's send buffer; -1 leaves it to the kernel, which adapts it."""
    socket_receive_buffer_bytes: int = -1
    """The kernel's receive buffer; -1 leaves it to the kernel, which adapts it."""
    socket_listen_backlog_size: int = 512
    """Connections that may wait to be accepted."""
    requests_in_flight_max: int = 100
    """Requests of one connection that may be handled before the first of them is answered."""
    write_buffer_bytes: int = 1024 * 1024
    """Answers that may wait for a peer to read them, before its requests are left waiting."""
    write_stall_ms: int = 60_000
    """A peer that takes nothing of an answer for so long is cut off."""

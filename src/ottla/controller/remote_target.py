"""A broker in another process, as the controller reaches it: control requests over one connection.

Rules: the connection is made when there is something to send and made again after it broke; one request is
under way at a time (its ``ControlQueue`` sees to that). Versions are the newest that Kafka 3.9 sends, and are
not negotiated, as Kafka's controller does not. Raises KafkaError (NETWORK_EXCEPTION, REQUEST_TIMED_OUT) or
OSError where what became of the request is not known: it is sent again. Source: ``ControllerChannelManager``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from ottla.messages.leader_and_isr import LeaderAndIsrRequest, LeaderAndIsrResponse
from ottla.messages.stop_replica import StopReplicaRequest, StopReplicaResponse
from ottla.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataResponse
from ottla.network.channel import Channel

LEADER_AND_ISR_VERSION = 7
STOP_REPLICA_VERSION = 4
UPDATE_METADATA_VERSION = 8

REQUEST_TIMEOUT_S = 30.0
"""``controller.socket.timeout.ms``: after that the connection is given up and made anew."""

CONNECT_TIMEOUT_S = 5.0
RESPONSE_BYTES_MAX = 64 * 1024 * 1024

Connect = Callable[[str, int], Awaitable[Channel]]


async def connect_plainly(host: str, port: int) -> Channel:
    """A connection without TLS, ready to send on."""
    return await Channel.connect(
        host,
        port,
        client_id="controller",
        timeout=CONNECT_TIMEOUT_S,
        response_bytes_max=RESPONSE_BYTES_MAX,
        negotiate=False,
    )


class RemoteTarget:
    """The ``ControlTarget`` of a broker at the end of a connection."""

    def __init__(self, host: str, port: int, connect: Connect = connect_plainly) -> None:
        self._address = (host, port)
        self._connect = connect
        self._channel: Channel | None = None

    async def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        """Lead, or follow, these partitions."""
        answer = await self._send(request, LEADER_AND_ISR_VERSION)
        return cast("LeaderAndIsrResponse", answer)

    async def update_metadata(self, request: UpdateMetadataRequest) -> UpdateMetadataResponse:
        """Know the cluster as it is now."""
        answer = await self._send(request, UPDATE_METADATA_VERSION)
        return cast("UpdateMetadataResponse", answer)

    async def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse:
        """Stop replicas, and delete their logs where asked."""
        answer = await self._send(request, STOP_REPLICA_VERSION)
        return cast("StopReplicaResponse", answer)

    def close(self) -> None:
        """Let go of the connection; a request under way gets no answer."""
        if self._channel is not None:
            self._channel.abort("the broker is not spoken to any more")
            self._channel = None

    async def _send(self, request: Any, version: int) -> Any:
        channel = self._channel
        if channel is None or channel.closed:
            channel = self._channel = await self._connect(*self._address)
        return await channel.send(request, version=version, timeout=REQUEST_TIMEOUT_S)

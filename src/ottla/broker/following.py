"""A broker's fetchers: what they know of it. Loaded once it follows at all.

Rules: leaders are reached over the inter-broker listener, where the controller's requests say that it is; a leader
that is not there is looked for again. A socket's receive buffer is the kernel's affair, which fits it to the distance
and the load, unless ``replica.socket.receive.buffer.bytes`` gives a size: that ends the fitting.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ottla.network.channel import Channel
from ottla.replication.copies import Limits
from ottla.replication.fetcher import Surroundings
from ottla.replication.fetchers import Fetchers
from ottla.replication.quota import ReplicationQuota

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.replication.replicas import Replicas


def fetchers_of(broker: Broker, replicas: Replicas) -> Fetchers:
    """What copies for ``broker``."""
    around = Surroundings(
        node_id=broker.node_id,
        clock=broker.clock,
        directories=broker.directories,
        flusher=broker.flusher,
        limits=lambda: _limits(broker),
        request_timeout_s=lambda: broker.config.replica_socket_timeout_ms / 1000,
        endpoint_of=lambda leader_id: broker.control.peers.get(leader_id),
        broker_epoch=lambda: broker.broker_epoch,
        connect=lambda host, port: _connect(broker, host, port),
        keep_log_starts=replicas.keep_log_starts,
        on_storage_error=replicas.storage_failed,
        throttle=ReplicationQuota(
            lambda: broker.config.follower_replication_throttled_rate,
            broker.clock.monotonic,
            windows=broker.config.replication_quota_window_num,
            window_s=broker.config.replication_quota_window_size_seconds,
        ),
    )
    return Fetchers(around, per_leader=lambda: broker.config.num_replica_fetchers)


def _limits(broker: Broker) -> Limits:
    config = broker.config
    return Limits(
        max_bytes=config.replica_fetch_max_bytes,
        response_max_bytes=config.replica_fetch_response_max_bytes,
        min_bytes=config.replica_fetch_min_bytes,
        wait_max_ms=config.replica_fetch_wait_max_ms,
        backoff_ms=config.replica_fetch_backoff_ms,
    )


async def _connect(broker: Broker, host: str, port: int) -> Channel:
    config = broker.config
    channel = await Channel.connect(
        host,
        port,
        client_id=f"broker-{broker.node_id}-fetcher",
        timeout=config.replica_socket_timeout_ms / 1000,
    )
    if config.replica_socket_receive_buffer_bytes >= 0:
        channel.set_option(
            socket.SOL_SOCKET, socket.SO_RCVBUF, config.replica_socket_receive_buffer_bytes
        )
    return channel

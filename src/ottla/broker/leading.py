"""What a broker's leaders know of the other brokers, and their way to the controller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.replication.isr_changes import IsrChanges
from ottla.replication.peers import Peers
from ottla.replication.quota import ReplicationQuota
from ottla.replication.served_check import check_served
from ottla.settings.broker_settings import RACK_AWARE_SELECTOR

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.messages.alter_partition import AlterPartitionRequest

ALTER_PARTITION_TIMEOUT_S = 10.0
"""After so long a controller that has not answered is asked again: what became of the request it says then."""


def peers_of(broker: Broker) -> Peers:
    """For the replicas of ``broker``."""

    async def send(request: AlterPartitionRequest) -> Any:
        return await broker.controller_link.send(request, timeout_s=ALTER_PARTITION_TIMEOUT_S)

    config = broker.config
    peers = Peers(
        broker.clock,
        lag_max_ms=lambda: broker.config.replica_lag_time_max_ms,
        is_alive=lambda broker_id: broker_id in broker.metadata.brokers,
        changes=IsrChanges(send, node_id=broker.node_id, broker_epoch=lambda: broker.broker_epoch),
        leader_quota=ReplicationQuota(
            lambda: broker.config.leader_replication_throttled_rate,
            broker.clock.monotonic,
            windows=config.replication_quota_window_num,
            window_s=config.replication_quota_window_size_seconds,
        ),
    )
    peers.on_stuck = lambda partition, offset: broker.background(check_served(partition, offset))
    peers.selects_replicas = broker.config.replica_selector_class == RACK_AWARE_SELECTOR
    return peers

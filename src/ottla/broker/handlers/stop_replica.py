"""StopReplica (key 5): the controller takes replicas away from this broker, and has their records deleted.

Behaviour: carried out by ``broker.control``, in turn with all other control requests. Who may send it is not asked
yet: see ``leader_and_isr``.

Errors: STALE_CONTROLLER_EPOCH, STALE_BROKER_EPOCH (whole request); FENCED_LEADER_EPOCH, KAFKA_STORAGE_ERROR.
Versions: 0-2 delete all of their partitions or none; 1 broker epoch; 3 leader epochs.
Source: ``KafkaApis.handleStopReplicaRequest``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.messages.stop_replica import (
    StopReplicaPartitionState,
    StopReplicaRequest,
    StopReplicaResponse,
    StopReplicaTopicState,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

BY_STATE = 3


async def handle(broker: Broker, request: Request) -> StopReplicaResponse:
    """Answer once this broker has let go."""
    body: StopReplicaRequest = request.body
    if request.api_version < BY_STATE:
        named: dict[str, list[int]] = {}
        for partition in body.ungrouped_partitions:
            named.setdefault(partition.topic_name, []).append(partition.partition_index)
        for topic in body.topics:
            named.setdefault(topic.name, []).extend(topic.partition_indexes)
        body.topic_states = [
            StopReplicaTopicState(
                topic_name=name,
                partition_states=[
                    StopReplicaPartitionState(
                        partition_index=index, delete_partition=body.delete_partitions
                    )
                    for index in indexes
                ],
            )
            for name, indexes in named.items()
        ]
    return await broker.control.stop_replica(body)

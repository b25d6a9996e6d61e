"""ElectLeaders (key 43): let partitions be led by their preferred replicas, or by any that lives (KIP-460).

Behaviour: the controller holds the elections, and this answers once the new leaders lead (or do not say so for some
seconds). With a null list all partitions are looked at, and those that need none are not told of.
Versions: 1 names the kind of election: 0 preferred, 1 unclean.
Errors, for each partition: ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE, ELIGIBLE_LEADERS_NOT_AVAILABLE,
UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION (it is being deleted), NOT_CONTROLLER; the request's
INVALID_REQUEST for another kind of election.
Source: ``KafkaController.processReplicaLeaderElection``, ``KafkaApis.handleElectLeaders``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


async def handle(broker: Broker, request: Request) -> ElectLeadersResponse:
    """Have the controller elect."""
    body: ElectLeadersRequest = request.body
    response = await broker.controller.elect_leaders(body)
    if response.error_code == ErrorCode.NOT_CONTROLLER:
        # Clients look at the partitions; version 0 has nothing else.
        response.replica_election_results = [
            ReplicaElectionResult(
                topic=topic.topic,
                partition_result=[
                    PartitionResult(
                        partition_id=index,
                        error_code=ErrorCode.NOT_CONTROLLER,
                        error_message=None,
                    )
                    for index in topic.partitions
                ],
            )
            for topic in body.topic_partitions or ()
        ]
    return response

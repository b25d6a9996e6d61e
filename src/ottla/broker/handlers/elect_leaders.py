"""ElectLeaders (key 43): let partitions be led by their preferred replicas, or by any that lives (KIP-460).

Behaviour: this broker holds the only replica of each partition. It leads, and then no election is needed; or
its log directory is offline, and then no election can help. With a null list all partitions are looked at,
and those that need none are not told of.
Versions: 1 names the kind of election: 0 preferred, 1 unclean.
Errors, for each partition: ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE, ELIGIBLE_LEADERS_NOT_AVAILABLE,
UNKNOWN_TOPIC_OR_PARTITION; the request's INVALID_REQUEST for another kind of election.
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

PREFERRED = 0
UNCLEAN = 1
_FAILED = {
    PREFERRED: ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
    UNCLEAN: ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
}


def handle(broker: Broker, request: Request) -> ElectLeadersResponse:
    """Say of each partition why there is no election."""
    body: ElectLeadersRequest = request.body
    kind = body.election_type if request.api_version >= 1 else PREFERRED
    if kind not in _FAILED:
        return ElectLeadersResponse(error_code=ErrorCode.INVALID_REQUEST)
    asked = body.topic_partitions
    if asked is None:
        wanted = {name: sorted(topic.partitions) for name, topic in broker.metadata.topics.items()}
    else:
        wanted = {}
        for topic in asked:
            wanted.setdefault(topic.topic, []).extend(topic.partitions)
    results = []
    for name, indexes in wanted.items():
        told = [
            PartitionResult(partition_id=index, error_code=code, error_message=message)
            for index in dict.fromkeys(indexes)
            for code, message in (_outcome(broker, name, index, kind),)
            if asked is not None or code is not ErrorCode.ELECTION_NOT_NEEDED
        ]
        if told:
            results.append(ReplicaElectionResult(topic=name, partition_result=told))
    return ElectLeadersResponse(replica_election_results=results)


def _outcome(broker: Broker, name: str, index: int, kind: int) -> tuple[ErrorCode, str | None]:
    partition = broker.replicas.get(name, index)
    if partition is not None and partition.is_leader:
        return ErrorCode.ELECTION_NOT_NEEDED, None
    if not broker.metadata.has_partition(name, index):
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "The partition does not exist."
    return _FAILED[kind], f"The only replica of {name}-{index} cannot lead."

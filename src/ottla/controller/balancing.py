"""Elections that somebody asks for, and those that bring leadership back to the preferred replicas.

Rules: preferred: the first of the assignment, if it is live and in the ISR. Unclean, only where an administrator asks
for it by name: whoever lives, where nobody of the ISR does. By itself the balance is restored for a broker when more
than so many percent of the partitions that prefer it are led by others. ``/admin/preferred_replica_election`` is
heeded, and removed, for tools that still write it. Source: ``KafkaController.processReplicaLeaderElection``,
``checkAndTriggerAutoLeaderRebalance``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from ottla.controller.announcer import Announcement, Announcer
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.election import preferred_leader
from ottla.controller.leader_changes import Decide, LeaderChanges
from ottla.controller.office import remove
from ottla.coordination import znodes
from ottla.coordination.store import Store, Watch
from ottla.coordination.znodes import NO_LEADER, LeaderAndIsr, MalformedZnode
from ottla.errors import ErrorCode
from ottla.logs import logger
from ottla.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

log = logger(__name__)

PREFERRED = 0
UNCLEAN = 1

_FAILED = {
    PREFERRED: ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
    UNCLEAN: ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
}

Outcome = tuple[ErrorCode, str | None]


class LeaderBalance(NamedTuple):
    """``auto.leader.rebalance.enable`` and its like."""

    enabled: bool = True
    interval_s: float = 300
    percentage: int = 10


class Balancing:
    """Elects leaders that partitions do not need to go on, for whoever holds the office."""

    def __init__(self, store: Store, announcer: Announcer, leaders: LeaderChanges) -> None:
        self._store = store
        self._announcer = announcer
        self._leaders = leaders

    async def elect(
        self, state: ClusterState, request: ElectLeadersRequest
    ) -> tuple[ElectLeadersResponse, Announcement]:
        """As a client asks; with null partitions those that need no election are not told of."""
        kind = request.election_type
        if kind not in _FAILED:
            return ElectLeadersResponse(error_code=ErrorCode.INVALID_REQUEST), Announcement()
        asked = request.topic_partitions
        if asked is None:
            wanted = list(state.partition_ids())
        else:
            wanted = [
                PartitionId(topic.topic, index) for topic in asked for index in topic.partitions
            ]
        outcomes, told = await self._elect(state, list(dict.fromkeys(wanted)), kind)
        by_topic: dict[str, list[PartitionResult]] = {}
        for (name, index), (code, message) in outcomes.items():
            if asked is not None or code is not ErrorCode.ELECTION_NOT_NEEDED:
                result = PartitionResult(partition_id=index, error_code=code, error_message=message)
                by_topic.setdefault(name, []).append(result)
        return ElectLeadersResponse(
            replica_election_results=[
                ReplicaElectionResult(topic=name, partition_result=results)
                for name, results in by_topic.items()
            ]
        ), told

    async def take_up_asked(self, state: ClusterState, watch: Watch) -> None:
        """Hold the election that somebody asked for by a znode, and remove that; ``watch`` sees the next."""
        path = znodes.PREFERRED_REPLICA_ELECTION
        while await self._store.exists(path, watch=watch) is not None:
            (znode,) = await self._store.get_many([path])
            if znode is None:
                continue
            try:
                wanted = [PartitionId(*p) for p in znodes.decode_preferred_election(znode.data)]
            except MalformedZnode as error:
                log.error("an election that was asked for can't be read", reason=str(error))
                wanted = []
            outcomes, _ = await self._elect(state, wanted, PREFERRED)
            for partition, (code, message) in outcomes.items():
                if code not in (ErrorCode.NONE, ErrorCode.ELECTION_NOT_NEEDED):
                    log.warning(
                        "preferred leader was not elected",
                        topic=partition.topic,
                        partition=partition.partition,
                        reason=message,
                    )
            await remove(self._store, state, path)

    async def rebalance(self, state: ClusterState, percentage: int) -> None:
        """Bring leadership back to brokers that lead too few of the partitions that prefer them."""
        preferring: dict[int, int] = {}
        elsewhere: dict[int, list[PartitionId]] = {}
        for partition in state.partition_ids():
            current = state.leader_and_isr(partition)
            if partition.topic in state.deleting:
                continue
            head = state.assignment(partition)[0]
            preferring[head] = preferring.get(head, 0) + 1
            if current is not None and current.leader != head:
                elsewhere.setdefault(head, []).append(partition)
        wanted: list[PartitionId] = []
        for head, partitions in elsewhere.items():
            if len(partitions) / preferring[head] > percentage / 100:
                wanted += partitions
        changed = await self._leaders.change(state, wanted, self._preferred(state))
        if changed:
            log.info("leadership is with the preferred replicas again", partitions=len(changed))
            self._announcer.announce(state, changed)

    async def _elect(
        self, state: ClusterState, wanted: Sequence[PartitionId], kind: int
    ) -> tuple[dict[PartitionId, Outcome], Announcement]:
        outcomes: dict[PartitionId, Outcome] = {}
        electable: list[PartitionId] = []
        for partition in wanted:
            reason = _reason_against(state, partition, kind)
            if reason is None:
                electable.append(partition)
            outcomes[partition] = reason or (ErrorCode.NONE, None)
        if kind == PREFERRED:
            elected = await self._leaders.change(state, electable, self._preferred(state))
        else:
            elected = await self._leaders.elect_offline(state, electable, unclean=True)
        told = self._announcer.announce(state, elected) if elected else Announcement()
        name = "preferred" if kind == PREFERRED else "unclean"
        for partition in set(electable).difference(elected):
            message = (
                f"Failed to elect leader for partition {partition.topic}-{partition.partition}"
            )
            outcomes[partition] = _FAILED[kind], f"{message} ({name})."
        return outcomes, told

    @staticmethod
    def _preferred(state: ClusterState) -> Decide:
        def preferred(partition: PartitionId, current: LeaderAndIsr) -> LeaderAndIsr | None:
            replicas = state.assignment(partition)
            if current.leader == replicas[0]:
                return None
            return preferred_leader(
                replicas, current, _trusted(state, partition), state.controller_epoch
            )

        return preferred


def _trusted(state: ClusterState, partition: PartitionId) -> Collection[int]:
    return {
        replica for replica in state.online(partition) if not state.may_lack(replica, partition)
    }


def _reason_against(state: ClusterState, partition: PartitionId, kind: int) -> Outcome | None:
    """Why no election is held, or None."""
    topic = state.topics.get(partition.topic)
    if topic is None or partition.partition not in topic.assignment:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "The partition does not exist."
    if partition.topic in state.deleting:
        return ErrorCode.INVALID_TOPIC_EXCEPTION, "The topic is being deleted"
    current = topic.partitions.get(partition.partition)
    if current is None:
        return _FAILED[kind], "The partition never had a leader."
    if kind == PREFERRED:
        is_needed = current.leader != topic.assignment[partition.partition][0]
    else:
        is_needed = current.leader == NO_LEADER or not state.is_online(current.leader, partition)
    return None if is_needed else (ErrorCode.ELECTION_NOT_NEEDED, None)

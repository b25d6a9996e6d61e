"""What a new controller does first: read the cluster's state, and bring store and brokers to what it asks for.

Rules: whatever its predecessor had begun goes on from what the store has. A leader that registered anew since its
partition's state was written may have been restarted, and its log cut, without anybody's noticing: it does not
lead on under the same epoch (invariant 10), but where it is the only replica. Source:
``KafkaController.onControllerFailover``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ottla.controller.announcer import Announcer
from ottla.controller.broker_changes import BrokerChanges
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.deletions import Deletions
from ottla.controller.election import leader_for_offline
from ottla.controller.leader_changes import LeaderChanges
from ottla.coordination.znodes import LeaderAndIsr


class TakingOffice:
    """Makes good what the state asks for, after taking office or losing track."""

    def __init__(
        self,
        announcer: Announcer,
        leaders: LeaderChanges,
        brokers: BrokerChanges,
        deletions: Deletions,
    ) -> None:
        self._announcer = announcer
        self._leaders = leaders
        self._brokers = brokers
        self._deletions = deletions

    async def make_good(
        self,
        state: ClusterState,
        restarted: Collection[PartitionId],
        in_office: Callable[[], bool],
    ) -> None:
        """Elect first leaders and successors, tell every broker everything, go on with deletions.

        Nobody is told anything once ``in_office`` says no.
        """
        self._deletions.drop()
        await self._deletions.clear_marks(state)
        present = [name for name in state.topics if name not in state.deleting]
        new = await self._brokers.first_leaders(state, list(state.partition_ids(present)))
        await self._leaders.distrust(state, state.brokers)
        elected = await self._reelect(state, restarted)
        elected += await self._leaders.elect_offline(state)
        if not in_office():
            return
        self._announcer.meet(state)
        if elected:  # they lead before the rest is seen to
            self._announcer.leader_and_isr(state, elected)
        await self._leaders.leave_isrs(state, state.partition_ids(present))
        if not in_office():
            return
        self._announcer.introduce(state, state.brokers, new=set(new))
        await self._deletions.resume(state)

    async def _reelect(
        self, state: ClusterState, restarted: Collection[PartitionId]
    ) -> list[PartitionId]:
        """Raise the epochs of leaders that may have been restarted under the present ones."""

        def successor(partition: PartitionId, current: LeaderAndIsr) -> LeaderAndIsr | None:
            return leader_for_offline(
                state.assignment(partition),
                current,
                state.online(partition),
                state.controller_epoch,
                unclean=False,
            )

        replicated = [
            partition
            for partition in restarted
            if partition.topic not in state.deleting
            and len(state.assignment(partition)) > 1
            and state.topics[partition.topic].partitions[partition.partition].leader
            in state.brokers
        ]
        return await self._leaders.change(state, replicated, successor)

"""Changing leaders and ISRs: decide, write, remember, tell. The one way by which partitions' states change.

Rules: a decision is a pure function of a partition's state. All decisions of a step are written in multis that are
under way together, each conditional on the versions it saw; a partition that somebody else has changed meanwhile
is read again and decided again, and holds up no other (KAFKA-9672's kind of trouble). The state changes only
after the store, and the brokers are told after that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ottla.controller import transitions
from ottla.controller.announcer import Announcement, Announcer
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.configs import TOPICS, read_configs
from ottla.controller.election import leader_for_offline, without_lossy, without_replicas
from ottla.controller.office import write_states
from ottla.controller.topics import TopicRules
from ottla.coordination.store import Store
from ottla.coordination.znodes import NO_LEADER, LeaderAndIsr
from ottla.logs import logger

log = logger(__name__)

Decide = Callable[[PartitionId, LeaderAndIsr], LeaderAndIsr | None]
"""A partition's next state (its partition epoch being that of now), or None to leave it as it is."""

_ROUNDS_MAX = 10
"""How often partitions that others keep changing are decided anew before they are left as they are."""


class LeaderChanges:
    """Changes partitions' states in the store and at the brokers, for whoever holds the office."""

    def __init__(self, store: Store, announcer: Announcer, rules: TopicRules) -> None:
        self._store = store
        self._announcer = announcer
        self._rules = rules

    async def change(
        self, state: ClusterState, partitions: Iterable[PartitionId], decide: Decide
    ) -> list[PartitionId]:
        """Write what ``decide`` says of each partition; returns those whose state is another now."""
        changed: list[PartitionId] = []
        remaining = list(partitions)
        for _ in range(_ROUNDS_MAX):
            decisions: dict[PartitionId, LeaderAndIsr] = {}
            for partition in remaining:
                current = state.leader_and_isr(partition)
                decided = decide(partition, current) if current is not None else None
                if decided is not None:
                    decisions[partition] = decided
            if not decisions:
                break
            written, remaining = await write_states(self._store, state, decisions)
            changed += written
            if not remaining:
                break
        else:
            log.error("partitions are changed by somebody else all the time", count=len(remaining))
        return changed

    async def change_and_tell(
        self, state: ClusterState, partitions: Iterable[PartitionId], decide: Decide
    ) -> Announcement:
        """As ``change``, and tell the brokers of what has changed."""
        changed = await self.change(state, partitions, decide)
        return self._announcer.announce(state, changed) if changed else Announcement()

    async def elect_offline(
        self,
        state: ClusterState,
        partitions: Iterable[PartitionId] | None = None,
        *,
        unclean: bool = False,
    ) -> list[PartitionId]:
        """Elect leaders where the leader is not online; the partitions that got one.

        Clean ones first; then, for what is left, unclean ones where ``unclean`` or the topic's settings say
        so. Whatever of ``partitions`` (all, if None) finds no leader keeps its state.
        """
        offline = transitions.offline_partitions(state, partitions)
        if not offline:
            return []

        def successor(
            partition: PartitionId, current: LeaderAndIsr, unclean: bool
        ) -> LeaderAndIsr | None:
            if state.is_led(partition, current.leader):
                return None
            online = state.online(partition)
            return leader_for_offline(
                state.assignment(partition),
                current,
                online,
                state.controller_epoch,
                unclean=unclean,
                lossy=_lossy(state, partition, online),
            )

        elected = await self.change(state, offline, lambda p, now: successor(p, now, False))
        undecided = transitions.offline_partitions(state, set(offline).difference(elected))
        if undecided:
            if not unclean:
                undecided = await self._allowed_unclean(state, undecided)
            dirty = await self.change(state, undecided, lambda p, now: successor(p, now, True))
            for partition in dirty:
                log.warning(
                    "unclean leader election",
                    topic=partition.topic,
                    partition=partition.partition,
                    leader=state.topics[partition.topic].partitions[partition.partition].leader,
                )
            elected += dirty
        return elected

    async def _allowed_unclean(
        self, state: ClusterState, partitions: Collection[PartitionId]
    ) -> list[PartitionId]:
        """Those with a live replica whose topic allows to lose what was acknowledged."""
        live = [partition for partition in partitions if state.online(partition)]
        if not live:
            return []
        configs = await read_configs(self._store, TOPICS, {partition.topic for partition in live})
        return [
            partition
            for partition in live
            if self._rules.allows_unclean_election(configs[partition.topic].config)
        ]

    async def leave_isrs(
        self, state: ClusterState, partitions: Iterable[PartitionId]
    ) -> list[PartitionId]:
        """Take whoever is not reachable, or no replica, out of the ISRs, and leadership from such leaders.

        ``partitions`` without a state, or whose ISR has nobody else, are left. Source:
        ``ReplicaStateMachine.doRemoveReplicasFromIsr``.
        """

        def shrunk(partition: PartitionId, current: LeaderAndIsr) -> LeaderAndIsr | None:
            members = {*current.isr, current.leader} - {NO_LEADER}
            replicas = state.assignment(partition)
            gone = {
                member
                for member in members
                if member not in replicas or not state.is_reachable(member, partition)
            }
            if not gone:
                return None
            following = without_replicas(current, gone, state.controller_epoch)
            if (following.leader, following.isr) == (current.leader, current.isr):
                return None
            return following

        return await self.change(state, partitions, shrunk)

    async def distrust(self, state: ClusterState, broker_ids: Collection[int]) -> list[PartitionId]:
        """Take replicas that may have lost acknowledged records out of the ISRs (invariants 1, 20)."""
        unclean = {broker_id for broker_id in broker_ids if state.is_unclean(broker_id)}
        suspects = dict.fromkeys(state.partitions_on(unclean) if unclean else ())
        for broker_id in broker_ids:
            for topic, index in state.brokers[broker_id].registration.short:
                if topic not in state.deleting and topic in state.topics:
                    suspects[PartitionId(topic, index)] = None
        if not suspects:
            return []

        def trusted(partition: PartitionId, current: LeaderAndIsr) -> LeaderAndIsr | None:
            lossy = _lossy(state, partition, broker_ids)
            return without_lossy(
                state.assignment(partition),
                current,
                lossy,
                state.online(partition) - lossy,
                state.controller_epoch,
            )

        changed = await self.change(state, suspects, trusted)
        if changed:
            log.warning(
                "replicas that may have lost records are out of the ISRs",
                brokers=sorted(broker_ids),
                partitions=len(changed),
            )
        return changed


def _lossy(state: ClusterState, partition: PartitionId, broker_ids: Collection[int]) -> set[int]:
    """Those of the brokers whose replicas may lack what they acknowledged."""
    return {broker_id for broker_id in broker_ids if state.may_lack(broker_id, partition)}

"""Brokers that come, go and come back: who leads then, and what everybody is told of it.

Rules: a broker is one registration; under another czxid it is another broker, which was away in between
(bounced). Of those that are gone the leadership goes first, because clients wait for it, and then their places in the
ISRs. Who may have lost records (``unclean``) is out of the ISRs before it is told anything (invariant 20). Source:
``KafkaController.processBrokerChange``, ``onBrokerStartup``, ``onBrokerFailure``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ottla.controller import transitions
from ottla.controller.announcer import Announcer
from ottla.controller.cluster_state import ClusterState, LiveBroker, PartitionId
from ottla.controller.deletions import Deletions
from ottla.controller.leader_changes import LeaderChanges
from ottla.controller.office import missing_parents, write
from ottla.coordination import znodes
from ottla.coordination.store import Create, Store
from ottla.logs import logger

log = logger(__name__)


class BrokerChanges:
    """Takes in which brokers there are, for whoever holds the controller's office."""

    def __init__(
        self, store: Store, announcer: Announcer, leaders: LeaderChanges, deletions: Deletions
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._leaders = leaders
        self._deletions = deletions

    async def take_in(self, state: ClusterState, found: Mapping[int, LiveBroker]) -> frozenset[int]:
        """Brokers are now as ``found``: do all that follows; returns those that have come."""
        known = dict(state.brokers)
        bounced = {b for b in found.keys() & known.keys() if found[b].epoch != known[b].epoch}
        gone = (known.keys() - found.keys()) | bounced
        come = frozenset((found.keys() - known.keys()) | bounced)
        altered = {
            broker_id
            for broker_id in found.keys() - come
            if found[broker_id].registration != known[broker_id].registration
        }
        if gone or come:
            log.info(
                "brokers have changed",
                come=sorted(come - bounced),
                gone=sorted(gone - bounced),
                bounced=sorted(bounced),
                live=sorted(found),
            )
        for broker_id in gone:
            del state.brokers[broker_id]
            state.shutting_down.discard(broker_id)
            state.offline_replicas.pop(broker_id, None)
        for broker_id in altered:
            state.brokers[broker_id] = found[broker_id]
        self._announcer.meet(state)
        if gone:
            await self._depart(state, gone)
        for broker_id in come:
            state.brokers[broker_id] = found[broker_id]
        if come:
            self._announcer.meet(state)
            await self._arrive(state, come)
        elif altered and not gone:
            self._announcer.update_metadata(state, ())
        return come

    async def _depart(self, state: ClusterState, gone: Collection[int]) -> None:
        affected = state.partitions_on(gone)
        elected = await self._leaders.elect_offline(state, affected)
        self._announcer.announce(state, elected)
        shrunk = await self._leaders.leave_isrs(state, affected)
        # With no partition in it this still says who is gone.
        self._announcer.announce(state, shrunk)
        told = {*elected, *shrunk}
        others = [partition for partition in affected if partition not in told]
        if others:  # which of their replicas are offline has changed
            self._announcer.update_metadata(state, others)
        await self._deletions.lost(state, gone)

    async def _arrive(self, state: ClusterState, come: Collection[int]) -> None:
        distrusted = await self._leaders.distrust(state, come)
        settled = [broker_id for broker_id in state.brokers if broker_id not in come]
        self._announcer.update_metadata(state, (), to=settled)
        new = await self.first_leaders(state, state.partitions_on(come))
        elected = await self._leaders.elect_offline(state)
        self._announcer.introduce(state, come, new=set(new))
        changed = dict.fromkeys((*distrusted, *new, *elected))
        if changed:
            self._announcer.announce(state, list(changed), new=set(new), to=settled)
        others = [partition for partition in state.partitions_on(come) if partition not in changed]
        if others and settled:  # these replicas are not offline any more
            self._announcer.update_metadata(state, others, to=settled)
        await self._deletions.resume(
            state,
            {
                name
                for name in state.deleting
                if name in state.topics
                and any(
                    not set(come).isdisjoint(replicas)
                    for replicas in state.topics[name].assignment.values()
                )
            },
        )

    async def first_leaders(
        self, state: ClusterState, partitions: Collection[PartitionId]
    ) -> list[PartitionId]:
        """Write the first states of partitions that never had a leader and can have one now."""
        first = transitions.first_leaders(state, partitions)
        if first:
            parents = await missing_parents(self._store, list(first))
            states = [
                [Create(znodes.partition_state_path(*partition), leader.encode())]
                for partition, leader in first.items()
            ]
            await write(self._store, state, [*parents, *states])
            for (topic, index), leader in first.items():
                state.topics[topic].partitions[index] = leader
        return list(first)

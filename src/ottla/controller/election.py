"""Who leads a partition: pure functions of assignment, ISR and live brokers.

Rules: the assignment's order decides. Every election raises the leader epoch (invariant 15) and the
leader is in the ISR (16). A leader from outside the ISR, who may lack acknowledged records, is taken
only where the topic's ``unclean.leader.election.enable`` says so, and is marked as recovering.
Source: Kafka's ``Election.scala`` and ``PartitionLeaderElectionAlgorithms``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ottla.coordination.znodes import NO_LEADER, LeaderAndIsr

LEADER_RECOVERED = 0
LEADER_RECOVERING = 1


def leader_for_new(
    assignment: Sequence[int], live: Collection[int], controller_epoch: int
) -> LeaderAndIsr | None:
    """A new partition's first state: the first live replica leads, the live ones are its ISR.

    None while no replica is alive.
    """
    isr = tuple(replica for replica in assignment if replica in live)
    if not isr:
        return None
    return LeaderAndIsr(isr[0], isr, leader_epoch=0, controller_epoch=controller_epoch)


def without_leader(
    current: LeaderAndIsr, offline: Collection[int], controller_epoch: int
) -> LeaderAndIsr:
    """The state of a partition that nobody can lead: no leader, and the ISR less those that are offline.

    The last member of the ISR stays in it: it has all that was acknowledged. Source:
    ``ReplicaStateMachine.doRemoveReplicasFromIsr``.
    """
    isr = tuple(replica for replica in current.isr if replica not in offline)
    return current._replace(
        leader=NO_LEADER,
        isr=isr or current.isr[:1],
        leader_epoch=current.leader_epoch + 1,
        controller_epoch=controller_epoch,
    )


def leader_for_offline(
    assignment: Sequence[int],
    current: LeaderAndIsr,
    live: Collection[int],
    controller_epoch: int,
    *,
    unclean: bool,
) -> LeaderAndIsr | None:
    """The state after electing a leader for a partition whose leader is not online.

    The first live replica in the ISR, which then keeps its live members; failing that, only where
    ``unclean``, the first live replica, alone in its ISR. None if there is nobody to elect. The
    partition epoch is still that of ``current``, which the write is conditional on.
    """
    live_isr = [replica for replica in assignment if replica in live and replica in current.isr]
    if live_isr:
        return current._replace(
            leader=live_isr[0],
            isr=tuple(replica for replica in current.isr if replica in live),
            leader_epoch=current.leader_epoch + 1,
            controller_epoch=controller_epoch,
        )
    live_replicas = [replica for replica in assignment if replica in live]
    if not unclean or not live_replicas:
        return None
    return current._replace(
        leader=live_replicas[0],
        isr=(live_replicas[0],),
        leader_epoch=current.leader_epoch + 1,
        controller_epoch=controller_epoch,
        leader_recovery_state=LEADER_RECOVERING,
    )

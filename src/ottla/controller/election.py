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


def without_replicas(
    current: LeaderAndIsr, gone: Collection[int], controller_epoch: int
) -> LeaderAndIsr:
    """The state of a partition after replicas went: they are out of its ISR, and none of them leads.

    An ISR that would be left empty stays as it was: each of its members has all that was acknowledged, and
    the first to come back can lead. Source: ``ReplicaStateMachine.doRemoveReplicasFromIsr``, where only one
    member stays.
    """
    isr = tuple(replica for replica in current.isr if replica not in gone)
    return current._replace(
        leader=NO_LEADER if current.leader in gone else current.leader,
        isr=isr or current.isr,
        leader_epoch=current.leader_epoch + 1,
        controller_epoch=controller_epoch,
    )


def without_lossy(
    assignment: Sequence[int],
    current: LeaderAndIsr,
    lossy: Collection[int],
    live: Collection[int],
    controller_epoch: int,
) -> LeaderAndIsr | None:
    """The state without replicas that may have lost what they acknowledged; None where nothing changes.

    Where they were all of the ISR it is left empty, which says that nobody is known to have everything:
    only an unclean election gives such a partition a leader (invariant 20). The only replica there is
    keeps its place.
    """
    if len(assignment) <= 1 or set(lossy).isdisjoint((*current.isr, current.leader)):
        return None
    isr = tuple(replica for replica in current.isr if replica not in lossy)
    leader = current.leader
    if leader in lossy or leader not in live:
        electable = (replica for replica in assignment if replica in isr and replica in live)
        leader = next(electable, NO_LEADER)
    return _led_by(leader, isr, current, controller_epoch)


def leader_for_offline(
    assignment: Sequence[int],
    current: LeaderAndIsr,
    live: Collection[int],
    controller_epoch: int,
    *,
    unclean: bool,
    lossy: Collection[int] = (),
) -> LeaderAndIsr | None:
    """The state after electing a leader for a partition whose leader is not online.

    The first live replica in the ISR, which then keeps its live members; failing that, only where
    ``unclean``, the first live replica, alone in its ISR. None if there is nobody to elect. ``lossy`` are
    replicas that may have lost what they acknowledged: not to be elected cleanly, but where there is no
    other replica. The partition epoch is still that of ``current``, which the write is conditional on.
    """
    trusted = live if len(assignment) == 1 else set(live) - set(lossy)
    isr = tuple(replica for replica in current.isr if replica in trusted)
    in_sync = [replica for replica in assignment if replica in isr]
    if in_sync:
        return _led_by(in_sync[0], isr, current, controller_epoch)
    live_replicas = [replica for replica in assignment if replica in live]
    if not unclean or not live_replicas:
        return None
    elected = _led_by(live_replicas[0], (live_replicas[0],), current, controller_epoch)
    return elected._replace(leader_recovery_state=LEADER_RECOVERING)


def preferred_leader(
    assignment: Sequence[int], current: LeaderAndIsr, live: Collection[int], controller_epoch: int
) -> LeaderAndIsr | None:
    """The state after electing the first of the assignment, if it is live and in the ISR."""
    head = assignment[0]
    if head not in live or head not in current.isr:
        return None
    return _led_by(head, current.isr, current, controller_epoch)


def leader_for_reassignment(
    target: Sequence[int], current: LeaderAndIsr, live: Collection[int], controller_epoch: int
) -> LeaderAndIsr | None:
    """The state after electing the first replica of ``target`` that is live and in the ISR."""
    for replica in target:
        if replica in live and replica in current.isr:
            return _led_by(replica, current.isr, current, controller_epoch)
    return None


def leader_for_shutdown(
    assignment: Sequence[int],
    current: LeaderAndIsr,
    reachable: Collection[int],
    shutting_down: Collection[int],
    controller_epoch: int,
) -> LeaderAndIsr | None:
    """The state after moving leadership off brokers that stop: they leave the ISR, too.

    None where no other replica is reachable and in the ISR.
    """
    isr = tuple(replica for replica in current.isr if replica not in shutting_down)
    for replica in assignment:
        if replica in isr and replica in reachable:
            return _led_by(replica, isr, current, controller_epoch)
    return None


def raised_epoch(current: LeaderAndIsr, controller_epoch: int) -> LeaderAndIsr:
    """The same leader and ISR under the next leader epoch."""
    return _led_by(current.leader, current.isr, current, controller_epoch)


def _led_by(
    leader: int, isr: tuple[int, ...], current: LeaderAndIsr, controller_epoch: int
) -> LeaderAndIsr:
    return current._replace(
        leader=leader,
        isr=isr,
        leader_epoch=current.leader_epoch + 1,
        controller_epoch=controller_epoch,
    )

"""Moving partitions to other brokers (KIP-455): from the request to the last replica's removal.

Rules: a reassignment is in the topic's znode from its beginning to its end, so that every controller goes on with it.
First the partition has the replicas of both assignments (under a new leader epoch, so that the leader knows them);
once all of the target are in sync the leader and the ISR become the target's in one write, the removed replicas are
deleted, and last the znode says so. A new reassignment takes the place of one under way, a cancelled one goes back.
``/admin/reassign_partitions`` is heeded for tools that still write it. Source:
``KafkaController.onPartitionReassignment`` (phases U, A and B; B3 and B4 are one write here).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from ottla.controller.announcer import Announcer
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.election import (
    LEADER_RECOVERING,
    leader_for_reassignment,
    raised_epoch,
    without_replicas,
)
from ottla.controller.leader_changes import LeaderChanges
from ottla.controller.office import remove, write
from ottla.controller.reassignment import Reassignment, reason_refused
from ottla.controller.refusals import answer_for
from ottla.controller.topics import check_readable
from ottla.coordination import znodes
from ottla.coordination.store import NoNode, Set, Store, StoreError, Watch
from ottla.coordination.znodes import LeaderAndIsr, MalformedZnode
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)
from ottla.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)

log = logger(__name__)

Refusals = dict[PartitionId, KafkaError]
IsDone = Callable[[PartitionId, tuple[int, ...]], bool]


class Reassignments:
    """Moves partitions, for whoever holds the controller's office."""

    def __init__(self, store: Store, announcer: Announcer, leaders: LeaderChanges) -> None:
        self._store = store
        self._announcer = announcer
        self._leaders = leaders

    async def answer_alter(
        self, state: ClusterState, request: AlterPartitionReassignmentsRequest
    ) -> AlterPartitionReassignmentsResponse:
        """Do as a client asks, and say so for each partition."""
        wanted = {
            PartitionId(topic.name, partition.partition_index): (
                None if partition.replicas is None else tuple(partition.replicas)
            )
            for topic in request.topics
            for partition in topic.partitions
        }
        refused = await self.alter(
            state, wanted, may_change_factor=request.allow_replication_factor_change
        )
        responses: dict[str, list[ReassignablePartitionResponse]] = {}
        for partition in wanted:
            answer = ReassignablePartitionResponse(
                partition_index=partition.partition, error_message=None
            )
            error = refused.get(partition)
            if error is not None:
                answer.error_code, answer.error_message = error.code, error.message
            responses.setdefault(partition.topic, []).append(answer)
        return AlterPartitionReassignmentsResponse(
            allow_replication_factor_change=request.allow_replication_factor_change,
            error_message=None,
            responses=[
                ReassignableTopicResponse(name=name, partitions=answers)
                for name, answers in responses.items()
            ],
        )

    async def answer_list(
        self, state: ClusterState, request: ListPartitionReassignmentsRequest
    ) -> ListPartitionReassignmentsResponse:
        """What is under way, of all partitions or those that are asked for."""
        wanted: list[PartitionId] | None = None
        if request.topics is not None:
            wanted = [
                PartitionId(topic.name, index)
                for topic in request.topics
                for index in topic.partition_indexes
            ]
        topics: dict[str, list[OngoingPartitionReassignment]] = {}
        for partition, found in self.listed(state, wanted).items():
            topics.setdefault(partition.topic, []).append(
                OngoingPartitionReassignment(
                    partition_index=partition.partition,
                    replicas=list(found.replicas),
                    adding_replicas=list(found.adding),
                    removing_replicas=list(found.removing),
                )
            )
        return ListPartitionReassignmentsResponse(
            error_message=None,
            topics=[
                OngoingTopicReassignment(name=name, partitions=partitions)
                for name, partitions in topics.items()
            ],
        )

    async def alter(
        self,
        state: ClusterState,
        wanted: Mapping[PartitionId, tuple[int, ...] | None],
        *,
        may_change_factor: bool = True,
    ) -> Refusals:
        """Begin, replace or (None) cancel reassignments; why not, for those that were refused."""
        refused, accepted = self._judge(state, wanted, may_change_factor=may_change_factor)
        await self._forget_asked(state, lambda partition, _: partition in accepted)
        return refused | await self._begin(state, accepted)

    def listed(
        self, state: ClusterState, wanted: Iterable[PartitionId] | None
    ) -> dict[PartitionId, Reassignment]:
        """Those of ``wanted`` (of all, if None) that are being reassigned."""
        return {
            partition: found
            for partition in (state.partition_ids() if wanted is None else wanted)
            for found in (reassignment_of(state, partition),)
            if found is not None and found.is_under_way
        }

    async def resume(self, state: ClusterState, brokers: Collection[int] | None = None) -> None:
        """Go on with what is under way: all of it, or what is to get replicas on ``brokers``."""
        going_on = {
            partition: found
            for partition, found in self.listed(state, None).items()
            if partition.topic not in state.deleting
            and (brokers is None or not set(brokers).isdisjoint(found.target))
        }
        if going_on:
            await self._go_on(state, going_on)

    async def complete(self, state: ClusterState, partitions: Iterable[PartitionId]) -> None:
        """ISRs have grown: end the reassignments for which that was waited."""
        done = {
            partition: found
            for partition, found in self.listed(state, partitions).items()
            if self._is_complete(state, partition, found)
        }
        if done:
            await self._go_on(state, done)

    async def take_up_asked(self, state: ClusterState, watch: Watch) -> None:
        """Begin what somebody asked for by a znode, which goes when that is done; ``watch`` sees the next."""
        path = znodes.REASSIGN_PARTITIONS
        if await self._store.exists(path, watch=watch) is None:
            return
        try:
            asked = znodes.decode_reassignments((await self._store.get(path)).data)
        except NoNode:
            return
        except MalformedZnode as error:
            log.error("reassignments that were asked for can't be read", reason=str(error))
            await remove(self._store, state, path)
            return
        wanted = {PartitionId(*partition): replicas for partition, replicas in asked.items()}
        refused, accepted = self._judge(state, wanted, may_change_factor=True)
        begun = {
            partition: plan
            for partition, plan in accepted.items()
            if reassignment_of(state, partition) != plan
        }
        refused |= await self._begin(state, begun)
        if state.stale:
            return  # what was asked for stays, and is taken up again
        for partition, refusal in refused.items():
            log.warning(
                "a reassignment that was asked for is refused",
                topic=partition.topic,
                partition=partition.partition,
                reason=refusal.message,
            )
        await self._forget_asked(
            state,
            lambda partition, _: (
                partition in refused
                or not (found := reassignment_of(state, partition))
                or not found.is_under_way
            ),
        )

    # Steps

    def _judge(
        self,
        state: ClusterState,
        wanted: Mapping[PartitionId, tuple[int, ...] | None],
        *,
        may_change_factor: bool,
    ) -> tuple[Refusals, dict[PartitionId, Reassignment]]:
        refused: Refusals = {}
        accepted: dict[PartitionId, Reassignment] = {}
        for partition, target in wanted.items():
            try:
                accepted[partition] = _plan(state, partition, target, may_change_factor)
            except KafkaError as error:
                refused[partition] = error
        return refused, accepted

    async def _begin(
        self, state: ClusterState, plans: Mapping[PartitionId, Reassignment]
    ) -> Refusals:
        """Phase U: write down what is to be, and let go of replicas that are not wanted any more."""
        refused: Refusals = {}
        begun: dict[PartitionId, Reassignment] = {}
        unneeded: dict[PartitionId, set[int]] = {}
        by_topic: dict[str, dict[PartitionId, Reassignment]] = {}
        for partition, plan in plans.items():
            by_topic.setdefault(partition.topic, {})[partition] = plan
        for name, changed in by_topic.items():
            before = {partition: reassignment_of(state, partition) for partition in changed}
            try:
                await self._write_assignment(state, name, changed)
            except StoreError as error:
                state.stale = True
                refused |= dict.fromkeys(changed, answer_for(error))
                continue
            begun |= changed
            for partition, plan in changed.items():
                known = before[partition]
                assert known is not None
                dropped = set(known.replicas) - set(plan.replicas)
                if dropped:
                    unneeded[partition] = dropped
        if unneeded:
            await self._drop(state, unneeded)
        if begun:
            await self._go_on(state, begun)
        return refused

    async def _go_on(self, state: ClusterState, plans: Mapping[PartitionId, Reassignment]) -> None:
        complete = {p: plan for p, plan in plans.items() if self._is_complete(state, p, plan)}
        growing = [partition for partition in plans if partition not in complete]
        # A1, A2: the leader learns of the replicas to come, and they of it.
        raised = await self._leaders.change(
            state, growing, lambda _, current: raised_epoch(current, state.controller_epoch)
        )
        if raised:
            self._announcer.announce(state, raised)
        if complete:
            await self._finish(state, complete)

    async def _finish(self, state: ClusterState, plans: Mapping[PartitionId, Reassignment]) -> None:
        """Phase B: the target leads alone, the others are deleted, and the znode says so."""
        targets = {partition: plan.target for partition, plan in plans.items()}

        def settled(partition: PartitionId, current: LeaderAndIsr) -> LeaderAndIsr | None:
            target = targets[partition]
            isr = tuple(replica for replica in current.isr if replica in target)
            online = state.online(partition)
            if current.leader in target and current.leader in online:
                following = raised_epoch(current, state.controller_epoch)
            else:
                elected = leader_for_reassignment(target, current, online, state.controller_epoch)
                if elected is None:
                    return None
                following = elected
            return following._replace(isr=isr)

        stateless = {p for p in plans if state.leader_and_isr(p) is None}
        led = await self._leaders.change(state, plans, settled)
        done = {
            partition: plans[partition] for partition in plans if partition in {*led, *stateless}
        }
        if not done:
            return
        leaving: dict[int, list[PartitionId]] = {}
        for partition, plan in done.items():
            self._remember(state, partition, Reassignment(plan.target))
            for broker_id in plan.removing:
                if state.is_reachable(broker_id, partition):
                    leaving.setdefault(broker_id, []).append(partition)
        self._announcer.announce(state, led)
        self._announcer.stop_replicas(state, leaving, delete=True)
        by_topic: dict[str, dict[PartitionId, Reassignment]] = {}
        for partition, plan in done.items():
            by_topic.setdefault(partition.topic, {})[partition] = Reassignment(plan.target)
        for name, changed in by_topic.items():
            await self._write_assignment(state, name, changed)
        await self._forget_asked(
            state, lambda p, replicas: p in done and replicas == done[p].target
        )
        for partition in done:
            log.info(
                "partition reassigned",
                topic=partition.topic,
                partition=partition.partition,
                replicas=list(done[partition].target),
            )

    async def _drop(self, state: ClusterState, dropped: Mapping[PartitionId, set[int]]) -> None:
        """Take replicas out of the ISRs, leadership from them, and have their logs deleted."""

        def without(partition: PartitionId, current: LeaderAndIsr) -> LeaderAndIsr | None:
            gone = dropped[partition]
            if gone.isdisjoint((*current.isr, current.leader)):
                return None
            if current.leader not in gone:
                return without_replicas(current, gone, state.controller_epoch)
            elected = leader_for_reassignment(
                state.assignment(partition),
                current,
                state.online(partition),
                state.controller_epoch,
            )
            if elected is None:
                return without_replicas(current, gone, state.controller_epoch)
            return elected._replace(isr=tuple(r for r in current.isr if r not in gone))

        changed = await self._leaders.change(state, dropped, without)
        self._announcer.announce(state, changed)
        leaving: dict[int, list[PartitionId]] = {}
        for partition, gone in dropped.items():
            for broker_id in gone:
                if state.is_reachable(broker_id, partition):
                    leaving.setdefault(broker_id, []).append(partition)
        self._announcer.stop_replicas(state, leaving, delete=True)

    def _is_complete(self, state: ClusterState, partition: PartitionId, plan: Reassignment) -> bool:
        """Whether the target can have the partition alone; one that never had a leader has no data."""
        current = state.leader_and_isr(partition)
        if current is None:  # what can't be read may say anything
            return partition not in state.unreadable_partitions
        return plan.is_complete(current.isr) and (
            not plan.removing or current.leader_recovery_state != LEADER_RECOVERING
        )

    # The topic's znode

    async def _write_assignment(
        self, state: ClusterState, name: str, changed: Mapping[PartitionId, Reassignment]
    ) -> None:
        topic = state.topics[name]
        assignment, adding, removing = (
            dict(topic.assignment),
            dict(topic.adding),
            dict(topic.removing),
        )
        for partition, plan in changed.items():
            index = partition.partition
            assignment[index] = plan.replicas
            for replicas, table in ((plan.adding, adding), (plan.removing, removing)):
                table.pop(index, None)
                if replicas:
                    table[index] = replicas
        topic_id = topic.topic_id if any(topic.topic_id) else None
        data = znodes.TopicAssignment(topic_id, assignment, adding, removing).encode()
        await write(self._store, state, [[Set(znodes.topic_path(name), data, topic.version)]])
        topic.version += 1
        topic.assignment, topic.adding, topic.removing = assignment, adding, removing

    @staticmethod
    def _remember(state: ClusterState, partition: PartitionId, plan: Reassignment) -> None:
        topic = state.topics[partition.topic]
        topic.assignment[partition.partition] = plan.replicas
        topic.adding.pop(partition.partition, None)
        topic.removing.pop(partition.partition, None)

    async def _forget_asked(self, state: ClusterState, is_done: IsDone) -> None:
        """Take partitions out of what was asked for by a znode; the last takes it away."""
        path = znodes.REASSIGN_PARTITIONS
        (znode,) = await self._store.get_many([path])
        if znode is None:
            return
        try:
            asked = znodes.decode_reassignments(znode.data)
        except MalformedZnode:
            asked = {}
        left = {
            partition: replicas
            for partition, replicas in asked.items()
            if not is_done(PartitionId(*partition), replicas)
        }
        if not left:
            await remove(self._store, state, path)
        elif left != asked:
            data = znodes.encode_reassignments(left)
            await write(self._store, state, [[Set(path, data, znode.stat.version)]])


def reassignment_of(state: ClusterState, partition: PartitionId) -> Reassignment | None:
    """A partition's replicas and which of them come and go; None for a partition that there is not."""
    topic = state.topics.get(partition.topic)
    if topic is None or partition.partition not in topic.assignment:
        return None
    index = partition.partition
    return Reassignment(
        topic.assignment[index], topic.adding.get(index, ()), topic.removing.get(index, ())
    )


def _plan(
    state: ClusterState,
    partition: PartitionId,
    target: tuple[int, ...] | None,
    may_change_factor: bool,
) -> Reassignment:
    """The reassignment to ``target`` (None: back to where it started). Raises KafkaError."""
    check_readable(state, partition.topic)
    if partition in state.unreadable_partitions:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "The partition's state can't be read: see "
            f"{znodes.partition_state_path(partition.topic, partition.partition)}.",
        )
    current = reassignment_of(state, partition)
    if current is None or partition.topic in state.deleting:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "The partition does not exist.")
    if target is None:
        if not current.is_under_way:
            raise KafkaError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
        target = current.origin
    else:
        reason = reason_refused(current, target, state.live_brokers())
        if reason is not None:
            raise KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, reason)
        if not may_change_factor and len(target) != len(current.origin):
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"The replication factor is changed from {len(current.origin)} to {len(target)}",
            )
    plan = current.to(target)
    now = state.leader_and_isr(partition)
    if now is not None and now.isr and set(now.isr).isdisjoint(plan.replicas):
        # All that have what was acknowledged would be deleted. KRaft refuses that, too.
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"No in-sync replica would be left of {partition.topic}-{partition.partition}: "
            f"{', '.join(map(str, now.isr))}",
        )
    return plan

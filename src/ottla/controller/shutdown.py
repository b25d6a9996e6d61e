"""Letting a broker go that has asked for it: its leaderships move first, so that clients miss nothing.

Rules: partitions with other replicas only. What the broker follows it stops to follow, and leaves the ISRs, before it
is gone; from now on it is elected nowhere. What it still leads because nobody else is in sync is answered, and it may
ask again. Source: ``KafkaController.doControlledShutdown``.
"""

from __future__ import annotations

from ottla.controller.announcer import Announcement, Announcer
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.election import leader_for_shutdown, without_replicas
from ottla.controller.leader_changes import Decide, LeaderChanges
from ottla.coordination.znodes import LeaderAndIsr
from ottla.errors import ErrorCode
from ottla.logs import logger
from ottla.messages.controlled_shutdown import (
    ControlledShutdownRemainingPartition,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
)

log = logger(__name__)

UNKNOWN_EPOCH = -1


class ControlledShutdown:
    """Takes leave of brokers, for whoever holds the controller's office."""

    def __init__(self, announcer: Announcer, leaders: LeaderChanges) -> None:
        self._announcer = announcer
        self._leaders = leaders

    async def let_go(
        self, state: ClusterState, request: ControlledShutdownRequest
    ) -> tuple[ControlledShutdownResponse, Announcement]:
        """Move what can be moved; what the broker still leads is in the response.

        It had better not go before the new leaders have been told: they are in the announcement.
        """
        broker_id = request.broker_id
        live = state.brokers.get(broker_id)
        if live is None:
            code = ErrorCode.BROKER_NOT_AVAILABLE
            return ControlledShutdownResponse(error_code=code), Announcement()
        if request.broker_epoch != UNKNOWN_EPOCH and request.broker_epoch != live.epoch:
            code = ErrorCode.STALE_BROKER_EPOCH
            return ControlledShutdownResponse(error_code=code), Announcement()
        log.info("a broker stops", broker=broker_id)
        state.shutting_down.add(broker_id)
        led: list[PartitionId] = []
        followed: list[PartitionId] = []
        for partition in state.partitions_on((broker_id,)):
            current = state.leader_and_isr(partition)
            if current is not None and len(state.assignment(partition)) > 1:
                (led if current.leader == broker_id else followed).append(partition)
        moved = await self._leaders.change(state, led, self._moved(state))
        told = self._announcer.announce(state, moved) if moved else Announcement()
        self._announcer.stop_replicas(state, {broker_id: followed}, delete=False)
        left = await self._leaders.change(state, followed, self._left(state, broker_id))
        self._announcer.announce(state, left)
        response = ControlledShutdownResponse(
            remaining_partitions=[
                ControlledShutdownRemainingPartition(
                    topic_name=partition.topic, partition_index=partition.partition
                )
                for partition in led
                for current in (state.leader_and_isr(partition),)
                if current is not None and current.leader == broker_id
            ]
        )
        return response, told

    @staticmethod
    def _moved(state: ClusterState) -> Decide:
        def moved(partition: PartitionId, current: LeaderAndIsr) -> LeaderAndIsr | None:
            if current.leader not in state.shutting_down:
                return None
            reachable = {
                replica
                for replica in state.assignment(partition)
                if state.is_reachable(replica, partition)
            }
            return leader_for_shutdown(
                state.assignment(partition),
                current,
                reachable,
                state.shutting_down,
                state.controller_epoch,
            )

        return moved

    @staticmethod
    def _left(state: ClusterState, broker_id: int) -> Decide:
        def left(partition: PartitionId, current: LeaderAndIsr) -> LeaderAndIsr | None:
            if broker_id not in current.isr or len(current.isr) == 1 or current.leader == broker_id:
                return None
            return without_replicas(current, {broker_id}, state.controller_epoch)

        return left

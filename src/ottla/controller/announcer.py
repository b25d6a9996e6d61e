"""Telling the brokers: what ``transitions`` derives from the state goes into the queue of each broker.

Rules: nobody is waited for here. In a broker's queue LeaderAndIsr comes before the UpdateMetadata that tells of
the same change, so that it knows its part before it says so. A queue lives as long as its broker's epoch. What
is answered comes back through ``answered``; who wants to wait for it has the ``Announcement``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

from ottla.controller import transitions
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.control_queue import (
    Answered,
    ControlQueue,
    ControlRequest,
    ControlResponse,
    ControlTarget,
)
from ottla.controller.remote_target import RemoteTarget
from ottla.coordination.znodes import BrokerRegistration
from ottla.logs import logger

log = logger(__name__)

Reach = Callable[[str, int], RemoteTarget]
"""How a broker at a host and port is reached."""

LEADERS_BOUND_S = 5.0
"""How long the answer to a client waits for new leaders to lead."""

OTHERS_BOUND_S = 0.5
"""How much longer it waits for everybody else to know of them."""


class Announcement:
    """What was put into the brokers' queues, for those who want to wait for the answers."""

    def __init__(self) -> None:
        self._leaders: set[asyncio.Future[ControlResponse | None]] = set()
        self._others: set[asyncio.Future[ControlResponse | None]] = set()

    def add(self, future: asyncio.Future[ControlResponse | None], *, leads: bool) -> None:
        """One more answer that may come; ``leads``: of a broker that is to lead something."""
        (self._leaders if leads else self._others).add(future)

    def include(self, other: Announcement) -> None:
        """All of ``other``, too."""
        self._leaders |= other._leaders
        self._others |= other._others

    async def settle(self) -> None:
        """Wait for the new leaders, and a little for the others; both up to a bound."""
        if self._leaders:
            await asyncio.wait(self._leaders, timeout=LEADERS_BOUND_S)
        if self._others:
            await asyncio.wait(self._others, timeout=OTHERS_BOUND_S)


class Announcer:
    """Puts requests into the brokers' queues, and keeps a queue for every live broker."""

    def __init__(
        self,
        targets: Mapping[int, ControlTarget],
        listener: str,
        answered: Answered,
        reach: Reach = RemoteTarget,
    ) -> None:
        """``targets`` are brokers in this process; the others are reached at ``listener``."""
        self._targets = targets
        self._listener = listener
        self._answered = answered
        self._reach = reach
        self._queues: dict[int, ControlQueue] = {}

    def meet(self, state: ClusterState) -> None:
        """Have a queue for every live broker under its epoch of now, and none for others."""
        for broker_id, queue in list(self._queues.items()):
            live = state.brokers.get(broker_id)
            if live is None or live.epoch != queue.epoch:
                self._queues.pop(broker_id).close()
        for broker_id, live in state.brokers.items():
            if broker_id not in self._queues:
                new = self._queue(broker_id, live.epoch, live.registration)
                if new is not None:
                    self._queues[broker_id] = new

    def close(self) -> None:
        """Tell nobody anything any more."""
        for queue in self._queues.values():
            queue.close()
        self._queues.clear()

    async def idle(self, broker_id: int) -> None:
        """Wait until a broker has answered all that it was told so far."""
        queue = self._queues.get(broker_id)
        if queue is not None:
            await queue.idle()

    def announce(
        self,
        state: ClusterState,
        partitions: Collection[PartitionId],
        *,
        new: Collection[PartitionId] = (),
        to: Collection[int] | None = None,
    ) -> Announcement:
        """Tell the replicas of ``partitions`` who leads, then everybody (all of ``to``, if given)."""
        told = self.leader_and_isr(state, partitions, new=new, to=to)
        told.include(self.update_metadata(state, partitions, to=to))
        return told

    def introduce(
        self,
        state: ClusterState,
        broker_ids: Collection[int],
        *,
        new: Collection[PartitionId] = (),
    ) -> Announcement:
        """Tell brokers that have just come all that they need to know: their replicas, and everything."""
        partitions = [p for p in state.partition_ids() if p.topic not in state.deleting]
        told = self.leader_and_isr(state, partitions, new=new, to=broker_ids, full=True)
        told.include(self.update_metadata(state, partitions, to=broker_ids, full=True))
        return told

    def leader_and_isr(
        self,
        state: ClusterState,
        partitions: Iterable[PartitionId],
        *,
        new: Collection[PartitionId] = (),
        to: Collection[int] | None = None,
        full: bool = False,
    ) -> Announcement:
        """Tell the replicas of ``partitions`` (those of ``to``, if given) who leads."""
        requests = transitions.leader_and_isr_requests(
            state, partitions, new=new, listener=self._listener, to=to, full=full
        )
        told = Announcement()
        for broker_id, request in requests.items():
            leads = any(
                partition.leader == broker_id
                for topic in request.topic_states
                for partition in topic.partition_states
            )
            told.add(self._put(broker_id, request), leads=leads)
        return told

    def update_metadata(
        self,
        state: ClusterState,
        partitions: Collection[PartitionId],
        *,
        to: Collection[int] | None = None,
        full: bool = False,
    ) -> Announcement:
        """Tell every broker (those of ``to``, if given) of the live brokers and of ``partitions``."""
        told = Announcement()
        for broker_id, request in transitions.update_metadata_requests(
            state, partitions, to=to, full=full
        ).items():
            told.add(self._put(broker_id, request), leads=False)
        return told

    def stop_replicas(
        self,
        state: ClusterState,
        replicas: Mapping[int, Collection[PartitionId]],
        *,
        delete: bool,
    ) -> None:
        """Have brokers stop, and perhaps delete, some of their replicas."""
        requests = transitions.stop_replica_requests(state, replicas, delete=delete)
        for broker_id, request in requests.items():
            self._put(broker_id, request)

    def _put(
        self, broker_id: int, request: ControlRequest
    ) -> asyncio.Future[ControlResponse | None]:
        queue = self._queues.get(broker_id)
        if queue is not None:
            return queue.put(request)
        log.warning("no way to a broker", broker=broker_id, request=type(request).__name__)
        self._answered(broker_id, request, None)
        future: asyncio.Future[ControlResponse | None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def _queue(
        self, broker_id: int, epoch: int, registration: BrokerRegistration
    ) -> ControlQueue | None:
        local = self._targets.get(broker_id)
        if local is not None:
            return ControlQueue(broker_id, epoch, local, self._answered)
        for endpoint in registration.endpoints:
            if endpoint.listener == self._listener:
                remote = self._reach(endpoint.host, endpoint.port)
                return ControlQueue(broker_id, epoch, remote, self._answered, remote.close)
        return None

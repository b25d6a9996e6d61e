"""Deleting topics: from the brokers first and from the store last, so that a deletion goes on after any crash.

Rules: a deletion is asked for by a mark in the store, which goes with the topic. Every replica must say that it is
gone, those that a reassignment adds or removes too. While one can't (its broker is away, its disk failed, it
refused) the deletion halts, and goes on when that has changed. Brokers forget a topic before they delete it. Source:
``TopicDeletionManager``, which waits for reassignments to end instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from ottla.controller import transitions
from ottla.controller.announcer import Announcer
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.configs import TOPICS
from ottla.controller.office import write
from ottla.controller.refusals import gather_refusals
from ottla.coordination import znodes
from ottla.coordination.store import Create, Delete, NodeExists, NoNode, Store
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.stop_replica import StopReplicaRequest, StopReplicaResponse

log = logger(__name__)


class _Deletion:
    """One topic on its way out."""

    def __init__(self) -> None:
        self.waiting: set[tuple[int, PartitionId]] = set()
        """Replicas that were told and have not answered."""
        self.failed = False
        """Some replica can't be deleted now."""
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """True: the topic is gone. False: it will be, some day."""

    def end(self, gone: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(gone)


class Deletions:
    """The topics that are being deleted, for whoever holds the controller's office."""

    def __init__(self, store: Store, announcer: Announcer) -> None:
        self._store = store
        self._announcer = announcer
        self._under_way: dict[str, _Deletion] = {}

    async def mark(
        self, state: ClusterState, names: Collection[str]
    ) -> dict[str, KafkaError | None]:
        """Write down that topics are to be deleted; why not, for those where that failed."""
        refusals = await gather_refusals(self._mark(state, name) for name in names)
        outcomes = dict(zip(names, refusals, strict=True))
        state.deleting.update(name for name, refusal in outcomes.items() if refusal is None)
        return outcomes

    async def begin(
        self, state: ClusterState, names: Collection[str]
    ) -> dict[str, asyncio.Future[bool]]:
        """Have the brokers delete their replicas; each future says whether its topic is gone, or halts."""
        ended: dict[str, asyncio.Future[bool]] = {}
        begun: list[str] = []
        replicas: dict[int, list[PartitionId]] = {}
        for name in names:
            topic = state.topics[name]
            deletion = self._under_way.get(name)
            if deletion is not None and deletion.waiting:
                ended[name] = deletion.ended
                continue
            deletion = self._under_way[name] = _Deletion()
            ended[name] = deletion.ended
            begun.append(name)
            for index, assigned in topic.assignment.items():
                partition = PartitionId(name, index)
                for broker_id in assigned:
                    if state.is_reachable(broker_id, partition):
                        deletion.waiting.add((broker_id, partition))
                        replicas.setdefault(broker_id, []).append(partition)
                    else:
                        deletion.failed = True
        if begun:
            self._announcer.update_metadata(state, list(state.partition_ids(begun)))
            self._announcer.stop_replicas(state, replicas, delete=True)
        await self._settle(state, ended)
        return ended

    async def clear_marks(self, state: ClusterState) -> None:
        """Remove the marks of topics that there are not: a deletion had almost ended, or never began."""
        unknown = state.deleting - state.topics.keys() - state.unreadable_topics
        if unknown:
            await write(
                self._store, state, [[Delete(znodes.delete_topic_path(name))] for name in unknown]
            )
            state.deleting -= unknown

    async def take_marks(self, state: ClusterState, marked: Collection[str]) -> None:
        """Topics that others marked: begin to delete them."""
        asked = set(marked) - state.deleting
        state.deleting |= asked
        await self.clear_marks(state)
        await self.begin(state, sorted(asked & state.deleting & state.topics.keys()))

    async def resume(self, state: ClusterState, names: Collection[str] | None = None) -> None:
        """Go on with the deletions (of ``names``, if given) that halt."""
        halted = [
            name
            for name in sorted(state.deleting)
            if name in state.topics
            and (names is None or name in names)
            and not (name in self._under_way and self._under_way[name].waiting)
        ]
        if halted:
            await self.begin(state, halted)

    async def answered(
        self,
        state: ClusterState,
        broker_id: int,
        request: StopReplicaRequest,
        response: StopReplicaResponse | None,
    ) -> None:
        """A broker has deleted what it was asked to, or says what it can't; None: it could not be asked."""
        refused: dict[tuple[str, int], int] = {}
        unnamed: int = ErrorCode.UNKNOWN_SERVER_ERROR
        if response is not None:
            unnamed = response.error_code
            refused = {
                (error.topic_name, error.partition_index): error.error_code
                for error in response.partition_errors
                if error.error_code
            }
        touched: list[str] = []
        for topic in request.topic_states:
            deletion = self._under_way.get(topic.topic_name)
            if deletion is None:
                continue
            touched.append(topic.topic_name)
            for partition in topic.partition_states:
                replica = PartitionId(topic.topic_name, partition.partition_index)
                if not partition.delete_partition or (broker_id, replica) not in deletion.waiting:
                    continue
                deletion.waiting.discard((broker_id, replica))
                code = refused.get(replica, unnamed)
                if code:
                    deletion.failed = True
                    log.error(
                        "broker could not delete a replica",
                        broker=broker_id,
                        topic=replica.topic,
                        partition=replica.partition,
                        code=ErrorCode(code).name,
                    )
        await self._settle(state, touched)

    async def lost(self, state: ClusterState, broker_ids: Collection[int]) -> None:
        """Brokers are gone: what they have not deleted will not be deleted for now."""
        touched: list[str] = []
        for name, deletion in self._under_way.items():
            gone = {replica for replica in deletion.waiting if replica[0] in broker_ids}
            if gone:
                deletion.waiting -= gone
                deletion.failed = True
                touched.append(name)
        await self._settle(state, touched)

    def drop(self) -> None:
        """Forget everything: we are not the controller, or everything is to be begun anew."""
        for deletion in self._under_way.values():
            deletion.end(False)
        self._under_way.clear()

    async def _settle(self, state: ClusterState, names: Iterable[str]) -> None:
        """End what has had all its answers: the topic goes from the store, or the deletion halts."""
        removable: list[str] = []
        for name in names:
            deletion = self._under_way.get(name)
            if deletion is None or deletion.waiting:
                continue
            if deletion.failed:
                log.warning("deletion of a topic is not complete", topic=name)
                deletion.end(False)
            else:
                removable.append(name)
        outcomes = await gather_refusals(self._remove(state, name) for name in removable)
        for name, refusal in zip(removable, outcomes, strict=True):
            deletion = self._under_way.pop(name, None)
            if refusal is None:
                state.remove_topic(name)
                log.info("topic deleted", topic=name)
            if deletion is not None:
                deletion.end(refusal is None)

    async def _mark(self, state: ClusterState, name: str) -> None:
        if name in state.deleting:
            return
        try:
            await write(self._store, state, [[Create(znodes.delete_topic_path(name))]])
        except NodeExists:  # somebody else asked for it
            return

    async def _remove(self, state: ClusterState, name: str) -> None:
        try:
            partitions = await self._store.children(znodes.partitions_path(name))
            has_partitions = True
        except NoNode:
            partitions, has_partitions = [], False
        paths = [f"{znodes.partitions_path(name)}/{child}/state" for child in partitions]
        *states, config = await self._store.get_many([*paths, znodes.config_path(TOPICS, name)])
        groups = transitions.delete_topic_groups(
            name,
            {child: found is not None for child, found in zip(partitions, states, strict=True)},
            has_partitions=has_partitions,
            has_config=config is not None,
        )
        await write(self._store, state, groups)

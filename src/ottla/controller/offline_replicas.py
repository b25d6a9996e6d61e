"""Replicas in log directories that failed: brokers give notice, and say which when they are asked (KIP-112).

Rules: a notice is a znode, which the controller removes; it then asks by a LeaderAndIsr of all that the broker has.
Whatever LeaderAndIsr is answered with KAFKA_STORAGE_ERROR is offline until it is answered with no error. Source:
``KafkaController.processLogDirEventNotification``, ``processLeaderAndIsrResponseReceived``.
"""

from __future__ import annotations

from collections.abc import Collection

from ottla.controller.announcer import Announcer
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.leader_changes import LeaderChanges
from ottla.controller.office import remove
from ottla.coordination import znodes
from ottla.coordination.store import Store, Watch
from ottla.coordination.znodes import MalformedZnode
from ottla.errors import ErrorCode
from ottla.logs import logger
from ottla.messages.leader_and_isr import LeaderAndIsrResponse

log = logger(__name__)


class OfflineReplicas:
    """Takes in which replicas are offline, for whoever holds the controller's office."""

    def __init__(self, store: Store, announcer: Announcer, leaders: LeaderChanges) -> None:
        self._store = store
        self._announcer = announcer
        self._leaders = leaders

    async def take_events(self, state: ClusterState, watch: Watch) -> set[int]:
        """The brokers that gave notice of a failed log directory; the notices go, ``watch`` sees the next."""
        names = await self._store.children(znodes.LOG_DIR_EVENTS, watch=watch)
        paths = [f"{znodes.LOG_DIR_EVENTS}/{name}" for name in names]
        broker_ids = set()
        for path, znode in zip(paths, await self._store.get_many(paths), strict=True):
            if znode is None:
                continue
            try:
                broker_ids.add(znodes.decode_log_dir_event(path, znode.data))
            except MalformedZnode as error:
                log.error("a notice of a failed log directory can't be read", reason=str(error))
            await remove(self._store, state, path)
        return broker_ids

    async def ask(self, state: ClusterState, broker_ids: Collection[int]) -> None:
        """Brokers have lost log directories: ask for what they still have."""
        if broker_ids:
            log.warning("brokers have lost log directories", brokers=sorted(broker_ids))
            partitions = state.partitions_on(broker_ids)
            self._announcer.leader_and_isr(state, partitions, to=broker_ids)

    def says_something(
        self, state: ClusterState, broker_id: int, response: LeaderAndIsrResponse
    ) -> bool:
        """Whether an answer has any error in it, or may end one."""
        return bool(
            response.error_code
            or state.offline_replicas.get(broker_id)
            or any(
                error.error_code for topic in response.topics for error in topic.partition_errors
            )
        )

    async def answered(
        self,
        state: ClusterState,
        broker_id: int,
        broker_epoch: int,
        response: LeaderAndIsrResponse,
    ) -> None:
        """A broker says which of its replicas it can take up: elect others for what it can't.

        ``broker_epoch`` is the one of the life that was asked: what an earlier one had lost the present one may have.
        """
        live = state.brokers.get(broker_id)
        if live is None or live.epoch != broker_epoch:
            return
        if response.error_code:
            log.error(
                "broker refused its partitions",
                broker=broker_id,
                code=ErrorCode(response.error_code).name,
            )
            return
        offline = state.offline_replicas.setdefault(broker_id, set())
        lost: list[PartitionId] = []
        back: list[PartitionId] = []
        for topic in response.topics:
            known = state.topic_by_id(topic.topic_id)
            if known is None:
                continue
            for answer in topic.partition_errors:
                partition = PartitionId(known.name, answer.partition_index)
                if answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR:
                    if partition not in offline:
                        lost.append(partition)
                elif answer.error_code:
                    log.error(
                        "broker can't take up a partition",
                        broker=broker_id,
                        topic=partition.topic,
                        partition=partition.partition,
                        code=ErrorCode(answer.error_code).name,
                    )
                elif partition in offline:
                    back.append(partition)
        offline.difference_update(back)
        offline.update(lost)
        present = [p for p in (*lost, *back) if p.topic not in state.deleting]
        if lost:
            log.error("replicas are offline", broker=broker_id, partitions=len(lost))
        if present:
            changed = await self._leaders.elect_offline(state, present)
            changed += await self._leaders.leave_isrs(state, present)
            self._announcer.announce(state, list(dict.fromkeys(changed)))
            self._announcer.update_metadata(state, present)

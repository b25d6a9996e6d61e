"""Notices of ISRs that leaders wrote themselves, as brokers did before there was AlterPartition.

Rules: our brokers ask the controller (``isr_changes``). Who writes a partition's state by himself leaves a notice under
``/isr_change_notification``: the controller reads those states again, tells everybody, and removes the notice. What
lies there when a controller takes office is in the state that it reads. Source:
``KafkaController.processIsrChangeNotification``.
"""

from __future__ import annotations

from ottla.controller.announcer import Announcer
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.office import remove, reread
from ottla.coordination import znodes
from ottla.coordination.store import Store, Watch
from ottla.coordination.znodes import MalformedZnode
from ottla.logs import logger

log = logger(__name__)


class IsrNotices:
    """Takes in what leaders wrote, for whoever holds the controller's office."""

    def __init__(self, store: Store, announcer: Announcer) -> None:
        self._store = store
        self._announcer = announcer

    async def drop(self, state: ClusterState, watch: Watch) -> None:
        """Remove the notices; ``watch`` sees the next."""
        for name in await self._store.children(znodes.ISR_CHANGES, watch=watch):
            await remove(self._store, state, f"{znodes.ISR_CHANGES}/{name}")

    async def take_in(self, state: ClusterState, watch: Watch) -> list[PartitionId]:
        """Read what the notices tell of; the partitions whose state is another now."""
        names = await self._store.children(znodes.ISR_CHANGES, watch=watch)
        paths = [f"{znodes.ISR_CHANGES}/{name}" for name in names]
        told: dict[PartitionId, None] = {}
        for path, znode in zip(paths, await self._store.get_many(paths), strict=True):
            if znode is None:
                continue
            try:
                told |= {PartitionId(*p): None for p in znodes.decode_isr_change(path, znode.data)}
            except MalformedZnode as error:
                log.error("a notice of an ISR can't be read", reason=str(error))
        known = [
            partition
            for partition in told
            if partition.topic in state.topics
            and partition.partition in state.topics[partition.topic].partitions
        ]
        changed = list(await reread(self._store, state, known))
        if changed:
            self._announcer.update_metadata(state, changed)
        for path in paths:
            await remove(self._store, state, path)
        return changed

"""The partitions of a log directory that lack what was synced: their logs end below it, or are gone.

What was synced is acknowledged, and the cluster counts on it: a broker that leads by such a log cuts the records off
the replicas that still have them (INVARIANTS 1, 22). A disk that came back from a snapshot or out of a repair looks so, or
one whose files somebody removed. Damage *within* a file is another matter: that quarantines the log.

The rules kept here:

- It is known by the checkpointed recovery points. Before one of them is lowered, ``short-offset-checkpoint`` says
  what it was, so that any further start finds the same.
- A log is short until the controller does not count on it any more (``ottla.replication.replicas``), or has come
  as far again.
- A directory that is gone may have been deleted, by a broker that died before its checkpoints forgot it. Whoever
  is told of it sees that: the partition is not assigned to this broker any more, or does not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from threading import Lock
from typing import TYPE_CHECKING

from ottla.log import names
from ottla.log.checkpoints import encode_offsets
from ottla.log.disk import NO_ROOM_ERRNOS, Disk
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.log.log import Log

log = logger(__name__)

Key = tuple[str, int]


class ShortLogs:
    """Of one log directory. ``synced_to``: up to where (exclusive) each of them was synced once."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._path = f"{directory}/{names.SHORT_CHECKPOINT}"
        self.synced_to: Mapping[Key, int] = {}
        self._saved: Mapping[Key, int] = {}
        self._lock = Lock()

    def find(
        self,
        logs: Mapping[Key, Log],
        checkpoints: Mapping[str, Mapping[Key, int]],
        *,
        left_out: Collection[Key],
    ) -> bool:
        """See which logs are short, of all that the checkpoints (by their names) know; once ``logs`` are loaded.

        ``left_out`` are quarantined, and served in no case. Whether recovery points are to be lowered now, so that they
        do not speak for what ``forget`` forgets. Blocks; raises ``OSError``. A lack of room passes: no checkpoint is
        written before ``save`` has found some.
        """
        recovery_points = checkpoints[names.RECOVERY_POINT_CHECKPOINT]
        noted = checkpoints[names.SHORT_CHECKPOINT]
        found: dict[Key, int] = {}
        for key in (recovery_points.keys() | noted.keys()) - set(left_out):
            synced_to = max(recovery_points.get(key, 0), noted.get(key, 0))
            here = logs.get(key)
            if (here.log_end_offset if here is not None else 0) < synced_to:
                found[key] = synced_to
            if here is None and synced_to:
                partition = names.directory_name(*key)
                log.error("a log that was synced is gone", partition=partition, synced_to=synced_to)
        self.synced_to, self._saved = found, noted
        try:
            self.save()
        except OSError as error:
            if error.errno not in NO_ROOM_ERRNOS:
                raise
            log.warning("short logs not noted yet", path=self._path, reason=str(error))
            return False
        return any(recovery_points.get(key, 0) == synced_to for key, synced_to in found.items())

    def forget(self, keys: Collection[Key]) -> None:
        """Nobody counts on these: what they lack is copied again, or lost and told of. ``save`` writes it down."""
        if not self.synced_to.keys().isdisjoint(keys):
            self.synced_to = {key: end for key, end in self.synced_to.items() if key not in keys}

    def save(self) -> None:
        """Have the file say what is known. Before every writing of recovery points. Blocks; raises ``OSError``."""
        with self._lock:
            known = self.synced_to
            if known != self._saved:
                self._disk.replace_file(self._path, encode_offsets(known))
                self._saved = known

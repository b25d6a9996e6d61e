"""Files and directories on their way out: renamed already, unlinked once their time has come.

Readers that are in a deleted segment keep their descriptor; the delay is Kafka's
``file.delete.delay.ms``. Unlinking a large file takes a while, so it is done off the loop.
"""

from __future__ import annotations

from heapq import heappop, heappush

from ottla.log.disk import Disk
from ottla.logs import logger

log = logger(__name__)

RETRY_MS = 60_000
"""After so long, what could not be removed is tried again."""


class Trash:
    """What is to be removed, and when. ``put`` and ``take_due`` belong to the loop's thread."""

    __slots__ = ("_disk", "_latest_ms", "_waiting")

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._waiting: list[tuple[int, str]] = []
        self._latest_ms = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, path: str, due_ms: int) -> None:
        """Remove the file or directory at ``path`` from ``due_ms`` (wall time) on."""
        heappush(self._waiting, (due_ms, path))

    def take_due(self, now_ms: int) -> list[str]:
        """The paths whose time has come, for ``remove``.

        Where the wall clock has been set back, what waits moves with it: nothing waits for another year.
        """
        if now_ms < self._latest_ms:
            back_ms = self._latest_ms - now_ms
            self._waiting = [(due_ms - back_ms, path) for due_ms, path in self._waiting]
        self._latest_ms = now_ms
        due = []
        while self._waiting and self._waiting[0][0] <= now_ms:
            due.append(heappop(self._waiting)[1])
        return due

    def remove(self, paths: list[str]) -> list[str]:
        """Remove them; what is gone already is fine. From any thread.

        Returns what can't be removed now, to be ``put`` again: none of it waits for the next start.
        """
        left = []
        for path in paths:
            try:
                if self._disk.is_directory(path):
                    self._disk.remove_tree(path)
                else:
                    self._disk.remove(path)
            except OSError as error:
                log.warning("not removed, to be tried again", path=path, reason=str(error))
                left.append(path)
        return left

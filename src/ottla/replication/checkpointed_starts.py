"""Log starts that are on disk before anybody is told of them: what DeleteRecords stands on.

Rules: a start is promised, written down, and only then moved, so that no crash takes back what was seen. Who
comes while another one's is being written shares the next writing with all who wait. A writing that fails
may have left the starts on disk, or a later checkpoint takes them along: whoever is told so knows nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.log.directory import LogDirectory
    from ottla.log.log import Log


class CheckpointedStarts:
    """The log starts of one log directory."""

    def __init__(self, directory: LogDirectory) -> None:
        self._directory = directory
        self._turn = asyncio.Lock()
        self._promised = self._kept = 0

    async def keep(self, starts: Mapping[Log, int]) -> None:
        """Write down that logs are going to start at these offsets. Raises ``KafkaError``."""
        for log, offset in starts.items():
            self._directory.promise_log_start(log, offset)
        self._promised += 1
        mine = self._promised
        async with self._turn:
            if self._kept >= mine:
                return
            covered = self._promised
            taken = self._directory.log_starts()
            await asyncio.to_thread(self._directory.write_log_starts, taken)
            self._kept = covered

"""Whether a log directory may have lost what its last life acknowledged before it was synced (INVARIANTS 20).

With ``durability=os`` records are acknowledged once they are in the page cache. A process that dies loses none of
it; a machine that does loses what was not written back. So each life writes down, before it appends anything, how
it acknowledges and in which boot of the machine it runs: the next one knows whether that ended in between.

The file is ``last-life``, JSON: ``{"version": 0, "durability": "os", "boot_id": "…", "may_have_lost": false}``. What
may have been lost stays said, across further lives, until the cluster has heard of it (``forget``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from ottla import capabilities
from ottla.log.disk import NO_ROOM_ERRNOS, Disk
from ottla.log.names import LAST_LIFE
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.log.flusher import Flusher

log = logger(__name__)

DISK, OS = "disk", "os"

_BYTES_MAX = 4096


class Life(NamedTuple):
    """How a life of the broker acknowledges, and in which boot of the machine; None: that cannot be told."""

    durability: str
    boot_id: str | None
    may_have_lost: bool = False


def read_life(disk: Disk, directory: str) -> Life | None:
    """The last life in the directory; None where nothing is known of it. Raises ``OSError``."""
    path = f"{directory}/{LAST_LIFE}"
    try:
        fields = json.loads(disk.read_file(path, _BYTES_MAX))
        return Life(str(fields["durability"]), fields.get("boot_id"), bool(fields["may_have_lost"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("last life unknown", path=path, reason=str(error))
        return None


def write_life(disk: Disk, directory: str, life: Life, last: Life | None) -> None:
    """Write it down, if it is not what ``last`` says. Raises ``OSError``.

    A lack of room passes where the old words are the more careful ones.
    """
    if life == last:
        return
    fields = {"version": 0, **life._asdict()}
    try:
        disk.replace_file(f"{directory}/{LAST_LIFE}", json.dumps(fields).encode() + b"\n")
    except OSError as error:
        is_careful = last is None or last.durability != DISK or life.durability == DISK
        if error.errno not in NO_ROOM_ERRNOS or not is_careful:
            raise
        log.warning("last life not written", directory=directory, reason=str(error))


def may_have_lost(
    last: Life | None, *, was_clean: bool, sync_failed: bool, boot_id: str | None
) -> bool:
    """Whether what ``last`` acknowledged may be lost. ``boot_id`` is that of the machine now.

    ``sync_failed``: the disk had failed to write back what was cached. Of a life that is not known the worst is
    believed; any that ended cleanly lost nothing.
    """
    if last is not None and last.may_have_lost:
        return True
    if was_clean:
        return False
    if last is None:
        return True
    if last.durability == DISK:
        return False
    return sync_failed or boot_id is None or boot_id != last.boot_id


class LogsLife:
    """The life that a log directory is in. ``sync_failed``: the disk had failed in the last one.

    ``suspects_new``: a directory of which nothing is known is one that was wiped, or put in the place of another.

    ``may_have_lost``: whether records may be lost that were acknowledged, and the cluster has not heard of it;
    ``has_lost``: the same when the directory was loaded.
    """

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._life: Life | None = None
        self.sync_failed = self.suspects_new = False
        self.may_have_lost = self.has_lost = False

    def begin(self, flusher: Flusher | None, *, is_known: bool, was_clean: bool) -> None:
        """Find out what the last one may have lost, and write down what the next one has to know.

        What is left of the last one is synced by now. ``is_known``: the directory is not a new one. Without a
        ``flusher`` nothing is appended, and nothing written down. Raises ``OSError``.
        """
        last = read_life(self._disk, self._directory)
        boot_id = capabilities.boot_id()
        if last is not None or is_known or self.suspects_new:
            self.may_have_lost = self.has_lost = may_have_lost(
                last, was_clean=was_clean, sync_failed=self.sync_failed, boot_id=boot_id
            )
        if flusher is not None:
            self._life = Life(flusher.durability.value, boot_id, self.may_have_lost)
            write_life(self._disk, self._directory, self._life, last)

    def forget(self) -> None:
        """The cluster has heard that records may be lost. Blocks; raises ``OSError``."""
        if self.may_have_lost and self._life is not None:
            told = self._life._replace(may_have_lost=False)
            write_life(self._disk, self._directory, told, self._life)
            self._life = told
        self.may_have_lost = False

"""Not believing the page cache after a sync that failed.

The kernel drops what it could not write: the pages count as clean, but still read as if all was well, and the
next sync of them succeeds. A broker that was started again would take them for records on the disk, tell an
idempotent producer that its batch is there already, and lose it with the power.

So the failure leaves a note in the log directory, ``sync-failed``, and whoever opens the directory next first
has every file in it read from the disk. The note needs no sync: it is wanted for as long as the page cache
lasts, and lies in it.
"""

from __future__ import annotations

from ottla.log.disk import Disk
from ottla.log.names import LOCK, SYNC_FAILED
from ottla.logs import logger

log = logger(__name__)


def note_failure(disk: Disk, directory: str, error: BaseException) -> None:
    """Leave word for the next start. Never raises: the disk is failing."""
    try:
        disk.write_file(f"{directory}/{SYNC_FAILED}", f"{error}\n".encode())
    except OSError as second:
        log.error("failure not noted", directory=directory, reason=str(second))


def heed_failure(disk: Disk, directory: str) -> bool:
    """If the last life ended with a failure: have all files below ``directory`` read from the disk. Whether it did.

    Raises ``OSError`` if the directory cannot be read; the note stays then.
    """
    note = f"{directory}/{SYNC_FAILED}"
    if not disk.exists(note):
        return False
    log.warning(
        "the disk had failed: nothing that is cached of it is believed", directory=directory
    )
    _forget_below(disk, directory)
    disk.remove(note)
    return True


def _forget_below(disk: Disk, directory: str) -> None:
    for entry in disk.entries(directory):
        if entry.name == LOCK:
            continue  # closing any descriptor of it would give the lock up
        path = f"{directory}/{entry.name}"
        if entry.is_directory:
            _forget_below(disk, path)
            continue
        try:
            disk.forget_cached(path)
        except (
            OSError
        ) as error:  # a failure that nobody was told of yet; what it lost is forgotten now
            log.warning("the disk had failed here, too", path=path, reason=str(error))

"""One flush of one log: what has to reach the disk, in which order, so that its end offset is durable.

``Log.begin_flush`` makes it on the log's thread, any thread runs it, ``Log.complete_flush`` (or
``abandon_flush``) takes it back on the log's thread. The files are pinned meanwhile.

The order: first the leader epochs (a new file under the old name), for recovery reads them again only
from the batches behind the recovery point; then rolled segments with their indexes and snapshots, the
active segment, and last the names: the partition's directory, and its parent where that is new.
"""

from __future__ import annotations

import os
from errno import EMFILE, ENFILE

from ottla.log.disk import NO_ROOM_ERRNOS, Disk
from ottla.log.files import File
from ottla.log.names import LEADER_EPOCH_CHECKPOINT
from ottla.log.segment import Segment


class Flush:
    """``end_offset`` is durable once ``run`` has returned.

    Alone: ``run``. With many others: all ``write_epochs``, one sync of the file system, all
    ``publish_epochs``, one more sync.
    """

    __slots__ = (
        "_disk",
        "_pinned",
        "directory",
        "end_offset",
        "epochs",
        "files",
        "generation",
        "names_changed",
        "new_directory",
        "paths",
        "segments",
        "syncing",
    )

    def __init__(
        self, disk: Disk, directory: str, end_offset: int, generation: int, *, pinned: bool = True
    ) -> None:
        self._disk = disk
        self._pinned = pinned
        self.directory = directory
        self.end_offset = end_offset
        self.generation = generation
        self.epochs: bytes | None = None
        """The content of a new leader epoch checkpoint, if there is to be one."""
        self.files: list[File] = []
        """Files to sync; open until ``release``, unless the whole file system is synced instead."""
        self.paths: list[str] = []
        """Closed files to sync: snapshots and partition.metadata."""
        self.names_changed = False
        """Whether the directory itself has to be synced."""
        self.new_directory = False
        """Whether the directory's own name has to be."""
        self.segments: list[Segment] = []
        """The segments of which all files are synced, indexes too."""
        self.syncing = False

    def add(self, file: File) -> None:
        """Sync ``file`` too. Raises ``OSError`` if it cannot be opened."""
        if self._pinned:
            file.pin()
            self.files.append(file)

    @property
    def parent(self) -> str:
        """The log directory that the partition's directory is in."""
        return os.path.dirname(self.directory)

    def lone_file(self) -> File | None:
        """The file whose sync is all that there is to do, or None: as a rule the active segment's."""
        is_lone = len(self.files) == 1 and not (
            self.paths or self.names_changed or self.new_directory
        )
        return self.files[0] if is_lone and self.epochs is None else None

    def run(self) -> None:
        """Make everything durable. Raises ``OSError``; ``is_harmless`` judges which."""
        if self.write_epochs():
            self.syncing = True
            self._disk.sync_file(self._temporary())
            self.publish_epochs()
        self.sync_files()
        self.sync_names()

    def is_harmless(self, error: OSError) -> bool:
        """Whether ``error`` says only that there was no room (or no descriptor) before any sync.

        Then the flush may be tried again. Any other error of a flush leaves open what is on the disk.
        """
        return error.errno in (EMFILE, ENFILE) or (
            not self.syncing and error.errno in NO_ROOM_ERRNOS
        )

    def write_epochs(self) -> bool:
        """Write the new leader epoch checkpoint beside the old one; False if there is none to write."""
        if self.epochs is None:
            return False
        self._disk.write_file(self._temporary(), self.epochs)
        return True

    def publish_epochs(self) -> None:
        """Give it its name."""
        if self.epochs is not None:
            self._disk.rename(self._temporary(), f"{self.directory}/{LEADER_EPOCH_CHECKPOINT}")
            self.names_changed = True

    def sync_files(self) -> None:
        """Sync the files, in the order in which they were added."""
        self.syncing = True
        for path in self.paths:
            self._disk.sync_file(path)
        for file in self.files:
            self._disk.fdatasync(file.pinned_descriptor())

    def sync_names(self) -> None:
        """Sync the directory, and its parent, where something is new."""
        if self.names_changed:
            self._disk.sync_directory(self.directory)
        if self.new_directory:
            self._disk.sync_directory(self.parent)

    def release(self) -> None:
        """Give the pins back."""
        for file in self.files:
            file.unpin()
        self.files.clear()

    def _temporary(self) -> str:
        return f"{self.directory}/{LEADER_EPOCH_CHECKPOINT}.tmp"

"""Open files within a bound: ten thousand partitions of three files each are more than a process may hold.

``File`` is one file by path whose descriptor is opened when it is needed; ``DescriptorPool`` closes those
that have long not been. The rule kept here: the pool closes only descriptors that nobody has pinned. Who
uses a file off the thread that owns its log (a flush, a region on its way to a socket) pins it on that
thread first; only ``unpin`` and ``pinned_descriptor`` may be called from others.
"""

from __future__ import annotations

import os
from collections import deque
from errno import EMFILE, ENFILE
from threading import Lock
from typing import TYPE_CHECKING

from ottla.log.room import Room, is_room
from ottla.logs import logger
from ottla.records.batch import Bytes

if TYPE_CHECKING:
    from ottla.log.disk import Disk

log = logger(__name__)

CREATE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_TRUNC
FILE_MODE = 0o644
_WRITE_FLAGS = os.O_RDWR
_DESCRIPTORS_MIN = 16
_LOOKED_AT_MAX = 64


class DescriptorPool:
    """The descriptors that ``File`` objects hold open: at most ``capacity``, unless all are pinned.

    Which one to close is the clock algorithm's choice, an approximation of the least recently used
    that costs a use one attribute store.
    """

    __slots__ = ("_disk", "_ring", "capacity", "lock", "open_count")

    def __init__(self, disk: Disk, capacity: int) -> None:
        self._disk = disk
        self.capacity = max(capacity, _DESCRIPTORS_MIN)
        self.open_count = 0
        self.lock = Lock()
        self._ring: deque[File] = deque()

    def entered(self, file: File) -> None:
        """``file`` was opened; close others if that is more than ``capacity``. Under ``lock``."""
        self.open_count += 1
        if self.open_count > self.capacity:
            self.evict(self.open_count - self.capacity)
        self._ring.append(file)

    def left(self) -> None:
        """A file was closed. Under ``lock``."""
        self.open_count -= 1
        if len(self._ring) > 2 * self.open_count + _DESCRIPTORS_MIN:
            self._ring = deque(file for file in self._ring if file.is_open)

    def make_room(self) -> bool:
        """Close some files for somebody else who lacks a descriptor; whether there were any to close.

        On the thread that owns the files only: another one might close what is just being written to.
        """
        with self.lock:
            before = self.open_count
            self.evict(max(before // 8, 1))
            return self.open_count < before

    def evict(self, count: int) -> None:
        """Close up to ``count`` files that are not pinned, long unused first. Under ``lock``.

        Looks at so many only: where nearly all are pinned, that is for the next time.
        """
        ring = self._ring
        for _ in range(min(2 * len(ring), _LOOKED_AT_MAX + 2 * count)):
            if count <= 0 or not ring:
                return
            file = ring.popleft()
            if not file.is_open:
                continue  # closed by its owner meanwhile
            if file.spare():
                ring.append(file)
            else:
                file.shut()
                self.open_count -= 1
                count -= 1


class File:
    """One file: its path, and a descriptor while there is one.

    Reading and writing open it as needed. All methods but ``unpin`` and ``pinned_descriptor`` belong to
    the thread that owns the log. All raise ``OSError``.
    """

    __slots__ = ("_closing", "_disk", "_fd", "_pins", "_room", "_used", "path")

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self.path = path
        self._fd = -1
        self._pins = 0
        self._closing = False
        self._used = False
        self._room: Room | None = None

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor at the moment."""
        return self._fd >= 0

    def create(self) -> None:
        """Make the file, empty, whatever was there before; a descriptor that is pinned stays good."""
        self.close_if_idle()
        self._room = None
        if self._fd < 0:
            self._open(CREATE_FLAGS)
        else:  # another descriptor would take the place of the pinned one, which nobody would close then
            self.truncate(0)

    def descriptor(self) -> int:
        """An open descriptor, good until the next use of another file; ``pin`` it for longer."""
        self._used = True
        if self._closing:
            self._keep()
        fd = self._fd
        return fd if fd >= 0 else self._open(_WRITE_FLAGS)

    def size(self) -> int:
        """The file's size in bytes."""
        return self._disk.size_of(self.descriptor())

    def write_at(self, data: Bytes, position: int) -> None:
        """Write all of ``data``. After an ``OSError`` any part of it may be there."""
        if self._closing:
            self._keep()
        fd = self._fd
        if fd < 0:
            fd = self._open(_WRITE_FLAGS)
        self._used = True
        written = self._disk.pwrite(fd, data, position)
        if written != len(data):
            self._disk.write_fully(fd, memoryview(data)[written:], position + written)

    def read_at(self, size: int, position: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file."""
        if self._closing:
            self._keep()
        fd = self._fd
        if fd < 0:
            fd = self._open(_WRITE_FLAGS)
        self._used = True
        data = self._disk.pread(fd, size, position)
        if len(data) < size and data:
            data += self._disk.read_fully(fd, size - len(data), position + len(data))
        return data

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        self._room = None
        self._disk.ftruncate(self.descriptor(), size)

    def make_room(self, size: int) -> None:
        """What is in the file ends at ``size`` and is about to be synced: have the file end ahead of it if that pays.

        Raises nothing: without room the sync does what it always did.
        """
        room = self._room
        if room is None:
            room = self._room = Room()
        end = room.wanted(size)
        if end:
            try:
                self._disk.ftruncate(self.descriptor(), end)
            except OSError as error:
                room.refused()
                log.debug("no room ahead", path=self.path, reason=str(error))
            else:
                room.end = end

    def is_room(self, position: int, size: int) -> bool:
        """Whether nothing but zeros lies from ``position`` up to the file's ``size``."""
        return is_room(self._disk, self.descriptor(), position, size)

    def cut_room(self, size: int) -> bool:
        """Have the file end where what is in it does, at ``size``; whether it did not."""
        room = self._room
        if room is None or room.end <= size:
            return False
        self.truncate(size)
        return True

    def rename(self, path: str) -> None:
        """Give the file another path; a descriptor that is pinned stays good."""
        self.close_if_idle()
        self._disk.rename(self.path, path)
        self.path = path

    def pin(self) -> int:
        """An open descriptor that stays so until ``unpin``."""
        with self._disk.pool.lock:
            fd = self._fd if self._fd >= 0 else self._open_locked(_WRITE_FLAGS)
            self._pins += 1
            return fd

    def unpin(self) -> None:
        """Give a ``pin`` back. From any thread."""
        with self._disk.pool.lock:
            self._pins -= 1
            if self._pins == 0 and self._fd >= 0 and self._closing:
                self.shut()
                self._disk.pool.left()

    def pinned_descriptor(self) -> int:
        """The descriptor, for who has a pin. From any thread."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor: at once, or with the last ``unpin`` if it is not used before. It opens again when needed."""
        if self._fd < 0:
            return
        with self._disk.pool.lock:
            if self._fd < 0:
                return  # by the last ``unpin`` meanwhile
            if self._pins == 0:
                self.shut()
                self._disk.pool.left()
            else:
                self._closing = True

    def close_if_idle(self) -> None:
        """Close the descriptor unless somebody has it pinned: Windows renames and removes no open file."""
        with self._disk.pool.lock:
            if self._fd >= 0 and self._pins == 0:
                self.shut()
                self._disk.pool.left()

    def remove(self) -> None:
        """Unlink the file (nothing if it is gone). Who has it pinned can still read it."""
        self.close_if_idle()
        self._disk.remove(self.path)
        self.forget()

    def forget(self) -> None:
        """The file is (about to be) gone: close it as soon as nobody has it pinned."""
        self.path = ""
        self.close()

    def spare(self) -> bool:
        """For the pool: whether to keep the file this time round."""
        keep = self._used or self._pins > 0
        self._used = False
        return keep

    def shut(self) -> None:
        """For the pool: close the descriptor."""
        fd, self._fd = self._fd, -1
        self._closing = False
        self._disk.close(fd)

    def _keep(self) -> None:
        """It is used again before the last ``unpin``, which is not to close it then; if it is not too late for that."""
        with self._disk.pool.lock:
            self._closing = False

    def _open(self, flags: int) -> int:
        with self._disk.pool.lock:
            return self._open_locked(flags)

    def _open_locked(self, flags: int) -> int:
        pool = self._disk.pool
        try:
            fd = self._disk.open(self.path, flags, FILE_MODE)
        except OSError as error:
            if error.errno not in (EMFILE, ENFILE):
                raise
            pool.evict(max(pool.open_count // 8, 1))
            fd = self._disk.open(self.path, flags, FILE_MODE)
        self._fd = fd
        pool.entered(self)
        return fd

"""The file seam: everything that the log does to a disk goes through here.

``Disk`` is the operating system's calls, by their own names, so that a simulated disk can stand in
for them, and what is made of a few of them: small files read, replaced and removed. ``Disk.file`` gives
a ``File`` (``ottla.log.files``), whose descriptor comes from a bounded pool.

The rules kept here: a write is whole or it raises, and the caller cuts off what a failed one left;
nothing is synced but by the calls that say so.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from errno import EAGAIN, EDQUOT, EFBIG, EMFILE, ENFILE, ENOMEM, ENOSPC, EOPNOTSUPP
from typing import NamedTuple

from ottla import capabilities
from ottla.log.files import CREATE_FLAGS, FILE_MODE, DescriptorPool, File
from ottla.records.batch import Bytes

NO_ROOM_ERRNOS = frozenset((ENOSPC, EDQUOT, EFBIG, EMFILE, ENFILE, ENOMEM))
"""Errors that pass once there is room (or a descriptor): the operation fails, the disk is fine."""

_DESCRIPTORS_MAX = 8192
_DIRECTORY_MODE = 0o755
_READ_BYTES = 1 << 20
_HOLDER_BYTES_MAX = 300


class Entry(NamedTuple):
    """One name in a directory."""

    name: str
    is_directory: bool
    size_bytes: int


class Holder(NamedTuple):
    """Who has a lock. ``pid`` is None where the system does not tell (another container's process)."""

    pid: int | None


class Disk:
    """The operating system's file calls. A subclass may stand in for them (``ottla.simulation``).

    The calls that a log makes for every append are the functions of ``os`` themselves, so that the
    seam costs no frame. All raise ``OSError``.
    """

    def __init__(self, *, descriptors_max: int | None = None) -> None:
        """``descriptors_max``: how many files ``File`` keeps open; half the process's limit if None."""
        self.pool = DescriptorPool(self, descriptors_max or _default_descriptors_max())

    open: Callable[..., int] = staticmethod(capabilities.open_file)
    close: Callable[[int], None] = staticmethod(os.close)
    pread: Callable[[int, int, int], bytes] = staticmethod(capabilities.pread)
    pwrite: Callable[[int, Bytes, int], int] = staticmethod(capabilities.pwrite)
    ftruncate: Callable[[int, int], None] = staticmethod(os.ftruncate)
    fsync: Callable[[int], None] = staticmethod(capabilities.fsync)
    fdatasync: Callable[[int], None] = staticmethod(capabilities.fdatasync)
    rename: Callable[[str, str], None] = staticmethod(os.replace)
    unlink: Callable[[str], None] = staticmethod(os.unlink)
    rmdir: Callable[[str], None] = staticmethod(os.rmdir)

    def file(self, path: str) -> File:
        """The file at ``path``, which need not exist yet and is not touched."""
        return File(self, path)

    def size_of(self, descriptor: int) -> int:
        """The open file's size in bytes."""
        return os.fstat(descriptor).st_size

    def exists(self, path: str) -> bool:
        """Whether something lies at ``path``."""
        return os.path.exists(path)

    def is_directory(self, path: str) -> bool:
        """Whether a directory lies at ``path``."""
        return os.path.isdir(path)

    def modified_ms(self, path: str) -> int:
        """When the file was last written, in milliseconds since 1970."""
        return os.stat(path).st_mtime_ns // 1_000_000

    def set_modified_ms(self, path: str, modified_ms: int) -> None:
        """Say when the file was last written, in milliseconds since 1970."""
        os.utime(path, ns=(modified_ms * 1_000_000,) * 2)

    def mkdir(self, path: str) -> None:
        """Make one directory; its parent must exist. ``FileExistsError`` if it does."""
        os.mkdir(path, _DIRECTORY_MODE)

    def entries(self, path: str) -> list[Entry]:
        """What the directory holds, in no order; neither links to directories nor special files.

        What goes while it is listed (the broker removes what a worker, or a tool beside it, looks through) is left out.
        """
        found = []
        with os.scandir(path) as scan:
            for entry in scan:
                try:
                    mode = entry.stat(follow_symlinks=True)
                except FileNotFoundError:
                    if entry.is_symlink():  # it is there, and what it stands for is missed
                        raise
                    continue
                if stat.S_ISDIR(mode.st_mode):
                    found.append(Entry(entry.name, True, 0))
                elif stat.S_ISREG(mode.st_mode):
                    found.append(Entry(entry.name, False, mode.st_size))
        return found

    def space(self, path: str) -> tuple[int, int]:
        """How many bytes the volume of ``path`` has, and how many of them we may still take."""
        import shutil

        usage = shutil.disk_usage(path)
        return usage.total, usage.free

    def read_resident(self, descriptor: int, buffer: memoryview, position: int) -> int:
        """Fill ``buffer`` with what the page cache holds from ``position`` on; how many bytes that gave.

        Fewer, or none, where the rest must come from the disk, or there is no more. Where the system cannot tell
        (no RWF_NOWAIT, or a file system without it) the disk is read. Raises ``OSError``.
        """
        if _NOWAIT:
            try:
                return os.preadv(descriptor, (buffer,), position, _NOWAIT)
            except BlockingIOError:
                return 0
            except OSError as error:
                if error.errno != EOPNOTSUPP:
                    raise
        data = self.pread(descriptor, len(buffer), position)
        buffer[: len(data)] = data
        return len(data)

    def sync_directory(self, path: str) -> None:
        """Make the names in the directory durable: created, renamed and removed files."""
        if capabilities.DIRECTORY_FLAGS is None:
            return
        descriptor = self.open(path, capabilities.DIRECTORY_FLAGS)
        try:
            self.fsync(descriptor)
        finally:
            self.close(descriptor)

    @property
    def syncs_by_fdatasync(self) -> bool:
        """Whether ``fdatasync`` is the system's own, for which the system's other ways to sync may stand."""
        return self.fdatasync is capabilities.fdatasync

    @property
    def can_sync_file_systems(self) -> bool:
        """Whether there is a syncfs that tells of failed writes (Linux since 5.8)."""
        return capabilities.can_sync_file_systems()

    def sync_file_system(self, path: str) -> None:
        """``syncfs``: make everything on the file system of ``path`` durable at once."""
        descriptor = self.open(path, os.O_RDONLY)
        try:
            capabilities.sync_file_system(descriptor)
        finally:
            self.close(descriptor)

    def lock(self, path: str) -> int:
        """Take the lock that Kafka takes on ``path``; returns the descriptor for ``unlock``.

        Raises ``BlockingIOError`` if another process, or this one, has it, naming who as far as it is known:
        the file says which process holds it. Java's ``FileChannel.tryLock`` is a POSIX record lock, and so is
        this where there are such: it says nothing within a process, and closing any other descriptor of the
        file gives it up.
        """
        if self.exists(path) and _identity(os.stat(path)) in _locked_here:
            raise BlockingIOError(EAGAIN, f"this process ({os.getpid()})", path)
        descriptor = self.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            capabilities.try_lock(descriptor)
        except OSError as error:
            holder = self._holder(descriptor)
            self.close(descriptor)
            raise BlockingIOError(error.errno, holder, path) from error
        _locked_here.add(_identity(os.fstat(descriptor)))
        self._sign(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
        return descriptor

    def unlock(self, descriptor: int) -> None:
        """Give up what ``lock`` took."""
        _locked_here.discard(_identity(os.fstat(descriptor)))
        self._sign(descriptor, b"")
        self.close(descriptor)

    def _holder(self, descriptor: int) -> str:
        """Who holds a lock, from the file: a process of ours says so there."""
        try:
            signed = self.pread(descriptor, _HOLDER_BYTES_MAX, 0)
        except OSError:
            signed = b""
        pid, _, host = signed.decode("ascii", "replace").strip().partition(" ")
        if not pid.isdigit() or not host.isprintable():
            return "another process"
        return f"process {pid} on {host}" if host else f"process {pid}"

    def _sign(self, descriptor: int, holder: bytes) -> None:
        """Leave word in a locked file of who holds it; the lock holds without it, on a full disk say."""
        with suppress(OSError):
            self.ftruncate(descriptor, 0)
            if holder:
                self.pwrite(descriptor, holder, 0)

    def lock_holder(self, path: str) -> Holder | None:
        """Who has the lock on ``path``, which is left as it is; None if nobody has.

        Raises ``OSError`` where that can't be found out.
        """
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        if _identity(status) in _locked_here:  # closing a descriptor of it would give the lock up
            return Holder(os.getpid())
        if not capabilities.CAN_ASK_FOR_LOCKS:  # what the holder has written there is all there is
            pid = self.read_file(path, _HOLDER_BYTES_MAX).partition(b" ")[0]
            return Holder(int(pid)) if pid.isdigit() else None
        descriptor = self.open(path, os.O_RDONLY)
        try:
            held_by = capabilities.lock_holder(descriptor)
        finally:
            self.close(descriptor)
        return None if held_by is None else Holder(held_by if held_by > 0 else None)

    def read_fully(self, descriptor: int, size: int, position: int) -> bytes:
        """``size`` bytes from ``position``, or as many as there are."""
        data = self.pread(descriptor, min(size, _READ_BYTES), position)
        if len(data) == size or not data:
            return data
        parts = [data]
        read = len(data)
        while read < size:
            data = self.pread(descriptor, min(size - read, _READ_BYTES), position + read)
            if not data:
                break
            parts.append(data)
            read += len(data)
        return b"".join(parts)

    def copy_in_kernel(
        self, source: int, target: int, position: int, size_bytes: int
    ) -> int | None:
        """Copy bytes to the same place of another open file; how many, 0 at the end.

        None where the system can't (no copy_file_range, or not between these), or where it fails: a plain
        read and write then tells which of the two it is.
        """
        if not hasattr(os, "copy_file_range"):
            return None
        try:
            return os.copy_file_range(source, target, size_bytes, position, position)
        except OSError:
            return None

    def write_fully(self, descriptor: int, data: Bytes, position: int) -> None:
        """Write all of ``data``, in as many calls as the system takes."""
        rest = memoryview(data)
        while rest:
            written = self.pwrite(descriptor, rest, position)
            if written <= 0:
                raise OSError(ENOSPC, "the disk took no byte")
            rest = rest[written:]
            position += written

    def read_file(self, path: str, size_bytes_max: int = 1 << 30) -> bytes:
        """A small file's whole content; ``ValueError`` if it is larger than ``size_bytes_max``."""
        descriptor = self.open(path, os.O_RDONLY)
        try:
            size = self.size_of(descriptor)
            if size > size_bytes_max:
                raise ValueError(f"{path} has {size} bytes, more than {size_bytes_max}")
            return self.read_fully(descriptor, size, 0)
        finally:
            self.close(descriptor)

    def write_file(self, path: str, content: bytes, *, sync: bool = False) -> None:
        """Create or replace a small file in place (not atomically)."""
        descriptor = self.open(path, CREATE_FLAGS, FILE_MODE)
        try:
            self.write_fully(descriptor, content, 0)
            if sync:
                self.fsync(descriptor)
        finally:
            self.close(descriptor)

    def replace_file(self, path: str, content: bytes) -> None:
        """Replace a small file so that a crash leaves the old or the new one, never a mixture.

        As Kafka does: a ``.tmp`` beside it, fsync, rename, fsync of the directory.
        """
        temporary = path + ".tmp"
        self.write_file(temporary, content, sync=True)
        self.rename(temporary, path)
        self.sync_directory(os.path.dirname(path) or ".")

    def sync_file(self, path: str) -> None:
        """fsync a closed file; nothing if it does not exist (any more)."""
        try:
            descriptor = self.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            self.fsync(descriptor)
        finally:
            self.close(descriptor)

    def forget_cached(self, path: str) -> None:
        """Have the file read from the disk again: what could not be written to it is not believed.

        Where the system cannot be told to forget (no posix_fadvise), it is only synced. An ``OSError`` of
        the sync is raised when the rest is done: it tells of what is forgotten now.
        """
        descriptor = self.open(path, os.O_RDONLY)
        try:
            self.fsync(descriptor)  # what is still dirty would be kept, and belongs on the disk
        finally:
            capabilities.forget_cached(descriptor)
            self.close(descriptor)

    def remove(self, path: str) -> bool:
        """Unlink; False if there was nothing."""
        try:
            self.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def make_directories(self, path: str) -> None:
        """Make ``path`` and what is missing above it; each new name is synced into its parent."""
        if self.exists(path):
            return
        parent = os.path.dirname(path)
        if parent and parent != path:
            self.make_directories(parent)
        try:
            self.mkdir(path)
        except FileExistsError:
            return
        self.sync_directory(parent or ".")

    def remove_tree(self, path: str) -> None:
        """Remove a directory and everything below it; nothing if it does not exist."""
        try:
            entries = self.entries(path)
        except FileNotFoundError:
            return
        for entry in entries:
            below = f"{path}/{entry.name}"
            if entry.is_directory:
                self.remove_tree(below)
            else:
                self.remove(below)
        self.rmdir(path)


_NOWAIT = capabilities.RWF_NOWAIT
_locked_here: set[tuple[int, int]] = set()


def _identity(status: os.stat_result) -> tuple[int, int]:
    """Which file it is, whatever it is called."""
    return status.st_dev, status.st_ino


def _default_descriptors_max() -> int:
    """Half of what the process may open: sockets need the rest."""
    limit = capabilities.open_files_max()
    return _DESCRIPTORS_MAX if limit is None else min(limit // 2, _DESCRIPTORS_MAX)

"""A disk in memory that forgets what was not synced, and fails on demand.

It stands in for the calls of ``ottla.log.disk.Disk``, so everything above them is the real thing. The
rules kept here are a strict file system's:

- A write changes what everybody reads at once; only ``fsync`` or ``fdatasync`` of the file makes it last.
- A name (created, renamed, removed) lasts only after its directory was synced.
- ``lose_power`` goes back to what lasts. With a random source each file keeps any part of its unsynced
  pages, in any order, and each directory any of its unsynced names, as real ones may.
- After a failed sync the unsynced pages count as clean and are lost all the same (fsyncgate).

Faults are armed by ``fail``. Paths are absolute. One thread at a time.
"""

from __future__ import annotations

import os
import random
from errno import EBADF, EEXIST, EIO, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY

from ottla.log.disk import Disk, Entry
from ottla.records.batch import Bytes

PAGE_BYTES = 4096
CHANGES = frozenset(
    (
        "open",
        "pwrite",
        "ftruncate",
        "fsync",
        "fdatasync",
        "rename",
        "unlink",
        "rmdir",
        "mkdir",
        "utime",
    )
)
"""The calls at which ``stop_after`` may stop the process."""


class Stopped(BaseException):
    """The process has ended amid a call: nobody handles that, and nothing it does reaches the disk."""


class SimulatedFile:
    """A file's content: as it reads now, and as it would after a power loss."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()
        self.modified_ms = 0

    def write(self, data: Bytes, position: int) -> None:
        """Change the content; its pages are dirty then."""
        end = position + len(data)
        if end > len(self.content):
            self._dirty(len(self.content), end)
            self.content.extend(bytes(end - len(self.content)))
        self.content[position:end] = data
        self._dirty(position, end)

    def truncate(self, size: int) -> None:
        """Cut (or extend by zeros)."""
        if size < len(self.content):
            del self.content[size:]
        else:
            self.write(bytes(size - len(self.content)), len(self.content))
        self._dirty(size, size + 1)

    def _dirty(self, start: int, end: int) -> None:
        self.dirty.update(range(start // PAGE_BYTES, (max(end, start + 1) - 1) // PAGE_BYTES + 1))

    def sync(self) -> None:
        """The dirty pages and the size last."""
        _resize(self.durable, len(self.content))
        for page in self.dirty:
            self._keep(page)
        self.dirty.clear()

    def _keep(self, page: int) -> None:
        start = page * PAGE_BYTES
        end = min(start + PAGE_BYTES, len(self.durable))
        if start < end:
            part = self.content[start:end]
            self.durable[start : start + len(part)] = part

    def lose(self, chance: random.Random | None) -> None:
        """Go back to what lasts, or to that with any of the dirty pages."""
        if chance is not None and self.dirty:
            _resize(self.durable, chance.choice((len(self.durable), len(self.content))))
            for page in sorted(self.dirty):
                if chance.random() < 0.5:
                    self._keep(page)
        self.content = bytearray(self.durable)
        self.dirty.clear()


class SimulatedDirectory:
    """A directory's names: as they are now, and as they would be after a power loss."""

    def __init__(self) -> None:
        self.names: dict[str, SimulatedFile | SimulatedDirectory] = {}
        self.durable: dict[str, SimulatedFile | SimulatedDirectory] = {}

    def sync(self) -> None:
        """The names of now last."""
        self.durable = dict(self.names)

    def lose(self, chance: random.Random | None) -> None:
        """Go back to the names that last, each change possibly kept; then everything below."""
        kept = dict(self.durable)
        if chance is not None:
            for name in sorted(self.names.keys() | self.durable.keys()):
                if chance.random() < 0.5:
                    kept.pop(name, None)
                    if name in self.names:
                        kept[name] = self.names[name]
            self._keep_renamed(kept)
        self.names = kept
        self.durable = dict(kept)
        for name in sorted(kept):
            kept[name].lose(chance)

    def _keep_renamed(self, kept: dict[str, SimulatedFile | SimulatedDirectory]) -> None:
        """A rename is one step on every file system with a journal: no file is left without a name.

        One that was only renamed and has lost both names has the new one.
        """
        lasting = {id(node) for node in self.durable.values()}
        found = {id(node) for node in kept.values()}
        for name in sorted(self.names):
            node = self.names[name]
            if id(node) in lasting and id(node) not in found:
                kept[name] = node


class SimulatedDisk(Disk):
    """``capacity_bytes``: how much fits, None for no limit. ``calls`` counts the calls by name."""

    def __init__(
        self, *, capacity_bytes: int | None = None, descriptors_max: int | None = None
    ) -> None:
        super().__init__(descriptors_max=descriptors_max or 1024)
        self.capacity_bytes = capacity_bytes
        self.calls: dict[str, int] = {}
        self.now_ms = 0
        self._root = SimulatedDirectory()
        self._open: dict[int, SimulatedFile | SimulatedDirectory] = {}
        self._next_descriptor = 1000
        self._faults: dict[str, list[tuple[int, OSError | int, str]]] = {}
        self._locked: set[int] = set()
        self._calls_left: int | None = None
        self.open = self._do_open
        self.close = self._do_close
        self.pread = self._do_pread
        self.pwrite = self._do_pwrite
        self.ftruncate = self._do_truncate
        self.fsync = self._do_fsync
        self.fdatasync = self._do_fdatasync
        self.rename = self._do_rename
        self.unlink = self._do_unlink
        self.rmdir = self._do_rmdir

    # Faults

    def fail(
        self, call: str, error: int = EIO, *, after: int = 0, times: int = 1, path: str = ""
    ) -> None:
        """Let calls of a name fail with ``error``: the first ``after`` of them succeed, ``times`` fail.

        ``path``: only of files whose path contains it (calls that have one). A ``pwrite`` fails after
        half of its bytes were written.
        """
        armed = self._faults.setdefault(call, [])
        for number in range(times):
            armed.append((after + number, OSError(error, os.strerror(error)), path))

    def write_short(self, written_bytes: int, *, after: int = 0) -> None:
        """Let one ``pwrite`` take only ``written_bytes`` (and say so)."""
        self._faults.setdefault("pwrite", []).append((after, written_bytes, ""))

    def heal(self) -> None:
        """Disarm all faults."""
        self._faults.clear()

    def stop_after(self, calls: int) -> None:
        """Let the process end, by ``Stopped``, at the call that changes something after so many of them.

        It takes no change from then on, until ``restart`` or ``lose_power``. A write ends in its middle.
        """
        self._calls_left = calls

    def restart(self) -> None:
        """The process has ended and another one begins: all that it wrote is there, nothing is open."""
        self._begin_anew()

    def lose_power(self, seed: int | None = None) -> None:
        """Forget what was not synced; with a ``seed``, only some of it, by chance. Closes everything."""
        self._root.lose(random.Random(seed) if seed is not None else None)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._calls_left = None
        self._open.clear()
        self._locked.clear()
        self._faults.clear()
        self.pool = type(self.pool)(self, self.pool.capacity)

    def tree(self) -> dict[str, bytes]:
        """The content of every file by its path."""
        found: dict[str, bytes] = {}
        self._collect("", self._root, found)
        return found

    def _collect(self, path: str, directory: SimulatedDirectory, found: dict[str, bytes]) -> None:
        for name, node in sorted(directory.names.items()):
            if isinstance(node, SimulatedDirectory):
                self._collect(f"{path}/{name}", node, found)
            else:
                found[f"{path}/{name}"] = bytes(node.content)

    def _call(self, name: str, path: str = "") -> int | None:
        """Count a call; raise its fault, or return the bytes that a short write is to take."""
        self.calls[name] = self.calls.get(name, 0) + 1
        if self._calls_left is not None and name in CHANGES:
            self._calls_left -= 1
            if self._calls_left < 0:
                raise Stopped(name, path)
        armed = self._faults.get(name)
        if not armed:
            return None
        due: tuple[int, OSError | int, str] | None = None
        waiting = []
        for left, fault, part in armed:
            if part and part not in path:
                waiting.append((left, fault, part))
            elif left == 0 and due is None:
                due = (left, fault, part)
            else:
                waiting.append((max(left - 1, 0), fault, part))
        self._faults[name] = waiting
        if due is None:
            return None
        if isinstance(due[1], OSError):
            raise OSError(due[1].errno, due[1].strerror)
        return due[1]

    # Names

    def _find(self, path: str) -> SimulatedFile | SimulatedDirectory:
        node: SimulatedFile | SimulatedDirectory = self._root
        for part in path.strip("/").split("/"):
            if not part:
                continue
            if not isinstance(node, SimulatedDirectory):
                raise NotADirectoryError(ENOTDIR, "not a directory", path)
            if part not in node.names:
                raise FileNotFoundError(ENOENT, "no such file", path)
            node = node.names[part]
        return node

    def _parent(self, path: str) -> tuple[SimulatedDirectory, str]:
        above, _, name = path.rstrip("/").rpartition("/")
        parent = self._find(above)
        if not isinstance(parent, SimulatedDirectory):
            raise NotADirectoryError(ENOTDIR, "not a directory", path)
        return parent, name

    def _path_of(self, wanted: SimulatedFile | SimulatedDirectory) -> str:
        stack: list[tuple[str, SimulatedFile | SimulatedDirectory]] = [("", self._root)]
        while stack:
            path, node = stack.pop()
            if node is wanted:
                return path
            if isinstance(node, SimulatedDirectory):
                stack += [(f"{path}/{name}", below) for name, below in node.names.items()]
        return ""

    def exists(self, path: str) -> bool:
        try:
            self._find(path)
        except OSError:
            return False
        return True

    def is_directory(self, path: str) -> bool:
        return self.exists(path) and isinstance(self._find(path), SimulatedDirectory)

    def modified_ms(self, path: str) -> int:
        return self._file(self._find(path)).modified_ms

    def set_modified_ms(self, path: str, modified_ms: int) -> None:
        self._call("utime", path)
        self._file(self._find(path)).modified_ms = modified_ms

    def mkdir(self, path: str) -> None:
        self._call("mkdir", path)
        parent, name = self._parent(path)
        if name in parent.names:
            raise FileExistsError(EEXIST, "exists", path)
        self._need_room(1)
        parent.names[name] = SimulatedDirectory()

    def entries(self, path: str) -> list[Entry]:
        self._call("entries", path)
        directory = self._find(path)
        if not isinstance(directory, SimulatedDirectory):
            raise NotADirectoryError(ENOTDIR, "not a directory", path)
        return [
            Entry(name, True, 0)
            if isinstance(node, SimulatedDirectory)
            else Entry(name, False, len(node.content))
            for name, node in sorted(directory.names.items())
        ]

    def _do_rename(self, source: str, target: str) -> None:
        self._call("rename", source)
        parent, name = self._parent(source)
        if name not in parent.names:
            raise FileNotFoundError(ENOENT, "no such file", source)
        new_parent, new_name = self._parent(target)
        new_parent.names[new_name] = parent.names.pop(name)

    def _do_unlink(self, path: str) -> None:
        self._call("unlink", path)
        parent, name = self._parent(path)
        if name not in parent.names:
            raise FileNotFoundError(ENOENT, "no such file", path)
        self._file(parent.names[name])
        del parent.names[name]

    def _do_rmdir(self, path: str) -> None:
        self._call("rmdir", path)
        parent, name = self._parent(path)
        directory = self._find(path)
        if isinstance(directory, SimulatedDirectory) and directory.names:
            raise OSError(ENOTEMPTY, "directory not empty", path)
        del parent.names[name]

    # Files

    def _file(self, node: SimulatedFile | SimulatedDirectory) -> SimulatedFile:
        if isinstance(node, SimulatedDirectory):
            raise IsADirectoryError("is a directory")
        return node

    def _node(self, descriptor: int) -> SimulatedFile | SimulatedDirectory:
        try:
            return self._open[descriptor]
        except KeyError:
            raise OSError(EBADF, "bad file descriptor") from None

    def _need_room(self, more_bytes: int) -> None:
        if self.capacity_bytes is not None:
            used = sum(len(content) for content in self.tree().values())
            if used + more_bytes > self.capacity_bytes:
                raise OSError(ENOSPC, os.strerror(ENOSPC))

    def _do_open(self, path: str, flags: int, mode: int = 0o644) -> int:
        del mode
        self._call("open", path)
        node = self._opened(path, flags)
        self._next_descriptor += 1
        self._open[self._next_descriptor] = node
        return self._next_descriptor

    def _opened(self, path: str, flags: int) -> SimulatedFile | SimulatedDirectory:
        parent, name = self._parent(path)
        node = parent.names.get(name) if name else parent
        if node is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(ENOENT, "no such file", path)
            self._need_room(1)
            node = parent.names[name] = SimulatedFile()
            node.modified_ms = self.now_ms
        elif flags & os.O_TRUNC:
            self._file(node).truncate(0)
        return node

    def _do_close(self, descriptor: int) -> None:
        node = self._open.pop(descriptor, None)
        if node is None:
            raise OSError(EBADF, "bad file descriptor")
        self._locked.discard(id(node))

    def _do_pread(self, descriptor: int, size: int, position: int) -> bytes:
        file = self._file(self._node(descriptor))
        self._call("pread", self._path_of(file))
        return bytes(file.content[position : position + size])

    def _do_pwrite(self, descriptor: int, data: Bytes, position: int) -> int:
        file = self._file(self._node(descriptor))
        file.modified_ms = self.now_ms
        try:
            short = self._call("pwrite", self._path_of(file))
            self._need_room(max(position + len(data) - len(file.content), 0))
        except (OSError, Stopped) as error:
            if isinstance(error, OSError) or self._calls_left == -1:
                file.write(memoryview(data)[: len(data) // 2], position)
            raise
        written = len(data) if short is None else min(short, len(data))
        file.write(memoryview(data)[:written], position)
        return written

    def _do_truncate(self, descriptor: int, size: int) -> None:
        file = self._file(self._node(descriptor))
        self._call("ftruncate", self._path_of(file))
        file.truncate(size)

    def _do_fsync(self, descriptor: int) -> None:
        self._sync("fsync", self._node(descriptor))

    def _do_fdatasync(self, descriptor: int) -> None:
        self._sync("fdatasync", self._node(descriptor))

    def _sync(self, name: str, node: SimulatedFile | SimulatedDirectory) -> None:
        try:
            self._call(name, self._path_of(node))
        except OSError:
            if isinstance(node, SimulatedFile):
                node.dirty.clear()
            raise
        node.sync()

    def forget_cached(self, path: str) -> None:
        file = self._file(self._find(path))
        try:
            self._sync("fsync", file)
        finally:
            file.content = bytearray(file.durable)

    def copy_in_kernel(
        self, source: int, target: int, position: int, size_bytes: int
    ) -> int | None:
        return None

    def size_of(self, descriptor: int) -> int:
        return len(self._file(self._node(descriptor)).content)

    def read_resident(self, descriptor: int, buffer: memoryview, position: int) -> int:
        try:
            self._call("read_resident")
        except BlockingIOError:
            return 0
        data = self._file(self._node(descriptor)).content[position : position + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def lock(self, path: str) -> int:
        descriptor = self._do_open(path, os.O_RDWR | os.O_CREAT)
        node = id(self._open[descriptor])
        if node in self._locked:
            del self._open[descriptor]
            raise BlockingIOError(EEXIST, "another broker", path)
        self._locked.add(node)
        return descriptor

    def unlock(self, descriptor: int) -> None:
        if descriptor in self._open:  # not so after a power loss
            self.close(descriptor)

    @property
    def can_sync_file_systems(self) -> bool:
        return True

    def sync_file_system(self, path: str) -> None:
        self._call("syncfs", path)
        stack: list[SimulatedFile | SimulatedDirectory] = [self._root]
        while stack:
            node = stack.pop()
            node.sync()
            if isinstance(node, SimulatedDirectory):
                stack += node.names.values()


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))

"""A file system of our own that can lose its power: ext4 in a file, mounted through a loop device.

``lose_power`` is EXT4_IOC_SHUTDOWN without flushing the log: from that moment on nothing reaches the file
any more, neither data nor journal, and every write or sync fails. What the next mount finds is what a disk
has after its power was cut: all that was synced, and of the rest what the kernel had happened to write.

A power cut stops the programs, too, and the shutdown alone does not: an ``fdatasync`` that it overtakes can
still say yes, though the inode's new size never reached the journal (ext4 finds its transaction neither running
nor committing, and takes it for committed). So whoever tells others what is synced is frozen first
(``freeze``): a plain program that is not was seen to be told so of what was gone in 5 of 60 power cuts, one that
is in none of 60 (``test_volume.py``).

Needs root and loop devices; ``require_volumes`` leaves a test out where they are not to be had. Every volume
is unmounted at the end of its ``with``, whatever happened.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.interop.requirements import leave_out, require_program
from tests.support.waiting import eventually

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
PAGE_BYTES = 4096
CHECK_FAILED = 4
STOPPED = frozenset("TZX")
AMID_A_CALL = frozenset("D")
"""In the kernel, and not to be had before the call is through: a sync, say."""
JOURNAL_MB = 4
NO_JOURNAL = ["-O", "^has_journal", "-N", "1024", "-E", "lazy_itable_init=0"]
"""Few inodes, written at once: what fails later are files, not the file system's own tables."""


def require_volumes() -> None:
    """Leave the test out where this user can mount no file system of its own."""
    require_program("mkfs.ext4", "e2fsprogs")
    if os.geteuid() != 0:
        leave_out("mounting a file system needs root")
    if not Path("/dev/loop-control").exists():
        leave_out("there are no loop devices")


class Stoppable(Protocol):
    """A process that may have ended already: then a signal does nothing."""

    @property
    def pid(self) -> int: ...

    def signal(self, number: signal.Signals) -> None: ...


class Volume:
    """An ext4 of ``size_mb`` below ``directory``, mounted at ``path`` while its ``with`` lasts."""

    block_bytes = 1024

    def __init__(self, directory: Path, size_mb: int = 256, *, journal: bool = True) -> None:
        self.image = directory / "volume.ext4"
        self.path = directory / "volume"
        self._size_mb = size_mb
        self._journal = journal
        self._mounted = False

    def __enter__(self) -> Self:
        self.path.mkdir()
        with self.image.open("wb") as file:
            file.truncate(self._size_mb << 20)
        features = ["-J", f"size={JOURNAL_MB}"] if self._journal else [*NO_JOURNAL]
        features += ["-b", str(self.block_bytes)]
        run("mkfs.ext4", "-q", "-F", "-m", "0", *features, str(self.image))
        self.mount()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._mounted:
            self.unmount()

    def mount(self) -> None:
        """Mount it (again); the journal is replayed, as after a crash."""
        eventually(self._mounts, f"{self.image} can be mounted anew")
        self._mounted = True

    def _mounts(self) -> bool:
        """False where it is the old mount: one that another mount namespace has a copy of lives on unmounted."""
        run("mount", "-o", "loop", str(self.image), str(self.path))
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            self.unmount()
            return False
        os.close(descriptor)
        return True

    def unmount(self) -> None:
        """Unmount it; whoever used it must be gone, or about to be."""
        eventually(self._unmounts, f"{self.path} is not in use any more")
        self._mounted = False

    def _unmounts(self) -> bool:
        return subprocess.run(["umount", str(self.path)], capture_output=True).returncode == 0

    def lose_power(self) -> None:
        """From now on nothing reaches the disk; ``power_on`` shows what had."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def power_on(self) -> None:
        """Mount what the disk holds."""
        self.unmount()
        self.mount()

    def write_back_some(self, chance: random.Random) -> None:
        """Sync some of the files and none of the others, as a kernel does that writes back when it likes."""
        paths = [Path(at, name) for at, _, names in os.walk(self.path) for name in names]
        for path in sorted(paths):
            if chance.random() < 0.1:
                try:
                    descriptor = os.open(path, os.O_RDONLY)
                except FileNotFoundError:
                    continue
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


class ThinVolume(Volume):
    """A volume whose file lies on a small tmpfs and fills only as it is written.

    ``break_writes`` takes the tmpfs's room away: what is written to new blocks reaches the page cache of the
    volume and no further, and the next sync fails with EIO; until ``mend``.

    The loop driver takes a write of which its file took a part for one that is through (Linux 6.18: it looks only for
    an error). A request that ends in a page the tmpfs has no room for, and begins in one it has, would so be answered
    with yes: the sync of a record that crosses a page, which is the first one to meet the missing room nearly always.
    So a block is a page, and no request is longer: a request is written, or fails. ``test_volume.py`` holds it to that.
    """

    block_bytes = PAGE_BYTES

    def __init__(self, directory: Path, size_mb: int = 64) -> None:
        # Without a journal: one that cannot be written would make the file system read-only as a whole.
        super().__init__(directory, size_mb, journal=False)
        self._backing = directory / "backing"
        self._usual_request = ""
        self.image = self._backing / "volume.ext4"

    def __enter__(self) -> Self:
        self._backing.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={self._size_mb}m", "tmpfs", str(self._backing))
        try:
            return super().__enter__()
        except BaseException:
            run("umount", str(self._backing))
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            run("umount", str(self._backing))

    def mount(self) -> None:
        """Mount it (again), with requests of one page."""
        super().mount()
        self._usual_request = self._longest_request().read_text()
        self._longest_request().write_text(str(PAGE_BYTES >> 10))

    def _unmounts(self) -> bool:
        # The device goes with the mount, and whoever has it next wants it as it was.
        if self._mounted:
            self._longest_request().write_text(self._usual_request)
        gone = super()._unmounts()
        if self._mounted and not gone:
            self._longest_request().write_text(str(PAGE_BYTES >> 10))
        return gone

    def _longest_request(self) -> Path:
        """Where the kernel is told how many KiB a request may have; what is longer becomes several."""
        return Path("/sys/block", Path(self._device()).name, "queue/max_sectors_kb")

    def _device(self) -> str:
        (device,) = run("losetup", "-n", "-O", "NAME", "-j", str(self.image)).split()
        return device

    def power_on(self) -> None:
        """Check it, as every start does with a file system that has no journal, and mount it."""
        self.unmount()
        checked = subprocess.run(["e2fsck", "-fy", str(self.image)], capture_output=True)
        assert checked.returncode < CHECK_FAILED, checked.stdout.decode()
        self.mount()

    def break_writes(self) -> None:
        """From now on only blocks that were written before can be written again."""
        with (self._backing / "ballast").open("wb", buffering=0) as ballast:
            while takes(ballast.fileno(), bytes(4096)):
                pass

    def break_reads(self) -> None:
        """Cut the volume's file to nothing, and have no file in memory: reads fail with EIO from here on.

        So do writes: one that came through would make the file long again, with zeros before it, to be read.
        """
        os.sync()
        os.truncate(self.image, 0)
        run("losetup", "-c", self._device())
        self.forget()

    def forget(self) -> None:
        """Have no file in memory; a page that is in use just now may stay, so call it again."""
        for at, _, names in os.walk(self.path):
            for name in names:
                try:
                    descriptor = os.open(Path(at, name), os.O_RDONLY)
                except OSError:
                    continue
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)

    def mend(self) -> None:
        """Give the room back."""
        (self._backing / "ballast").unlink(missing_ok=True)


def freeze(process: Stoppable, *, amid_syncs: bool = False) -> None:
    """Return once no thread of the process does anything; SIGCONT lets it go on.

    With ``amid_syncs``, threads that are inside a sync may stay in it: as long as the process is frozen they find
    no way back to their program, and it has to be killed before it learns what became of them.
    """
    still = STOPPED | AMID_A_CALL if amid_syncs else STOPPED
    process.signal(signal.SIGSTOP)
    eventually(lambda: thread_states(process.pid) <= still, f"process {process.pid} stands still")


def thread_states(pid: int) -> set[str]:
    """The states of a process's threads, as ``/proc`` names them; none if it is gone."""
    states = set()
    try:
        for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
            states.add(stat.read_text().rpartition(")")[2].split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return thread_states(pid) if Path(f"/proc/{pid}").exists() else set()
    return states


def takes(descriptor: int, data: bytes) -> bool:
    """Whether all of ``data`` could be written."""
    try:
        return os.write(descriptor, data) == len(data)
    except OSError:
        return False


def run(*command: str) -> str:
    """Run a program of the system's, and return what it printed; fails with what it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout

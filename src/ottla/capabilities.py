"""What this operating system can do. The only place that asks; everybody else takes what stands here.

Rules:
- A call is chosen by whether it is there, never by the system's name, so that a fall-back can be tested
  anywhere by taking the call away (``tests/capabilities``).
- A fall-back does the same more slowly, or says that it cannot; nothing here gives up durability quietly.

| asked for | where it is missing | then |
|---|---|---|
| ``pread``, ``pwrite`` | Windows | seek and read or write under a lock |
| ``fdatasync`` | macOS, Windows | ``fsync``; on macOS ``F_FULLFSYNC``, since its ``fsync`` stops at the drive's cache |
| ``O_DIRECTORY`` | Windows | names need no sync: the file system's journal keeps their order |
| ``O_BINARY`` | everywhere but Windows | nothing to ask for |
| ``preadv`` with ``RWF_NOWAIT`` | all but Linux | every read counts as one from the page cache |
| asynchronous I/O with an eventfd | all but Linux on x86-64 and arm64 | threads of ours sync |
| ``syncfs`` | all but Linux since 5.8 | the files are synced one by one |
| ``posix_fadvise`` | macOS, Windows | what is cached stays cached |
| ``writev`` | Windows | the event loop writes |
| ``epoll`` | macOS, Windows | the event loop reads each connection by itself |
| ``poll``, and a loop with a selector | Windows | the client's own thread reads all that comes |
| ``fcntl`` | Windows | ``msvcrt.locking`` |
| ``F_GETLK`` | all but Linux | the holder of a lock is who wrote its number into the file |
| ``resource`` | Windows | a fixed bound on open files |
| ``nice`` | Windows | background work has no lower rank |
| ``add_signal_handler`` | Windows's event loop | ``signal.signal`` and a call into the loop |
| ``/proc`` | all but Linux | the metrics of the process that it has are left out |
| ``SO_RCVLOWAT`` | Windows | a peer that sends byte by byte is read byte by byte |
| private mappings | Windows | its mappings are as good |
| ``mremap`` | macOS | memory of large requests is not used again |
| ``CLOCK_BOOTTIME`` | macOS, Windows | the monotonic clock: a machine's sleep may not be counted |
| the boot's id | all but Linux | after an unclean stop nobody knows whether the machine was down: it counts as if |
| ``AF_UNIX`` | Windows | no service manager is told anything |
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import asyncio
    from mmap import mmap

REUSE_ADDRESS = not hasattr(socket, "SO_EXCLUSIVEADDRUSE")
"""Whether SO_REUSEADDR means what it does on Unix; on Windows it lets another process take the port."""

DIRECTORY_FLAGS: int | None = os.O_RDONLY | os.O_DIRECTORY if hasattr(os, "O_DIRECTORY") else None
"""How a directory is opened to be synced; None where it cannot be."""

RWF_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0) if hasattr(os, "preadv") else 0
"""The flag of a read that does not wait for the disk; 0 where there is none."""

BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)
"""The clock that goes on while the machine sleeps; None where there is none."""

OPEN_FILES_WITHOUT_LIMIT = 512
"""The files that a process may open where the system cannot be asked: what Windows grants at least."""

PROCESS_STARTED_S = time.time() - time.process_time()
"""About when the process started, in seconds since 1970."""

CAN_ASK_FOR_LOCKS = hasattr(fcntl, "F_OFD_GETLK")
"""Whether the system says who has a lock, in the form that is known here: Linux's."""

_ASYNCHRONOUS_IO = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
_SHARING_VIOLATION = 32

_LOCKED_BYTE = 0x7FFF_0000
"""The byte that is locked where a lock keeps others from reading: behind everything that is read."""

_moving = Lock()


_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str | None:
    """Which boot of the machine this is; None where the system does not say."""
    try:
        with open(_BOOT_ID) as file:
            return file.read().strip() or None
    except OSError:
        return None


def _pread(descriptor: int, size: int, position: int) -> bytes:
    with _moving:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.read(descriptor, size)


def _pwrite(descriptor: int, data: Any, position: int) -> int:
    with _moving:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.write(descriptor, data)


def _binary_open(path: str, flags: int, mode: int = 0o777) -> int:
    return os.open(path, flags | os.O_BINARY, mode)  # type: ignore[attr-defined, unused-ignore]


def _full_fsync(descriptor: int) -> None:
    try:
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined, unused-ignore]
    except OSError:  # a file system that has none; fsync tells of a disk that fails
        os.fsync(descriptor)


open_file: Callable[..., int] = _binary_open if hasattr(os, "O_BINARY") else os.open
pread: Callable[[int, int, int], bytes] = getattr(os, "pread", _pread)
pwrite: Callable[[int, Any, int], int] = getattr(os, "pwrite", _pwrite)
fsync: Callable[[int], None] = _full_fsync if hasattr(fcntl, "F_FULLFSYNC") else os.fsync
fdatasync: Callable[[int], None] = getattr(os, "fdatasync", fsync)
writev: Callable[[int, Sequence[Any]], int] | None = getattr(os, "writev", None)

epoll: Callable[[], Any] | None = getattr(select, "epoll", None)
poll: Callable[[], Any] | None = getattr(select, "poll", None)
"""For one look at a few descriptors; its flags are those of ``epoll``."""
POLL_IN: int = getattr(select, "EPOLLIN", 1)
POLL_OUT: int = getattr(select, "EPOLLOUT", 4)


def asynchronous_io() -> tuple[int, int, int, int] | None:
    """The numbers of Linux's io_setup, io_destroy, io_getevents and io_submit; None where they are not known.

    Where they are, the structs are little-endian, and an eventfd can tell of what has ended."""
    uname = getattr(os, "uname", None)
    if uname is None or not hasattr(os, "eventfd") or sys.maxsize < 1 << 32:
        return None  # a program of 32 bits has other numbers than its kernel
    system = uname()
    return _ASYNCHRONOUS_IO.get(system.machine) if system.sysname == "Linux" else None


def can_sync_file_systems() -> bool:
    """Whether there is a ``syncfs`` that tells of failed writes (Linux since 5.8)."""
    uname = getattr(os, "uname", None)
    if uname is None:
        return False
    system = uname()
    version = tuple(int(part) for part in system.release.split(".")[:2] if part.isdigit())
    return bool(system.sysname == "Linux" and version >= (5, 8))


def sync_file_system(descriptor: int) -> None:
    """``syncfs``: everything on the file system of an open file. Raises ``OSError``."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def try_lock(descriptor: int) -> None:
    """Take a lock on an open file that dies with the process. Raises ``OSError``: another process has it.

    On Unix it is the record lock that Java's ``FileChannel.tryLock`` takes."""
    if fcntl is not None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]


def lock_holder(descriptor: int) -> int | None:
    """The process that has the lock of ``try_lock`` on an open file, 0 or less where it is not seen from here;
    None if nobody has. Only where ``CAN_ASK_FOR_LOCKS``. Raises ``OSError``."""
    from struct import Struct

    flock = Struct("@hhqqi0q")  # l_type, l_whence, l_start, l_len, l_pid
    asked = flock.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = flock.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return None if answer[0] == fcntl.F_UNLCK else int(answer[4])


def open_files_max() -> int | None:
    """How many files this process may have open; None for no limit."""
    try:
        import resource
    except ImportError:
        return OPEN_FILES_WITHOUT_LIMIT
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def give_way(niceness: int) -> None:
    """Let other processes come first, where the system can be told. Raises ``OSError``."""
    if hasattr(os, "nice"):
        os.nice(niceness)


def is_held_by_another(error: OSError) -> bool:
    """Whether an operation on a file failed because somebody has it open: Windows's sharing violation."""
    return getattr(error, "winerror", None) == _SHARING_VIOLATION


def forget_cached(descriptor: int) -> None:
    """Have an open file's pages read from the disk again, where the system can be told. Raises ``OSError``."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def processors() -> int:
    """How many processors this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resident_memory_bytes() -> int | None:
    """The memory that this process has in use; None where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError, ValueError, IndexError):
        return None


def open_files() -> int | None:
    """How many files and sockets this process has open; None where the system does not say."""
    for path in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(path)) - 1  # the listing's own
        except OSError:
            continue
    return None


def on_signals(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> Callable[[], None]:
    """Call ``callback`` in ``loop`` when the process is told to stop (SIGTERM, SIGINT; Ctrl-Break).

    The result gives the signals back to the system. From the main thread.
    """
    names = ("SIGTERM", "SIGINT", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    try:
        for number in numbers:
            loop.add_signal_handler(number, callback)
    except NotImplementedError:
        for number in numbers:
            signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(callback))

        def give_back() -> None:
            for number in numbers:
                signal.signal(number, signal.SIG_DFL)

        return give_back

    def remove() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    return remove


def watchdog_interval_s() -> float | None:
    """How often the service manager wants to hear from this process (systemd's ``WatchdogSec``), twice over."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    interval = os.environ.get("WATCHDOG_USEC", "")
    return int(interval) / 2_000_000 if interval.isdecimal() and int(interval) > 0 else None


def notify_service_manager(state: str) -> bool:
    """Tell the service manager that started this process (systemd's ``sd_notify``); False if there is none.

    One datagram to the socket that ``NOTIFY_SOCKET`` names, which is abstract where it begins with ``@``."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1.0)
            sock.connect(address)
            sock.sendall(state.encode())
    except OSError:  # whoever listened is gone; the broker is none the worse for it
        return False
    return True


def fresh_memory(size: int) -> mmap:
    """Memory that is zero, and address space only where nothing was written to it. Raises ``OSError``."""
    import mmap

    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)


def is_seen(memory: mmap) -> bool:
    """Whether somebody has a view of it; true also where that cannot be told."""
    try:
        memory.resize(len(memory))
    except (BufferError, SystemError):  # the latter where there is no mremap
        return True
    return False


def wake_at(sock: Any, count: int) -> None:
    """Have a socket be readable once so many bytes are there, or the peer has closed; where that can be had."""
    option = getattr(socket, "SO_RCVLOWAT", None)
    if option is not None:
        with suppress(OSError):  # it is there and cannot be set, or the socket is closed
            sock.setsockopt(socket.SOL_SOCKET, option, count)

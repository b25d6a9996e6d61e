"""``fdatasync`` by the kernel's own threads, which wake the event loop when they are done (Linux AIO, ``IOCB_CMD_FDSYNC``).

A sync in a thread of ours costs the way there and back: the threads wait for each other and for the interpreter's lock,
some twelve switches for an acknowledgement that waits alone. Here it is one call to begin it, and one read of an
eventfd to learn of its end; what is synced and which errors are told is the same, since the kernel's thread calls what
``fdatasync`` calls, on the same open file.

Where the system has no such thing (another system or processor, a kernel before 4.18, a sandbox that forbids it, no
contexts left) there is none, and a thread does it. Source: ``fs/aio.c``, ``linux/aio_abi.h``; docs/decisions/0027.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from struct import Struct
from typing import Any

from ottla.capabilities import asynchronous_io

Done = Callable[[OSError | None], None]
"""What is called on the loop once a sync has ended: with None, or with why it failed."""

_IOCB = Struct("<QIIHhIQQqQII")
_EVENT = Struct("<QQqq")
_FDSYNC, _WITH_EVENTFD = 3, 1


class KernelSyncs:
    """Syncs under way, at most ``count`` at a time, of the files of one event loop."""

    def __init__(self, count: int) -> None:
        """Raises ``OSError`` where the system has no such thing. On any thread: it takes milliseconds (ctypes)."""
        calls = asynchronous_io()
        if calls is None:
            raise OSError("no asynchronous syncs on this system")
        import ctypes

        self._ctypes: Any = ctypes
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._call.restype = ctypes.c_long
        setup, self._destroy, self._get, self._submit = calls
        self._context = ctypes.c_ulong(0)
        if self._call(setup, count, ctypes.byref(self._context)) != 0:
            raise self._error()
        try:
            self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            self._call(self._destroy, self._context)
            raise
        self._count = count
        self._iocb = ctypes.create_string_buffer(_IOCB.size)
        self._pointers = (ctypes.c_void_p * 1)(ctypes.addressof(self._iocb))
        self._events = ctypes.create_string_buffer(_EVENT.size * count)
        self._number = 0
        self._under_way: dict[int, Done] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the ends of syncs told on ``loop``. Raises ``NotImplementedError`` if it watches no descriptors."""
        loop.add_reader(self._eventfd, self._ended)
        self._loop = loop

    def sync(self, descriptor: int, done: Done) -> bool:
        """Begin to sync the file's data; False if that can't be begun now, and ``done`` is not called then.

        The descriptor may be closed meanwhile: the kernel holds the open file.
        """
        if len(self._under_way) >= self._count:
            return False
        number = self._number = self._number + 1
        _IOCB.pack_into(
            self._iocb, 0, number, 0, 0, _FDSYNC, 0, descriptor, 0, 0, 0, 0, _WITH_EVENTFD, self._eventfd
        )  # fmt: skip
        if self._call(self._submit, self._context, self._ctypes.c_long(1), self._pointers) != 1:
            return False
        self._under_way[number] = done
        return True

    def close(self) -> None:
        """Wait for what is under way, tell nobody, and free everything."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._eventfd)
        self._under_way.clear()
        self._call(self._destroy, self._context)
        os.close(self._eventfd)

    def _ended(self) -> None:
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return
        long = self._ctypes.c_long
        count = self._call(self._get, self._context, long(0), long(self._count), self._events, None)
        if count < 0:
            raise self._error()  # EINTR, for one: then there was none
        found = [_EVENT.unpack_from(self._events, _EVENT.size * index) for index in range(count)]
        for number, _, result, _ in found:
            error = OSError(-result, os.strerror(-result)) if result < 0 else None
            try:
                self._under_way.pop(number)(error)
            except Exception as failed:  # others' syncs have ended as well
                told = {"message": "what waits for a sync failed", "exception": failed}
                asyncio.get_running_loop().call_exception_handler(told)

    def _error(self) -> OSError:
        number = self._ctypes.get_errno()
        return OSError(number, os.strerror(number))

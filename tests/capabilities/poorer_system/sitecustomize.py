"""Takes away what ``OTTLA_TEST_WITHOUT`` names, before anything else is imported.

``os.x``, ``socket.x``, ``time.x``, ``select.x`` are removed from their modules; the name of a module makes its
import fail; ``add_signal_handler`` is refused by the event loop, as on Windows; ``msvcrt`` stands for Windows's
way of locking, with a lock of this system behind it; ``proc`` hides /proc from ``open``.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import importlib
import os
import sys
import types


def _locking(descriptor: int, mode: int, size: int) -> None:
    assert mode == 2
    try:
        real_fcntl.lockf(descriptor, real_fcntl.LOCK_EX | real_fcntl.LOCK_NB, size, 0, os.SEEK_CUR)
    except OSError:
        raise OSError(errno.EACCES, "Permission denied") from None


def _take(name: str) -> None:
    if name == "add_signal_handler":
        import asyncio.unix_events as events

        def refuse(*_: object) -> None:
            raise NotImplementedError

        events._UnixSelectorEventLoop.add_signal_handler = refuse
    elif name == "proc":
        real_open = builtins.open

        def without_proc(file: object, *more: object, **named: object) -> object:
            if str(file).startswith("/proc"):
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", file)
            return real_open(file, *more, **named)

        builtins.open = without_proc
    elif name == "socket.AF_UNIX":
        import socket

        pair, unix = socket.socketpair, socket.AF_UNIX  # the event loop wants a pair everywhere
        socket.socketpair = lambda *_: pair(unix)
        del socket.AF_UNIX
    elif name == "os.statvfs":
        import shutil

        usage = type(shutil.disk_usage("/"))  # Windows has this by a call of its own
        del os.statvfs
        shutil.disk_usage = lambda path: usage(1 << 40, 0, 1 << 40)
    elif "." in name:
        module, _, attribute = name.partition(".")
        delattr(importlib.import_module(module), attribute)
    else:
        sys.modules[name] = None


real_fcntl = fcntl
for _name in filter(None, os.environ.get("OTTLA_TEST_WITHOUT", "").split(",")):
    if _name == "+msvcrt":
        import subprocess  # noqa: F401  # it would take this module for Windows's own

        sys.modules["msvcrt"] = types.ModuleType("msvcrt")
        sys.modules["msvcrt"].locking = _locking
        sys.modules["msvcrt"].LK_NBLCK = 2
    elif _name == "+O_BINARY":
        os.O_BINARY = 0
    else:
        _take(_name)

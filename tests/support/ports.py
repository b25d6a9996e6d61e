"""Ports that stay ours while a server that listens on them is down.

A port that was merely free a moment ago may be another process's when a server is started again. These lie below
the range that the system gives to outgoing connections, and each is held by a lock that ends with this process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_FIRST, _COUNT = 20_000, 12_000


class HeldPorts:
    """So many ports of the loopback, until ``release``."""

    def __init__(self, count: int) -> None:
        self._locks: list[int] = []
        self.ports: list[int] = []
        home = Path(tempfile.gettempdir()) / f"ottla-test-ports-{os.getuid()}"
        home.mkdir(exist_ok=True)
        start = random.SystemRandom().randrange(_COUNT)
        for step in range(_COUNT):
            port = _FIRST + (start + step) % _COUNT
            lock = _locked(home / str(port))
            if lock is None:
                continue
            if not _is_free(port):
                os.close(lock)
                continue
            self._locks.append(lock)
            self.ports.append(port)
            if len(self.ports) == count:
                return
        self.release()
        raise OSError(errno.EADDRINUSE, "no free ports")

    def release(self) -> None:
        """Others may have them."""
        while self._locks:
            os.close(self._locks.pop())


def _locked(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

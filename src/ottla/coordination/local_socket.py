"""Unix sockets at paths of any length: the system takes some 100 bytes, data directories may have more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BYTES_MAX = 100


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """What to bind or connect to, as long as the context. Raises ``OSError`` where there is no way."""
    if len(os.fsencode(path)) <= _BYTES_MAX:
        yield str(path)
        return
    if not os.path.isdir("/proc/self/fd"):
        raise OSError(f"{path} is too long for a socket's path: more than {_BYTES_MAX} bytes")
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)

"""A disk as Windows has it: what is open can be neither renamed, replaced nor removed, nor what holds it."""

from __future__ import annotations

import errno
import os
from typing import Any

from ottla.log.disk import Disk


class WindowsDisk(Disk):
    """Refuses with ``PermissionError``, as Windows does with a sharing violation."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.paths: dict[int, str] = {}
        self.refused: list[str] = []
        really_open, really_close = Disk.open, Disk.close

        def opened(path: str, *more: Any, **how: Any) -> int:
            descriptor = really_open(path, *more, **how)
            self.paths[descriptor] = os.path.abspath(path)
            return descriptor

        def closed(descriptor: int) -> None:
            self.paths.pop(descriptor, None)
            really_close(descriptor)

        def renamed(old: str, new: str) -> None:
            self._check(old, new)
            Disk.rename(old, new)

        def unlinked(path: str) -> None:
            self._check(path)
            Disk.unlink(path)

        self.open, self.close = opened, closed
        self.rename, self.unlink = renamed, unlinked

    def _check(self, *paths: str) -> None:
        for path in map(os.path.abspath, paths):
            for held in list(self.paths.values()):
                if held == path or held.startswith(path + os.sep):
                    self.refused.append(path)
                    raise PermissionError(errno.EACCES, "used by another process", path)

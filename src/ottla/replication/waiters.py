"""Requests that wait for a partition's high watermark.

Rules:
- A waiter for an offset is completed in the leader epoch in which it was made, or failed: reaching the
  offset in a later epoch is no acknowledgement (INVARIANTS 18).
- Appends come in offset order, so waiters do too: the ones that an advance completes stand first.
- A waiter whose request was given up (time-out, connection gone) is dropped when it comes up; it keeps
  nothing alive but itself.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from ottla.errors import ErrorCode


class Waiter(Protocol):
    """What is told when its offset is committed, or will not be."""

    def committed(self, token: object) -> None:
        """The high watermark has passed the offset."""
        ...

    def failed(self, token: object, code: ErrorCode) -> None:
        """It will not be known here whether the offset is committed."""
        ...


class CommitWaiters:
    """The waiters of one partition, in offset order."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: deque[tuple[int, Waiter, object]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, end_offset: int, waiter: Waiter, token: object) -> None:
        """Tell ``waiter`` (with ``token``) once the high watermark is at least ``end_offset``.

        A duplicate batch waits for an offset below the last one: it is put where it belongs.
        """
        queue = self._queue
        if not queue or queue[-1][0] <= end_offset:
            queue.append((end_offset, waiter, token))
            return
        position = len(queue)
        while position and queue[position - 1][0] > end_offset:
            position -= 1
        queue.insert(position, (end_offset, waiter, token))

    def advance(self, high_watermark: int) -> None:
        """Complete every waiter whose offset is now committed."""
        queue = self._queue
        while queue and queue[0][0] <= high_watermark:
            _, waiter, token = queue.popleft()
            waiter.committed(token)

    def fail_all(self, code: ErrorCode) -> None:
        """Leadership went, or the log directory failed: nobody is told that it is committed."""
        queue, self._queue = self._queue, deque()
        for _, waiter, token in queue:
            waiter.failed(token, code)

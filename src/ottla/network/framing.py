"""From a stream of bytes to frames: four bytes of length, then so many bytes.

Rules:
- Sans-IO: bytes are read into the memory that ``buffer`` gives out, and frames are taken with ``next_frame``.
- Every frame owns its memory, and it is writable: a handler may stamp records in place and may keep the
  frame after it has returned; nothing is ever read over it. A frame up to ``LARGE_FRAME_BYTES`` is copied
  out of the scratch buffer once; a larger one is read straight into its place, but for the first
  bytes of it that came together with the frame before. Who sends more than a scratch buffer at once is read by
  windows: larger frames that came whole are parts of one, and nothing is read over it while one of them is seen.
- A length is checked before anything is allocated, and allocated only once ``reserve`` has agreed. Of a large frame
  ``LARGE_FRAME_BYTES`` must have come before; then it reserves in steps, as more of it comes (``budget.Grower``).
  The memory it is given is address space at first: it is taken where bytes are written to it.
- The scratch buffer may be shared by all framers of an event loop: between a read and the next one, what a
  framer has not taken is moved out of it (``keep``), so that an idle connection costs no buffer. Beside what
  was reserved, a framer holds at most ``SCRATCH_BYTES`` of frames that nobody has taken.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ottla.capabilities import fresh_memory, is_seen
from ottla.network.budget import GROWTH, SMALL_BYTES_MAX, Grower

if TYPE_CHECKING:
    from mmap import mmap

SCRATCH_BYTES = 128 * 1024
"""How much is read at once when no large frame is under way. Twice as much made no odds."""

LARGE_FRAME_BYTES = 64 * 1024
"""A frame above this that is not wholly there yet is read into memory of its own.

Measured: copying 60 KB takes 3 us, while a read that must end with its frame costs another wake-up of 10 us.
"""

WINDOW_BYTES = 1024 * 1024
"""How much is read at once of a connection that fills the scratch buffer: several requests, appended together."""

WINDOWS_MAX = 4
"""How many windows an event loop has. While all are seen, everybody is read by the scratch buffer."""

WINDOW_PART_MIN = 4 * 1024
"""A smaller frame is copied out of a window: it is not worth holding one."""

REUSED_BYTES_MAX = 4 * 1024 * 1024
"""Memory of a larger frame is not kept."""

KEPT_BYTES_MAX = 8 * 1024 * 1024
"""How much memory of frames one event loop keeps for the next ones."""

_ONLY_FRAME_MIN = 8
_LENGTH = struct.Struct(">i")


class FrameError(ValueError):
    """A length that no peer of good will sends: negative, or above the limit."""


def new_scratch() -> bytearray:
    """A buffer for the framers of one event loop."""
    return bytearray(SCRATCH_BYTES)


def _unlimited(_size: int) -> bool:
    return True


class Growth(Protocol):
    """What a framer asks of the budget for frames that reserve in steps."""

    def first(self, size: int) -> int:
        """How many bytes to reserve first."""
        ...

    def grower(self, size: int, held: int) -> Grower:
        """The frame, when so many have been reserved."""
        ...

    def grow(self, grower: Grower, held: int, *, must: bool) -> bool:
        """Whether so many are held from now on."""
        ...

    def leave(self, grower: Grower) -> None:
        """It is given up."""
        ...


class FrameMemory:
    """The memory of large frames, used again: new memory of a megabyte costs as much as reading into it.

    A buffer is given out again once nobody sees it any more. That is the interpreter's to say: a mapping
    of which a memoryview lives cannot be closed. So whoever keeps a frame, or a part of it, keeps it.
    """

    __slots__ = ("_buffers", "_taken", "_window_taken", "_windows", "_windows_max", "kept_bytes")

    def __init__(self) -> None:
        self._buffers: list[mmap] = []
        self.kept_bytes = 0
        self._taken = False
        self._windows: list[mmap] = []
        self._windows_max = WINDOWS_MAX
        self._window_taken = False

    def take(self, size: int) -> memoryview:
        """``size`` writable bytes, with whatever they held."""
        self._taken = True
        for index, buffer in enumerate(self._buffers):
            if size <= len(buffer) <= 2 * size and not is_seen(buffer):
                if index:  # what is used stays in front
                    del self._buffers[index]
                    self._buffers.insert(0, buffer)
                return memoryview(buffer)[:size]
        if size > REUSED_BYTES_MAX:
            return memoryview(fresh_memory(size))
        buffer = fresh_memory(size + size // 8)
        self._buffers.insert(0, buffer)
        self.kept_bytes += len(buffer)
        while self.kept_bytes > KEPT_BYTES_MAX:
            self.kept_bytes -= len(self._buffers.pop())
        return memoryview(buffer)[:size]

    def window(self) -> memoryview | None:
        """``WINDOW_BYTES`` to read into, with whatever they held; None where all windows are seen, or none can be had."""
        self._window_taken = True
        for window in self._windows:
            if not is_seen(window):
                return memoryview(window)
        if len(self._windows) >= self._windows_max:
            return None
        try:
            window = fresh_memory(WINDOW_BYTES)
        except OSError:
            return None
        if is_seen(window):  # this system cannot tell: it would be seen for ever
            self._windows_max = 0
            return None
        self._windows.append(window)
        return memoryview(window)

    def sweep(self) -> None:
        """Called now and then: let go of memory that nobody has wanted since the last call."""
        if not self._window_taken:
            self._windows = [window for window in self._windows if is_seen(window)]
        self._window_taken = False
        if not self._taken:
            self._buffers.clear()
            self.kept_bytes = 0
        self._taken = False


class Framer:
    """Cuts one connection's bytes into frames.

    ``reserve(size)`` is asked before memory is taken for a frame; where it refuses, ``next_frame`` returns
    ``None`` and ``starved`` is the size that was asked for, until ``grant`` is called; nothing is read meanwhile. ``large_frames`` counts
    the frames that were given memory of their own. With a ``growth`` a large frame reserves in steps; it
    is ``grower`` then, and ``starved`` is what it needs more. There are windows only where ``memory`` is handed in:
    who reads answers keeps them for long.
    """

    __slots__ = (
        "_end",
        "_filled",
        "_frame",
        "_frame_bytes_max",
        "_granted",
        "_growth",
        "_memory",
        "_position",
        "_reserve",
        "_scratch",
        "_source",
        "_wide",
        "_window",
        "_windowed",
        "grower",
        "large_frames",
        "starved",
    )

    def __init__(
        self,
        frame_bytes_max: int,
        scratch: bytearray | None = None,
        reserve: Callable[[int], bool] = _unlimited,
        memory: FrameMemory | None = None,
        growth: Growth | None = None,
    ) -> None:
        self._scratch = memoryview(new_scratch() if scratch is None else scratch)
        self._frame_bytes_max = frame_bytes_max
        self._reserve = reserve
        self._source = self._scratch
        self._position = 0
        self._end = 0
        self._memory = FrameMemory() if memory is None else memory
        self._windowed = memory is not None
        self._wide = False
        self._window: memoryview | None = None
        self._frame: memoryview | None = None
        self._filled = 0
        self._granted = False
        self.starved = 0
        self.large_frames = 0
        self._growth = growth
        self.grower: Grower | None = None

    @property
    def reserved(self) -> int:
        """Bytes that ``reserve`` or ``grant`` gave for a frame that has not been taken yet."""
        if self.grower is not None:
            return self.grower.held
        if self._frame is not None:
            return len(self._frame)
        return self.starved if self._granted else 0

    @property
    def filled(self) -> int:
        """How many bytes of a large frame have come."""
        return self._filled if self._frame is not None else 0

    @property
    def missing(self) -> int:
        """How many bytes of a large frame have not come yet."""
        return len(self._frame) - self._filled if self._frame is not None else 0

    @property
    def wanting(self) -> int:
        """How many bytes of the frame under way have not come; 0 if none is, or its length is not known."""
        if self._frame is not None:
            return len(self._frame) - self._filled
        kept = self._end - self._position
        if kept < 4:
            return 0
        size: int = _LENGTH.unpack_from(self._source, self._position)[0]
        return max(0, size + 4 - kept)

    @property
    def crowded(self) -> bool:
        """Whether so much waits to be taken that nothing more is to be read: there may be no room for it."""
        if self._frame is not None:
            end = len(self._frame) if self.grower is None else self.grower.held
            return self._filled >= end
        return self._end - self._position >= LARGE_FRAME_BYTES

    def buffer(self) -> memoryview:
        """Where the next bytes go. Not empty unless a whole scratch buffer of frames waits to be taken, or
        the frame under way is starved.

        Nothing has changed until ``received`` is called: a read may turn out to bring nothing.
        """
        if self._frame is not None:
            end = len(self._frame) if self.grower is None else self.grower.held
            return self._frame[self._filled : end]
        kept = self._end - self._position
        if kept and self._source is self._window:
            return self._window[self._end :]
        self._window = None  # or it would be seen
        place = self._scratch
        if self._wide:
            self._window = self._memory.window()
            if self._window is not None:
                place = self._window
        if not kept:
            return place
        place[:kept] = self._source[self._position : self._end]
        return place[kept:]

    def received(self, count: int) -> None:
        """``count`` bytes have been written to what ``buffer`` gave out last."""
        if self._frame is not None:
            self._filled += count
            return
        if self._source is self._window:
            self._end += count
            return
        self._end += count - self._position
        self._position = 0
        if self._window is None:
            self._source = self._scratch
            self._wide = self._windowed and self._end == len(self._scratch)
        else:
            self._source = self._window
            self._wide = self._end >= len(self._scratch)

    def only_frame(self, count: int) -> memoryview | None:
        """The frame that ``count`` bytes are which were just read, and of which ``received`` has not been told.

        None, and nothing has happened, unless they are one small frame and nothing else.
        """
        if (
            self._position != self._end
            or self._frame is not None
            or self._window is not None
            or not _ONLY_FRAME_MIN < count <= SMALL_BYTES_MAX
            or self._granted
            or self.starved
        ):
            return None
        (size,) = _LENGTH.unpack_from(self._scratch)
        if size + 4 != count or size > self._frame_bytes_max or not self._reserve(size):
            return None
        return memoryview(bytearray(self._scratch[4:count]))

    def keep_several(self, count: int) -> bool:
        """Keep the ``count`` bytes that were just read, and of which ``received`` has not been told, for ``next_frame``.

        False, and nothing has happened, unless they begin with a small frame, whole, that is not all of them.
        """
        if (
            self._position != self._end
            or self._frame is not None
            or self._window is not None
            or count <= _ONLY_FRAME_MIN
            or self._granted
            or self.starved
        ):
            return False
        (size,) = _LENGTH.unpack_from(self._scratch)
        if not 0 <= size <= SMALL_BYTES_MAX or size + 4 >= count:
            return False
        self.received(count)
        self.keep()
        return True

    def next_frame(self) -> memoryview | None:
        """The next whole frame, or ``None`` if there is none yet. Raises ``FrameError``."""
        if self._frame is not None:
            return self._finished()
        start = self._position + 4
        if start > self._end:
            return None
        (size,) = _LENGTH.unpack_from(self._source, self._position)
        if not 0 <= size <= self._frame_bytes_max:
            raise FrameError(
                f"frame of {size} bytes where 0 to {self._frame_bytes_max} are allowed"
            )
        stop = start + size
        if stop > self._end and (
            size <= LARGE_FRAME_BYTES or self._end - start < LARGE_FRAME_BYTES
        ):
            return None
        whole = stop <= self._end
        first = size
        if (
            not whole and self._growth is not None
        ):  # a window may have brought more than a first step
            first = max(self._growth.first(size), self._end - start)
        if self._granted:
            self._granted = False
            self.starved = 0
        elif not self._reserve(first):
            self.starved = first
            return None
        if whole:
            self._position = stop
            part = self._source[start:stop]
            if size >= WINDOW_PART_MIN and self._source is self._window:
                return part
            return memoryview(bytearray(part))
        self._begin(size, start, first)
        return None

    def _begin(self, size: int, start: int, first: int) -> None:
        try:
            frame = self._memory.take(size)
        except OSError as error:
            self._granted, self.starved = True, first  # ``abandon`` gives it back
            raise FrameError(f"no memory for a frame of {size} bytes: {error}") from error
        self.large_frames += 1
        if size > WINDOW_BYTES // 2:  # a window would hold the beginning of one, which is copied
            self._wide = False
        self._frame = frame
        self._filled = filled = self._end - start
        frame[:filled] = self._source[start : self._end]
        self._position = self._end
        if first < size and self._growth is not None:
            self.grower = self._growth.grower(size, first)
            self._grow(self.grower)

    def _grow(self, grower: Grower) -> None:
        """Hold more in time, so that a read need not end where a step does."""
        wanted = min(grower.size, GROWTH * self._filled)
        if wanted <= grower.held or self._growth is None:
            return
        must = self._filled >= grower.held
        if not self._growth.grow(grower, wanted, must=must):
            if must:
                self.starved = wanted - grower.held
        elif grower.held == grower.size:
            self.grower = None

    def abandon(self) -> int:
        """Forget everything, and return how many reserved bytes are to be given back."""
        reserved = self.reserved
        if self.grower is not None and self._growth is not None:
            self._growth.leave(self.grower)
            self.grower = None
        self._frame = None
        self._granted = False
        self.starved = 0
        self._position = self._end = 0
        self._source = self._scratch
        self._window = None
        return reserved

    def grant(self) -> None:
        """What ``starved`` asked for has been reserved after all: ``next_frame`` may go on."""
        if self._frame is None:
            self._granted = True
            return
        self.starved = 0
        if self.grower is not None and self.grower.held == self.grower.size:
            self.grower = None

    def keep(self) -> None:
        """Move what has not been taken out of the scratch buffer, which others are going to use.

        A window is held while whole frames in it wait, or one that has no room yet; else it is let go.
        """
        if self._position == self._end:
            self._position = self._end = 0
            self._source = self._scratch
            self._window = None
        elif self._source is self._scratch or (
            self._source is self._window and self._end - self._position < 4 + LARGE_FRAME_BYTES
        ):
            kept = bytes(self._source[self._position : self._end])
            self._source = memoryview(kept)
            self._position = 0
            self._end = len(kept)
            self._window = None

    def _finished(self) -> memoryview | None:
        frame = self._frame
        if frame is None or self._filled < len(frame):
            if self.grower is not None and not self.starved:
                self._grow(self.grower)
            return None
        self._frame = None
        return frame

"""Who goes on when: connections that have more to do than fits in a turn go one after the other.

Rules:
- A turn is ``REQUESTS_PER_TURN`` requests or ``TURN_S``, whichever is over first. A request that is handled in
  steps goes on in the turns of its connection, too.
- Who has more to do waits in one queue, and between two looks at the sockets those in it get about one turn
  together. So who sends little is handled when it comes, whoever else is busy and however many they are.
- A connection is *busy* while its last two turns took ``BUSY_S`` each (one long turn happens to everybody: the
  collector has its rounds). Several of these wait in the queue for each turn, those with newly read requests
  as well; a single one does not, as there is nobody to give way to.
- What a request lets others know (a Fetch that waits for its records) is looked at when what was ready with it has been
  read, handled and answered, and in the same call of the loop where that is known to be over (``soon``).
- What counts is the thread's own time: who is not run because other processes are has not had a turn of it. That
  clock is dear (1 us), so that it is asked only about who had a long turn last time by the loop's clock, and only
  where there are several of these.

Sans-IO: the loop's ``call_soon`` and the clocks are handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

REQUESTS_PER_TURN = 64
"""How many requests of one connection are handled before the others have their turn."""

TURN_S = 0.002
"""How long requests of one connection are handled before that: of costly ones fewer than so many."""

SHARED_TURN_S = 0.001
"""The same while others wait for their turns. A change of turns costs some 20 us."""

BUSY_S = 0.0005
"""Whose turn takes longer waits for its next one, where others do so, too."""


class Turns:
    """The turns of the connections of one event loop.

    ``time`` is its clock and ``cpu`` its thread's, in seconds; the latter is dearer to ask.
    """

    __slots__ = ("_call_soon", "_called", "_queue", "_soon", "busy", "cpu", "long", "time")

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        time: Callable[[], float],
        cpu: Callable[[], float],
    ) -> None:
        self.time = time
        self.cpu = cpu
        self.busy = 0
        """How many connections are busy."""
        self.long = 0
        """How many had a long turn last time, by ``time``."""
        self._call_soon = call_soon
        self._called = False
        self._queue: deque[Callable[[], None]] = deque()
        self._soon: deque[Callable[[], None]] | None = None

    def reading(self) -> None:
        """Several connections are going to be read, and ``read_over`` called behind that."""
        if self._soon is None:
            self._soon = deque()

    def read_over(self) -> None:
        """They are read, and what came is handled: now is the time of those who asked for ``soon``."""
        soon, self._soon = self._soon, None
        try:
            while soon:
                soon.popleft()()
        finally:  # one that fails is no other's failure
            for callback in soon or ():
                self._call_soon(callback)

    def soon(self, callback: Callable[[], None]) -> None:
        """Have it called once, behind what is being read and handled now; in the loop's next turn if nobody knows how long."""
        if self._soon is None:
            self._call_soon(callback)
        else:
            self._soon.append(callback)

    @property
    def contended(self) -> bool:
        """Whether a busy connection has to wait for its turn."""
        return self.busy > 1 or bool(self._queue)

    def end(self, begin: float) -> float:
        """When, by ``time``, a turn that began then is over."""
        return begin + (SHARED_TURN_S if self._queue else TURN_S)

    def end_again(self, begun: float | None) -> float:
        """That time is over: how long the turn goes on, as the thread has not run for so long; 0 if it has.

        ``begun``: what ``cpu`` said when the turn began; ``None`` if it was not asked.
        """
        if begun is None:
            return 0.0
        left = (SHARED_TURN_S if self._queue else TURN_S) - (self.cpu() - begun)
        return self.time() + left if left > 0 else 0.0

    def is_busy(self, begun: float | None) -> bool:
        """Whether a turn that seemed long is so by the thread's clock, as far as that was asked at its beginning."""
        return begun is not None and self.cpu() - begun > BUSY_S

    def wait(self, turn: Callable[[], None]) -> None:
        """Have ``turn`` called when those before it had theirs."""
        self._queue.append(turn)
        if not self._called:
            self._called = True
            self._call_soon(self._run)

    def _run(self) -> None:
        """Some turns that are together about as long as one, and the rest behind what has been read."""
        queue = self._queue
        end = self.cpu() + SHARED_TURN_S / 2
        try:
            while queue:
                queue.popleft()()
                if self.cpu() >= end:
                    break
        finally:
            self._called = bool(queue)
            if queue:
                self._call_soon(self._run)

"""Counting durations, cheaply enough for every request. A leaf that everyone may import.

A histogram's bucket is the binary exponent of the duration in seconds, which the number has in it already: no
search, no shift. What is shown is every other of them.
"""

from __future__ import annotations

from math import frexp

LOWEST = -30
"""The exponent of the first bucket: a nanosecond, which is also added to everything, for 0 has no exponent."""
BUCKETS = 64
TINY_S = 2.0**LOWEST

BOUNDS = tuple(range(-16, 5, 2))
"""The exponents that are shown as bounds: 2**-16 s (15 microseconds), 2**-14 s, … 16 s."""


class Histogram:
    """How long something took, over the life of the process."""

    __slots__ = ("buckets", "total_s")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one; not negative, and shorter than 2**33 seconds."""
        self.total_s += seconds
        self.buckets[frexp(seconds + TINY_S)[1] - LOWEST] += 1

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.buckets)

    def cumulative(self) -> list[tuple[float, int]]:
        """Upper bounds in seconds, and how many were below each."""
        return [(2.0**bound, sum(self.buckets[: bound - LOWEST + 1])) for bound in BOUNDS]

"""Chance for back-offs and choices, of the client's own.

A program that seeds ``random`` wants the same numbers again: no thread of ours draws from there.
"""

from __future__ import annotations

from random import Random

dice = Random()

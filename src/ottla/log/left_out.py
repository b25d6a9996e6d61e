"""The partitions of a log directory that are out of service: why, and what was checkpointed of them.

The rule kept here: what is known of such a log stays in the checkpoints until it is back, or deleted. Where it
is synced to tells damage from a torn tail, its start which records are deleted, and both of them with its high
watermark which offsets were given away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Key = tuple[str, int]


class LeftOut:
    """``reasons``: why each of them is out of service."""

    __slots__ = ("_offsets", "reasons")

    def __init__(self) -> None:
        self.reasons: dict[Key, str] = {}
        self._offsets: dict[str, dict[Key, int]] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(self.reasons)

    def put(self, key: Key, reason: str, offsets: Mapping[str, int | None]) -> None:
        """``offsets``: what each checkpoint, by its name, says of the partition; None: nothing."""
        self.reasons[key] = reason
        for name, offset in offsets.items():
            if offset is not None:
                self._offsets.setdefault(name, {})[key] = offset

    def take(self, key: Key) -> None:
        """It is deleted."""
        self.reasons.pop(key, None)
        for offsets in self._offsets.values():
            offsets.pop(key, None)

    def added_to(self, name: str, offsets: Mapping[Key, int]) -> dict[Key, int]:
        """The content of the checkpoint ``name``: ``offsets``, and what it says of these."""
        return {**self._offsets.get(name, {}), **offsets}

"""What a verification finds, and how bad it is."""

from __future__ import annotations

from typing import NamedTuple

DAMAGE = "damage"
"""Bytes that were records are not what was written, or are gone."""
FAULT = "fault"
"""Something that the broker makes anew from the batches (an index, a snapshot, a checkpoint) is wrong."""
NOTE = "note"
"""Worth knowing, and no harm."""

SEVERITIES = (DAMAGE, FAULT, NOTE)

FINDINGS_MAX = 100
"""The most findings that are kept of one partition; the others are counted."""


class Finding(NamedTuple):
    """One thing that is not as it should be.

    ``kind`` is a word for programs; ``position`` a byte in the file at ``path``. ``first_offset`` and
    ``last_offset`` (inclusive) are the offsets that are affected, where that is known. ``quarantines``:
    whether the partition must not be served for it (INVARIANTS 23).
    """

    severity: str
    kind: str
    path: str
    message: str
    position: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None
    quarantines: bool = False

    def as_fields(self) -> dict[str, object]:
        """The finding for JSON: what is not known is left out."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Findings:
    """The findings of one partition: the first ``FINDINGS_MAX``, the number of all, by severity."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts = dict.fromkeys(SEVERITIES, 0)
        self.quarantining: Finding | None = None

    def add(self, finding: Finding) -> None:
        """Note ``finding``. What quarantines is kept whatever came before."""
        self.counts[finding.severity] += 1
        if len(self.kept) < FINDINGS_MAX:
            self.kept.append(finding)
        if finding.quarantines and self.quarantining is None:
            self.quarantining = finding

    @property
    def sound(self) -> bool:
        """Whether there is neither damage nor a fault."""
        return not self.counts[DAMAGE] and not self.counts[FAULT]

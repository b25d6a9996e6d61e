"""How far a group is behind, in records and in seconds: the arithmetic, without a broker.

Records: the log's end minus the committed offset. Seconds: how long the oldest record that the group has
not committed has been waiting, which is now minus that record's time; 0 where nothing waits. Both are
unknown (None) where the group has committed nothing, and the seconds also where that record could not be
read. A committed offset before the log's start counts from the start: what retention removed waits no
more, and the row's note says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Owner(NamedTuple):
    """The member that reads a partition now."""

    member_id: str
    client_id: str
    host: str


class Committed(NamedTuple):
    """What is known of one partition of a group."""

    topic: str
    partition: int
    committed: int | None
    log_start: int
    log_end: int
    owner: Owner | None = None

    @property
    def next_offset(self) -> int | None:
        """The first record that waits; None where nothing waits or nothing was committed."""
        if self.committed is None:
            return None
        first = max(self.committed, self.log_start)
        return first if first < self.log_end else None


class Lag(NamedTuple):
    """One partition's row. ``seconds`` are exact to the millisecond."""

    topic: str
    partition: int
    committed: int | None
    log_end: int
    records: int | None
    seconds: float | None
    owner: Owner | None
    note: str | None


def lag_of(position: Committed, first_waiting_ms: int | None, now_ms: int) -> Lag:
    """The lag of one partition; ``first_waiting_ms`` is the time of the record at ``next_offset``."""
    committed = position.committed
    records: int | None = None
    seconds: float | None = None
    note: str | None = None
    if committed is not None:
        records = max(position.log_end - max(committed, position.log_start), 0)
        if records == 0:
            seconds = 0.0
        elif first_waiting_ms is not None and first_waiting_ms >= 0:
            seconds = max(now_ms - first_waiting_ms, 0) / 1000
        if committed < position.log_start:
            note = f"{position.log_start - committed} records were removed unread"
        elif committed > position.log_end:
            note = "the offset is past the log's end"
    return Lag(
        position.topic,
        position.partition,
        committed,
        position.log_end,
        records,
        seconds,
        position.owner,
        note,
    )


def total(lags: Iterable[Lag]) -> tuple[int, float | None]:
    """All records that wait, and the longest wait in seconds (None where no wait is known)."""
    known = list(lags)
    waits = [lag.seconds for lag in known if lag.seconds is not None]
    return sum(lag.records or 0 for lag in known), max(waits) if waits else None

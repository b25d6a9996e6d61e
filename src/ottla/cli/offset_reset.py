"""Where ``ottla group reset`` moves a group: the rules, without a broker.

A new offset never leaves the log: one before its start becomes the start, one past its end the end, as
with Kafka's own tool. A time is looked up by the caller (``Target.timestamp_ms``); a partition without a
record that late moves to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from ottla.cli.failures import UsageError
from ottla.cli.times import parse_duration, parse_time

Partition = tuple[str, int]


class Kind(Enum):
    """What a target is given by."""

    EARLIEST = "earliest"
    LATEST = "latest"
    OFFSET = "offset"
    SHIFT = "shift"
    TIME = "time"


class Target(NamedTuple):
    """Where to: ``number`` is an offset or a shift in records, ``timestamp_ms`` a time."""

    kind: Kind
    number: int = 0
    timestamp_ms: int = -1


class Position(NamedTuple):
    """What is known of a partition; ``committed`` is None where the group has no offset."""

    topic: str
    partition: int
    committed: int | None
    log_start: int
    log_end: int
    offset_at_time: int | None = None


class Move(NamedTuple):
    """One partition's step; ``note`` says why the new offset is another one than was asked for."""

    topic: str
    partition: int
    committed: int | None
    new_offset: int
    log_start: int
    log_end: int
    note: str | None = None


def target_of(
    *,
    to_earliest: bool,
    to_latest: bool,
    to_offset: int | None,
    shift_by: int | None,
    to_datetime: str | None,
    by_duration: str | None,
    now_ms: int,
) -> Target:
    """The one target among the options; raises UsageError for none or several, or a bad time."""
    targets: list[Target] = []
    try:
        if to_earliest:
            targets.append(Target(Kind.EARLIEST))
        if to_latest:
            targets.append(Target(Kind.LATEST))
        if to_offset is not None:
            targets.append(Target(Kind.OFFSET, number=to_offset))
        if shift_by is not None:
            targets.append(Target(Kind.SHIFT, number=shift_by))
        if to_datetime is not None:
            targets.append(Target(Kind.TIME, timestamp_ms=parse_time(to_datetime, now_ms)))
        if by_duration is not None:
            timestamp_ms = now_ms - parse_duration(by_duration)
            targets.append(Target(Kind.TIME, timestamp_ms=timestamp_ms))
    except ValueError as error:
        raise UsageError(str(error)) from None
    if len(targets) != 1:
        raise UsageError(
            "say where to with one of --to-earliest, --to-latest, --to-offset, --shift-by, "
            "--to-datetime, --by-duration"
        )
    return targets[0]


def plan(target: Target, positions: Iterable[Position]) -> list[Move]:
    """The new offset of each partition, by topic and partition."""
    return [_move(target, position) for position in sorted(positions, key=_order)]


def _order(position: Position) -> Partition:
    return position.topic, position.partition


def _move(target: Target, position: Position) -> Move:
    start, end = position.log_start, position.log_end
    wanted: int
    note: str | None = None
    if target.kind is Kind.EARLIEST:
        wanted = start
    elif target.kind is Kind.LATEST:
        wanted = end
    elif target.kind is Kind.OFFSET:
        wanted = target.number
    elif target.kind is Kind.TIME:
        wanted = position.offset_at_time if position.offset_at_time is not None else end
        note = None if position.offset_at_time is not None else "no record that late: the log's end"
    elif position.committed is None:
        wanted = max(start, end + target.number) if target.number < 0 else end
        note = "the group had no offset: counted from the log's end"
    else:
        wanted = position.committed + target.number
    new_offset = min(max(wanted, start), end)
    if new_offset > wanted:
        note = f"{wanted} is before the log's start"
    elif new_offset < wanted:
        note = f"{wanted} is past the log's end"
    return Move(
        position.topic, position.partition, position.committed, new_offset, start, end, note
    )


def parse_selection(texts: Iterable[str]) -> dict[str, set[int] | None]:
    """``TOPIC`` and ``TOPIC:0,2-4`` texts as topic -> partitions (None: all); raises UsageError."""
    result: dict[str, set[int] | None] = {}
    for text in texts:
        topic, colon, numbers = text.partition(":")
        if not topic:
            raise UsageError(f"--topic wants TOPIC or TOPIC:0,2-4, got {text!r}")
        if not colon:
            result[topic] = None
            continue
        found = _parse_numbers(text, numbers)
        known = result.setdefault(topic, set())
        if known is not None:
            known |= found
    return result


def select(
    selection: Mapping[str, set[int] | None], partitions: Mapping[str, Iterable[int]]
) -> list[Partition]:
    """The partitions that ``selection`` names among those that exist; raises UsageError for others."""
    result: list[Partition] = []
    for topic, wanted in selection.items():
        existing = set(partitions.get(topic, ()))
        if not existing:
            raise UsageError(f"there is no topic {topic}")
        missing = sorted((wanted or set()) - existing)
        if missing:
            listed = ", ".join(map(str, missing))
            raise UsageError(f"topic {topic} has no partition {listed}")
        result += [(topic, number) for number in sorted(wanted or existing)]
    return result


def _parse_numbers(text: str, numbers: str) -> set[int]:
    result: set[int] = set()
    for part in numbers.split(","):
        low, dash, high = part.partition("-")
        bounds = [low, high] if dash else [low, low]
        if not all(bound.isascii() and bound.isdigit() and len(bound) < 7 for bound in bounds):
            raise UsageError(f"--topic wants TOPIC or TOPIC:0,2-4, got {text!r}")
        result |= set(range(int(bounds[0]), int(bounds[1]) + 1))
    return result

"""Logging: events in words with named fields; never a record's contents.

A thin front over the standard ``logging``, so that importing a room costs nothing: on a terminal structlog
renders the events (``configure``), and is imported when the first line is written.

What peers chose (client ids, names of topics and groups) is written escaped and cut, and no event is written
so often that it fills a disk.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO, TypeAlias

Render: TypeAlias = Callable[[Any, str, dict[str, Any]], Any]
"""A line of an event's logger, level and fields, as structlog's renderers make it."""


class Logger:
    """Writes events of one module; fields are keyword arguments."""

    __slots__ = ("_log",)

    def __init__(self, name: str) -> None:
        self._log = logging.getLogger(name)

    @property
    def is_debug(self) -> bool:
        """Whether DEBUG is written: who would have to gather what it says asks first."""
        return self._log.isEnabledFor(logging.DEBUG)

    def debug(self, event: str, **fields: Any) -> None:
        """What a developer of the broker wants to see."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What happened in the normal course of things."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What an operator should look at in working hours."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, error: BaseException | None = None, **fields: Any) -> None:
        """What went wrong; with ``error``, its traceback."""
        self._write(logging.ERROR, event, fields, error)

    def _write(
        self, level: int, event: str, fields: dict[str, Any], error: BaseException | None = None
    ) -> None:
        if self._log.isEnabledFor(level):
            exc_info = (type(error), error, error.__traceback__) if error is not None else None
            self._log.log(level, event, extra={"fields": fields}, exc_info=exc_info, stacklevel=3)


def logger(name: str) -> Logger:
    """The logger of a module: ``log = logger(__name__)``."""
    return Logger(name)


TEXT_LENGTH_MAX = 2_000
"""A value that is longer is cut: what a peer chose must not fill the disk."""

BURST = 200
PER_SECOND = 2.0
PEERS_BURST = 50
PEERS_PER_SECOND = 0.5
"""How often one event is written at once, and how often in the long run; less of what any peer can cause."""

_EVENTS_MAX = 1_000


def printable(text: str, *, lines: bool = False) -> str:
    """``text`` as one line that a terminal cannot take for commands: control characters are escaped, and what is
    longer than ``TEXT_LENGTH_MAX`` is cut. ``lines``: line breaks stay (a traceback)."""
    if len(text) > TEXT_LENGTH_MAX and not lines:
        text = f"{text[:TEXT_LENGTH_MAX]}… ({len(text):,} characters)"
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or (lines and one == "\n") else ascii(one)[1:-1] for one in text
    )


def _shown(value: Any) -> Any:
    """A field's value as it may be written: plain values as they are, all else as bounded text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"  # whatever they are, they are somebody's
    return printable(value if isinstance(value, str) else str(value))


class _Flood(logging.Filter):
    """Lets an event through so often as ``BURST`` and ``PER_SECOND`` say, and tells how many it kept back.

    An event is a logger's words; one with a field ``peer`` is what anybody on the network can cause.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._buckets: dict[tuple[str, str], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        fields = getattr(record, "fields", {})
        peers = "peer" in fields
        burst, rate = (PEERS_BURST, PEERS_PER_SECOND) if peers else (BURST, PER_SECOND)
        now = self._clock()
        key = (record.name, str(record.msg))
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _EVENTS_MAX:
                self._buckets.clear()
            bucket = self._buckets[key] = [burst, now, 0]
        left = min(burst, bucket[0] + (now - bucket[1]) * rate)
        bucket[1] = now
        if left < 1:
            bucket[0] = left
            bucket[2] += 1
            return False
        bucket[0] = left - 1
        if bucket[2]:
            record.__dict__["fields"] = {**fields, "suppressed": int(bucket[2])}
            bucket[2] = 0
        return True


class _LazyFormatter(logging.Formatter):
    """Coloured columns (structlog's) on a terminal, one JSON object a line elsewhere."""

    def __init__(self, *, terminal: bool, broker: int | None) -> None:
        super().__init__()
        self._terminal = terminal
        self._process = {} if broker is None else {"broker": broker}
        self._render: Render | None = None

    def format(self, record: logging.LogRecord) -> str:
        from datetime import UTC, datetime

        if self._render is None:
            self._render = _columns() if self._terminal else _json_line()
        event: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat("T", "milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": printable(record.getMessage()),
            **self._process,
        }
        for name, value in getattr(record, "fields", {}).items():
            event.setdefault(name, _shown(value))
        if record.exc_info:
            event["exception"] = printable(self.formatException(record.exc_info), lines=True)
        return str(self._render(None, record.levelname.lower(), event))


def _columns() -> Render:
    from structlog.dev import ConsoleRenderer

    return ConsoleRenderer()


def _json_line() -> Render:
    """What structlog's JSONRenderer does; importing that (and rich with it) takes a service more than it ever writes."""
    import json

    return lambda _, level, event: json.dumps(event, default=str)


def configure(
    level: str = "INFO", stream: TextIO | None = None, *, broker: int | None = None
) -> None:
    """Send every event at ``level`` and above to ``stream`` (standard error by default).

    ``broker`` stands in every event, where several of them write to one stream."""
    target = stream if stream is not None else sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(_LazyFormatter(terminal=target.isatty(), broker=broker))
    handler.addFilter(_Flood())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)

"""Logging: events in words with named fields; never a record's contents.

A thin front over the standard ``logging``, so that importing a room costs nothing: structlog renders the
events (``configure``), and is imported when the first line is written.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO


class Logger:
    """Writes events of one module; fields are keyword arguments."""

    __slots__ = ("_log",)

    def __init__(self, name: str) -> None:
        self._log = logging.getLogger(name)

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


class _LazyFormatter(logging.Formatter):
    """Renders with structlog: coloured columns on a terminal, one JSON object a line elsewhere."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal
        self._render: Any = None

    def format(self, record: logging.LogRecord) -> str:
        from datetime import UTC, datetime

        if self._render is None:
            import structlog

            self._render = (
                structlog.dev.ConsoleRenderer()
                if self._terminal
                else structlog.processors.JSONRenderer(default=str)
            )
        event: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat("T", "milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return str(self._render(None, record.levelname.lower(), event))


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every event at ``level`` and above to ``stream`` (standard error by default)."""
    target = stream if stream is not None else sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(_LazyFormatter(terminal=target.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)

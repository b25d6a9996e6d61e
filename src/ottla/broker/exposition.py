"""Prometheus's text format (version 0.0.4): families of samples as lines. Knows no metric."""

from __future__ import annotations

from collections.abc import Mapping

from ottla.logs import printable
from ottla.metering import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, object]
_NONE: Labels = {}


class Exposition:
    """Lines that grow family by family."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._name = ""

    def family(self, name: str, kind: str, help_text: str) -> None:
        """Begin a family; the samples that follow are its own. ``kind``: counter, gauge or histogram."""
        self._name = name
        self._lines.append(f"# HELP {name} {help_text}\n# TYPE {name} {kind}")

    def sample(self, value: float, labels: Labels = _NONE) -> None:
        """One sample of the family."""
        self._lines.append(f"{self._name}{_braced(labels)} {_number(value)}")

    def histogram(self, histogram: Histogram, labels: Labels = _NONE) -> None:
        """The samples of one histogram, in seconds."""
        name, count = self._name, histogram.count
        for bound_s, below in histogram.cumulative():
            self._lines.append(f"{name}_bucket{_braced({**labels, 'le': bound_s})} {below}")
        self._lines.append(f"{name}_bucket{_braced({**labels, 'le': '+Inf'})} {count}")
        self._lines.append(f"{name}_sum{_braced(labels)} {_number(histogram.total_s)}")
        self._lines.append(f"{name}_count{_braced(labels)} {count}")

    def gauge(self, name: str, help_text: str, value: float | None) -> None:
        """A family of one sample; nothing where the value is not known."""
        if value is not None:
            self.family(name, "gauge", help_text)
            self.sample(value)

    def counter(self, name: str, help_text: str, value: float) -> None:
        """A family of one counter, whose name ends with ``_total``."""
        self.family(name, "counter", help_text)
        self.sample(value)

    def encode(self) -> bytes:
        """The text."""
        return ("\n".join(self._lines) + "\n").encode()


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: object) -> str:
    return printable(str(value)).replace("\\", "\\\\").replace('"', '\\"')


def _number(value: float) -> str:
    return repr(value) if isinstance(value, float) else str(int(value))

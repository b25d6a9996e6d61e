"""The version, as text: reading a distribution's metadata would cost a fifth of a broker's start."""

from __future__ import annotations

VERSION = "0.1.0"

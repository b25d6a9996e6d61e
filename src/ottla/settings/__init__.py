"""Settings: what can be set on a broker and on a topic, checked the same way everywhere.

A leaf of pure functions and tables that every room may import; the one reader of text here,
``properties``, parses strings that others have read. ``definitions`` is the front.
"""

from __future__ import annotations

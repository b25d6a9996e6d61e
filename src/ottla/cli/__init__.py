"""The command ``ottla``: a broker to run, and tools for topics, records, groups and log files.

``entry.main`` is the way in. ``ottla serve`` goes past typer and rich, because a broker is up before they
would be imported; every other command is a typer command. Exit codes: 0 done, 1 failed, 2 asked wrongly.
"""

from __future__ import annotations

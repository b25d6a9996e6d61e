"""All settings of the benchmark, in the order in which they run: what no goal hangs on comes last."""

from __future__ import annotations

from bench.peers import (
    clients,
    latency,
    memory,
    partitions,
    programs,
    replication,
    saturation,
    starting,
)
from bench.peers.cells import Setting


def all_settings() -> list[Setting]:
    """Each module of works has its own."""
    return [
        *starting.settings(),
        *memory.settings(),
        *saturation.settings(),
        *programs.settings(),
        *latency.settings(),
        *replication.settings(),
        *clients.settings(),
        *partitions.settings(),
        *latency.settings_of_defaults(),
    ]

"""What every client of a cluster is told: where it is and how patient to be."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

DEFAULT_PORT = 9092

_CONNECTION = ("client_id", "request_timeout_ms", "metadata_max_age_ms", "allow_auto_create_topics")
_SHARED = ("retry_backoff_ms", "retry_backoff_max_ms")


class ConnectionSettings(NamedTuple):
    """Times in milliseconds; Kafka's defaults."""

    bootstrap: tuple[tuple[str, int], ...]
    client_id: str = "ottla"
    request_timeout_ms: int = 30_000
    connect_timeout_ms: int = 10_000
    retry_backoff_ms: int = 100
    retry_backoff_max_ms: int = 1_000
    reconnect_backoff_ms: int = 50
    reconnect_backoff_max_ms: int = 1_000
    metadata_max_age_ms: int = 300_000
    allow_auto_create_topics: bool = True


def parse_bootstrap(bootstrap: str | Sequence[str] | None) -> tuple[tuple[str, int], ...]:
    """Addresses out of ``"host:port,host:port"`` or a list of such.

    None means ``OTTLA_BOOTSTRAP`` from the environment, or ``localhost:9092``. IPv6 addresses stand in
    brackets. Raises ``ValueError`` for what is no address.
    """
    if bootstrap is None:
        bootstrap = os.environ.get("OTTLA_BOOTSTRAP") or f"localhost:{DEFAULT_PORT}"
    parts = bootstrap.split(",") if isinstance(bootstrap, str) else list(bootstrap)
    addresses = []
    for part in (part.strip() for part in parts):
        if not part:
            continue
        host, colon, port = part.rpartition(":")
        if not colon or part.endswith("]"):
            host, port = part, str(DEFAULT_PORT)
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"not an address of a broker: {part!r}")
        addresses.append((host, int(port)))
    if not addresses:
        raise ValueError("no address of a broker")
    return tuple(addresses)


def split_options(
    bootstrap: str | Sequence[str] | None, options: Mapping[str, Any], client_id: str
) -> tuple[ConnectionSettings, dict[str, Any]]:
    """The settings of the connections out of a client's keyword arguments, and the other arguments.

    The retry back-off is both sides'. Raises ``ValueError`` for what cannot be.
    """
    rest = dict(options)
    shared = {name: rest[name] for name in _SHARED if name in rest}
    own = {name: rest.pop(name) for name in _CONNECTION if name in rest}
    numbers = {name: value for name, value in (own | shared).items() if name.endswith("_ms")}
    check_positive(**numbers)
    settings = ConnectionSettings(
        parse_bootstrap(bootstrap), **({"client_id": client_id} | own | shared)
    )
    return settings, rest


def check_positive(**values: float) -> None:
    """Raise ``ValueError`` for the first setting that is negative."""
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name} must not be negative: {value}")

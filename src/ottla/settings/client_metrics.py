"""The settings of a client-metrics subscription (KIP-714): which metrics of which clients, and how often.

Rules: as with every resource an alteration is checked whole and nothing is half done. A subscription is there
while it has a setting. Source: ``ClientMetricsConfigs``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.settings.alter import Operation, apply_operations
from ottla.settings.setting import INT, LIST, MEDIUM, Setting, SettingError, Value

ALL_METRICS = "*"
INTERVAL_DEFAULT_MS = 300_000
INTERVAL_MIN_MS = 100
INTERVAL_MAX_MS = 3_600_000
NAME_LENGTH_MAX = 249

CLIENT_METRICS_SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("metrics", LIST, (), None, MEDIUM,
            "Prefixes of the metrics' names, comma-separated; * for all of them."),
        Setting("interval.ms", INT, INTERVAL_DEFAULT_MS, None, MEDIUM,
            "How often a client pushes, from 100 ms to an hour. In milliseconds."),
        Setting("match", LIST, (), None, MEDIUM,
            "Which clients: NAME=regular expression, comma-separated; all of them have to fit."),
    )
}  # fmt: skip

MATCH_NAMES = frozenset(
    {
        "client_instance_id",
        "client_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    }
)


class Subscription(NamedTuple):
    """A subscription, parsed. A client has it where each pattern in ``match`` fits its fact of that name."""

    metrics: tuple[str, ...]
    interval_ms: int
    match: dict[str, re.Pattern[str]]


def check_name(name: str) -> None:
    """Raise INVALID_REQUEST unless a subscription may have this name."""
    if not name:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Subscription name can't be empty")
    if len(name) > NAME_LENGTH_MAX or name in (".", "..") or not name.isprintable():
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Illegal subscription name")
    if "/" in name:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "A subscription name can't have a slash")


def alter_client_metrics(
    current: Mapping[str, str], operations: Iterable[Operation]
) -> dict[str, str]:
    """The settings of a subscription after ``operations``.

    Raises KafkaError: INVALID_REQUEST for a name or an interval that can't be, INVALID_CONFIG for a value.
    """

    def definition(name: str) -> tuple[Setting, Value]:
        setting = CLIENT_METRICS_SETTINGS.get(name)
        if setting is None:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"Unknown client metrics configuration: {name}"
            )
        return setting, setting.default

    result = apply_operations(current, operations, definition)
    parse(result)
    return result


def parse(config: Mapping[str, str]) -> Subscription:
    """The subscription of ``config``; raises KafkaError as ``alter_client_metrics``."""
    values = {
        name: setting.parse(config[name]) if name in config else setting.default
        for name, setting in CLIENT_METRICS_SETTINGS.items()
    }
    metrics, interval_ms, match = values["metrics"], values["interval.ms"], values["match"]
    assert isinstance(metrics, tuple)
    assert isinstance(interval_ms, int)
    assert isinstance(match, tuple)
    if not INTERVAL_MIN_MS <= interval_ms <= INTERVAL_MAX_MS:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"Invalid value {interval_ms} for interval.ms, interval must be between "
            f"{INTERVAL_MIN_MS} and {INTERVAL_MAX_MS} (1 hour)",
        )
    return Subscription(metrics, interval_ms, dict(_pattern(text) for text in match))


def _pattern(text: str) -> tuple[str, re.Pattern[str]]:
    name, _, expression = text.partition("=")
    name = name.strip()
    if name not in MATCH_NAMES or not expression.strip() or "=" in expression:
        raise SettingError(f"Illegal client matching pattern: {text}")
    try:
        return name, re.compile(expression.strip())
    except (re.error, OverflowError, RecursionError):
        raise SettingError(f"Illegal client matching pattern: {text}") from None

"""Where a broker's settings come from: a file, the environment, ``--set``, options of their own.

Later sources win: defaults < file < ``KAFKA_...`` < ``OTTLA_...`` < ``--set`` < options.

The environment: ``OTTLA_LOG_RETENTION_MS`` is ``log.retention.ms``; a name after ``OTTLA_`` that nobody
knows is an error, but for those in ``RESERVED``. ``KAFKA_LOG_RETENTION_MS`` is taken too, as Kafka's own
container image does, so that a compose file written for it works; there a name that is no setting
(``KAFKA_HEAP_OPTS``) is passed over in silence, as it is most likely meant for something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ottla.settings import properties
from ottla.settings.broker_settings import BROKER_SETTINGS
from ottla.settings.setting import SettingError

ENVIRONMENT_PREFIX = "OTTLA_"
KAFKA_ENVIRONMENT_PREFIX = "KAFKA_"

# Variables with our prefix that are no broker settings.
RESERVED = frozenset({"OTTLA_BOOTSTRAP", "OTTLA_INTERPRETED", "OTTLA_LOG_LEVEL"})
RESERVED_PREFIXES = ("OTTLA_TEST_", "OTTLA_BENCH_")


class Given(NamedTuple):
    """A setting as somebody wrote it; ``origin`` says where, for messages."""

    name: str
    text: str
    origin: str


def from_file(text: str, path: str) -> list[Given]:
    """The settings in the text of a ``server.properties`` file; raises SettingError."""
    try:
        return [
            Given(item.key, item.value, f"{path}, line {item.line}")
            for item in properties.parse(text)
        ]
    except properties.PropertiesError as error:
        raise SettingError(f"{path} is no properties file: {error}") from None


def from_environment(environment: Mapping[str, str]) -> list[Given]:
    """The settings among the environment's variables, Kafka's before ours."""
    kafkas: list[Given] = []
    ours: list[Given] = []
    for variable in sorted(environment):
        if variable.startswith(ENVIRONMENT_PREFIX):
            if variable not in RESERVED and not variable.startswith(RESERVED_PREFIXES):
                name = _setting_name(variable.removeprefix(ENVIRONMENT_PREFIX))
                ours.append(Given(name, environment[variable], variable))
        elif variable.startswith(KAFKA_ENVIRONMENT_PREFIX):
            name = _setting_name(variable.removeprefix(KAFKA_ENVIRONMENT_PREFIX))
            if name in BROKER_SETTINGS or _is_known_to_kafka(name):
                kafkas.append(Given(name, environment[variable], variable))
    return kafkas + ours


def from_assignments(assignments: Iterable[str], option: str = "--set") -> list[Given]:
    """The settings of ``NAME=VALUE`` texts; raises SettingError."""
    result: list[Given] = []
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or not name.strip():
            raise SettingError(f"{option} wants NAME=VALUE, got {assignment!r}")
        result.append(Given(name.strip(), value, option))
    return result


def from_options(options: Mapping[str, object], origin: str = "option") -> list[Given]:
    """Settings given in a program: bools, numbers, lists and strings."""
    from ottla.settings.setting import to_text

    result: list[Given] = []
    for name, value in options.items():
        if isinstance(value, list):
            value = tuple(value)
        text = to_text(value) if isinstance(value, bool | int | float | tuple) else str(value)
        result.append(Given(name, text, origin))
    return result


def unknown_setting(name: str, origin: str | None = None) -> SettingError:
    """The error for a name that nobody knows, with the name that was perhaps meant."""
    import difflib

    from ottla.settings.topic_settings import BROKER_SYNONYMS, TOPIC_SETTINGS

    message = f"Unknown setting {name}"
    if name in TOPIC_SETTINGS and name in BROKER_SYNONYMS:
        message += (
            f": it is a topic's; the broker's default for it is {BROKER_SYNONYMS[name][0][0]}"
        )
    elif name in TOPIC_SETTINGS:
        message += ": it is a topic's, and no broker setting gives its default"
    elif close := difflib.get_close_matches(name.lower(), BROKER_SETTINGS, n=1):
        message += f"; did you mean {close[0]}?"
    return SettingError(message, origin)


def _setting_name(variable: str) -> str:
    return variable.lower().replace("_", ".")


def _is_known_to_kafka(name: str) -> bool:
    from ottla.settings.known import is_known_to_kafka

    return is_known_to_kafka(name)

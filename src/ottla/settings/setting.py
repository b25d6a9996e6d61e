"""One setting: its type, what it may hold, and how text becomes a value and a value text.

Rules: text is parsed as Kafka's ``ConfigDef.parseType`` parses it (trimmed, decimal, bounded to the type's
bits), and a refusal names the setting, the value and what is allowed, in Kafka's words, because clients of
every language show them to their users.
"""

from __future__ import annotations

from typing import NamedTuple

from ottla.errors import ErrorCode, KafkaError

# The types, numbered as DescribeConfigs numbers them (Kafka: DescribeConfigsResponse.ConfigType).
BOOLEAN = 1
STRING = 2
INT = 3
SHORT = 4
LONG = 5
DOUBLE = 6
LIST = 7
CLASS = 8
PASSWORD = 9

TYPE_NAMES = (
    "",
    "BOOLEAN",
    "STRING",
    "INT",
    "SHORT",
    "LONG",
    "DOUBLE",
    "LIST",
    "CLASS",
    "PASSWORD",
)
_BITS = {INT: 32, SHORT: 16, LONG: 64}

HIGH = "high"
MEDIUM = "medium"
LOW = "low"

# When a broker setting may change while it runs (Kafka: DynamicBrokerConfig).
READ_ONLY = "read-only"
PER_BROKER = "per-broker"
CLUSTER_WIDE = "cluster-wide"

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1
DOUBLE_MAX = 1.7976931348623157e308

HIDDEN = "[hidden]"

Value = bool | int | float | str | tuple[str, ...] | None


class SettingError(KafkaError):
    """A setting that can't be taken; goes to a client as INVALID_CONFIG.

    ``str()`` is one line for a user. ``origin`` says where the value was written ("server.properties,
    line 4", "--set"), when that is known.
    """

    def __init__(self, message: str, origin: str | None = None) -> None:
        super().__init__(ErrorCode.INVALID_CONFIG, message)
        self.text = message
        self.origin = origin

    def __str__(self) -> str:
        return f"{self.text} ({self.origin})" if self.origin else self.text


def invalid(name: str, value: object, reason: str) -> SettingError:
    """A refusal in Kafka's words."""
    return SettingError(f"Invalid value {value} for configuration {name}: {reason}")


class Range(NamedTuple):
    """Both ends belong to the range; None leaves an end open."""

    low: float | None = None
    high: float | None = None


class LevelRange(NamedTuple):
    """A range with one more value outside it (gzip's -1 for "the codec's own")."""

    low: int
    high: int
    extra: int


Choices = tuple[str, ...]


class Setting(NamedTuple):
    """The definition of one setting.

    ``default`` is the typed value; ``allowed`` a range, the strings to choose from (each item of a list
    is one of them), or None for anything of the type. ``update`` is the broker setting's mode of change;
    topic settings all change while the broker runs.
    """

    name: str
    type: int
    default: Value
    allowed: Range | LevelRange | Choices | None
    importance: str
    doc: str
    update: str = READ_ONLY

    @property
    def attribute(self) -> str:
        """The setting's name as a Python attribute."""
        return self.name.replace(".", "_")

    @property
    def sensitive(self) -> bool:
        """Whether the value must never be shown."""
        return self.type == PASSWORD

    def parse(self, text: str | None) -> Value:
        """The typed value of ``text``; raises SettingError."""
        if text is None:
            raise invalid(self.name, "null", "Value must be non-null")
        value = _PARSERS[self.type](self, text.strip())
        self.check(value)
        return value

    def check(self, value: Value) -> None:
        """Raise SettingError when a typed value is not allowed."""
        allowed = self.allowed
        if allowed is None:
            return
        if isinstance(allowed, LevelRange):
            assert isinstance(value, int)
            if value != allowed.extra and not allowed.low <= value <= allowed.high:
                reason = f"Value must be between {allowed.low} and {allowed.high}"
                raise invalid(self.name, value, f"{reason} or equal to {allowed.extra}")
        elif isinstance(allowed, Range):
            assert isinstance(value, int | float)
            if allowed.low is not None and value < allowed.low:
                raise invalid(self.name, value, f"Value must be at least {allowed.low}")
            if allowed.high is not None and value > allowed.high:
                raise invalid(self.name, value, f"Value must be no more than {allowed.high}")
        else:
            for item in value if isinstance(value, tuple) else (to_text(value),):
                if item not in allowed:
                    expected = ", ".join(allowed)
                    raise invalid(self.name, item, f"String must be one of: {expected}")


def to_text(value: Value) -> str:
    """A value as Kafka writes it: lower-case booleans, comma-separated lists, Java's doubles."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float) and "e" in str(value):
        digits, _, exponent = str(value).partition("e")
        return f"{digits if '.' in digits else digits + '.0'}E{int(exponent)}"
    return "" if value is None else str(value)


def _parse_boolean(setting: Setting, text: str) -> Value:
    lowered = text.lower()
    if lowered not in ("true", "false"):
        raise invalid(setting.name, text, "Expected value to be either true or false")
    return lowered == "true"


def _parse_integer(setting: Setting, text: str) -> Value:
    digits = text[1:] if text[:1] in ("+", "-") else text
    # int() alone would take "1_000" and other scripts' digits, and spend minutes on a million of them.
    if digits.isascii() and digits.isdigit() and len(digits) <= 32:
        value = int(text)
        half = 1 << (_BITS[setting.type] - 1)
        if -half <= value < half:
            return value
    raise invalid(setting.name, text, f"Not a number of type {TYPE_NAMES[setting.type]}")


def _parse_double(setting: Setting, text: str) -> Value:
    try:
        value = float(text) if text.isascii() and "_" not in text else float("nan")
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise invalid(setting.name, text, "Not a number of type DOUBLE")
    return value


def _parse_string(setting: Setting, text: str) -> Value:
    return text


def _parse_list(setting: Setting, text: str) -> Value:
    return tuple(item.strip() for item in text.split(",")) if text else ()


_PARSERS = {
    BOOLEAN: _parse_boolean,
    STRING: _parse_string,
    INT: _parse_integer,
    SHORT: _parse_integer,
    LONG: _parse_integer,
    DOUBLE: _parse_double,
    LIST: _parse_list,
    CLASS: _parse_string,
    PASSWORD: _parse_string,
}

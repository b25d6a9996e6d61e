"""The settings of one topic, typed: what the log and the controller read.

A topic's value is its own override, else the broker's value of the first broker setting behind it, else
Kafka's default. Overrides are checked as Kafka checks them (``LogConfig.validate``), with its messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ottla.settings.setting import LONG_MAX, SettingError, Value, to_text
from ottla.settings.topic_settings import BROKER_SYNONYMS, TOPIC_SETTINGS

if TYPE_CHECKING:
    from ottla.settings.broker_config import BrokerConfig


class TopicConfig:
    """Every topic setting as an attribute, dots as underscores; treat it as read-only.

    ``overrides`` are the topic's own settings as text; ``ignored`` the overrides that a lenient
    construction left out. Two are equal when all their values are.
    """

    __slots__ = (
        "ignored",
        "overrides",
        *(setting.attribute for setting in TOPIC_SETTINGS.values()),
    )

    overrides: dict[str, str]
    ignored: tuple[str, ...]

    cleanup_policy: tuple[str, ...]
    compression_gzip_level: int
    compression_lz4_level: int
    compression_type: str
    compression_zstd_level: int
    delete_retention_ms: int
    file_delete_delay_ms: int
    flush_messages: int
    flush_ms: int
    follower_replication_throttled_replicas: tuple[str, ...]
    index_interval_bytes: int
    leader_replication_throttled_replicas: tuple[str, ...]
    local_retention_bytes: int
    local_retention_ms: int
    max_compaction_lag_ms: int
    max_message_bytes: int
    message_downconversion_enable: bool
    message_format_version: str
    message_timestamp_after_max_ms: int
    message_timestamp_before_max_ms: int
    message_timestamp_difference_max_ms: int
    message_timestamp_type: str
    min_cleanable_dirty_ratio: float
    min_compaction_lag_ms: int
    min_insync_replicas: int
    preallocate: bool
    remote_log_copy_disable: bool
    remote_log_delete_on_disable: bool
    remote_storage_enable: bool
    retention_bytes: int
    retention_ms: int
    segment_bytes: int
    segment_index_bytes: int
    segment_jitter_ms: int
    segment_ms: int
    unclean_leader_election_enable: bool

    @classmethod
    def from_overrides(
        cls,
        broker: BrokerConfig | None,
        overrides: Mapping[str, str] | None = None,
        *,
        lenient: bool = False,
    ) -> TopicConfig:
        """The settings of a topic with ``overrides`` on a broker with ``broker`` (None: the defaults).

        Raises SettingError (INVALID_CONFIG) for a name that is no topic setting, a bad value, or values
        that contradict each other. ``lenient`` leaves such overrides out instead: a topic that was stored
        by another version must still load.
        """
        config = cls.__new__(cls)
        for name, setting in TOPIC_SETTINGS.items():
            setattr(config, setting.attribute, default_value(name, broker))
        taken: dict[str, str] = {}
        ignored: list[str] = []
        for name, text in (overrides or {}).items():
            found = TOPIC_SETTINGS.get(name)
            try:
                if found is None:
                    raise unknown_topic_setting(name)
                setattr(config, found.attribute, found.parse(text))
                taken[name] = text
            except SettingError:
                if not lenient:
                    raise
                ignored.append(name)
        config.overrides = taken
        config.ignored = tuple(ignored)
        config._check(lenient)
        return config

    @classmethod
    def of(cls, **values: Value) -> TopicConfig:
        """Kafka's defaults with some values changed, by attribute: ``TopicConfig.of(segment_bytes=4096)``."""
        by_attribute = {setting.attribute: name for name, setting in TOPIC_SETTINGS.items()}
        overrides = {by_attribute[key]: to_text(value) for key, value in values.items()}
        return cls.from_overrides(None, overrides)

    def value(self, name: str) -> Value:
        """The value of a topic setting by its name."""
        value: Value = getattr(self, TOPIC_SETTINGS[name].attribute)
        return value

    @property
    def compact(self) -> bool:
        """Whether the log keeps the newest record of every key."""
        return "compact" in self.cleanup_policy

    @property
    def delete(self) -> bool:
        """Whether old segments are removed by age and size."""
        return "delete" in self.cleanup_policy

    @property
    def log_append_time(self) -> bool:
        """Whether records carry the broker's time."""
        return self.message_timestamp_type == "LogAppendTime"

    @property
    def timestamp_before_max_ms(self) -> int:
        """How far back a record's time may lie, the older setting considered. In milliseconds."""
        if self.message_timestamp_before_max_ms != LONG_MAX:
            return self.message_timestamp_before_max_ms
        return self.message_timestamp_difference_max_ms

    @property
    def timestamp_after_max_ms(self) -> int:
        """How far ahead a record's time may lie, the older setting considered. In milliseconds."""
        if self.message_timestamp_after_max_ms != LONG_MAX:
            return self.message_timestamp_after_max_ms
        return self.message_timestamp_difference_max_ms

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TopicConfig):
            return NotImplemented
        return all(self.value(name) == other.value(name) for name in TOPIC_SETTINGS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TopicConfig({self.overrides})"

    def _check(self, lenient: bool) -> None:
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms:
            if not lenient:
                raise SettingError(
                    "conflict topic config setting "
                    f"min.compaction.lag.ms ({self.min_compaction_lag_ms}) > "
                    f"max.compaction.lag.ms ({self.max_compaction_lag_ms})"
                )
            self.min_compaction_lag_ms = self.max_compaction_lag_ms


def default_value(name: str, broker: BrokerConfig | None) -> Value:
    """A topic setting's value on a topic without an override."""
    if broker is not None and name in BROKER_SYNONYMS:
        # The first name's attribute holds the value of the whole family, in the topic setting's unit.
        value: Value = getattr(broker, BROKER_SYNONYMS[name][0][0].replace(".", "_"))
        return value
    return TOPIC_SETTINGS[name].default


def unknown_topic_setting(name: str) -> SettingError:
    """The error for a name that is no topic setting, with the name that was perhaps meant."""
    import difflib

    message = f"Unknown topic config name: {name}"
    by_broker_name = {
        broker_name: topic_name
        for topic_name, names in BROKER_SYNONYMS.items()
        for broker_name, _ in names
    }
    if name in by_broker_name:
        message += f" (the topic's name for it is {by_broker_name[name]})"
    elif close := difflib.get_close_matches(name.lower(), TOPIC_SETTINGS, n=1):
        message += f" (did you mean {close[0]}?)"
    return SettingError(message)

"""A topic's settings in the form that the log asks for them: plain attributes, nothing derived twice.

One object a log, shared by its segments and changed in place by ``apply`` when the topic's settings
change, so that the path of an append reads slots and no settings object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.records.crc import crc32c

if TYPE_CHECKING:
    from ottla.settings.definitions import TopicConfig

_COMPRESSION_OF_PRODUCER = "producer"


class LogRules:
    """What a ``TopicConfig`` says about one log. Times in milliseconds, sizes in bytes."""

    __slots__ = (
        "after_max_ms",
        "before_max_ms",
        "compact",
        "compression",
        "delete",
        "file_delete_delay_ms",
        "flush_messages",
        "flush_ms",
        "index_interval_bytes",
        "log_append_time",
        "message_bytes_max",
        "retention_bytes",
        "retention_ms",
        "segment_bytes",
        "segment_index_bytes",
        "segment_jitter_ms",
        "segment_ms",
    )

    def __init__(self, config: TopicConfig) -> None:
        self.apply(config)

    def apply(self, config: TopicConfig) -> None:
        """Take over other settings; segments that are written already keep what they have."""
        self.segment_bytes: int = config.segment_bytes
        self.segment_ms: int = config.segment_ms
        self.segment_jitter_ms: int = config.segment_jitter_ms
        self.segment_index_bytes: int = config.segment_index_bytes
        self.index_interval_bytes: int = config.index_interval_bytes
        self.retention_ms: int = config.retention_ms
        self.retention_bytes: int = config.retention_bytes
        self.file_delete_delay_ms: int = config.file_delete_delay_ms
        self.message_bytes_max: int = config.max_message_bytes
        self.log_append_time: bool = config.log_append_time
        self.before_max_ms: int = config.timestamp_before_max_ms
        self.after_max_ms: int = config.timestamp_after_max_ms
        self.flush_messages: int = config.flush_messages
        self.flush_ms: int = config.flush_ms
        self.delete: bool = config.delete
        self.compact: bool = config.compact
        if self.compact:  # so that nothing stays uncompacted for longer in an active segment
            self.segment_ms = min(self.segment_ms, config.max_compaction_lag_ms)
        compression = config.compression_type
        self.compression: str | None = (
            None if compression == _COMPRESSION_OF_PRODUCER else compression
        )

    def jitter_ms(self, path: str, base_offset: int) -> int:
        """How much earlier than ``segment.ms`` this one segment rolls.

        Spread like chance by the segment's name, and the same each time it is opened, and on every replica.
        """
        bound = min(self.segment_jitter_ms, self.segment_ms)
        if bound <= 0:
            return 0
        name = path.rpartition("/")[2]
        return crc32c(f"{name} {base_offset}".encode()) % bound

"""Which topic names there may be, and which belong to the broker itself.

Source: Kafka's ``org.apache.kafka.common.internals.Topic``.
"""

from __future__ import annotations

from collections.abc import Iterable

from ottla.errors import ErrorCode, KafkaError

GROUP_METADATA_TOPIC = "__consumer_offsets"
TRANSACTION_STATE_TOPIC = "__transaction_state"
SHARE_GROUP_STATE_TOPIC = "__share_group_state"
CLUSTER_METADATA_TOPIC = "__cluster_metadata"
"""KRaft's own log: never a topic here, but nobody may take its name."""

INTERNAL_TOPICS = frozenset(
    (GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC, SHARE_GROUP_STATE_TOPIC)
)
"""Topics that Metadata marks as internal."""

NAME_LENGTH_MAX = 249
"""What fits a file name along with ``-<partition>`` and the suffixes of a log directory."""

_LEGAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def reason_invalid(name: str) -> str | None:
    """Why ``name`` can't be a topic's, in Kafka's words, or None."""
    if not name:
        return "the empty string is not allowed"
    if name in (".", ".."):
        return f"'{name}' is not allowed"
    if len(name) > NAME_LENGTH_MAX:
        return (
            f"the length of '{name[:NAME_LENGTH_MAX]}...' is longer than "
            f"the max allowed length {NAME_LENGTH_MAX}"
        )
    if not _LEGAL.issuperset(name):
        return (
            f"'{name}' contains one or more characters other than "
            "ASCII alphanumerics, '.', '_' and '-'"
        )
    return None


def validate(name: str) -> None:
    """Raise INVALID_TOPIC_EXCEPTION unless ``name`` may be a topic's."""
    reason = reason_invalid(name)
    if reason is not None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {reason}")


def is_valid(name: str) -> bool:
    """Whether ``name`` may be a topic's."""
    return reason_invalid(name) is None


def is_internal(name: str) -> bool:
    """Whether the brokers keep their own state in it."""
    return name in INTERNAL_TOPICS


def has_collision_characters(name: str) -> bool:
    """Whether ``name`` could collide: metric names can't tell ``.`` from ``_``."""
    return "." in name or "_" in name


def unify_collision_characters(name: str) -> str:
    """Two names collide when these are equal."""
    return name.replace(".", "_")


def collisions(name: str, topics: Iterable[str]) -> list[str]:
    """Those of ``topics`` that ``name`` collides with, sorted."""
    if not has_collision_characters(name):
        return []
    unified = unify_collision_characters(name)
    return sorted(topic for topic in topics if unify_collision_characters(topic) == unified)

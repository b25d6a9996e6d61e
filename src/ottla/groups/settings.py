"""The limits of groups, by Kafka's names with underscores; the broker's settings fill them in.

A room's own tuple, so that a test or a tool can run groups without a broker's configuration.
"""

from __future__ import annotations

from typing import NamedTuple


class GroupSettings(NamedTuple):
    """What a coordinator keeps to; every limit of the room. Defaults are Kafka's."""

    group_min_session_timeout_ms: int = 6_000
    group_max_session_timeout_ms: int = 1_800_000
    group_initial_rebalance_delay_ms: int = 3_000
    group_max_size: int = 2_147_483_647
    group_max_pending_members: int = 10_000
    """Members of one group that were told their id and have not come back with it. Ours: Kafka has no bound."""
    group_members_max_bytes: int = 128 * 1024 * 1024
    """Memory that the members of all groups may take together: what they tell of themselves, their assignments,
    ids that are out. Ours: Kafka has no bound."""
    group_new_member_join_timeout_ms: int = 300_000
    """How long a new member's first JoinGroup may wait before it is given up (a constant in Kafka)."""
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_minutes: int = 10_080
    offsets_retention_check_interval_ms: int = 600_000
    offsets_commit_timeout_ms: int = 5_000
    offsets_topic_num_partitions: int = 50

    @classmethod
    def of(cls, config: object) -> GroupSettings:
        """Those attributes that ``config`` has, and the defaults for the others."""
        own: dict[str, int] = cls._field_defaults
        return cls(**{name: getattr(config, name, value) for name, value in own.items()})

"""The topics in which the broker keeps its own state, and the settings that they are created with.

Source: ``AutoTopicCreationManager``, ``GroupCoordinatorService.groupMetadataTopicConfigs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.settings.broker_config import BrokerConfig

CONSUMER_OFFSETS = "__consumer_offsets"


def partitions_of(topic: str, config: BrokerConfig) -> int:
    """How many partitions an internal topic gets; fixed for good, as groups hash to them."""
    assert topic == CONSUMER_OFFSETS
    return config.offsets_topic_num_partitions


def replication_factor_of(topic: str, config: BrokerConfig, *, alone: bool) -> int:
    """Its replication factor: as set; but 1 for a broker that will always be the only one.

    In a cluster the topic waits until there are so many brokers: a first one must not decide for all.
    """
    assert topic == CONSUMER_OFFSETS
    return 1 if alone else config.offsets_topic_replication_factor


def settings_of(topic: str, config: BrokerConfig) -> dict[str, str]:
    """Its topic settings."""
    assert topic == CONSUMER_OFFSETS
    return {
        "cleanup.policy": "compact",
        "compression.type": "producer",
        "segment.bytes": str(config.offsets_topic_segment_bytes),
    }

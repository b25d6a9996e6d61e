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


def replication_factor_of(topic: str, config: BrokerConfig, live_brokers: int) -> int:
    """Its replication factor: as set, but no more than there are brokers."""
    assert topic == CONSUMER_OFFSETS
    return min(config.offsets_topic_replication_factor, live_brokers)


def settings_of(topic: str, config: BrokerConfig) -> dict[str, str]:
    """Its topic settings."""
    assert topic == CONSUMER_OFFSETS
    return {
        "cleanup.policy": "compact",
        "compression.type": "producer",
        "segment.bytes": str(config.offsets_topic_segment_bytes),
    }

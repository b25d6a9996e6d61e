"""What the controller must know of topic settings (``controller.topics.TopicRules``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ottla.settings.topic_config import TopicConfig

if TYPE_CHECKING:
    from ottla.settings.broker_config import BrokerConfig


class BrokersTopicRules:
    """Topic settings as this broker takes them."""

    def __init__(self, config: Callable[[], BrokerConfig]) -> None:
        """``config`` gives the broker's settings as they are now."""
        self._config = config

    def validate(self, overrides: Mapping[str, str]) -> None:
        """Raise ``KafkaError`` (INVALID_CONFIG) for settings that no topic can have."""
        TopicConfig.from_overrides(self._config(), overrides)

    def allows_unclean_election(self, overrides: Mapping[str, str]) -> bool:
        """Whether a leader may be elected that has not all that was acknowledged."""
        return TopicConfig.from_overrides(
            self._config(), overrides, lenient=True
        ).unclean_leader_election_enable

"""The front of the settings: every definition, and the classes that hold a broker's and a topic's values."""

from __future__ import annotations

from ottla.settings.broker_config import BrokerConfig
from ottla.settings.broker_settings import BROKER_SETTINGS, OUR_DEFAULTS, documentation
from ottla.settings.listeners import Listener
from ottla.settings.setting import Setting, SettingError, Value, to_text
from ottla.settings.topic_config import TopicConfig
from ottla.settings.topic_settings import BROKER_SYNONYMS, TOPIC_SETTINGS

__all__ = [
    "BROKER_SETTINGS",
    "BROKER_SYNONYMS",
    "OUR_DEFAULTS",
    "TOPIC_SETTINGS",
    "BrokerConfig",
    "Listener",
    "Setting",
    "SettingError",
    "TopicConfig",
    "Value",
    "documentation",
    "to_text",
]

"""UpdateFeatures, API key 57, versions 0-2."""

from __future__ import annotations

from ottla.wire.schema import Message, V, array, boolean, int8, int16, int32, since, string


class FeatureUpdateKey(Message):
    """Feature update key."""

    feature: str = string(default="")
    max_version_level: int = int16(default=0)
    allow_downgrade: bool = boolean(default=False, versions=V(0, 0))
    upgrade_type: int = int8(default=1, versions=since(1))


class UpdateFeaturesRequest(Message, key=57, versions=(0, 2), flexible_from=0):
    """Kafka's ``UpdateFeaturesRequest``."""

    timeout_ms: int = int32(default=60000)
    feature_updates: list[FeatureUpdateKey] = array(FeatureUpdateKey, default=list)
    validate_only: bool = boolean(default=False, versions=since(1))


class UpdatableFeatureResult(Message):
    """Updatable feature result."""

    feature: str = string(default="")
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))


class UpdateFeaturesResponse(Message, key=57, versions=(0, 2), flexible_from=0):
    """Kafka's ``UpdateFeaturesResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    results: list[UpdatableFeatureResult] = array(
        UpdatableFeatureResult, default=list, versions=V(0, 1)
    )

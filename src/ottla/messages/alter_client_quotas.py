"""AlterClientQuotas, API key 49, versions 0-1."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, float64, int16, int32, since, string


class EntityData(Message):
    """Entity data."""

    entity_type: str = string(default="")
    entity_name: str | None = string(default="", nullable=since(0))


class OpData(Message):
    """Op data."""

    key: str = string(default="")
    value: float = float64(default=0.0)
    remove: bool = boolean(default=False)


class EntryData(Message):
    """Entry data."""

    entity: list[EntityData] = array(EntityData, default=list)
    ops: list[OpData] = array(OpData, default=list)


class AlterClientQuotasRequest(Message, key=49, versions=(0, 1), flexible_from=1):
    """Kafka's ``AlterClientQuotasRequest``."""

    entries: list[EntryData] = array(EntryData, default=list)
    validate_only: bool = boolean(default=False)


class AlterClientQuotasResponseEntryData(Message):
    """Alter client quotas response entry data."""

    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    entity: list[EntityData] = array(EntityData, default=list)


class AlterClientQuotasResponse(Message, key=49, versions=(0, 1), flexible_from=1):
    """Kafka's ``AlterClientQuotasResponse``."""

    throttle_time_ms: int = int32(default=0)
    entries: list[AlterClientQuotasResponseEntryData] = array(
        AlterClientQuotasResponseEntryData, default=list
    )

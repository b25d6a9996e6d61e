"""DescribeClientQuotas, API key 48, versions 0-1."""

from __future__ import annotations

from ottla.wire.schema import Message, array, boolean, float64, int8, int16, int32, since, string


class ComponentData(Message):
    """Component data."""

    entity_type: str = string(default="")
    match_type: int = int8(default=0)
    match: str | None = string(default="", nullable=since(0))


class DescribeClientQuotasRequest(Message, key=48, versions=(0, 1), flexible_from=1):
    """Kafka's ``DescribeClientQuotasRequest``."""

    components: list[ComponentData] = array(ComponentData, default=list)
    strict: bool = boolean(default=False)


class EntityData(Message):
    """Entity data."""

    entity_type: str = string(default="")
    entity_name: str | None = string(default="", nullable=since(0))


class ValueData(Message):
    """Value data."""

    key: str = string(default="")
    value: float = float64(default=0.0)


class EntryData(Message):
    """Entry data."""

    entity: list[EntityData] = array(EntityData, default=list)
    values: list[ValueData] = array(ValueData, default=list)


class DescribeClientQuotasResponse(Message, key=48, versions=(0, 1), flexible_from=1):
    """Kafka's ``DescribeClientQuotasResponse``."""

    throttle_time_ms: int = int32(default=0)
    error_code: int = int16(default=0)
    error_message: str | None = string(default="", nullable=since(0))
    entries: list[EntryData] | None = array(EntryData, default=list, nullable=since(0))

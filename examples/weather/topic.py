"""The topic that the programs of the weather application share; whichever starts first creates it."""

from __future__ import annotations

from ottla import Admin, ErrorCode, KafkaError

TOPIC = "weather.observations"
PARTITIONS = 3
OBSERVED_AT = "observed-at"
"""The header that carries when the station observed, as ISO 8601 in UTC."""


def ensure_topic(bootstrap: str | None, retention_ms: int | None = None) -> None:
    """Create the topic unless it is there; ``retention_ms`` says for how long it keeps what is published."""
    config = {} if retention_ms is None else {"retention.ms": str(retention_ms)}
    with Admin(bootstrap) as admin:
        try:
            admin.create_topic(TOPIC, PARTITIONS, config=config)
        except KafkaError as error:
            if error.code != ErrorCode.TOPIC_ALREADY_EXISTS:
                raise
            if config:
                admin.alter_config(topic=TOPIC, set=config)

"""What admin tools ask of settings: DescribeConfigs, IncrementalAlterConfigs, AlterConfigs."""

from __future__ import annotations

from typing import Any

from ottla.messages.alter_configs import AlterableConfig as OldConfig
from ottla.messages.alter_configs import AlterConfigsRequest
from ottla.messages.alter_configs import AlterConfigsResource as OldResource
from ottla.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.messages.list_config_resources import ListConfigResourcesRequest
from tests.interop.answers.asking import Asker

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def described(kind: int, name: str, *keys: str, **fields: Any) -> DescribeConfigsRequest:
    """A DescribeConfigs of one resource."""
    resource = DescribeConfigsResource(
        resource_type=kind, resource_name=name, configuration_keys=list(keys) or None
    )
    return DescribeConfigsRequest(resources=[resource], **fields)


def describe_topics(asker: Asker) -> None:
    topic = asker.topic("settings", retention_ms=1000, cleanup_policy="compact")
    asker.ask("all of a topic", described(TOPIC, topic), 4)
    for key in ("retention.ms", "cleanup.policy", "segment.bytes", "no.such.setting"):
        asker.ask_every(f"{key} of a topic", described(TOPIC, topic, key))
        asker.ask_every(
            f"{key} of a topic in full",
            described(TOPIC, topic, key, include_synonyms=True, include_documentation=True),
        )
    asker.ask_every("a topic that is not there", described(TOPIC, "not.there"))
    asker.ask_every("an impossible name", described(TOPIC, "no spaces"))
    asker.ask_every("an empty name", described(TOPIC, ""))


def describe_others(asker: Asker) -> None:
    for key in ("num.partitions", "log.retention.ms", "background.threads", "message.max.bytes"):
        asker.ask(f"{key} of a broker", described(BROKER, "1", key, include_synonyms=True), 4)
        asker.ask(f"{key} of all brokers", described(BROKER, "", key, include_synonyms=True), 4)
    asker.ask("another broker", described(BROKER, "77"), 4)
    asker.ask("a broker that is no number", described(BROKER, "x"), 4)
    for kind in (0, 1, 3, 64, 99, -1):
        asker.ask(f"a resource of type {kind}", described(kind, "x"), 4)
    asker.ask("a broker's loggers, of another broker", described(LOGGER, "77"), 4)
    asker.ask("client metrics", described(METRICS, "x"), 4)
    asker.ask("a group", described(GROUP, "settings.group", "share.session.timeout.ms"), 4)
    asker.ask("nothing", DescribeConfigsRequest(), 4)


def changed(kind: int, name: str, *changes: tuple[int, str, str | None]) -> Any:
    """An IncrementalAlterConfigs that only looks."""
    configs = [
        AlterableConfig(config_operation=operation, name=key, value=value)
        for operation, key, value in changes
    ]
    resource = AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)
    return IncrementalAlterConfigsRequest(resources=[resource], validate_only=True)


def alter_topics(asker: Asker) -> None:
    topic = asker.topic("settings.change", cleanup_policy="compact")
    for change in (
        (SET, "retention.ms", "1000"),
        (SET, "retention.ms", "x"),
        (SET, "retention.ms", None),
        (SET, "retention.ms", ""),
        (SET, "no.such.setting", "1"),
        (SET, "", "1"),
        (DELETE, "retention.ms", None),
        (DELETE, "retention.ms", "1"),
        (DELETE, "no.such.setting", None),
        (APPEND, "cleanup.policy", "delete"),
        (APPEND, "cleanup.policy", "shred"),
        (APPEND, "cleanup.policy", None),
        (APPEND, "retention.ms", "1"),
        (SUBTRACT, "cleanup.policy", "compact"),
        (SUBTRACT, "cleanup.policy", "delete"),
        (SUBTRACT, "retention.ms", "1"),
        (9, "retention.ms", "1"),
        (-1, "retention.ms", "1"),
        (SET, "min.insync.replicas", "0"),
        (SET, "max.message.bytes", "999999999999"),
        (SET, "segment.ms", "0"),
        (SET, "segment.bytes", "1048575"),
        (SET, "min.cleanable.dirty.ratio", "1.5"),
        (SET, "max.compaction.lag.ms", "0"),
        (SET, "preallocate", "maybe"),
        (SET, "preallocate", " TRUE "),
        (SET, "retention.ms", " 5 "),
        (SET, "flush.ms", "-1"),
        (SET, "compression.gzip.level", "10"),
        (SET, "compression.zstd.level", "99"),
        (SET, "compression.lz4.level", "0"),
        (SET, "delete.retention.ms", "-1"),
        (SET, "index.interval.bytes", "-1"),
        (SET, "segment.index.bytes", "3"),
        (SET, "local.retention.ms", "5"),
        (SET, "message.timestamp.difference.max.ms", "5"),
    ):
        asker.ask_every(f"{change}", changed(TOPIC, topic, change))
    asker.ask(
        "one twice",
        changed(TOPIC, topic, (SET, "retention.ms", "1"), (SET, "retention.ms", "2")),
        1,
    )
    asker.ask(
        "a lag that is larger than the largest",
        changed(
            TOPIC, topic, (SET, "min.compaction.lag.ms", "9"), (SET, "max.compaction.lag.ms", "5")
        ),
        1,
    )
    retention = (SET, "retention.ms", "1")
    asker.ask_every("a topic that is not there", changed(TOPIC, "not.there", retention))
    asker.ask_every("an impossible name", changed(TOPIC, "no spaces", retention))
    asker.ask_every("an empty name", changed(TOPIC, "", retention))
    asker.ask_every("nothing", changed(TOPIC, topic))
    twice = changed(TOPIC, topic, retention)
    twice.resources *= 2
    asker.ask_every("a topic twice", twice)


def alter_others(asker: Asker) -> None:
    for name in ("1", "", "77", "x"):
        for change in (
            (SET, "log.retention.ms", "5000"),
            (SET, "log.retention.ms", "x"),
            (SET, "no.such.setting", "1"),
            (SET, "log.dirs", "/x"),
            (SET, "broker.id", "5"),
        ):
            asker.ask(f"broker {name!r} {change}", changed(BROKER, name, change), 1)
    for kind in (0, 1, 3, 64, 99, -1):
        change = (SET, "retention.ms", "1")
        asker.ask(f"a resource of type {kind}", changed(kind, "x", change), 1)


def alter_the_old_way(asker: Asker) -> None:
    topic = asker.topic("settings.old", cleanup_policy="compact")

    def alter(words: str, kind: int, name: str, *pairs: tuple[str, str | None]) -> None:
        configs = [OldConfig(name=key, value=value) for key, value in pairs]
        resource = OldResource(resource_type=kind, resource_name=name, configs=configs)
        asker.ask_every(words, AlterConfigsRequest(resources=[resource], validate_only=True))

    alter("a setting", TOPIC, topic, ("retention.ms", "1000"))
    alter("a value that is none", TOPIC, topic, ("retention.ms", "x"))
    alter("null", TOPIC, topic, ("retention.ms", None))
    alter("an unknown one", TOPIC, topic, ("no.such.setting", "1"))
    alter("a topic that is not there", TOPIC, "not.there", ("retention.ms", "1"))
    alter("another broker", BROKER, "77", ("log.retention.ms", "1"))
    alter("a type that is none", 99, "x", ("retention.ms", "1"))


def list_resources(asker: Asker) -> None:
    for kind in (METRICS, GROUP):
        asker.ask(f"type {kind}", ListConfigResourcesRequest(resource_types=[kind]), 1)
    for kind in (0, 1, 99, -1):
        asker.ask(
            f"a type that is none, {kind}", ListConfigResourcesRequest(resource_types=[kind]), 1
        )
    asker.ask("client metrics", ListConfigResourcesRequest(), 0)
    brokers = ListConfigResourcesRequest(resource_types=[BROKER, LOGGER])
    asker.ask("brokers and their loggers", brokers, 1)


QUESTIONS = (
    describe_topics,
    describe_others,
    alter_topics,
    alter_others,
    alter_the_old_way,
    list_resources,
)

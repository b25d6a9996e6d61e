"""Kafka 3.9's znodes: each in one place, with its path and its content read and written as Kafka does.

Rules: what is written is what Kafka writes, byte for byte where its own order is fixed (compact JSON, its
versions, numbers as text where Kafka has them so, names in the order in which its hash maps hold them). What is read may hold fields that are not known here; what is missing or of another kind
raises MalformedZnode with the path. Source: Kafka's ``kafka/zk/ZkData.scala``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ottla import topic_ids

_T = TypeVar("_T")


class MalformedZnode(ValueError):
    """A znode holds something else than Kafka would write there."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"znode {path}: {reason}")


# /controller: who is the controller (ephemeral). /controller_epoch: how many there have been.

CONTROLLER = "/controller"
CONTROLLER_EPOCH = "/controller_epoch"


class ControllerZnode(NamedTuple):
    """``/controller``, version 2."""

    broker_id: int
    timestamp_ms: int

    def encode(self) -> bytes:
        """Kafka's JSON; a ZooKeeper-mode controller has no KRaft epoch."""
        return _json(
            {
                "version": 2,
                "brokerid": self.broker_id,
                "timestamp": str(self.timestamp_ms),
                "kraftControllerEpoch": -1,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> ControllerZnode:
        """Any version: the broker id has always been there."""
        fields = _object(CONTROLLER, data)
        broker_id = _field(CONTROLLER, fields, "brokerid", int)
        return cls(broker_id, _number(CONTROLLER, fields.get("timestamp", 0)))


def encode_controller_epoch(epoch: int) -> bytes:
    """``/controller_epoch``: digits."""
    return b"%d" % epoch


def decode_controller_epoch(data: bytes) -> int:
    """The reverse of ``encode_controller_epoch``."""
    return _number(CONTROLLER_EPOCH, data.decode("ascii", "replace"))


# /brokers/ids/N: a live broker (ephemeral); its czxid is the broker epoch.

BROKER_IDS = "/brokers/ids"
BROKER_SEQUENCE_ID = "/brokers/seqid"
"""Its data version is the last broker id that was generated."""

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
"""By the number that requests carry."""


def broker_path(broker_id: int) -> str:
    """``/brokers/ids/N``."""
    return f"{BROKER_IDS}/{broker_id}"


class Endpoint(NamedTuple):
    """Where a broker can be reached by the clients of one listener."""

    listener: str
    security_protocol: str
    host: str
    port: int


class BrokerRegistration(NamedTuple):
    """``/brokers/ids/N``, version 5."""

    broker_id: int
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    timestamp_ms: int = 0
    jmx_port: int = -1
    features: Mapping[str, Mapping[str, int]] = {}
    unclean: bool = False
    """The broker may have lost data that it had acknowledged: invariant 20. Kafka does not know it."""
    short: frozenset[tuple[str, int]] = frozenset()
    """Topic and index of replicas that lack what the broker had synced. Kafka does not know it."""

    def encode(self) -> bytes:
        """With the top-level host and port that clients before listeners existed read."""
        plain = [e for e in self.endpoints if e.security_protocol == "PLAINTEXT"]
        fields: dict[str, Any] = {
            "features": self.features,
            "listener_security_protocol_map": {
                endpoint.listener: endpoint.security_protocol for endpoint in self.endpoints
            },
            "endpoints": [_format_endpoint(endpoint) for endpoint in self.endpoints],
        }
        if self.rack is not None:
            fields["rack"] = self.rack
        fields |= {
            "jmx_port": self.jmx_port,
            "port": plain[0].port if plain else -1,
            "host": plain[0].host if plain else None,
            "version": 5,
            "timestamp": str(self.timestamp_ms),
        }
        if self.unclean:
            fields["ottla_unclean"] = True
        if self.short:
            short: dict[str, list[int]] = {}
            for topic, index in sorted(self.short):
                short.setdefault(topic, []).append(index)
            fields["ottla_short"] = short
        return _json(fields)

    @classmethod
    def decode(cls, broker_id: int, data: bytes) -> BrokerRegistration:
        """Versions 2 to 5."""
        path = broker_path(broker_id)
        fields = _object(path, data)
        protocols = fields.get("listener_security_protocol_map")
        if not isinstance(protocols, dict):
            protocols = {name: name for name in SECURITY_PROTOCOLS}
        rack = fields.get("rack")
        features = fields.get("features")
        return cls(
            broker_id,
            tuple(
                _parse_endpoint(path, text, protocols)
                for text in _field(path, fields, "endpoints", list)
            ),
            rack if isinstance(rack, str) else None,
            _number(path, fields.get("timestamp", 0)),
            _number(path, fields.get("jmx_port", -1)),
            features if isinstance(features, dict) else {},
            fields.get("ottla_unclean") is True,
            frozenset(_parse_short(fields.get("ottla_short"))),
        )


def _parse_short(listed: object) -> Iterator[tuple[str, int]]:
    """Partitions as ``{"topic": [0, 1]}`` names them."""
    if isinstance(listed, dict):
        for topic, indexes in listed.items():
            if isinstance(indexes, list):
                yield from ((topic, index) for index in indexes if isinstance(index, int))


def _format_endpoint(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{endpoint.listener}://{host}:{endpoint.port}"


def _parse_endpoint(path: str, text: object, protocols: Mapping[str, object]) -> Endpoint:
    listener, separator, address = str(text).partition("://")
    host, colon, port = address.rpartition(":")
    protocol = protocols.get(listener)
    if not separator or not colon or protocol not in SECURITY_PROTOCOLS:
        raise MalformedZnode(path, f"{text!r} is no endpoint")
    return Endpoint(listener, str(protocol), host.strip("[]"), _int32(path, _number(path, port)))


# /brokers/topics/T: the replicas of each partition, and the topic's id.

TOPICS = "/brokers/topics"


def topic_path(topic: str) -> str:
    """``/brokers/topics/T``."""
    return f"{TOPICS}/{topic}"


class TopicAssignment(NamedTuple):
    """``/brokers/topics/T``, version 3. Replicas by partition; the preferred leader is the first.

    ``adding`` and ``removing`` are a reassignment under way. ``topic_id`` is None only where an old
    Kafka wrote the znode.
    """

    topic_id: bytes | None
    partitions: Mapping[int, tuple[int, ...]]
    adding: Mapping[int, tuple[int, ...]] = {}
    removing: Mapping[int, tuple[int, ...]] = {}

    def encode(self) -> bytes:
        """Partition numbers are JSON names, so text."""
        fields: dict[str, Any] = {"partitions": self.partitions}  # json makes the int keys text
        if self.topic_id is not None:
            fields["topic_id"] = topic_ids.to_text(self.topic_id)
        for name, replicas in ("adding", self.adding), ("removing", self.removing):
            fields[f"{name}_replicas"] = {index: ids for index, ids in replicas.items() if ids}
        fields["version"] = 3
        return _json(fields)

    @classmethod
    def decode(cls, topic: str, data: bytes) -> TopicAssignment:
        """Versions 1 to 3. A topic has partitions, and each of them has replicas."""
        path = topic_path(topic)
        fields = _object(path, data)
        topic_id: bytes | None = None
        if "topic_id" in fields:
            try:
                topic_id = topic_ids.from_text(_field(path, fields, "topic_id", str))
            except ValueError as error:
                raise MalformedZnode(path, str(error)) from error
        _field(path, fields, "partitions", dict)
        partitions, adding, removing = (
            _replicas_by_partition(path, fields.get(name, {}))
            for name in ("partitions", "adding_replicas", "removing_replicas")
        )
        if not partitions or not all(partitions.values()):
            raise MalformedZnode(path, "it has no partitions, or one without replicas")
        return cls(topic_id, partitions, adding, removing)


def _replicas_by_partition(path: str, value: object) -> dict[int, tuple[int, ...]]:
    if not isinstance(value, dict):
        raise MalformedZnode(path, f"{value!r} does not give replicas by partition")
    return {
        _int32(path, _number(path, partition)): _broker_ids(path, replicas)
        for partition, replicas in value.items()
    }


# /brokers/topics/T/partitions/P/state: leader, epochs and ISR; its version is the partition epoch.

NO_LEADER = -1
LEADER_DURING_DELETE = -2
EPOCH_DURING_DELETE = -2
"""The leader epoch that overrides any other in a StopReplica of a topic that is being deleted."""


def partitions_path(topic: str) -> str:
    """``/brokers/topics/T/partitions``."""
    return f"{TOPICS}/{topic}/partitions"


def partition_path(topic: str, partition: int) -> str:
    """``/brokers/topics/T/partitions/P``."""
    return f"{TOPICS}/{topic}/partitions/{partition}"


def partition_state_path(topic: str, partition: int) -> str:
    """``/brokers/topics/T/partitions/P/state``."""
    return f"{TOPICS}/{topic}/partitions/{partition}/state"


class LeaderAndIsr(NamedTuple):
    """A partition's state, version 1. ``partition_epoch`` is the znode's version, not in its content.

    ``leader_recovery_state`` is 1 after an unclean election until the leader has recovered (KIP-704).
    """

    leader: int
    isr: tuple[int, ...]
    leader_epoch: int = 0
    controller_epoch: int = 0
    partition_epoch: int = 0
    leader_recovery_state: int = 0

    def encode(self) -> bytes:
        """``leader_recovery_state`` is there only when it is not 0."""
        fields: dict[str, Any] = {
            "controller_epoch": self.controller_epoch,
            "leader": self.leader,
            "version": 1,
        }
        if self.leader_recovery_state:
            fields["leader_recovery_state"] = self.leader_recovery_state
        fields |= {"leader_epoch": self.leader_epoch, "isr": self.isr}
        return _json(fields)

    @classmethod
    def decode(cls, path: str, data: bytes, version: int) -> LeaderAndIsr:
        """``version`` is the znode's."""
        fields = _object(path, data)
        return cls(
            _int32(path, _field(path, fields, "leader", int)),
            _broker_ids(path, fields.get("isr")),
            _int32(path, _field(path, fields, "leader_epoch", int)),
            _int32(path, _field(path, fields, "controller_epoch", int)),
            version,
            _recovery_state(path, fields.get("leader_recovery_state", 0)),
        )


# /config/<entity type>/<entity>: settings that override; /config/changes: which of them changed.

CONFIG = "/config"
CONFIG_CHANGES = "/config/changes"
CONFIG_CHANGE_PREFIX = f"{CONFIG_CHANGES}/config_change_"
CONFIG_ENTITY_TYPES = ("topics", "clients", "users", "brokers", "ips")
DEFAULT_ENTITY = "<default>"
"""The entity whose settings hold for all that have none of their own."""


CLIENT_METRICS_CONFIG = "/config/client-metrics"
"""Made with the first client-metrics subscription, which Apache Kafka has only without ZooKeeper."""


def config_path(entity_type: str, entity: str) -> str:
    """``/config/topics/T`` and its like."""
    return f"{CONFIG}/{entity_type}/{entity}"


def encode_config(config: Mapping[str, str]) -> bytes:
    """A config znode, version 1."""
    return _json({"version": 1, "config": config})


def decode_config(path: str, data: bytes) -> dict[str, str]:
    """The settings by name; an empty znode has none."""
    if not data:
        return {}
    config = _field(path, _object(path, data), "config", dict)
    for name, value in config.items():
        if not isinstance(value, str):
            raise MalformedZnode(path, f"setting {name} is not text")
    return config


def encode_config_change(entity_type: str, entity: str) -> bytes:
    """A ``config_change_`` znode, version 2."""
    return _json({"version": 2, "entity_path": f"{entity_type}/{entity}"})


def decode_config_change(path: str, data: bytes) -> tuple[str, str]:
    """Entity type and entity of a change, versions 1 and 2."""
    fields = _object(path, data)
    if fields.get("version") == 1:
        return _field(path, fields, "entity_type", str), _field(path, fields, "entity_name", str)
    entity_type, _, entity = _field(path, fields, "entity_path", str).partition("/")
    return entity_type, entity


# /admin/delete_topics/T: topics whose deletion was asked for and is not complete.

DELETE_TOPICS = "/admin/delete_topics"


def delete_topic_path(topic: str) -> str:
    """``/admin/delete_topics/T`` (empty)."""
    return f"{DELETE_TOPICS}/{topic}"


# /admin/reassign_partitions and /admin/preferred_replica_election: asked for by tools of Kafka before 2.4.

REASSIGN_PARTITIONS = "/admin/reassign_partitions"
PREFERRED_REPLICA_ELECTION = "/admin/preferred_replica_election"


def encode_reassignments(partitions: Mapping[tuple[str, int], Sequence[int]]) -> bytes:
    """``/admin/reassign_partitions``, version 1: the replicas that partitions are to have."""
    return _json(
        {
            "version": 1,
            "partitions": [
                {"topic": topic, "partition": index, "replicas": list(replicas)}
                for (topic, index), replicas in partitions.items()
            ],
        }
    )


def decode_reassignments(data: bytes) -> dict[tuple[str, int], tuple[int, ...]]:
    """The reverse of ``encode_reassignments``."""
    path = REASSIGN_PARTITIONS
    return {
        _partition(path, fields): _broker_ids(path, fields.get("replicas"))
        for fields in _partitions(path, data)
    }


def encode_preferred_election(partitions: Sequence[tuple[str, int]]) -> bytes:
    """``/admin/preferred_replica_election``, version 1."""
    named = [{"topic": topic, "partition": index} for topic, index in partitions]
    return _json({"version": 1, "partitions": named})


def decode_preferred_election(data: bytes) -> list[tuple[str, int]]:
    """The reverse of ``encode_preferred_election``."""
    path = PREFERRED_REPLICA_ELECTION
    return [_partition(path, fields) for fields in _partitions(path, data)]


def _partitions(path: str, data: bytes) -> list[dict[str, Any]]:
    partitions = _field(path, _object(path, data), "partitions", list)
    if not all(isinstance(fields, dict) for fields in partitions):
        raise MalformedZnode(path, "partitions is no list of objects")
    return partitions


def _partition(path: str, fields: dict[str, Any]) -> tuple[str, int]:
    return _field(path, fields, "topic", str), _field(path, fields, "partition", int)


# /isr_change_notification/isr_change_N: partitions whose ISR a leader before Kafka 2.7 changed by itself
# (sequential; the controller removes it). AlterPartition has taken its place.

ISR_CHANGES = "/isr_change_notification"
ISR_CHANGE_PREFIX = f"{ISR_CHANGES}/isr_change_"


def encode_isr_change(partitions: Sequence[tuple[str, int]]) -> bytes:
    """An ``isr_change_`` znode, version 1."""
    named = [{"topic": topic, "partition": index} for topic, index in partitions]
    return _json({"version": 1, "partitions": named})


def decode_isr_change(path: str, data: bytes) -> list[tuple[str, int]]:
    """The partitions that a notice is about."""
    return [_partition(path, fields) for fields in _partitions(path, data)]


# /log_dir_event_notification/log_dir_event_N: a broker lost a log directory (sequential; the controller
# removes it).

LOG_DIR_EVENTS = "/log_dir_event_notification"
LOG_DIR_EVENT_PREFIX = f"{LOG_DIR_EVENTS}/log_dir_event_"
LOG_DIR_FAILED = 1


def encode_log_dir_event(broker_id: int) -> bytes:
    """A ``log_dir_event_`` znode, version 1."""
    return _json({"version": 1, "broker": broker_id, "event": LOG_DIR_FAILED})


def decode_log_dir_event(path: str, data: bytes) -> int:
    """The broker that an event is about."""
    return _field(path, _object(path, data), "broker", int)


# /latest_producer_id_block: the last block of producer ids that was given to a broker.

PRODUCER_ID_BLOCK = "/latest_producer_id_block"


class ProducerIdBlock(NamedTuple):
    """Version 1: ids ``first`` to ``last``, both included, belong to ``broker_id``."""

    broker_id: int
    first: int
    last: int

    def encode(self) -> bytes:
        """The ids are text: JavaScript-safe in Kafka's time."""
        return _json(
            {
                "version": 1,
                "broker": self.broker_id,
                "block_start": str(self.first),
                "block_end": str(self.last),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> ProducerIdBlock | None:
        """None for the empty znode that is there before the first block."""
        if not data:
            return None
        path = PRODUCER_ID_BLOCK
        fields = _object(path, data)
        first = _number(path, _field(path, fields, "block_start", str))
        last = _number(path, _field(path, fields, "block_end", str))
        return cls(_field(path, fields, "broker", int), first, last)


# /cluster/id

CLUSTER_ID = "/cluster/id"


def encode_cluster_id(cluster_id: str) -> bytes:
    """Version 1, which is text here."""
    return _json({"version": "1", "id": cluster_id})


def decode_cluster_id(data: bytes) -> str:
    """The reverse of ``encode_cluster_id``."""
    return _field(CLUSTER_ID, _object(CLUSTER_ID, data), "id", str)


# /feature: the features that all brokers of the cluster have agreed on (KIP-584).

FEATURE = "/feature"


def encode_features(features: Mapping[str, int]) -> bytes:
    """Version 2: each feature's level; the versioning is enabled (status 1), as since Kafka 2.7."""
    levels = {name: {"max_version_level": level} for name, level in features.items()}
    return _json({"features": levels, "version": 2, "status": 1})


def decode_features(data: bytes) -> dict[str, int]:
    """Versions 1 and 2; nothing where the versioning is disabled."""
    fields = _object(FEATURE, data)
    if _field(FEATURE, fields, "status", int) == 0:
        return {}
    levels: dict[str, int] = {}
    for name, level in _field(FEATURE, fields, "features", dict).items():
        if not isinstance(level, dict):
            raise MalformedZnode(FEATURE, f"{name} has no level")
        levels[name] = _field(FEATURE, level, "max_version_level", int)
    return levels


# /ottla_export: there while a single broker's state is being put into a ZooKeeper. Our own.

EXPORT = "/ottla_export"


# Who may see what (``ZkData.defaultAcls``): all may read, but the secrets; only brokers may change.

CONSUMERS = "/consumers"
"""Where Kafka's consumers of old kept their offsets, each as itself."""
_SECRET_ROOTS = (f"{CONFIG}/users", f"{CONFIG}/brokers", "/delegation_token/tokens")


def is_secret(path: str) -> bool:
    """Whether a znode may hold passwords or what leads to them."""
    return path.startswith(_SECRET_ROOTS)


def is_open_to_all(path: str) -> bool:
    """Whether a znode is for others to write to."""
    return path == CONSUMERS


# JSON


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _object(path: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedZnode(path, f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedZnode(path, "no JSON object")
    return value


def _field(path: str, fields: dict[str, Any], name: str, kind: type[_T]) -> _T:
    value = fields.get(name)
    if not isinstance(value, kind):
        raise MalformedZnode(path, f"{name} is {value!r}, not of type {kind.__name__}")
    return value


def _number(path: str, value: object) -> int:
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedZnode(path, f"{value!r} is no number") from error


def _broker_ids(path: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(broker_id) is int for broker_id in value):
        raise MalformedZnode(path, f"{value!r} is no list of broker ids")
    return tuple(_int32(path, broker_id) for broker_id in value)


def _recovery_state(path: str, value: object) -> int:
    number = _number(path, value)
    if number not in (0, 1):
        raise MalformedZnode(path, f"leader_recovery_state is {number}")
    return number


def _int32(path: str, value: int) -> int:
    """What goes into a request as 4 bytes: one that does not fit would hold up all that goes with it."""
    if not -(2**31) <= value < 2**31:
        raise MalformedZnode(path, f"{value} has more than 32 bits")
    return value

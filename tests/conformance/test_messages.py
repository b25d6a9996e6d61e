"""Our messages hold the same fields as Kafka's schemas, and encode to the same bytes as kafka-python."""

from __future__ import annotations

import importlib
import json
import random
import re
from importlib.resources import files
from typing import Any

import pytest

from ottla.messages import registry
from ottla.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)
from ottla.messages.alter_partition import (
    AlterPartitionBrokerState,
    AlterPartitionPartitionData,
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionResponsePartitionData,
    AlterPartitionResponseTopicData,
    AlterPartitionTopicData,
)
from ottla.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)
from ottla.messages.controlled_shutdown import (
    ControlledShutdownRemainingPartition,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
)
from ottla.wire.compiler import decode, encode_bytes
from ottla.wire.schema import NEWEST, Message, MessageType, Spec, V

SCHEMAS = files("kafka") / "protocol" / "schemas" / "resources"
# Versions newer than the newest released Kafka (4.3), and so newer than the wheel, with what they add.
NEWER = {
    "ApiVersionsRequest": (5, ["cluster_id", "node_id"]),
    "ApiVersionsResponse": (5, []),
    "DeleteGroupsRequest": (3, []),
    "DeleteGroupsResponse": (3, ["error_message"]),
}
NOT_IN_THE_WHEEL = {
    "LeaderAndIsr",
    "StopReplica",
    "UpdateMetadata",
    "ControlledShutdown",
    "AlterPartition",
    "AllocateProducerIds",
    "CreateDelegationToken",
    "RenewDelegationToken",
    "ExpireDelegationToken",
    "DescribeDelegationToken",
    "GetTelemetrySubscriptions",
    "PushTelemetry",
}
KINDS = {"bool": "boolean", "bytes": "bytes_"}
CLIENT_APIS = sorted(set(registry.API_NAMES.values()) - NOT_IN_THE_WHEEL)


def schema_of(name: str) -> dict[str, Any]:
    text = (SCHEMAS / f"{name}.json").read_text()
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))


def span(text: str) -> V:
    if text.endswith("+"):
        return V(int(text[:-1]), NEWEST)
    lo, _, hi = text.partition("-")
    return V(int(lo), int(hi or lo))


def within(outer: V, inner: V) -> V | None:
    both = V(max(outer.lo, inner.lo), min(outer.hi, inner.hi))
    return both if both.lo <= both.hi else None


def snake(name: str) -> str:
    name = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name).lower()


def default_of(field: dict[str, Any]) -> Any:
    kind, default = field["type"], field.get("default")
    if default == "null":
        return None
    if kind == "string":
        return default or ""
    if kind == "bool":
        return str(default).lower() == "true"
    if kind.startswith(("int", "uint")):
        return int(str(default or 0), 0)
    return {"float64": float(default or 0), "uuid": bytes(16), "bytes": b"", "records": None}[kind]


def check_fields(
    cls: MessageType, fields: list[dict[str, Any]], valid: V, common: dict[str, Any], where: str
) -> int:
    """How many fields were compared; ``valid`` are the versions in which the struct itself is live."""
    checked, expected = 0, []
    for field in fields:
        live = within(span(field["versions"]), valid)
        if live is None:
            continue
        name = snake(field["name"])
        expected.append(name)
        where_field = f"{where}.{name}"
        spec: Spec = cls.__fields__[name]
        assert within(spec.versions, valid) == live, where_field
        nullable = field.get("nullableVersions", "none")
        wanted = within(span(nullable), valid) if nullable != "none" else None
        assert (within(spec.nullable, valid) if spec.nullable else None) == wanted, where_field
        assert spec.tag == field.get("tag"), where_field
        checked += 1 + check_type(spec, field, live, common, where_field)
    newer = [name for name, spec in cls.__fields__.items() if spec.versions.lo > valid.hi]
    assert [name for name in cls.__fields__ if name not in newer] == expected, where
    return checked


def check_type(
    spec: Spec, field: dict[str, Any], valid: V, common: dict[str, Any], where: str
) -> int:
    kind: str = field["type"]
    element, is_array = kind.removeprefix("[]"), kind.startswith("[]")
    inner = field.get("fields") or common.get(element)
    if is_array:
        assert spec.kind == "array", where
        if inner is None:
            assert spec.of.kind == KINDS.get(element, element), where
            return 0
        return check_fields(spec.of, inner, valid, common, where)
    if inner is not None:
        assert spec.kind == "struct", where
        return check_fields(spec.of, inner, valid, common, where)
    assert spec.kind == KINDS.get(kind, kind), where
    assert spec.default == default_of(field), where
    return 0


def check_message(cls: MessageType, name: str) -> None:
    schema = schema_of(name)
    valid = span(schema["validVersions"])
    newest, added = NEWER.get(name, (valid.hi, []))
    assert valid.lo <= cls.__versions__.lo
    assert cls.__versions__.hi <= newest
    assert added_after(cls, valid.hi) == added
    assert cls.__api_key__ == schema.get("apiKey", -1)
    flexible = schema.get("flexibleVersions", "none")
    assert cls.__flexible_from__ == (NEWEST + 1 if flexible == "none" else span(flexible).lo)
    ours = V(cls.__versions__.lo, min(cls.__versions__.hi, valid.hi))
    common = {struct["name"]: struct["fields"] for struct in schema.get("commonStructs", [])}
    assert check_fields(cls, schema["fields"], ours, common, name) or name in EMPTY


def added_after(cls: MessageType, version: int) -> list[str]:
    names = []
    for name, spec in cls.__fields__.items():
        if spec.versions.lo > version:
            names.append(name)
        elif isinstance(element := spec.of, MessageType):
            names += added_after(element, version)
    return names


EMPTY = {"ApiVersionsRequest", "ListGroupsRequest"}


@pytest.mark.parametrize("name", CLIENT_APIS)
def test_messages_have_the_fields_of_kafkas_schema(name: str) -> None:
    api = registry.api(registry.key_of(name))
    check_message(api.request, f"{name}Request")
    check_message(api.response, f"{name}Response")


@pytest.mark.parametrize("cls", [ConsumerProtocolSubscription, ConsumerProtocolAssignment])
def test_the_consumer_protocol_has_the_fields_of_kafkas_schema(cls: MessageType) -> None:
    check_message(cls, cls.__name__)


def test_a_changed_field_is_noticed() -> None:
    """Proves the check: the same comparison fails for a class with a wrong version range."""

    class ListGroupsRequest(Message, key=16, versions=(0, 5), flexible_from=3):
        states_filter: list[str] = (
            registry.api(16).request.__fields__["states_filter"]._replace(versions=V(3))
        )

    with pytest.raises(AssertionError):
        check_message(ListGroupsRequest, "ListGroupsRequest")


def filled(cls: MessageType, version: int, rng: random.Random) -> Message:
    """A message in which every field that the version carries has a random value."""
    values = {}
    for name, spec in cls.__fields__.items():
        if spec.versions.has(version):
            values[name] = random_value(spec, version, rng)
    return cls(**values)


def random_value(spec: Spec, version: int, rng: random.Random) -> Any:
    if spec.nullable and spec.nullable.has(version) and rng.random() < 0.2:
        return None
    kind = spec.kind
    if kind == "boolean":
        return rng.random() < 0.5
    if kind.startswith(("int", "uint")):
        bits = int(kind.lstrip("uint"))
        low = 0 if kind.startswith("u") else -(1 << (bits - 1))
        return rng.randrange(low, low + (1 << bits))
    if kind == "float64":
        return rng.random()
    if kind == "string":
        return "".join(rng.choice("abc-é漢") for _ in range(rng.randrange(200)))
    if kind in ("bytes_", "records"):
        return rng.randbytes(rng.randrange(300))
    if kind == "uuid":
        return rng.randbytes(16)
    if kind == "struct":
        return filled(spec.of, version, rng)
    count = rng.choice((0, 1, 2, 3, 130)) if isinstance(spec.of, Spec) else rng.randrange(4)
    if isinstance(spec.of, Spec):
        return [random_value(spec.of, version, rng) for _ in range(count)]
    return [filled(spec.of, version, rng) for _ in range(count)]


def every_version() -> list[tuple[str, str, int]]:
    rows = []
    for key, name in registry.API_NAMES.items():
        api = registry.api(key)
        for version in range(api.versions.lo, api.versions.hi + 1):
            rows += [(name, "Request", version), (name, "Response", version)]
    return rows


@pytest.mark.parametrize(("name", "side", "version"), every_version())
def test_every_version_reads_back_what_it_wrote(name: str, side: str, version: int) -> None:
    api = registry.api(registry.key_of(name))
    cls = api.request if side == "Request" else api.response
    rng = random.Random(f"{name}{side}{version}")
    for _ in range(5):
        message = filled(cls, version, rng)
        encoded = encode_bytes(message, version)
        read, position = decode(cls, version, encoded)
        assert position == len(encoded)
        assert read == message


TOPIC_ID = bytes(range(16))


@pytest.mark.parametrize(
    ("message", "version", "layout"),
    [
        (ControlledShutdownRequest(broker_id=3, broker_epoch=9), 1, "00000003"),
        (ControlledShutdownRequest(broker_id=3, broker_epoch=9), 2, f"00000003 {9:016x}"),
        (ControlledShutdownRequest(broker_id=3, broker_epoch=9), 3, f"00000003 {9:016x} 00"),
        (
            ControlledShutdownResponse(
                error_code=11,
                remaining_partitions=[
                    ControlledShutdownRemainingPartition(topic_name="t", partition_index=2)
                ],
            ),
            3,
            "000b 02 02 74 00000002 00 00",
        ),
        (
            AlterPartitionRequest(
                broker_id=1,
                broker_epoch=5,
                topics=[
                    AlterPartitionTopicData(
                        topic_id=TOPIC_ID,
                        partitions=[
                            AlterPartitionPartitionData(
                                partition_index=4,
                                leader_epoch=6,
                                new_isr_with_epochs=[
                                    AlterPartitionBrokerState(broker_id=1, broker_epoch=5)
                                ],
                                partition_epoch=7,
                            )
                        ],
                    )
                ],
            ),
            3,
            f"00000001 {5:016x} 02 {TOPIC_ID.hex()} 02 00000004 00000006"
            f" 02 00000001 {5:016x} 00 00 00000007 00 00 00",
        ),
        (
            AlterPartitionResponse(
                topics=[
                    AlterPartitionResponseTopicData(
                        topic_id=TOPIC_ID,
                        partitions=[
                            AlterPartitionResponsePartitionData(
                                partition_index=4, leader_id=1, leader_epoch=6, isr=[1, 2]
                            )
                        ],
                    )
                ]
            ),
            2,
            f"00000000 0000 02 {TOPIC_ID.hex()} 02 00000004 0000 00000001 00000006"
            " 03 00000001 00000002 00 00000000 00 00 00",
        ),
        (AllocateProducerIdsRequest(broker_id=1, broker_epoch=2), 0, f"00000001 {2:016x} 00"),
        (
            AllocateProducerIdsResponse(producer_id_start=1000, producer_id_len=1000),
            0,
            f"00000000 0000 {1000:016x} {1000:08x} 00",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Message) else None,
)
def test_what_brokers_ask_their_controller_is_laid_out_as_in_kafkas_schemas(
    message: Message, version: int, layout: str
) -> None:
    assert encode_bytes(message, version) == bytes.fromhex(layout)


def test_the_first_controlled_shutdown_names_no_client_in_its_header() -> None:
    request = ControlledShutdownRequest(broker_id=3)
    frame = b"".join(registry.encode_request(request, 0, 9, "somebody"))
    assert frame == bytes.fromhex("0007 0000 00000009 00000003")
    header, position = registry.decode_request_header(frame)
    assert header == (7, 0, 9, None)
    assert frame[position:] == bytes.fromhex("00000003")


def as_kafka_python(message: Any, theirs: type, version: int) -> Any:
    """The same values in kafka-python's class."""
    values = {}
    for name, spec in type(message).__fields__.items():
        if not spec.versions.has(version):
            continue
        value = getattr(message, name)
        if spec.kind == "struct" and value is not None:
            value = as_kafka_python(value, nested(theirs, spec.of.__name__), version)
        elif spec.kind == "array" and value is not None and not isinstance(spec.of, Spec):
            inner = nested(theirs, spec.of.__name__)
            value = [as_kafka_python(item, inner, version) for item in value]
        elif spec.kind == "uuid":
            import uuid

            value = uuid.UUID(bytes=value)
        values[name] = value
    return theirs(**values)


def nested(theirs: type, name: str) -> type:
    for owner in theirs.__mro__:
        if hasattr(owner, name):
            return getattr(owner, name)
    raise AssertionError(f"kafka-python has no {theirs.__name__}.{name}")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("Produce", "producer"),
        ("Fetch", "consumer"),
        ("ListOffsets", "consumer"),
        ("Metadata", "metadata"),
        ("JoinGroup", "consumer"),
        ("OffsetCommit", "consumer"),
        ("CreateTopics", "admin"),
    ],
)
def test_requests_are_the_bytes_that_kafka_python_writes(name: str, module: str) -> None:
    theirs = getattr(importlib.import_module(f"kafka.protocol.{module}"), f"{name}Request")
    api = registry.api(registry.key_of(name))
    rng = random.Random(name)
    compared = 0
    for version in range(api.versions.lo, api.versions.hi + 1):
        message = filled(api.request, version, rng)
        other = as_kafka_python(message, theirs, version)
        assert other.encode(version=version) == encode_bytes(message, version), version
        compared += 1
    assert compared == api.versions.hi - api.versions.lo + 1

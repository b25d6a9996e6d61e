"""The bytes of Kafka 3.9's znodes, and what is made of those that others wrote."""

from __future__ import annotations

import json

import pytest

from ottla import topic_ids
from ottla.coordination import znodes
from ottla.coordination.znodes import (
    BrokerRegistration,
    ControllerZnode,
    Endpoint,
    LeaderAndIsr,
    MalformedZnode,
    ProducerIdBlock,
    TopicAssignment,
)

TOPIC_ID = topic_ids.from_text("Jwv9pXcnTf2CYZo2pY1Wog")
STATE_PATH = "/brokers/topics/orders/partitions/2/state"


def test_controller_is_written_as_kafka_writes_it() -> None:
    znode = ControllerZnode(3, 1_700_000_000_000)
    assert znode.encode() == (
        b'{"version":2,"brokerid":3,"timestamp":"1700000000000","kraftControllerEpoch":-1}'
    )
    assert ControllerZnode.decode(znode.encode()) == znode


def test_controller_of_an_older_kafka_is_read() -> None:
    data = b'{"version":1,"brokerid":3,"timestamp":"1700000000000"}'
    assert ControllerZnode.decode(data).broker_id == 3


def test_controller_epoch_is_plain_digits() -> None:
    assert znodes.encode_controller_epoch(17) == b"17"
    assert znodes.decode_controller_epoch(b"17") == 17
    with pytest.raises(MalformedZnode):
        znodes.decode_controller_epoch(b"many")


def test_broker_registration_is_version_5() -> None:
    registration = BrokerRegistration(
        1,
        (
            Endpoint("CLIENT", "SASL_SSL", "kafka.example", 9093),
            Endpoint("REPLICATION", "PLAINTEXT", "::1", 9092),
        ),
        "rack-a",
        1_700_000_000_000,
    )
    assert json.loads(registration.encode()) == {
        "version": 5,
        "host": "::1",
        "port": 9092,
        "jmx_port": -1,
        "timestamp": "1700000000000",
        "endpoints": ["CLIENT://kafka.example:9093", "REPLICATION://[::1]:9092"],
        "listener_security_protocol_map": {"CLIENT": "SASL_SSL", "REPLICATION": "PLAINTEXT"},
        "rack": "rack-a",
        "features": {},
    }
    assert BrokerRegistration.decode(1, registration.encode()) == registration


def test_registration_names_replicas_that_lack_what_was_synced_only_if_there_are_any() -> None:
    registration = BrokerRegistration(1, (), short=frozenset({("b", 0), ("a", 10), ("a", 2)}))
    fields = json.loads(registration.encode())
    assert fields["ottla_short"] == {"a": [2, 10], "b": [0]}
    assert BrokerRegistration.decode(1, registration.encode()) == registration
    assert b"ottla_short" not in BrokerRegistration(1, ()).encode()
    fields["ottla_short"] = {"a": [1, "2"], "b": 0}
    odd = BrokerRegistration.decode(1, json.dumps(fields).encode())
    assert odd.short == {("a", 1)}


def test_registration_without_plaintext_has_no_top_level_address() -> None:
    registration = BrokerRegistration(1, (Endpoint("SSL", "SSL", "host", 9093),))
    fields = json.loads(registration.encode())
    assert (fields["host"], fields["port"]) == (None, -1)
    assert "rack" not in fields


def test_registration_of_an_older_kafka_is_read() -> None:
    data = (
        b'{"version":2,"host":"a","port":9092,"jmx_port":9999,"timestamp":"22",'
        b'"endpoints":["PLAINTEXT://a:9092","SSL://a:9093"]}'
    )
    registration = BrokerRegistration.decode(7, data)
    assert registration.endpoints == (
        Endpoint("PLAINTEXT", "PLAINTEXT", "a", 9092),
        Endpoint("SSL", "SSL", "a", 9093),
    )
    assert (registration.broker_id, registration.rack, registration.jmx_port) == (7, None, 9999)


def test_topic_assignment_is_version_3_with_its_id() -> None:
    assignment = TopicAssignment(TOPIC_ID, {0: (1, 2), 1: (2, 1)})
    assert assignment.encode() == (
        b'{"partitions":{"0":[1,2],"1":[2,1]},"topic_id":"Jwv9pXcnTf2CYZo2pY1Wog",'
        b'"adding_replicas":{},"removing_replicas":{},"version":3}'
    )
    assert TopicAssignment.decode("orders", assignment.encode()) == assignment


def test_topic_assignment_of_an_older_kafka_has_no_id() -> None:
    assignment = TopicAssignment.decode("orders", b'{"version":1,"partitions":{"0":[1]}}')
    assert assignment == TopicAssignment(None, {0: (1,)}, {}, {})


def test_partition_state_names_its_recovery_only_while_recovering() -> None:
    state = LeaderAndIsr(1, (1, 2), leader_epoch=4, controller_epoch=3, partition_epoch=9)
    assert state.encode() == (
        b'{"controller_epoch":3,"leader":1,"version":1,"leader_epoch":4,"isr":[1,2]}'
    )
    assert LeaderAndIsr.decode(STATE_PATH, state.encode(), 9) == state
    recovering = state._replace(leader_recovery_state=1)
    assert b'"leader_recovery_state":1' in recovering.encode()
    assert LeaderAndIsr.decode(STATE_PATH, recovering.encode(), 9) == recovering


def test_config_and_its_change_are_read_back() -> None:
    config = {"retention.ms": "1000", "note": "für alle"}
    data = znodes.encode_config(config)
    assert data == '{"version":1,"config":{"retention.ms":"1000","note":"für alle"}}'.encode()
    assert znodes.decode_config("/config/topics/t", data) == config
    assert znodes.decode_config("/config/topics/t", b"") == {}

    change = znodes.encode_config_change("topics", "orders")
    assert change == b'{"version":2,"entity_path":"topics/orders"}'
    assert znodes.decode_config_change("/c", change) == ("topics", "orders")
    old = b'{"version":1,"entity_type":"topics","entity_name":"orders"}'
    assert znodes.decode_config_change("/c", old) == ("topics", "orders")
    user = b'{"version":2,"entity_path":"users/ann/clients/app"}'
    assert znodes.decode_config_change("/c", user) == ("users", "ann/clients/app")


def test_producer_id_block_has_its_numbers_as_text() -> None:
    block = ProducerIdBlock(1, 1000, 1999)
    assert block.encode() == b'{"version":1,"broker":1,"block_start":"1000","block_end":"1999"}'
    assert ProducerIdBlock.decode(block.encode()) == block
    assert ProducerIdBlock.decode(b"") is None


def test_cluster_id_has_a_version_that_is_text() -> None:
    assert znodes.encode_cluster_id("abc") == b'{"version":"1","id":"abc"}'
    assert znodes.decode_cluster_id(b'{"version":"1","id":"abc","more":1}') == "abc"


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{", b"\xff", b"{}", b'{"leader":"1"}', b"[" * 100_000]
)
def test_what_kafka_would_not_write_is_one_clear_error(data: bytes) -> None:
    for decode in (
        lambda: LeaderAndIsr.decode(STATE_PATH, data, 0),
        lambda: TopicAssignment.decode("orders", data),
        lambda: BrokerRegistration.decode(1, data),
        lambda: ControllerZnode.decode(data),
        lambda: znodes.decode_cluster_id(data),
        lambda: znodes.decode_config_change("/c", data),
    ):
        with pytest.raises(MalformedZnode, match="znode /"):
            decode()


@pytest.mark.parametrize(
    "data",
    [
        b'{"leader":1,"leader_epoch":0,"controller_epoch":1,"isr":1}',
        b'{"leader":1,"leader_epoch":0,"controller_epoch":1,"isr":["1"]}',
        b'{"leader":1,"leader_epoch":0,"controller_epoch":1,"isr":[true]}',
        b'{"leader":1,"leader_epoch":0,"controller_epoch":1}',
    ],
)
def test_isr_must_be_broker_ids(data: bytes) -> None:
    with pytest.raises(MalformedZnode, match="no list of broker ids"):
        LeaderAndIsr.decode(STATE_PATH, data, 0)


def test_other_wrong_contents_are_named() -> None:
    with pytest.raises(MalformedZnode, match="not a topic id"):
        TopicAssignment.decode("t", b'{"partitions":{},"topic_id":"short"}')
    with pytest.raises(MalformedZnode, match="by partition"):
        TopicAssignment.decode("t", b'{"partitions":{},"adding_replicas":[]}')
    with pytest.raises(MalformedZnode, match="no number"):
        TopicAssignment.decode("t", b'{"partitions":{"x":[1]}}')
    with pytest.raises(MalformedZnode, match="no number"):
        ControllerZnode.decode(b'{"brokerid":1,"timestamp":Infinity}')
    with pytest.raises(MalformedZnode, match="no endpoint"):
        BrokerRegistration.decode(1, b'{"endpoints":["PLAINTEXT:host"]}')
    with pytest.raises(MalformedZnode, match="not text"):
        znodes.decode_config("/config/topics/t", b'{"config":{"retention.ms":1}}')
    with pytest.raises(MalformedZnode, match="no number"):
        ProducerIdBlock.decode(b'{"broker":1,"block_start":"x","block_end":"1"}')


@pytest.mark.parametrize(
    "data",
    [
        b'{"leader":99999999999,"leader_epoch":0,"controller_epoch":1,"isr":[1]}',
        b'{"leader":1,"leader_epoch":99999999999,"controller_epoch":1,"isr":[1]}',
        b'{"leader":1,"leader_epoch":0,"controller_epoch":99999999999,"isr":[1]}',
        b'{"leader":1,"leader_epoch":0,"controller_epoch":1,"isr":[99999999999]}',
        b'{"leader":1,"leader_epoch":0,"controller_epoch":1,"isr":[1],"leader_recovery_state":300}',
    ],
)
def test_a_state_that_fits_into_no_request_is_no_state(data: bytes) -> None:
    """Whoever was to be told of it would be told of nothing else either."""
    with pytest.raises(MalformedZnode, match=STATE_PATH):
        LeaderAndIsr.decode(STATE_PATH, data, 0)


@pytest.mark.parametrize(
    "partitions", [b"{}", b'{"0":[]}', b'{"0":[1],"1":[]}', b'{"99999999999":[1]}']
)
def test_a_topic_has_partitions_and_each_of_them_replicas(partitions: bytes) -> None:
    with pytest.raises(MalformedZnode, match="/brokers/topics/orders"):
        TopicAssignment.decode("orders", b'{"version":3,"partitions":' + partitions + b"}")

"""What we write is what Apache Kafka 3.9.1 wrote to a ZooKeeper, byte for byte (``apache_kafka_3_9``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ottla import topic_ids
from ottla.coordination import znodes
from ottla.coordination.bootstrap import initial_layout, prepare_layout
from ottla.coordination.znodes import (
    BrokerRegistration,
    ControllerZnode,
    LeaderAndIsr,
    ProducerIdBlock,
    TopicAssignment,
)

RECORDED = json.loads((Path(__file__).parent / "apache_kafka_3_9" / "znodes.json").read_text())
LAYOUT: dict[str, str | None] = RECORDED["layout"]
WRITTEN: dict[str, str] = RECORDED["written"]

WRITE: dict[str, Callable[[bytes], bytes]] = {
    "broker": lambda data: BrokerRegistration.decode(1, data).encode(),
    "controller": lambda data: ControllerZnode.decode(data).encode(),
    "topic": lambda data: TopicAssignment.decode("t", data).encode(),
    "partition": lambda data: LeaderAndIsr.decode("/p", data, 0).encode(),
    "topic settings": lambda data: znodes.encode_config(znodes.decode_config("/c", data)),
    "no topic settings": lambda data: znodes.encode_config(znodes.decode_config("/c", data)),
    "changed": lambda data: znodes.encode_config_change(*znodes.decode_config_change("/c", data)),
    "producer": lambda data: getattr(ProducerIdBlock.decode(data), "encode", bytes)(),
    "failed": lambda data: znodes.encode_log_dir_event(znodes.decode_log_dir_event("/l", data)),
    "reassignment": lambda data: znodes.encode_reassignments(znodes.decode_reassignments(data)),
    "preferred": lambda data: znodes.encode_preferred_election(
        znodes.decode_preferred_election(data)
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_kafka_wrote_is_read_and_written_again_to_the_byte(name: str) -> None:
    data = WRITTEN[name].encode()
    write = WRITE.get(name) or WRITE[name.split()[0]]
    assert write(data) == data


def test_what_kafka_wrote_is_understood() -> None:
    topic = TopicAssignment.decode("t", WRITTEN["topic being reassigned"].encode())
    assert topic == TopicAssignment(
        topic_ids.from_text("L3W1TnO4TfqC1gYwMtdOPw"),
        {0: (1, 2, 3), 1: (2, 1)},
        {0: (3,)},
        {0: (1,)},
    )
    recovering = LeaderAndIsr.decode("/p", WRITTEN["partition that recovers"].encode(), 5)
    assert recovering == LeaderAndIsr(2, (2, 3), 7, 4, 5, 1)


async def test_the_layout_is_kafkas(stores: Any) -> None:
    store = await stores.connect()
    cluster_id = znodes.decode_cluster_id(str(LAYOUT["/cluster/id"]).encode())
    await prepare_layout(store, cluster_id)
    found: dict[str, bytes] = {}
    ahead = ["/"]
    while ahead:
        path = ahead.pop()
        for child in await store.children(path):
            below = f"{path.rstrip('/')}/{child}"
            found[below] = (await store.get(below)).data
            ahead.append(below)
    wanted = {path: (data or "").encode() for path, data in LAYOUT.items()}
    wanted["/controller_epoch"] = b"0"  # nobody was controller yet
    assert found == wanted
    assert set(found) == {create.path for create in initial_layout(cluster_id)}


def test_features_are_read_and_written() -> None:
    data = b'{"features":{"metadata.version":{"max_version_level":3}},"version":2,"status":1}'
    assert znodes.decode_features(data) == {"metadata.version": 3}
    assert znodes.encode_features({"metadata.version": 3}) == data
    assert znodes.encode_features({}).decode() == LAYOUT["/feature"]
    assert znodes.decode_features(data.replace(b'"status":1', b'"status":0')) == {}
    with pytest.raises(znodes.MalformedZnode):
        znodes.decode_features(b'{"features":{"a":1},"version":2,"status":1}')

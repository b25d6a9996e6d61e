"""A broker's first steps in the store, on every store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ottla.coordination import znodes
from ottla.coordination.bootstrap import (
    initial_layout,
    new_cluster_id,
    prepare_layout,
    read_cluster_id,
    register_broker,
)
from ottla.coordination.embedded import Keeper
from ottla.coordination.znodes import BrokerRegistration, Endpoint
from ottla.errors import ErrorCode, KafkaError

BROKER = BrokerRegistration(1, (Endpoint("PLAINTEXT", "PLAINTEXT", "localhost", 9092),))


async def test_empty_store_gets_kafkas_top_level_znodes_and_one_cluster_id(stores: Any) -> None:
    store = await stores.connect()
    assert await read_cluster_id(store) is None
    cluster_id = await prepare_layout(store)
    assert len(cluster_id) == 22
    assert await prepare_layout(store, "another") == cluster_id == await read_cluster_id(store)
    assert sorted(await store.children("/brokers")) == ["ids", "seqid", "topics"]
    assert sorted(await store.children("/config")) == [
        "brokers",
        "changes",
        "clients",
        "ips",
        "topics",
        "users",
    ]
    assert (await store.get("/controller_epoch")).data == b"0"


async def test_layout_that_was_left_half_made_is_completed(stores: Any) -> None:
    store = await stores.connect()
    await store.multi(initial_layout("first")[:5])
    assert await prepare_layout(store, "second") == "second"


async def test_brokers_that_prepare_at_once_agree_on_the_cluster_id(stores: Any) -> None:
    sessions = [await stores.connect() for _ in range(3)]
    ids = await asyncio.gather(*(prepare_layout(session) for session in sessions))
    assert len(set(ids)) == 1


async def test_store_made_with_its_layout_needs_no_change(tmp_path: Path) -> None:
    cluster_id = new_cluster_id()
    keeper = await Keeper.open(tmp_path / "store.sqlite", initial=initial_layout(cluster_id))
    store = await keeper.connect()
    before = await store.exists("/")
    assert await prepare_layout(store, new_cluster_id()) == cluster_id
    assert await store.exists("/") == before
    await keeper.close()


async def test_broker_epoch_is_the_czxid_of_its_registration(stores: Any) -> None:
    store = await stores.connect()
    await prepare_layout(store)
    epoch = await register_broker(store, BROKER)
    znode = await store.get(znodes.broker_path(1))
    assert znode.stat.czxid == epoch
    assert znode.stat.ephemeral_owner == store.session_id
    assert BrokerRegistration.decode(1, znode.data) == BROKER
    assert await register_broker(store, BROKER) == epoch


async def test_broker_id_in_use_by_another_session_is_refused(stores: Any) -> None:
    store, other = await stores.connect(), await stores.connect()
    await prepare_layout(store)
    first = await register_broker(store, BROKER)
    with pytest.raises(KafkaError) as raised:
        await register_broker(other, BROKER)
    assert raised.value.code is ErrorCode.DUPLICATE_BROKER_REGISTRATION
    await stores.expire(store)
    assert await register_broker(other, BROKER) > first

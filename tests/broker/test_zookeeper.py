"""Brokers whose store is a real ZooKeeper: their ids, their cluster, and the way back after a session's end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla.broker.broker import Broker as Server
from ottla.controller.topics import NewTopic
from ottla.coordination.store import StoreError
from ottla.errors import ErrorCode, KafkaError
from ottla.settings.broker_config import BrokerConfig
from tests.broker.test_several_brokers import until
from tests.support.zookeeper import Ensemble, require_zookeeper

SESSION_TIMEOUT_MS = 2_000


@pytest.fixture(scope="module")
def ensemble() -> Iterator[Ensemble]:
    """One server."""
    require_zookeeper()
    with Ensemble(1) as started:
        yield started


def broker(connect: str, data: Path, **settings: object) -> Server:
    own = {name.replace("_", "."): value for name, value in settings.items()}
    config = {
        "zookeeper.connect": connect,
        "zookeeper.session.timeout.ms": SESSION_TIMEOUT_MS,
        "listeners": "PLAINTEXT://127.0.0.1:0",
        "log.dirs": str(data),
        "durability": "os",
    }
    return Server(BrokerConfig.of({**config, **own}))


async def id_of(connect: str, data: Path, **settings: object) -> int:
    """Start and stop a broker; the id that it had."""
    server = broker(connect, data, **settings)
    try:
        await server.start()
        return server.node_id
    finally:
        await server.stop()


def be_held_up() -> None:
    """Nothing runs on this loop for longer than a session timeout."""
    time.sleep(2 * SESSION_TIMEOUT_MS / 1000)


def test_brokers_that_are_given_no_id_get_one_each_and_keep_it(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    async def run() -> None:
        connect = ensemble.fresh_chroot()
        first = await id_of(connect, tmp_path / "a")
        second = await id_of(connect, tmp_path / "b", reserved_broker_max_id=2000)
        assert (first, second) == (1001, 2002)
        assert await id_of(connect, tmp_path / "a") == first
        assert await id_of(connect, tmp_path / "c", node_id=7) == 7

    asyncio.run(run())


def test_the_data_of_another_cluster_are_refused(ensemble: Ensemble, tmp_path: Path) -> None:
    async def run() -> None:
        await id_of(ensemble.fresh_chroot(), tmp_path, node_id=1)
        other = ensemble.fresh_chroot()
        for _ in range(2):  # in an empty ZooKeeper, and in one that another broker has begun to use
            with pytest.raises(KafkaError) as refused:
                await id_of(other, tmp_path, node_id=1)
            assert refused.value.code is ErrorCode.INCONSISTENT_CLUSTER_ID
            await id_of(other, tmp_path.parent / f"{tmp_path.name}-other", node_id=2)

    asyncio.run(run())


def test_a_zookeeper_that_is_not_there_ends_the_start_in_time(tmp_path: Path) -> None:
    async def run() -> None:
        server = broker("127.0.0.1:1", tmp_path, zookeeper_connection_timeout_ms=300)
        with pytest.raises(StoreError):
            await server.start()
        await server.stop()

    asyncio.run(run())
    assert not list(tmp_path.glob("meta.properties"))


def test_a_loop_that_was_held_up_acknowledges_nothing_until_zookeeper_has_answered(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    async def run() -> None:
        server = broker(ensemble.fresh_chroot(), tmp_path, node_id=1)
        try:
            await server.start()
            await server.controller.create_topics([NewTopic("orders", 1, 1)])
            partition = server.replicas.leader_of("orders", 0)
            epoch = server.broker_epoch
            be_held_up()  # kazoo's thread is not: the session lives on
            assert server.lease.is_over()
            await until(lambda: not server.lease.is_over(), "ZooKeeper has answered")
            assert (server.broker_epoch, partition.is_leader) == (epoch, True)
        finally:
            await server.stop()

    asyncio.run(run())

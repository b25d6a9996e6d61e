"""Several brokers on one store in memory, on one event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ottla.broker.broker import Broker as Server
from ottla.coordination import znodes
from ottla.coordination.embedded import Keeper
from ottla.settings.broker_config import BrokerConfig


def server(keeper: Keeper, data: Path, node_id: int, **settings: object) -> Server:
    own = {name.replace("_", "."): value for name, value in settings.items()}
    config = {
        "listeners": "PLAINTEXT://127.0.0.1:0",
        "log.dirs": str(data / str(node_id)),
        "durability": "os",
        "node.id": node_id,
    }
    return Server(BrokerConfig.of({**config, **own}), connector=keeper)


def test_brokers_that_share_a_store_are_one_cluster(tmp_path: Path) -> None:
    async def run() -> None:
        keeper = await Keeper.open()
        brokers = [server(keeper, tmp_path, node_id) for node_id in (1, 2, 3)]
        try:
            for broker in brokers:
                await broker.start()
            assert len({broker.cluster_id for broker in brokers}) == 1
            store = await keeper.connect()
            for broker in brokers:
                stat = await store.exists(znodes.broker_path(broker.node_id))
                assert stat is not None
                assert stat.czxid == broker.broker_epoch
            assert [broker.controller.is_active for broker in brokers] == [True, False, False]
            await brokers[1].stop()
            assert sorted(await store.children(znodes.BROKER_IDS)) == ["1", "3"]
        finally:
            for broker in brokers:
                await broker.stop()
            await keeper.close()

    asyncio.run(run())
    assert not list(tmp_path.glob("*/ottla-store.sqlite"))

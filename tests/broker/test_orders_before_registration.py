"""Before a broker is registered nothing that the controller sends is meant for this life of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ottla.broker.broker import Broker as Server
from ottla.controller.topics import NewTopic
from ottla.coordination import znodes
from ottla.coordination.bootstrap import register_broker
from ottla.coordination.embedded import Keeper, TimedSessions
from ottla.coordination.znodes import BrokerRegistration, Endpoint
from ottla.settings.broker_config import BrokerConfig
from tests.broker.test_several_brokers import until


def test_what_is_meant_for_the_life_before_is_not_followed_while_its_registration_expires(
    tmp_path: Path,
) -> None:
    """Broker 2 was killed and is up again before its session has expired: the controller still tells the old one."""

    async def run() -> None:
        keeper = await Keeper.open()

        def server(node_id: int, port: int = 0) -> Server:
            config = {
                "listeners": f"PLAINTEXT://127.0.0.1:{port}",
                "log.dirs": str(tmp_path / str(node_id)),
                "durability": "os",
                "node.id": node_id,
                "controlled.shutdown.enable": "false",
            }
            return Server(BrokerConfig.of(config), connector=TimedSessions(keeper, 1_500))

        first, second = server(1), server(2)
        await first.start()
        starting = None
        try:
            # the registration of 2's killed process, whose session lives on for a while
            await second.start()
            port = second.address[1]
            await second.stop()
            await until(lambda: 2 not in first.controller.state.brokers, "gone")
            ghost = await keeper.connect()
            old = BrokerRegistration(2, (Endpoint("PLAINTEXT", "PLAINTEXT", "127.0.0.1", port),))
            old_epoch = await register_broker(ghost, old)
            await until(lambda: 2 in first.controller.state.brokers, "seen")
            second = server(2, port)
            starting = asyncio.create_task(second.start())
            creating = asyncio.create_task(
                first.controller.create_topics([NewTopic("orders", assignments={0: [2, 1]})])
            )
            await until(
                lambda: second.has_rooms and second.control._turn.locked(), "an order has come"
            )
            assert second.broker_epoch == -1, "it waits for its old registration to go"
            stat = await ghost.exists(znodes.broker_path(2))
            assert stat is not None
            assert stat.czxid == old_epoch
            partition = second.replicas.get("orders", 0)
            assert partition is None or not partition.is_leader, "it leads by its life before"
            assert not second.control.metadata_known.is_set(), "it thinks that it knows the cluster"
            await ghost.close()
            await starting
            await creating
            await until(lambda: "orders" in second.metadata.topics, "it is told as who it is")
        finally:
            if starting is not None:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
            await second.stop()
            await first.stop()
            await keeper.close()

    asyncio.run(run())

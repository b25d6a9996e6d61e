"""A broker comes back into its cluster whatever went wrong when it tried."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from ottla.coordination.embedded import EmbeddedStore, Keeper
from ottla.coordination.znodes import MalformedZnode
from tests.broker.test_several_brokers import server, until


def test_a_znode_that_cannot_be_read_does_not_end_the_seeking_of_a_session(tmp_path: Path) -> None:
    async def run() -> None:
        keeper = await Keeper.open()
        other, broker = server(keeper, tmp_path, 1), server(keeper, tmp_path, 2)
        await other.start()
        await broker.start()
        try:
            real = broker.config_listener.go_on
            failures: list[int] = []

            async def once(store: Any) -> None:
                if not failures:
                    failures.append(1)
                    raise MalformedZnode("/config/topics/orders", "no JSON, for now")
                await real(store)

            broker.config_listener.go_on = once  # type: ignore[method-assign]
            before = broker.broker_epoch
            store = broker.session.store
            assert isinstance(store, EmbeddedStore)
            await keeper.expire(store.session_id)
            await until(lambda: failures, "it tries")
            await until(lambda: broker.broker_epoch > before, "it registers anew")
        finally:
            await broker.stop()
            await other.stop()
            await keeper.close()

    asyncio.run(run())

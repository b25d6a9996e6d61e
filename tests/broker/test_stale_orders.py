"""Orders to a life of the broker that ends while they are carried out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from ottla.coordination.embedded import EmbeddedStore, Keeper
from ottla.errors import ErrorCode
from ottla.messages.leader_and_isr import (
    LeaderAndIsrPartitionState,
    LeaderAndIsrRequest,
    LeaderAndIsrTopicState,
)
from tests.broker.test_several_brokers import TOPIC_ID, server, until


def test_an_order_to_a_life_that_ends_meanwhile_makes_nobody_lead(tmp_path: Path) -> None:
    async def run() -> None:
        keeper = await Keeper.open()
        other, broker = server(keeper, tmp_path, 1), server(keeper, tmp_path, 2)
        await other.start()
        await broker.start()
        try:
            await until(lambda: broker.control.metadata_known.is_set(), "it is told")
            real = broker.config_listener.load_topics
            asked, gate = asyncio.Event(), asyncio.Event()

            async def slow(names: Any) -> None:
                asked.set()
                await gate.wait()  # as if the store did not answer for a while
                await real(names)

            broker.config_listener.load_topics = slow  # type: ignore[method-assign]
            state = LeaderAndIsrPartitionState(
                partition_index=0, leader=2, leader_epoch=3, replicas=[2, 1], isr=[2, 1]
            )
            request = LeaderAndIsrRequest(
                controller_id=1,
                controller_epoch=broker.control.controller_epoch,
                broker_epoch=broker.broker_epoch,
                topic_states=[
                    LeaderAndIsrTopicState(
                        topic_name="orders", topic_id=TOPIC_ID, partition_states=[state]
                    )
                ],
            )
            before = broker.broker_epoch
            answer = asyncio.ensure_future(broker.control.leader_and_isr(request))
            await asked.wait()
            store = broker.session.store
            assert isinstance(store, EmbeddedStore)
            await keeper.expire(store.session_id)
            await until(lambda: broker.broker_epoch > before, "it has another life")
            gate.set()
            response = await answer
            partition = broker.replicas.get("orders", 0)
            leads = partition is not None and partition.is_leader
            assert (response.error_code, leads, broker.lease.is_over()) == (
                ErrorCode.STALE_BROKER_EPOCH,
                False,
                False,
            )
        finally:
            await broker.stop()
            await other.stop()
            await keeper.close()

    asyncio.run(run())

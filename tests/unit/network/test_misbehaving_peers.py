"""A crowd of peers that do what they like, all at once: nothing leaks, nothing escapes, others are served."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ottla.network.limits import NetworkLimits

BUDGET_BYTES = 1 << 20


class Crowd:
    """Ways to misbehave; each takes a peer that has just connected."""

    def __init__(self, kit: Any, chance: random.Random) -> None:
        self.kit = kit
        self.chance = chance
        self.ways: list[Callable[[Any], Awaitable[None]]] = [
            self.leaves_at_once,
            self.announces_much_and_sends_little,
            self.sends_noise,
            self.leaves_in_the_middle_of_a_request,
            self.leaves_in_the_middle_of_a_response,
            self.asks_and_never_reads,
            self.leaves_while_its_answers_are_parked,
            self.behaves,
        ]

    async def leaves_at_once(self, peer: Any) -> None:
        peer.writer.transport.abort()

    async def announces_much_and_sends_little(self, peer: Any) -> None:
        size = self.chance.choice((10_000, 60_000, 900_000, 100 << 20))
        peer.writer.write(struct.pack(">i", size) + bytes(self.chance.randrange(70_000)))
        await self.leaves_somehow(peer)

    async def sends_noise(self, peer: Any) -> None:
        peer.writer.write(self.chance.randbytes(self.chance.randrange(1, 5000)))
        await self.leaves_somehow(peer)

    async def leaves_in_the_middle_of_a_request(self, peer: Any) -> None:
        frame = self.kit.frame(self.kit.produce(size=self.chance.choice((100, 300_000))), 9)
        peer.writer.write(frame[: self.chance.randrange(len(frame))])
        await self.leaves_somehow(peer)

    async def leaves_in_the_middle_of_a_response(self, peer: Any) -> None:
        peer.send(self.kit.fetch(), 4)
        await peer.reader.read(self.chance.choice((1, 4, 1000, 200_000)))
        await self.leaves_somehow(peer)

    async def asks_and_never_reads(self, peer: Any) -> None:
        for number in range(20):
            peer.send(self.kit.fetch(), 4, number)
        await self.leaves_somehow(peer)

    async def leaves_while_its_answers_are_parked(self, peer: Any) -> None:
        for number in range(self.chance.randrange(1, 30)):
            peer.send(self.kit.produce(acks=-1, size=10_000), 9, number)
        await self.leaves_somehow(peer)

    async def behaves(self, peer: Any) -> None:
        for number in range(5):
            peer.send(self.kit.produce(size=100_000), 9, number)
            assert (await peer.response(0, 9))[0] == number
            peer.send(self.kit.fetch(), 4, number)
            assert (await peer.response(1, 4))[0] == number
        await peer.close()

    async def leaves_somehow(self, peer: Any) -> None:
        for _ in range(self.chance.randrange(30)):
            await asyncio.sleep(0)
        match self.chance.randrange(3):
            case 0:
                peer.writer.transport.abort()
            case 1:
                await peer.close()
            case _:
                peer.writer.write_eof()
                peer.writer.transport.abort()


@pytest.mark.parametrize("seed", range(4))
def test_a_misbehaving_crowd_leaves_nothing_behind(
    kit: Any, record_file: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        crowd = Crowd(kit, chance)
        limits = NetworkLimits(
            queued_max_request_bytes=BUDGET_BYTES,
            write_stall_ms=3000,
            write_buffer_bytes=100_000,
            socket_send_buffer_bytes=chance.choice((-1, 200_000)),
        )
        regions: list[Any] = []
        async with kit.stage(limits=limits) as on:
            before = len(os.listdir("/proc/self/fd"))

            def fetched(request: Any) -> Any:
                assert on.server.budget.used_bytes <= BUDGET_BYTES
                added = [
                    kit.Region(
                        record_file,
                        chance.randrange(1000),
                        chance.choice((10, 70_000, 400_000, 3_000_000)),
                        resident=chance.random() < 0.7,
                    )
                    for _ in range(chance.randrange(1, 4))
                ]
                regions.extend(added)
                return kit.fetched(*added)

            on.broker.answers[1] = fetched

            async def one() -> None:
                peer = await on.peer(limit=2**15)
                await chance.choice(crowd.ways)(peer)

            async def sync_now_and_then() -> None:
                while True:
                    for _ in range(chance.randrange(50)):
                        await asyncio.sleep(0)
                    while on.broker.parked:
                        on.broker.settle()

            syncing = asyncio.ensure_future(sync_now_and_then())
            for _ in range(6):
                outcomes = await asyncio.gather(*(one() for _ in range(25)), return_exceptions=True)
                for outcome in outcomes:
                    # Only the server's own hanging up may come in between, never a wrong answer.
                    if isinstance(outcome, BaseException):
                        assert isinstance(outcome, (ConnectionError, asyncio.IncompleteReadError))
            good = await on.peer(limit=2**15)
            await crowd.behaves(good)
            syncing.cancel()
            await kit.until(lambda: not on.server.connections)
            assert on.server.budget.used_bytes == 0
            assert all(region.closed for region in regions)
            await kit.until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    with caplog.at_level(logging.WARNING):
        kit.run(main())
    strays = [record for record in caplog.records if record.name == "asyncio"]
    assert [record.getMessage() for record in strays if "took" not in record.getMessage()] == []
    assert [record for record in caplog.records if record.exc_info] == []

"""Jobs that come again, and the end of them."""

from __future__ import annotations

import asyncio

from ottla.broker.housekeeping import Housekeeping


def test_a_job_that_is_under_way_is_done_before_the_house_is_left() -> None:
    async def run() -> list[str]:
        house, begun, go_on = Housekeeping(), asyncio.Event(), asyncio.Event()
        order: list[str] = []

        async def write_a_checkpoint() -> None:
            begun.set()
            await go_on.wait()
            order.append("written")

        house.every(1, write_a_checkpoint, first_after_ms=0)
        house.every(3_600_000, lambda: None)
        await begun.wait()
        stopping = asyncio.create_task(house.stop())
        await asyncio.sleep(0)
        go_on.set()
        await stopping
        order.append("left")
        return order

    assert asyncio.run(run()) == ["written", "left"]


def test_a_job_that_fails_comes_again() -> None:
    async def run() -> int:
        house, again = Housekeeping(), asyncio.Event()
        times = 0

        def fail_once() -> None:
            nonlocal times
            times += 1
            if times == 1:
                raise ValueError("once")
            again.set()

        house.every(1, fail_once, first_after_ms=0)
        await again.wait()
        await house.stop()
        return times

    assert asyncio.run(run()) >= 2

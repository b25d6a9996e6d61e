"""A fetcher whose connection is lost, and a log that is cut under it, go on."""

from __future__ import annotations

import asyncio
from typing import Any

from ottla.log.flusher import Durability
from ottla.network.channel import ConnectionClosed
from tests.unit.log.samples import NOW_MS, batch
from tests.unit.replication.leading import Leader
from tests.unit.replication.test_copying import a_log, leading
from tests.unit.replication.test_fetcher import Wire, eventually, run, world


def test_a_connection_lost_while_the_range_is_asked_for_does_not_hold_the_partition_for_ever(
    monkeypatch: Any,
) -> None:
    real = Wire.send
    broken: list[int] = []

    def send(self: Wire, message: Any, **how: Any) -> Any:
        if type(message).__name__ == "ListOffsetsRequest" and not broken:
            broken.append(1)
            self.abort("cut")
            raise ConnectionClosed("cut")
        return real(self, message, **how)

    monkeypatch.setattr(Wire, "send", send)

    async def check() -> None:
        async with world() as here:
            theirs = leading(a_log())
            leader = here.leaders[2] = Leader(theirs)
            leader.append(count=3)
            # The leader's log starts at 3: who asks for 0 is out of range.
            theirs.log.flush(NOW_MS)
            theirs.high_watermark = 3
            theirs.log.increment_log_start_offset(3, 3)
            copy = here.follow()
            await eventually(lambda: broken)
            await eventually(lambda: len(here.wires) > 1)
            await asyncio.wait_for(until(lambda: copy.log.log_end_offset == 3), 3)

    run(check)


async def until(probe: Any) -> None:
    while not probe():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.02)


def test_a_log_that_is_cut_while_it_is_flushed_is_flushed_and_asked_for_again() -> None:
    """The sync of what is cut away counts for nothing; who waited for it has to be told, or to ask again."""

    async def check() -> None:
        async with world(Durability.DISK) as here:
            theirs = leading(a_log(), epoch=3)
            here.leaders[2] = Leader(theirs)
            here.leaders[2].append(count=1)
            copy = here.follow(epoch=3)
            await eventually(lambda: copy.high_watermark == 1)
            log, flusher = copy.log, here.flusher
            # Two batches more, whose sync is slow; the second is cut away meanwhile.
            gate = asyncio.Event()
            finish = flusher._finish

            held: list[Any] = []
            flusher._finish = lambda *args: held.append(args)  # type: ignore[method-assign]
            for _ in range(2):
                b = memoryview(bytearray(batch(1)))
                log.append_as_leader(b, 3, NOW_MS)
            waiting = asyncio.ensure_future(flusher.flush(log))
            await eventually(lambda: held)
            log.truncate_to(2, NOW_MS)
            flusher._finish = finish  # type: ignore[method-assign]
            finish(*held[0])
            del gate
            await asyncio.wait_for(asyncio.shield(waiting), 3)
            assert log.flushed_end_offset == log.log_end_offset == 2

    run(check)

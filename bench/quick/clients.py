"""What records cost our clients: producer and consumer under valgrind, against a broker that runs as it does.

One of asyncio's, which is one thread: what both fronts share is in it. The broker answers at once, as it seems to a client
that is slowed down so much.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.broker_process import broker, free_port
from bench.quick import counting, still_clock
from bench.quick.counting import PARTS, Probe

VALUE = b"v" * 100
TOPIC = "quick"
BATCH_BYTES = 16_384
SENT = 600
"""Records of a part: some four batches."""
READ = 2_000
LINGER_MS = 60_000
"""Full batches leave, and the last one when it is asked for."""
TIMEOUT_S = 100.0
WORKS = {"producer, a record": SENT, "consumer, a record": READ}

Part = Callable[[], Awaitable[None]]


async def counted(probe: Probe, clock: still_clock.StillClock, name: str, part: Part) -> None:
    """A part of a work, first uncounted, then so many times."""
    await part()
    for number in range(PARTS):
        clock.stand()
        probe.start()
        await part()
        probe.stop(f"{name}-{number}")
        clock.go_on()


async def run(bootstrap: str, probe: Probe, clock: still_clock.StillClock) -> None:
    """Produce, then read what was produced."""
    import ottla.aio

    options: Any = {"linger_ms": LINGER_MS, "batch_size": BATCH_BYTES}
    async with ottla.aio.Producer(bootstrap, **options) as producer:

        async def send() -> None:
            for _ in range(SENT):
                await producer.send(TOPIC, VALUE)
            await producer.flush()

        await counted(probe, clock, "0", send)
        for _ in range(READ * (PARTS + 2)):
            await producer.send(TOPIC, VALUE)
        await producer.flush()
    async with ottla.aio.Consumer(bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        await consumer.assign([(TOPIC, 0)])

        async def read() -> None:
            seen = 0
            while seen < READ:
                seen += len(await consumer.poll(1.0, max_records=min(500, READ - seen)))

        await counted(probe, clock, "1", read)


def measure(sources: Path | None) -> dict[str, float]:
    """Instructions of the client for one record."""
    with tempfile.TemporaryDirectory(prefix="ottla-quick-clients-") as directory:
        counts, port = Path(directory) / "counts", free_port()
        with broker(Path(directory) / "data", port, "durability=os"):
            arguments = ["-m", "bench.quick.clients", str(counting.library()), f"127.0.0.1:{port}"]
            subprocess.run(
                counting.command(counts, arguments),
                env=counting.environment(sources),
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=TIMEOUT_S,
            )
        found = counting.counts_in(counts)
    return {
        name: min(found[f"{index}-{part}"] for part in range(PARTS)) / records
        for index, (name, records) in enumerate(WORKS.items())
    }


if __name__ == "__main__":
    installed = still_clock.install()
    asyncio.run(run(sys.argv[2], Probe(sys.argv[1]), installed))

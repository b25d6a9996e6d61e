"""One broker beside the several of ``ottla serve --brokers N``, on this machine: the same produce requests to both in turn.

    python -m bench.several_brokers [--brokers 2] [--rounds 5] [--seconds 2]

Twelve partitions are spread over the brokers, each is written to by a connection of its own, and an acknowledged record is
in the page cache. All brokers run all the time; each round begins with another side. CPU time is that of all processes of a
side: the brokers, and the command that keeps their store. The load generator wants a part of a processor, too, which stands
beside: where brokers and generator together want more processors than there are, less is seen than N brokers could do.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from contextlib import ExitStack

from bench.figures import Figures, table
from bench.peers import requests
from bench.peers.brokers import topic_name
from bench.peers.load import replay
from bench.peers.products import Ottla, Running

PARTITIONS = 12
DEPTH = 5
BEFORE_S = 0.2
WORKS = {
    "requests of one record, 100 B": (100, 1, "none"),
    "requests of a batch of 16 KiB, 1 KB records": (1_000, 16_384, "none"),
}


def measure(running: Running, batch: tuple[int, int, str], seconds: float) -> dict[str, float]:
    """Write to a new topic for so long."""
    topic = topic_name()
    ports = running.create_topic(topic, PARTITIONS)
    records = requests.batch(*batch)
    frames = [requests.produce(topic, [(i, records)], 1, port) for i, port in enumerate(ports)]
    replay(frames, "produce", connections=PARTITIONS, seconds=min(BEFORE_S, seconds))
    before = running.cpu_seconds()
    outcome = replay(frames, "produce", connections=PARTITIONS, depth=DEPTH, seconds=seconds)
    cpu = running.cpu_seconds() - before
    running.delete_topic(topic)
    return {
        "requests/s": outcome.requests / outcome.seconds,
        "us/request": cpu / outcome.requests * 1e6,
        "processors": cpu / outcome.seconds,
        "processors, client": outcome.client_busy,
    }


def main() -> None:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--brokers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    if options.brokers < 2:
        parser.error("--brokers wants 2 or more, which one is put beside")
    with ExitStack() as stack:
        products = (Ottla(), Ottla(options.brokers))
        sides = [stack.enter_context(product.running("os")) for product in products]
        for title, batch in WORKS.items():
            found: dict[str, Figures] = defaultdict(lambda: {side.name: [] for side in sides})
            for number in range(options.rounds):
                for side in sides[number % 2 :] + sides[: number % 2]:
                    for metric, value in measure(side, batch, options.seconds).items():
                        found[metric][side.name].append(value)
            for metric, figures in found.items():
                digits = 2 if metric.startswith("processors") else 1
                table(f"{title}: {metric}", figures, metric.partition(",")[0], digits)


if __name__ == "__main__":
    main()

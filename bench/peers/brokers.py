"""Settings whose contestants are brokers that run side by side, warmed up, and are given work in turn."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from bench.peers import at_hand, requests
from bench.peers.cells import APACHE_KAFKA
from bench.peers.load import replay
from bench.peers.products import ApacheKafka, Ottla, Product, Running

WARM_UP_S = 30.0
"""So long a JVM has to compile what it runs."""
WARM_UP_OTHERS_S = 5.0
"""Of what compiles nothing while it runs: connections, files and code are there by then."""
_numbers = itertools.count()


def topic_name() -> str:
    """One that was not there before."""
    return f"bench-{next(_numbers)}"


@contextmanager
def side_by_side(
    durability: str,
    *,
    products: Sequence[Product] | None = None,
    nodes: int = 1,
    settings: Mapping[str, str] | None = None,
    warm_up: Callable[[Running, float], None] | None = None,
) -> Iterator[dict[str, Running]]:
    """Every product, running, by its name, after ``warm_up(running, seconds)``."""
    with ExitStack() as stack:
        found = {
            product.name: stack.enter_context(product.running(durability, nodes, settings))
            for product in (products or (Ottla(), ApacheKafka()))
        }
        for running in found.values():
            (warm_up or work_a_while)(running, warm_up_s(running))
        yield found


def warm_up_s(running: Running) -> float:
    """How long it is warmed up."""
    return WARM_UP_S if running.name.startswith(APACHE_KAFKA) else WARM_UP_OTHERS_S


def work_a_while(running: Running, seconds: float) -> None:
    """Produce and fetch of all sorts, small and large, so that what compiles itself has done so."""
    end = time.monotonic() + seconds
    acks = -1
    topic = topic_name()
    port = running.create_topic(topic)[0]
    batches = [
        requests.batch(100, 100),
        requests.batch(100, 16_384),
        requests.batch(1_000, 16_384, "lz4"),
        requests.batch(10_000, 1_000_000),
    ]
    reading = requests.fetch(topic, [0], port)
    while (left := end - time.monotonic()) > 0:
        for one in batches:
            writing = requests.produce(topic, [(0, one)], acks, port)
            part = min(seconds / 20, max(left / 8, 0.1))
            replay(
                [writing],
                "produce",
                connections=4,
                depth=4,
                seconds=part,
                requests=200_000_000 // len(one) + 1,
            )
            replay([reading], "fetch", connections=4, seconds=part / 2)
        if time.monotonic() < end:
            running.delete_topic(topic)
            topic = topic_name()
            port = running.create_topic(topic)[0]
            reading = requests.fetch(topic, [0], port)
    running.delete_topic(topic)


def warm(bytes_to_come: float) -> None:
    """Have the machine's memory at hand for what is going to be written (``bench.peers.at_hand``)."""
    at_hand.want(bytes_to_come)


def settle() -> None:
    """Have everything that was written or deleted on the disk, so that none of it is done in somebody's time."""
    os.sync()

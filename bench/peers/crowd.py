"""What others feel of a crowd: 500 members of a group that only say that they are alive, and 5,000 idle connections.

The members are one group's; each has a connection, sends a Heartbeat every 3 s and commits an offset every 5 s, as
consumers do by default (what they would fetch is left out). The idle ones have asked for ApiVersions and nothing since.
Beside them records go from four producers to four waiting consumers, in an open loop, at half of what the slower
broker takes at most; each round measures that with the crowd and without it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from bench.peers.brokers import topic_name
from bench.peers.cells import APACHE_KAFKA, OURS, Cell, Goal, Sample
from bench.peers.products import Running

NAME = "crowd/os"
LOAD = 0.5
MEMBERS = 500
IDLE = 5_000
READY_S = 120.0

Steady = Callable[[Running, int], Sample]
"""Measures the others' latency: a broker and their acks."""
Resumed = Callable[[Mapping[str, Sequence[Sample]]], None]
"""A cell's (``Cell.resumed``)."""


class Alone(NamedTuple):
    """A contestant that has no crowd."""

    running: Running


def alone(name: str) -> str:
    """What a contestant is called that has no crowd."""
    return f"{name}, no crowd"


@contextmanager
def crowd(running: Running, members: int = MEMBERS, idle: int = IDLE) -> Iterator[None]:
    """The crowd, complete, as long as the context. Raises ``RuntimeError`` where it was not well served."""
    topic = topic_name()
    running.create_topic(topic)
    try:
        with _process(running.ports[0], topic, members, idle):
            yield
    finally:
        running.delete_topic(topic)


@contextmanager
def _process(port: int, topic: str, members: int, idle: int) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.peers.crowd_process"]
    command += [str(port), topic, str(members), str(idle)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the crowd did not come together")
        yield
        process.stdin.close()
        if process.wait(READY_S):
            raise RuntimeError("a member of the crowd was not answered well")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def measure(contestant: Running | Alone, *, acks: int, steady: Steady) -> Sample:
    """The others' latency, with the crowd or without."""
    if isinstance(contestant, Alone):
        return steady(contestant.running, acks)
    with crowd(contestant):
        return steady(contestant, acks)


def cells(steady: Steady, resumed: Resumed) -> list[Cell]:
    """One: both brokers, each with the crowd and without it."""
    names = (OURS, APACHE_KAFKA)
    return [
        Cell(
            name=NAME,
            table="Latency of others beside 500 group members and 5,000 idle connections",
            title="one record of 100 B from 4 producers to 4 waiting consumers, 50 %",
            durability="os",
            contestants=(*names, *(alone(name) for name in names)),
            measure=partial(measure, acks=1, steady=steady),
            resumed=resumed,
            goals=(Goal("p99 us", at_most=1.0, against=alone(OURS)),),
            notes=(
                "Ratios are to our own figures without the crowd; Apache Kafka's beside them are shown.",
            ),
        )
    ]

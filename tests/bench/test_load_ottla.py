"""The load generator against our broker: what it says that it did is what the broker has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers import requests
from bench.peers.load import replay
from bench.peers.products import Running
from ottla.testing import Broker

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="epoll")

TOPIC = "load"
RECORDS = 9
BATCH = requests.batch(100, RECORDS * 110)


@pytest.fixture(name="running")
def _running(tmp_path: Path) -> Iterator[Running]:
    with Broker({"auto.create.topics.enable": "false"}, data=tmp_path) as broker:
        running = Running("Ottla", [broker.port], tmp_path)
        running.create_topic(TOPIC, 2)
        yield running


def test_what_it_produces_is_there_and_it_reads_that(running: Running) -> None:
    (port,) = running.ports
    frame = requests.produce(TOPIC, [(0, BATCH), (1, BATCH)], -1, port)
    outcome = replay([frame], "produce", connections=3, depth=5, seconds=30, requests=60)
    assert (outcome.requests, outcome.errors) == (60, 0)
    assert outcome.sent_bytes == 60 * len(frame.bytes)
    reading = requests.fetch(TOPIC, [0, 1], port)
    read = replay([reading], "fetch", seconds=30, requests=3)
    assert read.requests == 3
    assert read.records == 3 * 2 * 60 * RECORDS  # from the start again each time
    assert read.record_bytes == 3 * 2 * 60 * len(BATCH)
    assert read.p50_us <= read.p99_us <= read.max_us


def test_an_answer_with_an_error_is_an_error(running: Running) -> None:
    (port,) = running.ports
    for frame, kind in (
        (requests.produce("nowhere", [(0, BATCH)], 1, port), "produce"),
        (requests.fetch("nowhere", [0], port), "fetch"),
    ):
        with pytest.raises(RuntimeError, match=r"answers with errors, first 3$"):
            replay([frame], kind, seconds=30, requests=2)


def test_an_open_loop_keeps_its_rate(running: Running) -> None:
    (port,) = running.ports
    frame = requests.produce(TOPIC, [(0, BATCH)], 1, port)
    outcome = replay([frame], "produce", connections=4, seconds=0.5, rate=400)
    assert outcome.requests == 200

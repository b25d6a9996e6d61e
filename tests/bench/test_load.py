"""The load generator: an open loop counts from when a request was to be sent, and readers see each record once."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.broker_process import Connection, create_topic_frame, require_no_error
from bench.peers import requests
from bench.peers.load import LoadFrame, replay
from ottla.testing import Broker

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="the generator is compiled here"
)

STALL_S = 0.4
STALL_AT = 200


@contextmanager
def a_server_that_stalls_once() -> Iterator[int]:
    """Its port. It answers each request with its correlation id, and stops for ``STALL_S`` before one of them."""

    def serve(listening: socket.socket) -> None:
        peer, _ = listening.accept()
        with peer, peer.makefile("rb") as requests_in:
            count = 0
            while head := requests_in.read(4):
                frame = requests_in.read(int.from_bytes(head, "big"))
                count += 1
                if count == STALL_AT:
                    time.sleep(STALL_S)
                peer.sendall(b"\0\0\0\x04" + frame[4:8])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve, args=(listening,), daemon=True)
        server.start()
        yield listening.getsockname()[1]
    server.join()


def a_request(port: int) -> LoadFrame:
    return LoadFrame(port, b"\0\0\0\x08" + bytes(8))


def test_an_open_loop_sends_on_while_the_server_stalls_and_counts_from_when_it_was_to_send() -> (
    None
):
    with a_server_that_stalls_once() as port:
        outcome = replay([a_request(port)], "other", seconds=1.0, rate=1000.0)
    assert (
        1000 >= outcome.requests > STALL_AT + STALL_S * 1000
    )  # all, unless the machine stood still
    # 400 requests were due meanwhile; each waited for what was left of it.
    assert outcome.p90_us >= 0.6 * STALL_S * 1e6
    assert outcome.p99_us >= 0.9 * STALL_S * 1e6
    assert outcome.late_max_us > 0


def test_a_closed_loop_waits_for_a_server_that_stalls() -> None:
    with a_server_that_stalls_once() as port:
        outcome = replay([a_request(port)], "other", seconds=60.0, requests=1000)
    assert outcome.requests == 1000
    assert outcome.max_us >= STALL_S * 1e6
    assert outcome.p90_us < outcome.max_us
    assert outcome.late_max_us == 0


def test_readers_are_told_of_each_record_once() -> None:
    with Broker() as broker:
        connection = Connection(broker.port)
        created = connection.answer(create_topic_frame("followed", 2))
        require_no_error(created.topics[0].error_code)
        connection.close()
        one = requests.batch(100, 1)
        frames = [requests.produce("followed", [(index, one)], 1, broker.port) for index in (0, 1)]
        reading = requests.fetch("followed", [0, 1], broker.port)
        outcome = replay(
            frames,
            "produce",
            connections=2,
            seconds=60.0,
            requests=300,
            rate=1000.0,
            readers=[reading],
        )
    assert outcome.requests == 300
    assert outcome.records == 300
    assert outcome.end_p50_us > 0
    assert outcome.end_max_us >= outcome.late_p50_us

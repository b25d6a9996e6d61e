"""The load generator: an open loop counts from when a request was to be sent, and readers see each record once."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench.broker_process import Connection, create_topic_frame, require_no_error
from bench.peers import requests
from bench.peers.load import LoadFrame, program, replay, write_job
from bench.peers.products import Ottla
from ottla.testing import Broker
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="the generator is compiled here"
)

STALL_S = 0.4
STALL_AT = 200


class Server:
    """Answers each request of one connection with its correlation id; may stop for ``STALL_S`` before one of them."""

    def __init__(self, listening: socket.socket, stalls_at: int) -> None:
        self.port: int = listening.getsockname()[1]
        self.count = 0
        self._listening = listening
        self._stalls_at = stalls_at

    def serve(self) -> None:
        peer, _ = self._listening.accept()
        with peer, peer.makefile("rb") as requests_in:
            while head := requests_in.read(4):
                frame = requests_in.read(int.from_bytes(head, "big"))
                self.count += 1
                if self.count == self._stalls_at:
                    time.sleep(STALL_S)
                peer.sendall(b"\0\0\0\x04" + frame[4:8])


@contextmanager
def a_server(stalls_at: int = 0) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(listening, stalls_at)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield server
    thread.join()


def a_request(port: int) -> LoadFrame:
    return LoadFrame(port, b"\0\0\0\x08" + bytes(8))


def test_an_open_loop_sends_on_while_the_server_stalls_and_counts_from_when_it_was_to_send() -> (
    None
):
    with a_server(STALL_AT) as server:
        outcome = replay([a_request(server.port)], "other", seconds=1.0, rate=1000.0)
    assert outcome.requests == 1000
    # 400 requests were due meanwhile; each waited for what was left of it.
    assert outcome.p90_us >= 0.6 * STALL_S * 1e6
    assert outcome.p99_us >= 0.9 * STALL_S * 1e6
    # One that waited with the server would have sent these up to as late as that.
    assert outcome.late_p90_us < 0.5 * STALL_S * 1e6


def test_what_is_due_before_the_end_is_sent_though_the_generator_stands_still_across_it(
    tmp_path: Path,
) -> None:
    with a_server() as server:
        job = write_job(tmp_path / "job", [a_request(server.port)])
        command = [str(program()), f"job={job}", "kind=other", "rate=1000", "seconds=0.5"]
        generator = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            eventually(lambda: server.count > 50, "it has sent fifty")
            generator.send_signal(signal.SIGSTOP)
            time.sleep(0.6)
            generator.send_signal(signal.SIGCONT)
            output, _ = generator.communicate()
        finally:
            generator.kill()
            generator.wait()
    assert json.loads(output)["requests"] == 500


def test_connections_to_several_brokers_share_the_work() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(a_server()) for _ in range(3)]
        frames = [a_request(server.port) for server in servers]
        outcome = replay(frames, "other", connections=3, seconds=60.0, requests=30)
    assert outcome.requests == 30
    assert all(server.count > 0 for server in servers)
    assert sum(server.count for server in servers) == 30


def test_a_connection_has_no_frames_for_several_brokers() -> None:
    with a_server() as one, a_server() as other:
        frames = [a_request(one.port), a_request(other.port)]
        with pytest.raises(RuntimeError, match="a connection's frames are for one broker"):
            replay(frames, "other", connections=1, requests=2)
        replay(frames, "other", connections=2, seconds=60.0, requests=2)


def test_a_closed_loop_waits_for_a_server_that_stalls() -> None:
    with a_server(STALL_AT) as server:
        outcome = replay([a_request(server.port)], "other", seconds=60.0, requests=1000)
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


def test_a_reader_counts_from_when_a_record_was_to_be_sent() -> None:
    with Ottla().running("os") as running:
        (port,) = running.create_topic("followed")
        (process,) = running.processes

        def stall() -> None:
            eventually(lambda: running.end_offset("followed") > STALL_AT, "some are written")
            process.send_signal(signal.SIGSTOP)
            time.sleep(STALL_S)
            process.send_signal(signal.SIGCONT)

        stalling = threading.Thread(target=stall)
        stalling.start()
        outcome = replay(
            [requests.produce("followed", [(0, requests.batch(100, 1))], 1, port)],
            "produce",
            seconds=60.0,
            requests=1000,
            rate=1000.0,
            readers=[requests.fetch("followed", [0], port)],
        )
        stalling.join()
    assert outcome.records == 1000
    # 400 records were due meanwhile, and came after it.
    assert outcome.end_p90_us >= 0.6 * STALL_S * 1e6
    assert outcome.late_p90_us < 0.5 * STALL_S * 1e6

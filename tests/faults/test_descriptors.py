"""The broker runs out of file descriptors: who is there is served or refused, and nothing is lost."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest

from ottla.errors import ErrorCode
from tests.crash.process import BrokerProcess
from tests.faults.running import append, assert_no_traceback, broker, create, events, values
from tests.interop.raw import RawClient
from tests.interop.requirements import leave_out
from tests.support.requests import create_topic
from tests.support.waiting import wait_until

TOPICS = [f"t-{number}" for number in range(40)]

PASSING = {ErrorCode.NONE, ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.REQUEST_TIMED_OUT}
"""What may become of a request meanwhile."""


def limit_descriptors(running: BrokerProcess, spare: int | None) -> None:
    """Let it open ``spare`` more descriptors than it has open now; None: as many as before."""
    hard = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)[1]
    highest = max(int(name) for name in os.listdir(f"/proc/{running.pid}/fd"))
    soft = hard if spare is None else highest + 1 + spare
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("spare", [0, 12])
def test_without_descriptors_appends_go_on_or_are_refused_and_nothing_is_lost(
    spare: int, tmp_path: Path
) -> None:
    if not hasattr(resource, "prlimit"):
        leave_out("this system has no prlimit")
    with broker(tmp_path, log_segment_bytes=3_000) as running:
        written: dict[str, dict[int, bytes]] = {topic: {} for topic in TOPICS}
        outcomes: set[ErrorCode] = set()

        def write(raw: RawClient, rounds: int) -> None:
            for _ in range(rounds):
                for topic, log in written.items():
                    value = f"{topic} {len(log)} ".encode() + bytes(500)
                    code, offset = append(raw, value, topic)
                    outcomes.add(code)
                    if code == ErrorCode.NONE:
                        assert offset not in log
                        log[offset] = value

        def check(raw: RawClient) -> None:
            for topic, log in written.items():
                found = values(raw, topic)
                assert {offset: found[offset] for offset in log} == log

        with RawClient(running.bootstrap) as raw:
            for topic in TOPICS:
                create_topic(raw, topic)
            write(raw, 1)
            check(raw)
            # Its modules are loaded now: each is a file, too, and opened when it is first needed.
            wait_until(lambda: events(running, "topic created"))
            limit_descriptors(running, spare)
            write(raw, 5)
            assert outcomes <= PASSING
            assert create(raw, "late") in PASSING
            check(raw)

            # Others wait for one in the listen queue.
            host, _, port = running.bootstrap.rpartition(":")
            crowd = [socket.create_connection((host, int(port))) for _ in range(spare + 20)]
            wait_until(lambda: events(running, "cannot accept connections"))
            assert append(raw, b"served", "late")[0] in PASSING
            limit_descriptors(running, None)
            for one in crowd:
                one.close()
            outcomes.clear()
            write(raw, 2)
            assert outcomes == {ErrorCode.NONE}
        with RawClient(running.bootstrap) as raw:
            check(raw)
        assert running.exit_code() is None
        assert not events(running, "log directory is offline")
        running.kill()
        running.start()
        running.wait_until_ready()
        with RawClient(running.bootstrap) as raw:
            check(raw)
        assert_no_traceback(running)

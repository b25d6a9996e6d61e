"""What clients send stays out of the log of a busy broker, whatever happens to it; names are escaped."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ottla import Consumer, Producer
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.messages.registry import API_VERSIONS_RANGES
from ottla.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.support.requests import create_topic, produce
from tests.support.waiting import eventually
from tests.support.wire import Wire, batch

SECRET = "hunter2-correct-horse"
EVIL = "\x1b[31mevil\r\n{}"
DEADLINE_S = 60.0


@contextmanager
def serving(data: Path, output: Path) -> Iterator[str]:
    """A broker that says all that it can; its output is appended to ``output``."""
    with output.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ottla", "serve", "--data", str(data), "--listen=127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "OTTLA_LOG_LEVEL": "DEBUG"},
        )
    try:
        assert process.stdout is not None
        found = re.search(rb"on (127\.0\.0\.1:\d+),", process.stdout.readline())
        assert found is not None, output.read_text()
        yield found[1].decode()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.communicate()


def clients_work(bootstrap: str) -> None:
    with Producer(bootstrap, client_id=EVIL) as producer:
        for number in range(20):
            producer.send(
                "t", key=f"{SECRET}-key", value=f"{SECRET}-value", headers=[("h", SECRET.encode())]
            ).result()
            assert number < 20
    with Consumer("t", group=EVIL, bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        for _, record in zip(range(20), consumer, strict=False):
            assert SECRET in record.value.decode()


def groups_carry_it(bootstrap: str) -> None:
    with Wire(bootstrap, EVIL) as wire:
        find = FindCoordinatorRequest(coordinator_keys=["g"])
        eventually(lambda: wire.ask(find, 4).coordinators[0].error_code == 0, "a coordinator")
        protocol = JoinGroupRequestProtocol(name="p", metadata=SECRET.encode())
        join = JoinGroupRequest(
            group_id="g", session_timeout_ms=6000, rebalance_timeout_ms=6000,
            protocol_type="t", protocols=[protocol],
        )  # fmt: skip
        joined = eventually(lambda: (a := wire.ask(join, 3)).error_code == 0 and a, "a member")
        mine = SyncGroupRequestAssignment(member_id=joined.member_id, assignment=SECRET.encode())
        sync = SyncGroupRequest(
            group_id="g", generation_id=1, member_id=joined.member_id, assignments=[mine]
        )
        assert wire.ask(sync, 3).error_code == 0
        partition = OffsetCommitRequestPartition(
            partition_index=0, committed_offset=1, committed_metadata=SECRET
        )
        commit = OffsetCommitRequest(
            group_id="g", generation_id_or_member_epoch=1, member_id=joined.member_id,
            topics=[OffsetCommitRequestTopic(name="t", partitions=[partition])],
        )  # fmt: skip
        assert wire.ask(commit, 7).topics[0].partitions[0].error_code == 0


def peers_misbehave(bootstrap: str) -> None:
    with Wire(bootstrap) as wire:
        create_topic(wire, "compacted", cleanup_policy="compact")
        broken = bytearray(batch(SECRET.encode()))
        broken[-1] ^= 1
        assert produce(wire, "t", bytes(broken)).error_code != 0
        assert produce(wire, "compacted", batch(SECRET.encode())).error_code != 0
        assert produce(wire, "t", SECRET.encode()).error_code != 0
    host, port = bootstrap.split(":")
    for key in [*API_VERSIONS_RANGES, 1000]:
        for version in (0, API_VERSIONS_RANGES.get(key, (0, 0))[1], 77):
            header = key.to_bytes(2, "big") + version.to_bytes(2, "big") + bytes(4)
            frame = header + len(SECRET).to_bytes(2, "big") + SECRET.encode() * 20
            with socket.create_connection((host, int(port)), 20) as sock:
                sock.sendall(len(frame).to_bytes(4, "big") + frame)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(4096):
                    pass


def test_nothing_that_clients_send_is_in_the_log_of_a_busy_broker(tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "log"
    with serving(data, output) as bootstrap:
        clients_work(bootstrap)
        groups_carry_it(bootstrap)
        peers_misbehave(bootstrap)
    for segment in data.glob("*/*.log"):  # a damaged log is told of, too
        if segment.stat().st_size:
            content = bytearray(segment.read_bytes())
            content[-3] ^= 0xFF
            segment.write_bytes(content)
    (data / ".kafka_cleanshutdown").unlink()
    with serving(data, output):
        pass
    text = output.read_text()
    assert SECRET not in text
    assert SECRET.encode().hex() not in text
    assert "\x1b" not in text
    events = [json.loads(line) for line in text.splitlines()]
    assert {"connection closed", "a group rebalances"} <= {event["event"] for event in events}
    assert any(event.get("group") == ascii(EVIL)[1:-1] for event in events)

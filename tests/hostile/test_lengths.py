"""Every length and every count of every request in every version, with values that they must not have."""

from __future__ import annotations

import resource
import struct
from pathlib import Path

import pytest

from ottla.messages.registry import API_NAMES, api, decode_request_header
from ottla.wire.compiler import decode
from ottla.wire.primitives import DecodeError
from tests.crash.process import BrokerProcess
from tests.hostile.lengths import bent, places
from tests.support.memory import peak_kib
from tests.support.requests import create_topic, fetch, produce
from tests.support.samples import whole_requests
from tests.support.wire import Wire, batch

MEMORY_KIB_MAX = 64 << 10


def requests_of(key: int) -> list[tuple[int, bytes]]:
    """The API's requests, each with its version."""
    found = []
    for frame in FRAMES:
        wanted, version = struct.unpack_from(">hh", frame)
        if wanted == key:
            found.append((version, frame))
    return found


FRAMES = whole_requests(9)


@pytest.mark.parametrize("key", API_NAMES, ids=API_NAMES.__getitem__)
def test_a_length_that_cannot_be_costs_nothing_and_is_a_decode_error(key: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for version, frame in requests_of(key):
        for place in places(key, version, frame):
            refused = 0
            for wrong in bent(frame, place):
                try:
                    _, position = decode_request_header(wrong)
                    decode(api(key).request, version, wrong, position)
                except DecodeError:
                    refused += 1
            assert refused, f"v{version} {place}: no value is refused"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KIB_MAX


def test_a_broker_that_is_sent_all_of_them_answers_the_next(tmp_path: Path) -> None:
    process = BrokerProcess(tmp_path / "data", tmp_path / "output", {"durability": "os"})
    process.start()
    try:
        process.wait_until_ready()
        with Wire(process.bootstrap) as honest:
            create_topic(honest, "honest", retention_ms=-1)
            produce(honest, "honest", batch(b"v"))
            before = peak_kib(process.pid)
            for key in API_NAMES:
                version, frame = requests_of(key)[-1]
                for place in places(key, version, frame):
                    for wrong in bent(frame, place):
                        with Wire(process.bootstrap) as peer:
                            peer.socket.sendall(struct.pack(">i", len(wrong)) + wrong)
                assert fetch(honest, "honest").error_code == 0
            assert peak_kib(process.pid) - before < MEMORY_KIB_MAX
        assert b"Traceback" not in process.printed()
    finally:
        process.kill()

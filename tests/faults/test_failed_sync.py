"""A sync that failed is final: no acknowledgement after it, no second try, and the page cache is not believed.

Once for real (an ext4 whose device has no more room for its blocks), and at many a sync by strace, which
makes one call fail and writes down every other one.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from ottla.errors import ErrorCode
from ottla.messages.init_producer_id import InitProducerIdRequest
from tests.crash.process import BrokerProcess
from tests.crash.volume import ThinVolume, require_volumes
from tests.faults.running import (
    append,
    assert_no_traceback,
    broker,
    commit,
    committed,
    create,
    events,
    fetch_error,
    find_coordinator,
    values,
)
from tests.interop.raw import RawClient
from tests.interop.requirements import require_program
from tests.support.requests import create_topic, produce
from tests.support.waiting import wait_until
from tests.support.wire import batch

SEED = int(os.environ.get("OTTLA_TEST_SEED", "1"))
ROUNDS = min(int(os.environ.get("OTTLA_TEST_ROUNDS", "6")), 100)
VALUE_BYTES = 20_000


def value(number: int) -> bytes:
    """A record that needs blocks of its own."""
    return b"%d " % number + bytes(VALUE_BYTES)


def test_what_a_failed_sync_did_not_write_is_never_acknowledged(tmp_path: Path) -> None:
    require_volumes()
    with (
        ThinVolume(tmp_path) as volume,
        broker(tmp_path, volume.path / "data") as running,
    ):
        with RawClient(running.bootstrap) as raw:
            create_topic(raw, "t")
            answer = raw.call(InitProducerIdRequest(transactional_id=None), 4)
            identity = {"producer_id": answer.producer_id, "producer_epoch": 0}
            written: list[bytes] = []

            def send(client: RawClient, number: int) -> ErrorCode:
                records = batch(value(number), base_sequence=number, **identity)
                return ErrorCode(produce(client, "t", records).error_code)

            for number in range(5):
                assert send(raw, number) == ErrorCode.NONE
            acknowledged = 5
            volume.break_writes()
            while (outcome := send(raw, acknowledged)) == ErrorCode.NONE:
                acknowledged += 1  # blocks that were written before
            assert outcome == ErrorCode.KAFKA_STORAGE_ERROR
        assert running.wait() == 1
        assert b"ottla serve: log directory" in running.printed().splitlines()[-1]
        assert events(running, "log directory is offline")

        # The producer sends its batch again, to the next life of the broker, on a disk that works again.
        volume.mend()
        running.start()
        running.wait_until_ready()
        with RawClient(running.bootstrap) as raw:
            assert send(raw, acknowledged) == ErrorCode.NONE
            assert send(raw, acknowledged + 1) == ErrorCode.NONE
            written = [value(number) for number in range(acknowledged + 2)]
            assert values(raw) == written
        running.kill()
        volume.power_on()  # what had only been in the page cache is gone
        running.start()
        running.wait_until_ready()
        with RawClient(running.bootstrap) as raw:
            assert values(raw) == written
        assert_no_traceback(running)


def test_a_topic_whose_sync_failed_is_made_again_or_not_there(tmp_path: Path) -> None:
    require_volumes()
    with (
        ThinVolume(tmp_path) as volume,
        broker(tmp_path, volume.path / "data") as running,
    ):
        made: list[str] = []
        with RawClient(running.bootstrap) as raw:
            assert create(raw, "first") == ErrorCode.NONE
            volume.break_writes()
            try:
                while create(raw, f"t-{len(made)}") == ErrorCode.NONE:
                    made.append(f"t-{len(made)}")
            except ConnectionError:
                pass  # the broker went down before it could answer
        assert running.wait() == 1
        volume.mend()
        running.start()
        running.wait_until_ready()
        with RawClient(running.bootstrap) as raw:
            for name in made:
                assert create(raw, name) == ErrorCode.TOPIC_ALREADY_EXISTS
            late = [name for name in ("u-1", "u-2") if create(raw, name) == ErrorCode.NONE]
            assert late == ["u-1", "u-2"]
        running.kill()
        volume.power_on()
        running.start()
        running.wait_until_ready()
        with RawClient(running.bootstrap) as raw:
            for name in ("first", *made, *late):
                assert create(raw, name) == ErrorCode.TOPIC_ALREADY_EXISTS
        assert_no_traceback(running)


class Strace:
    """strace on a running broker: the ``nth`` call of some kinds fails, and all of them are written down.

    The kernel takes no sync for its own threads meanwhile, where strace sees none: the broker's threads do it.
    """

    def __init__(
        self, running: BrokerProcess, trace: Path, calls: str, nth: str, error: str
    ) -> None:
        self.trace = trace
        self._process = subprocess.Popen(
            [
                *("strace", "-f", "-y", "-qq", "-o", str(trace), "-p", str(running.pid)),
                *("-e", "trace=fsync,fdatasync,syncfs,pread64,preadv2,sendfile,io_submit"),
                *("-e", "inject=io_submit:error=EAGAIN"),
                *("-e", f"inject={calls}:error={error}:when={nth}"),
                *("-e", "signal=none"),
            ],
            stderr=subprocess.PIPE,
        )
        wait_until(lambda: running.tracer_pid == self._process.pid)

    def end(self) -> list[str]:
        """Let go of the broker, or wait for its end; what was written down."""
        self._process.terminate()
        self._process.communicate()
        return self.trace.read_text().splitlines()


def synced_again(trace: list[str], shared: Path) -> list[str]:
    """The files that a sync failed for and that were synced once more after that.

    ``shared``: the log directory, whose names several threads sync for files of their own, perhaps at once.
    """
    failed: set[str] = set()
    syncing: dict[str, str] = {}  # a thread's call may take two lines, with others' between them
    again = []
    for line in trace:
        thread = line.partition(" ")[0]
        begun = re.search(r" (?:fsync|fdatasync|syncfs)\(\d+<([^>]*)>", line)
        if begun is not None:
            syncing[thread] = begun[1]
            if begun[1] in failed and begun[1] != str(shared):
                again.append(line)
        if "(INJECTED)" in line and "io_submit" not in line:
            failed.add(syncing[thread])
    assert failed, "no sync was made to fail"
    return again


@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
def test_after_any_sync_has_failed_nothing_is_acknowledged_and_no_sync_is_tried_again(
    seed: int, tmp_path: Path
) -> None:
    require_program("strace", "strace")
    chance = random.Random(seed)
    with broker(tmp_path, log_segment_bytes=3_000) as running:
        written: list[bytes] = []
        commits = topics = 0
        with RawClient(running.bootstrap) as raw:
            create_topic(raw, "t")
            find_coordinator(raw)
            strace = Strace(
                running,
                tmp_path / "trace",
                "fsync,fdatasync",
                str(chance.randrange(1, 40)),
                chance.choice(("EIO", "ENOSPC")),
            )
            try:
                while True:
                    outcome, _ = append(raw, b"%d " % len(written) + bytes(700))
                    if outcome != ErrorCode.NONE:
                        break
                    written.append(b"%d " % len(written) + bytes(700))
                    if commit(raw, commits + 1) == ErrorCode.NONE:
                        commits += 1
                    if chance.random() < 0.2 and create(raw, f"t-{topics}") == ErrorCode.NONE:
                        topics += 1
            except ConnectionError:
                pass  # the broker is down
        assert running.wait() == 1
        assert synced_again(strace.end(), running.data) == []
        running.start()
        running.wait_until_ready()
        with RawClient(running.bootstrap) as raw:
            found = values(raw)
            assert found[: len(written)] == written
            assert len(found) <= len(written) + 1
            assert commits <= committed(raw) <= commits + 1
            for number in range(topics):
                assert create(raw, f"t-{number}") == ErrorCode.TOPIC_ALREADY_EXISTS
            assert append(raw, b"next") == (ErrorCode.NONE, len(found))
            assert fetch_error(raw) == ErrorCode.NONE
        assert_no_traceback(running)

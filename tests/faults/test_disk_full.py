"""The disk is full: nothing is acknowledged that has no room, readers go on, and so does all once there is room.

Each broker lies on a small ext4 of its own that the test fills to the last byte.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla.errors import ErrorCode
from tests.crash.volume import Volume, require_volumes, takes
from tests.faults.running import (
    append,
    assert_no_traceback,
    broker,
    commit,
    committed,
    create,
    events,
    find_coordinator,
    values,
)
from tests.interop.raw import RawClient
from tests.support.requests import create_topic
from tests.support.waiting import wait_until

VOLUME_MB = 24
VALUE_BYTES = 4_000
FAILED_FOR_NOW = "log operation failed for now"
JOB_FAILED = "a housekeeping job failed"
STORAGE_ERROR = (ErrorCode.KAFKA_STORAGE_ERROR, -1)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """A small file system."""
    require_volumes()
    with Volume(tmp_path, VOLUME_MB) as mounted:
        yield mounted


def value(number: int) -> bytes:
    """A record that needs blocks of its own."""
    return b"%d " % number + bytes(VALUE_BYTES)


def fill(volume: Volume) -> bool:
    """Leave no byte free, not of what the broker has given back since the last time either.

    Always false: for whoever waits for something else.
    """
    descriptor = os.open(volume.path / "ballast", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for size in (1 << 20, 1 << 16, 1 << 10, 1):
            while takes(descriptor, bytes(size)):
                pass
        os.fsync(descriptor)
        return False
    finally:
        os.close(descriptor)


def make_room(volume: Volume) -> None:
    """Give the space back."""
    (volume.path / "ballast").unlink()
    os.sync()


@pytest.mark.parametrize("segment_bytes", [1 << 20, 10_000], ids=["append", "roll"])
def test_producers_are_refused_readers_go_on_and_so_does_all_once_there_is_room(
    segment_bytes: int, tmp_path: Path, volume: Volume
) -> None:
    with broker(
        tmp_path,
        volume.path / "data",
        log_segment_bytes=segment_bytes,
        log_index_interval_bytes=1,
    ) as running:
        with RawClient(running.bootstrap) as raw:
            create_topic(raw, "t")
            written = [value(number) for number in range(5)]
            for number, content in enumerate(written):
                assert append(raw, content) == (ErrorCode.NONE, number)
            fill(volume)
            for acks in (-1, 1, -1, 1):  # again and again: no partial batch piles up
                assert append(raw, b"no room " + bytes(VALUE_BYTES), acks=acks) == STORAGE_ERROR
            assert events(running, FAILED_FOR_NOW), "whoever looks into the log learns why"
            assert values(raw) == written
            # Checkpoints find no room either, and that ends nothing.
            wait_until(lambda: fill(volume) or len(events(running, JOB_FAILED)) > 4)
            assert running.exit_code() is None
            assert append(raw, b"no room " + bytes(VALUE_BYTES)) == STORAGE_ERROR

            make_room(volume)
            for _ in range(5):
                written.append(value(len(written)))
                assert append(raw, written[-1]) == (ErrorCode.NONE, len(written) - 1)
            assert values(raw) == written
        running.kill()
        running.start()
        running.wait_until_ready()
        with RawClient(running.bootstrap) as raw:
            assert values(raw) == written
        assert_no_traceback(running)


def test_topics_are_refused_and_can_be_made_once_there_is_room(
    tmp_path: Path, volume: Volume
) -> None:
    with broker(tmp_path, volume.path / "data") as running, RawClient(running.bootstrap) as raw:
        create_topic(raw, "t")
        fill(volume)
        outcomes = [create(raw, f"full-{number}") for number in range(20)]
        # The store may have some pages left; from the first refusal on there is none.
        refused = outcomes.index(ErrorCode.REQUEST_TIMED_OUT)
        assert set(outcomes[:refused]) <= {ErrorCode.NONE}
        assert set(outcomes[refused:]) == {ErrorCode.REQUEST_TIMED_OUT}
        assert append(raw, value(0)) == STORAGE_ERROR
        make_room(volume)
        for number, outcome in enumerate(outcomes):
            again = create(raw, f"full-{number}")
            if outcome == ErrorCode.NONE:
                assert again == ErrorCode.TOPIC_ALREADY_EXISTS
            else:
                assert again == ErrorCode.NONE
            assert append(raw, value(1), f"full-{number}") == (ErrorCode.NONE, 0)
        assert_no_traceback(running)


def test_commits_are_refused_and_the_last_acknowledged_one_stands(
    tmp_path: Path, volume: Volume
) -> None:
    with broker(tmp_path, volume.path / "data") as running:
        with RawClient(running.bootstrap) as raw:
            create_topic(raw, "t")
            find_coordinator(raw)
            assert commit(raw, 7) == ErrorCode.NONE
            fill(volume)
            acknowledged = 7
            outcomes: list[ErrorCode] = []
            for offset in range(8, 60):  # the last block of the log may have room for a few
                outcomes.append(commit(raw, offset))
                if outcomes[-1] == ErrorCode.NONE:
                    acknowledged = offset
            assert outcomes[-1] != ErrorCode.NONE
            assert all(code == ErrorCode.NONE or code.retriable for code in outcomes)
            assert committed(raw) == acknowledged
            make_room(volume)
            assert committed(raw) == acknowledged
            assert commit(raw, 100) == ErrorCode.NONE
        running.kill()
        running.start()
        running.wait_until_ready()
        with RawClient(running.bootstrap) as raw:
            assert committed(raw) == 100
        assert_no_traceback(running)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_broker_that_finds_no_room_says_so_and_starts_once_there_is_some(
    how: signal.Signals, tmp_path: Path, volume: Volume
) -> None:
    with broker(tmp_path, volume.path / "data", log_segment_bytes=10_000) as running:
        written = [value(number) for number in range(10)]
        with RawClient(running.bootstrap) as raw:
            create_topic(raw, "t")
            for content in written:
                assert append(raw, content)[0] == ErrorCode.NONE
            fill(volume)
            assert append(raw, value(0)) == STORAGE_ERROR
        running.signal(how)
        running.wait()
        running.start()
        wait_until(lambda: running.exit_code() is not None or b"ready" in running.printed())
        if running.exit_code() is not None:
            assert running.exit_code() == 1
            last = running.printed().splitlines()[-1].decode()
            assert re.search("is full|no room|No space left", last), last
        running.kill()
        make_room(volume)
        running.start()
        running.wait_until_ready()
        with RawClient(running.bootstrap) as raw:
            assert values(raw) == written
            assert append(raw, value(10)) == (ErrorCode.NONE, 10)
        assert_no_traceback(running)

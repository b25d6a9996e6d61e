"""A disk that cannot be read: its readers are told, its partitions go offline, and all others are served."""

from __future__ import annotations

from pathlib import Path

import pytest

from ottla.errors import ErrorCode
from tests.crash.process import BrokerProcess
from tests.crash.volume import ThinVolume, require_volumes
from tests.faults.running import (
    append,
    assert_no_traceback,
    broker,
    events,
    fetch_error,
    values,
)
from tests.interop.raw import RawClient
from tests.support.requests import create_topic
from tests.support.waiting import wait_until

TOPICS = ("a", "b")
WRITES_NOTHING = {
    "log_flush_offset_checkpoint_interval_ms": 3_600_000,
    "replica_high_watermark_checkpoint_interval_ms": 3_600_000,
}
"""What a broker has to be set to for a read to be the first that meets the disk."""


def content(topic: str, number: int, size: int) -> bytes:
    """A record's value."""
    return f"{topic}-{number} ".encode() + bytes(size)


def fill_topics(running: BrokerProcess, size: int) -> None:
    """Twenty records in each topic."""
    with RawClient(running.bootstrap) as raw:
        for topic in TOPICS:
            create_topic(raw, topic)
            for number in range(20):
                assert append(raw, content(topic, number, size), topic)[0] == ErrorCode.NONE


def told(running: BrokerProcess, volume: ThinVolume, topic: str) -> ErrorCode | None:
    """What a new consumer is told whose records are not in memory; None if nobody answers."""
    volume.forget()
    try:
        with RawClient(running.bootstrap) as raw:
            return fetch_error(raw, topic)
    except ConnectionError:
        return None


@pytest.mark.parametrize("size", [1_000, 100_000], ids=["small", "large"])
def test_a_directory_that_cannot_be_read_goes_offline_and_the_other_is_served(
    size: int, tmp_path: Path
) -> None:
    require_volumes()
    with (
        ThinVolume(tmp_path) as volume,
        broker(
            tmp_path, log_dirs=f"{tmp_path}/data,{volume.path}/data", **WRITES_NOTHING
        ) as running,
    ):
        fill_topics(running, size)
        on_volume = [topic for topic in TOPICS if (volume.path / f"data/{topic}-0").exists()]
        assert len(on_volume) == 1
        (broken,) = on_volume
        (sound,) = set(TOPICS) - {broken}
        running.kill()
        running.start()  # what is read from here on is read from the disk
        running.wait_until_ready()
        volume.break_reads()
        wait_until(lambda: told(running, volume, broken) == ErrorCode.KAFKA_STORAGE_ERROR)
        wait_until(lambda: events(running, "log directory is offline"))
        with RawClient(running.bootstrap) as raw:
            assert append(raw, b"late", broken) == (ErrorCode.KAFKA_STORAGE_ERROR, -1)
            assert values(raw, sound) == [content(sound, number, size) for number in range(20)]
            assert append(raw, b"goes on", sound) == (ErrorCode.NONE, 20)
        assert running.exit_code() is None
        assert len(events(running, "log directory is offline")) == 1
        assert_no_traceback(running)


def test_a_broker_whose_only_directory_cannot_be_read_stops_and_says_why(tmp_path: Path) -> None:
    require_volumes()
    with ThinVolume(tmp_path) as volume, broker(tmp_path, volume.path / "data") as running:
        fill_topics(running, 1_000)
        running.kill()
        running.start()
        running.wait_until_ready()
        volume.break_reads()
        wait_until(lambda: told(running, volume, "a") is None and running.exit_code() is not None)
        assert running.exit_code() == 1
        assert b"Input/output error" in running.printed().splitlines()[-1]
        running.start()  # and does not come up again as an empty broker
        assert running.wait() == 1
        assert running.printed().splitlines()[-1].startswith(b"ottla serve: ")
        assert_no_traceback(running)

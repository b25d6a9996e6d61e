"""SIGTERM and SIGINT under load: everything that was acknowledged is there, and there is nothing to recover."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.log.disk import Disk
from ottla.log.quarantine import is_pending, request_quarantine
from tests.crash.checker import Found, History, Mark
from tests.crash.load import Load, OttlaLoad, PlainLoad
from tests.crash.process import BrokerProcess
from tests.interop.raw import RawClient
from tests.support.requests import create_topic, produce
from tests.support.waiting import wait_until
from tests.support.wire import batch

PLACES = [("t", 0), ("t", 1)]


def logged(broker: BrokerProcess) -> list[dict[str, Any]]:
    """What it has logged since its last start."""
    return [json.loads(line) for line in broker.printed().splitlines() if line.startswith(b"{")]


def loaded(broker: BrokerProcess) -> list[bool]:
    """Whether the log directories that it loaded had been stopped cleanly."""
    return [line["clean"] for line in logged(broker) if line["event"] == "log directory loaded"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_under_load_leaves_nothing_to_recover(
    number: signal.Signals, tmp_path: Path
) -> None:
    broker = BrokerProcess(tmp_path / "data", tmp_path / "broker.log", {"log.retention.ms": -1})
    broker.start()
    loads: list[Load] = []
    try:
        broker.wait_until_ready()
        with RawClient(broker.bootstrap) as raw:
            create_topic(raw, "t", len(PLACES))
        history = History()
        loads = [
            PlainLoad("plain", broker.bootstrap, 1, history, PLACES),
            OttlaLoad("ottla", broker.bootstrap, 1, history, PLACES),
        ]
        for load in loads:
            load.start()
        wait_until(lambda: history.acknowledged_count() > 300)

        broker.signal(number)
        assert broker.wait() == 0
        assert "stopped cleanly" in [line["event"] for line in logged(broker)]
        clean_shutdown = json.loads((broker.data / ".kafka_cleanshutdown").read_text())
        assert clean_shutdown["version"] == 0

        broker.start()
        broker.wait_until_ready()
        wait_until(lambda: loaded(broker))
        assert loaded(broker) == [True]
        assert not (broker.data / ".kafka_cleanshutdown").exists()
        before = history.acknowledged_count()
        wait_until(lambda: history.acknowledged_count() > before)
        for load in loads:
            load.stopped.set()
            load.join()
        assert [fault for load in loads for fault in load.faults] == []
        with RawClient(broker.bootstrap) as raw:
            for place in PLACES:
                reading = history.begin_reading(place)
                found = [
                    Found(record.offset, Mark.decode(record.value or b""))
                    for record in raw.records(*place)
                ]
                assert reading.finish(0, found, raw.offset(*place)) == []
        assert history.missing(PLACES) == []
    finally:
        for load in loads:
            load.stopped.set()
        broker.kill()


def append_third(raw: RawClient, partition: int) -> tuple[int, int]:
    """What a producer is told that sends its third batch, be it once more."""
    third = batch(b"x", producer_id=5, producer_epoch=0, base_sequence=2)
    told = produce(raw, "t", third, partition=partition)
    return told.error_code, told.base_offset


def test_a_clean_stop_does_not_speak_for_a_log_that_was_out_of_service(tmp_path: Path) -> None:
    """A batch that is sent again when the log is back in service is known still, as after any other end."""
    broker = BrokerProcess(tmp_path / "data", tmp_path / "broker.log", {"log.retention.ms": -1})
    broker.start()
    try:
        broker.wait_until_ready()
        with RawClient(broker.bootstrap) as raw:
            create_topic(raw, "t", 2)
            for sequence in range(2):
                for partition in range(2):
                    content = batch(b"x", producer_id=5, producer_epoch=0, base_sequence=sequence)
                    produce(raw, "t", content, partition=partition)
            assert [append_third(raw, partition) for partition in range(2)] == [(0, 2), (0, 2)]
            request_quarantine(Disk(), str(broker.data / "t-0"), "somebody said so")
            wait_until(lambda: not is_pending(Disk(), str(broker.data)))
            wait_until(lambda: append_third(raw, 0)[0] == ErrorCode.KAFKA_STORAGE_ERROR)
        broker.signal(signal.SIGTERM)
        assert broker.wait() == 0
        clean_shutdown = json.loads((broker.data / ".kafka_cleanshutdown").read_text())
        assert clean_shutdown["notClosed"] == ["t-0"]
        (broker.data / "t-0" / "quarantined").unlink()

        broker.start()
        broker.wait_until_ready()
        with RawClient(broker.bootstrap) as raw:
            assert [append_third(raw, partition) for partition in range(2)] == [(0, 2), (0, 2)]
            assert [raw.offset("t", partition) for partition in range(2)] == [3, 3]
        wait_until(lambda: loaded(broker))
        assert loaded(broker) == [True]
        broker.signal(signal.SIGTERM)
        assert broker.wait() == 0
        assert "notClosed" not in (broker.data / ".kafka_cleanshutdown").read_text()
    finally:
        broker.kill()

"""The wall clock is set a day or a year forth and back under load; everything that waits goes by the other clock.

faketime fakes the broker's wall clock only. What Apache Kafka's rules tie to the wall clock stays tied to it:
retention deletes what is older than it by the clock of the moment, and records too far ahead are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla import Consumer
from ottla.errors import ErrorCode
from ottla.messages.describe_groups import DescribeGroupsRequest
from tests.crash.checker import Found, History, Mark
from tests.crash.load import CommitLoad, Load, OttlaLoad, PlainLoad
from tests.crash.process import BrokerProcess
from tests.faults.running import append, assert_no_traceback, broker, values
from tests.interop.raw import RawClient
from tests.interop.requirements import leave_out, require_program
from tests.support.requests import create_topic, fetch, produce
from tests.support.waiting import wait_until
from tests.support.wire import batch

SEED = int(os.environ.get("OTTLA_TEST_SEED", "1"))
PLACES = [("t", 0), ("t", 1)]
STEPS = ("+1d", "-1d", "+365d", "-365d", "+0")
EARLIEST = -2
DAY_MS = 86_400_000


class WallClock:
    """The wall clock of a broker that is started in ``environment``; ``set`` it while it runs."""

    def __init__(self, directory: Path) -> None:
        require_program("faketime", "faketime")
        libraries = sorted(Path("/usr").glob("lib*/**/faketime/libfaketimeMT.so.1"))
        if not libraries:
            leave_out("libfaketime (Debian package libfaketime) is not installed")
        self._file = directory / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """``+1d``, ``-365d``, …: so far from the true time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.rename(self._file)  # the broker reads it at any moment


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    """A wall clock that can be set."""
    return WallClock(tmp_path)


@pytest.fixture
def running(tmp_path: Path, clock: WallClock) -> Iterator[BrokerProcess]:
    """A broker that goes by ``clock``, and looks after everything all the time."""
    settings: dict[str, object] = {
        "log_segment_bytes": 20_000,
        "log_retention_check_interval_ms": 50,
        "log_initial_task_delay_ms": 10,
        "offsets_retention_check_interval_ms": 50,
        "group_initial_rebalance_delay_ms": 0,
    }
    with broker(tmp_path, environment=clock.environment, **settings) as started:
        yield started
        assert_no_traceback(started)


def append_time(raw: RawClient, topic: str) -> int:
    """The broker's wall clock, in milliseconds: it stamps a record with it."""
    answer = produce(raw, topic, batch(b"now"))
    assert answer.error_code == 0
    return int(answer.log_append_time_ms)


def test_nothing_is_lost_and_no_session_ends_however_the_wall_clock_is_set(
    running: BrokerProcess, clock: WallClock
) -> None:
    history = History()
    loads: list[Load] = [
        PlainLoad("plain", running.bootstrap, SEED, history, PLACES),
        OttlaLoad("ottla", running.bootstrap, SEED, history, PLACES),
        CommitLoad("committer", running.bootstrap, SEED, "t"),
    ]
    with RawClient(running.bootstrap) as raw:
        create_topic(raw, "t", len(PLACES), message_timestamp_after_max_ms=2**63 - 1)
        create_topic(raw, "stamped", message_timestamp_type="LogAppendTime")
        true_ms = append_time(raw, "stamped")
        try:
            for load in loads:
                load.start()
            with Consumer(
                "t", group="members", bootstrap=running.bootstrap, session_timeout_ms=6_000
            ) as consumer:
                wait_until(lambda: consumer.poll(0.1))
                describe = DescribeGroupsRequest(groups=["members"])
                wait_until(lambda: raw.call(describe, 5).groups[0].group_state == "Stable")
                before = raw.call(describe, 5).groups[0].members
                consumer.commit()
                for step in STEPS:
                    clock.set(step)
                    days = int(step.rstrip("d")) if step.endswith("d") else 0
                    wait_until(
                        lambda days=days: (
                            abs(append_time(raw, "stamped") - true_ms - days * DAY_MS) < DAY_MS // 2
                        )
                    )
                    acknowledged = history.acknowledged_count()
                    wait_until(lambda least=acknowledged: history.acknowledged_count() > least + 50)
                    assert fetch(raw, "t", max_wait_ms=50, min_bytes=1 << 30).error_code == 0
                    wait_until(lambda: consumer.poll(0.1))
                    described = raw.call(describe, 5).groups[0]
                    assert described.group_state == "Stable"
                    assert [m.member_id for m in described.members] == [m.member_id for m in before]
                consumer.commit()
        finally:
            for load in loads:
                load.stopped.set()
        for load in loads:
            load.join(60)
        assert [fault for load in loads for fault in load.faults] == []
        for place in PLACES:
            reading = history.begin_reading(place)
            found = [
                Found(record.offset, Mark.decode(record.value or b""))
                for record in raw.records(*place)
            ]
            assert reading.finish(0, found, raw.offset(*place)) == []
        assert history.missing(PLACES) == []


def test_retention_keeps_what_is_young_by_a_clock_that_is_behind_or_ahead_by_less(
    running: BrokerProcess, clock: WallClock
) -> None:
    with RawClient(running.bootstrap) as raw:
        create_topic(
            raw,
            "t",
            message_timestamp_type="LogAppendTime",
            retention_ms=2 * DAY_MS,
            segment_bytes=2_000,
        )
        create_topic(raw, "stamped", message_timestamp_type="LogAppendTime")
        true_ms = append_time(raw, "stamped")
        written: list[bytes] = []
        for number, (step, days) in enumerate([("+0", 0), ("-365d", -365), ("+1d", 1), ("+0", 0)]):
            clock.set(step)
            wait_until(
                lambda days=days: (
                    abs(append_time(raw, "stamped") - true_ms - days * DAY_MS) < DAY_MS // 2
                )
            )
            for _ in range(4):
                written.append(b"%d " % len(written) + bytes(900))
                assert append(raw, written[-1]) == (ErrorCode.NONE, len(written) - 1)
            due = f"due-{number}"  # once this has gone, retention has looked at all
            create_topic(raw, due, retention_ms=DAY_MS, segment_bytes=2_000)
            for _ in range(4):
                assert produce(raw, due, batch_at(0)).error_code == ErrorCode.NONE
            wait_until(lambda due=due: raw.offset(due, timestamp_ms=EARLIEST) > 0)
            assert values(raw) == written


def test_a_record_further_ahead_of_the_clock_than_is_allowed_is_refused_and_taken_when_it_is_right(
    running: BrokerProcess, clock: WallClock
) -> None:
    with RawClient(running.bootstrap) as raw:
        create_topic(raw, "t", message_timestamp_after_max_ms=DAY_MS)
        create_topic(raw, "stamped", message_timestamp_type="LogAppendTime")
        now_ms = append_time(raw, "stamped")
        clock.set("-365d")
        wait_until(lambda: append_time(raw, "stamped") < now_ms - DAY_MS)
        records = batch_at(now_ms)
        assert produce(raw, "t", records).error_code == ErrorCode.INVALID_TIMESTAMP
        clock.set("+0")
        wait_until(lambda: produce(raw, "t", records).error_code == ErrorCode.NONE)
        assert len(values(raw)) == 1


def batch_at(timestamp_ms: int) -> bytes:
    """One record of that time."""
    from ottla.records.builder import build_batch

    return bytes(build_batch([(timestamp_ms, None, b"then" + bytes(900), ())]))

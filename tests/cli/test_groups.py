"""``ottla group`` against a broker."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from ottla import Consumer, Producer
from ottla.testing import Broker
from tests.cli.conftest import Ottla

DEADLINE_S = 30.0


def _eventually(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline


@pytest.fixture
def stroll(ottla_broker: Broker, ottla: Ottla) -> None:
    """A group that has read 2 of 5 records; the third is 100 seconds old."""
    now_ms = time.time_ns() // 1_000_000
    with Producer(ottla_broker.bootstrap) as producer:
        for index in range(5):
            timestamp_ms = now_ms - 100_000 + (index - 2) * 1000
            producer.send("weather", str(index), timestamp_ms=timestamp_ms)
    assert ottla("consume", "weather", "-g", "stroll", "--from-beginning", "-n", "2").code == 0


@pytest.mark.usefixtures("stroll")
def test_a_group_shows_how_far_it_is_behind_in_records_and_seconds(ottla: Ottla) -> None:
    assert ottla("group", "list").lines[1].split() == ["stroll", "Empty", "consumer"]
    (shown,) = ottla("group", "describe", "stroll", "-o", "json").json
    assert (shown["group"], shown["state"], shown["members"]) == ("stroll", "Empty", [])
    assert shown["lag"] == 3
    assert 100 <= shown["lag_seconds"] < 200
    (partition,) = shown["partitions"]
    assert (partition["committed"], partition["log_end"], partition["lag"]) == (2, 5, 3)
    lines = ottla("group", "describe", "stroll").lines
    assert lines[0].startswith("stroll: Empty, 0 members, lag 3 records, 1 min ")
    assert lines[2].split()[:5] == ["weather", "0", "2", "5", "3"]


@pytest.mark.usefixtures("stroll")
def test_a_reset_is_a_dry_run_unless_it_is_executed(ottla: Ottla) -> None:
    def committed() -> int:
        (shown,) = ottla("group", "describe", "stroll", "-o", "json").json
        offset = shown["partitions"][0]["committed"]
        assert isinstance(offset, int)
        return offset

    def reset(*argv: str) -> int:
        done = ottla("group", "reset", "stroll", *argv, "-o", "json")
        assert done.code == 0, done.err
        assert done.json[0]["executed"] == ("--execute" in argv)
        assert ("dry run" in done.err) == ("--execute" not in argv)
        offset = done.json[0]["new_offset"]
        assert isinstance(offset, int)
        return offset

    assert reset("--all-topics", "--to-earliest") == 0
    assert committed() == 2
    for argv, expected in [
        (["--to-earliest"], 0),
        (["--to-latest"], 5),
        (["--shift-by", "-2"], 3),
        (["--to-offset", "1"], 1),
        (["--to-offset", "99"], 5),
        (["--to-datetime", "2h ago"], 0),
        (["--by-duration", "PT100H"], 0),
        (["--by-duration", "1s"], 5),
    ]:
        assert reset("--topic", "weather", *argv, "--execute") == expected
        assert committed() == expected
    reset("--all-topics", "--to-offset", "4", "--execute")
    assert ottla("consume", "weather", "-g", "stroll", "-e").lines == ["4"]


@pytest.mark.usefixtures("stroll")
def test_a_group_with_members_shows_them_and_can_not_be_moved_or_deleted(
    ottla: Ottla, ottla_broker: Broker
) -> None:
    with Consumer(
        "weather", group="stroll", bootstrap=ottla_broker.bootstrap, client_id="walker"
    ) as consumer:
        _eventually(lambda: bool(consumer.poll(0.1)) or bool(consumer.assignment()))
        (shown,) = ottla("group", "describe", "stroll", "-o", "json").json
        assert shown["state"] == "Stable"
        (member,) = shown["members"]
        assert (member["client_id"], member["partitions"]) == ("walker", ["weather-0"])
        assert shown["partitions"][0]["client_id"] == "walker"
        refused = ottla("group", "reset", "stroll", "--all-topics", "--to-earliest", "--execute")
        assert refused.code == 1
        assert refused.err == "ottla: group stroll has 1 member; stop it first\n"
        refused = ottla("group", "delete", "stroll")
        assert refused.code == 1
        assert "NON_EMPTY_GROUP" in refused.err


@pytest.mark.usefixtures("stroll")
def test_a_group_without_members_is_deleted(ottla: Ottla) -> None:
    done = ottla("group", "delete", "stroll", "--yes")
    assert (done.code, done.out) == (0, "stroll deleted\n")
    assert ottla("group", "list", "-o", "json").json == []
    done = ottla("group", "describe", "stroll")
    assert done.code == 1
    assert done.err.count("\n") == 1


def test_a_new_group_can_be_given_its_first_offsets(ottla: Ottla) -> None:
    ottla("produce", "t", stdin=b"1\n2\n3\n")
    done = ottla("group", "reset", "new", "--topic", "t:0", "--to-offset", "2", "--execute")
    assert done.code == 0
    assert ottla("consume", "t", "-g", "new", "-e").lines == ["3"]


def test_mistakes_are_one_line_and_exit_code_2(ottla: Ottla) -> None:
    ottla("topic", "create", "t")
    for argv, message in [
        (["--topic", "t"], "say where to with one of"),
        (["--topic", "t", "--to-latest", "--to-earliest"], "say where to with one of"),
        (["--to-latest"], "--topic or --all-topics"),
        (["--to-latest", "--topic", "t", "--all-topics"], "--topic or --all-topics"),
        (["--to-latest", "--topic", "t:x"], "TOPIC:0,2-4"),
        (["--to-latest", "--topic", "t:5"], "no partition 5"),
        (["--to-latest", "--topic", "u"], "there is no topic u"),
        (["--to-datetime", "soon", "--topic", "t"], "is no time"),
    ]:
        done = ottla("group", "reset", "g", *argv)
        assert done.code == 2, argv
        assert message in done.err, argv
        assert done.err.count("\n") == 1
    done = ottla("group", "reset", "g", "--all-topics", "--to-latest")
    assert (done.code, done.err) == (1, "ottla: group g has no committed offsets\n")

"""The metrics that clients push: who is asked for what, who is too early, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ottla.broker import telemetry
from ottla.broker.telemetry import ClientTelemetry, Push, Wanted
from ottla.errors import ErrorCode, KafkaError
from ottla.topic_ids import to_text

ME = bytes(range(16))
SECOND_MS = 1_000
JAVA = {"client_id": "app-1", "client_software_name": "apache-kafka-java"}
NONE = ErrorCode.NONE


class Desk:
    """A broker's telemetry, with a clock and settings to turn."""

    def __init__(self, **subscriptions: dict[str, str]) -> None:
        self.now_ms = 5
        self.version = 0
        self.configs: dict[str, dict[str, str]] = dict(subscriptions)
        self.telemetry = ClientTelemetry(lambda: (self.version, self.configs))

    def configure(self, **subscriptions: dict[str, str]) -> None:
        self.configs, self.version = dict(subscriptions), self.version + 1

    def ask(self, who: bytes = ME, *, over: str = "c1", **facts: str) -> Wanted:
        return self.telemetry.subscribe(who, {**JAVA, **facts}, over, self.now_ms)

    def push(self, wanted: Wanted, metrics: bytes = b"m", **changes: Any) -> ErrorCode:
        """The answer to a push of what was wanted."""
        push = Push(wanted.client_instance_id, JAVA, 0, metrics, False)
        number = changes.pop("subscription_id", wanted.subscription_id)
        over = changes.pop("over", "c1")
        return code_of(
            lambda: self.telemetry.push(
                push._replace(**changes), number, over, self.now_ms, bytes_max=10
            )
        )


def code_of(work: Callable[[], object]) -> ErrorCode:
    try:
        work()
    except KafkaError as error:
        return error.code
    return NONE


def test_without_a_subscription_nothing_is_asked_for() -> None:
    wanted = Desk().ask()
    assert (wanted.client_instance_id, wanted.metrics, wanted.interval_ms) == (ME, (), 300_000)


@pytest.mark.parametrize("reserved", sorted(telemetry.RESERVED_IDS))
def test_a_client_without_an_id_gets_one_of_its_own(reserved: bytes) -> None:
    desk = Desk()
    first, second = desk.ask(reserved), desk.ask(reserved)
    assert len({first.client_instance_id, second.client_instance_id, reserved}) == 3


def test_subscriptions_that_fit_are_joined_and_the_shortest_interval_counts() -> None:
    desk = Desk(
        a={"metrics": "org.x,org.y", "interval.ms": "60000"},
        b={"metrics": "org.y,org.z", "interval.ms": "30000", "match": "client_id=app-.*"},
        c={
            "metrics": "*",
            "interval.ms": "100",
            "match": "client_id=app-.*,client_software_name=x",
        },
    )
    wanted = desk.ask()
    assert (wanted.metrics, wanted.interval_ms) == (("org.x", "org.y", "org.z"), 30_000)
    everything = desk.ask(bytes(15) + b"x", client_software_name="x")
    assert (everything.metrics, everything.interval_ms) == (("*",), 100)


def test_a_pattern_has_to_fit_the_whole_fact() -> None:
    desk = Desk(a={"metrics": "m", "match": "client_id=app"})
    assert desk.ask().metrics == ()
    desk.configure(a={"metrics": "m", "match": f"client_instance_id={to_text(ME)}"})
    assert desk.ask().metrics == ("m",)


def test_who_asks_again_before_the_interval_is_over_is_throttled() -> None:
    desk = Desk(a={"metrics": "m", "interval.ms": "1000"})
    desk.ask()
    desk.now_ms += 999
    assert code_of(desk.ask) is ErrorCode.THROTTLING_QUOTA_EXCEEDED
    desk.now_ms += 1
    assert code_of(desk.ask) is NONE


def test_who_comes_over_a_new_connection_is_not_held_up_by_its_past() -> None:
    desk = Desk()
    wanted = desk.ask()
    assert desk.push(wanted, terminating=True) is NONE
    assert desk.ask(over="c2").subscription_id == wanted.subscription_id
    assert desk.push(wanted, over="c2") is NONE


def test_the_first_push_may_come_at_once_and_the_next_after_the_interval() -> None:
    desk = Desk(a={"metrics": "m", "interval.ms": "1000"})
    wanted = desk.ask()
    assert desk.push(wanted) is NONE
    desk.now_ms += 500
    assert desk.push(wanted) is ErrorCode.THROTTLING_QUOTA_EXCEEDED
    desk.now_ms += 500
    assert desk.push(wanted) is NONE


def test_the_last_push_is_never_too_early_and_nothing_comes_after_it() -> None:
    desk = Desk()
    wanted = desk.ask()
    assert desk.push(wanted) is NONE
    assert desk.push(wanted, b"last", terminating=True) is NONE
    assert desk.push(wanted) is ErrorCode.INVALID_REQUEST
    assert desk.telemetry.pushes[ME].metrics == b"last"


def test_a_changed_subscription_is_told_and_may_be_asked_for_at_once() -> None:
    desk = Desk(a={"metrics": "m"})
    before = desk.ask()
    desk.configure(a={"metrics": "n"})
    assert desk.push(before) is ErrorCode.UNKNOWN_SUBSCRIPTION_ID
    after = desk.ask()
    assert after.metrics == ("n",)
    assert after.subscription_id != before.subscription_id
    assert desk.push(after) is NONE


def test_who_pushes_what_cannot_be_read_may_ask_at_once_how_it_could() -> None:
    desk = Desk()
    wanted = desk.ask()
    assert desk.push(wanted, compression_type=9) is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert code_of(desk.ask) is NONE


def test_a_push_is_no_larger_than_it_may_be() -> None:
    desk = Desk()
    wanted = desk.ask()
    assert desk.push(wanted, bytes(11)) is ErrorCode.TELEMETRY_TOO_LARGE
    assert not desk.telemetry.pushes


def test_reporters_get_every_push_and_one_that_fails_is_told() -> None:
    desk = Desk(a={"metrics": "m", "interval.ms": "100"})
    got: list[bytes] = []
    desk.telemetry.reporters.append(lambda push: got.append(push.metrics))
    wanted = desk.ask()
    assert desk.push(wanted, b"1") is NONE
    assert desk.push(wanted, b"", terminating=True) is NONE  # nothing to report
    assert got == [b"1"]

    def broken(push: Push) -> None:
        raise RuntimeError("no room")

    desk.telemetry.reporters.append(broken)
    desk.ask(over="c2")
    assert desk.push(wanted, b"2", over="c2") is ErrorCode.INVALID_RECORD


def test_clients_and_their_pushes_take_no_more_memory_than_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry, "CLIENTS_MAX", 3)
    monkeypatch.setattr(telemetry, "PUSHES_BYTES_MAX", 20)
    desk = Desk()
    ids = [bytes(15) + bytes([number]) for number in range(2, 8)]
    for who in ids:
        assert desk.push(desk.ask(who), bytes(9)) is NONE
    assert list(desk.telemetry.pushes) == ids[-2:]
    assert code_of(lambda: desk.ask(ids[0])) is NONE  # forgotten: as if it came first
    assert code_of(lambda: desk.ask(ids[-1])) is ErrorCode.THROTTLING_QUOTA_EXCEEDED


def test_a_subscription_of_another_version_is_left_out() -> None:
    desk = Desk(a={"metrics": "m"}, b={"metrics": "n", "interval.ms": "soon"})
    assert desk.ask().metrics == ("m",)

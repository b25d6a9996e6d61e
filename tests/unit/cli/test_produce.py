"""``ottla produce``: lines become records; the producer is a stand-in."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ottla.cli.entry import main
from ottla.errors import ErrorCode, KafkaError


class Sent(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None
    headers: Any


class StandIn:
    """Acknowledges everything at ``flush`` but the records whose value is ``bad``."""

    settings: dict[str, Any]
    sent: list[Sent]
    closed: int

    def __init__(self, bootstrap: str, **settings: Any) -> None:
        cls = type(self)
        cls.settings = {"bootstrap": bootstrap, **settings}
        cls.sent = []
        cls.closed = 0

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        headers: Any,
        on_delivery: Callable[[Any, Any], None],
    ) -> None:
        if value == b"refused":
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "no such name")
        type(self).sent.append(Sent(topic, key, value, partition, headers))
        error = KafkaError(ErrorCode.MESSAGE_TOO_LARGE, "too big") if value == b"bad" else None
        on_delivery(None, error)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    class Producer(StandIn):
        pass

    monkeypatch.setattr("ottla.client.producer.sync.Producer", Producer)
    monkeypatch.delenv("OTTLA_BOOTSTRAP", raising=False)
    return Producer


def _type(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def test_lines_of_standard_input_become_records(
    producer: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _type(monkeypatch, b"one\r\ntwo\n\n\xff\x00")
    assert main(["produce", "greetings"]) == 0
    assert [item.value for item in producer.sent] == [b"one", b"two", b"", b"\xff\x00"]
    assert {item.topic for item in producer.sent} == {"greetings"}
    assert {item.key for item in producer.sent} == {None}
    assert producer.closed == 1
    assert producer.settings["bootstrap"] == "localhost:9092"
    assert producer.settings["acks"] == "all"
    assert producer.settings["idempotent"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("4 records (0.0 MB) to greetings in ")


def test_keys_headers_and_nulls_are_taken_out_of_a_file(
    producer: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"a\t1\nb\t2\t3\nc\tNULL\n")
    monkeypatch.setenv("OTTLA_BOOTSTRAP", "there:1")
    argv = [
        "-K",
        "\\t",
        "-H",
        "h=1",
        "-H",
        "e=",
        "-f",
        str(file),
        "-p",
        "2",
        "--null-marker",
        "NULL",
    ]
    assert main(["produce", "t", *argv, "--acks", "1", "-z", "zstd"]) == 0
    headers = [("h", b"1"), ("e", b"")]
    assert producer.sent == [
        Sent("t", b"a", b"1", 2, headers),
        Sent("t", b"b", b"2\t3", 2, headers),
        Sent("t", b"c", None, 2, headers),
    ]
    assert producer.settings["bootstrap"] == "there:1"
    assert producer.settings["compression"] == "zstd"
    assert not producer.settings["idempotent"]


def test_a_record_that_is_not_delivered_ends_it_with_exit_code_1(
    producer: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _type(monkeypatch, b"one\nbad\nnever\n")
    assert main(["produce", "t"]) == 1
    assert [item.value for item in producer.sent] == [b"one", b"bad"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("1 record (")
    assert lines[1] == "ottla: 1 not delivered: MESSAGE_TOO_LARGE: too big"


def test_a_record_that_is_not_taken_ends_it_with_exit_code_1(
    producer: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _type(monkeypatch, b"one\nrefused\n")
    assert main(["produce", "t", "-o", "json"]) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["records"], found["failed"], found["topic"]) == (1, 1, "t")
    assert captured.err == "ottla: 1 not delivered: INVALID_TOPIC_EXCEPTION: no such name\n"


def test_a_line_without_the_separator_is_named(
    producer: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _type(monkeypatch, b"a:1\nb\n")
    assert main(["produce", "t", "--key-separator", ":"]) == 1
    assert "line 2 has no key separator b':'" in capsys.readouterr().err
    assert producer.closed == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--compression", "brotli"], "--compression is one of none, gzip"),
        (["--acks", "2"], "--acks is one of all, 1, 0"),
        (["--header", "x"], "--header wants NAME=VALUE, got 'x'"),
        (["--key-separator", ""], "must not be empty"),
        (["--key-separator", "\\q"], "means nothing"),
        (["--partition", "-1"], "--partition"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    producer: type[StandIn],
    argv: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _type(monkeypatch, b"")
    assert main(["produce", "t", *argv]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_file_that_is_not_there_is_one_line_and_exit_code_1(
    producer: type[StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["produce", "t", "--file", "/no/such/file"]) == 1
    assert capsys.readouterr().err == "ottla: /no/such/file: No such file or directory\n"

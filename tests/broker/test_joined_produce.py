"""Small Produce requests that come at one moment on several connections are handled together, each for itself."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from ottla.broker.handlers.produce_run import ProduceRun
from ottla.errors import ErrorCode
from ottla.log.disk import Disk
from ottla.messages.delete_topics import DeleteTopicsRequest
from ottla.network.connection import Connection
from ottla.network.joining import Joining
from ottla.testing import Broker
from tests.broker.test_metrics import http_of
from tests.broker.test_pipelined_produce import Train, have_no_room, outcome
from tests.support.http import metrics, value
from tests.support.requests import create_topic, fetch, fetch_request, produce, produce_request
from tests.support.waiting import wait_until
from tests.support.wire import Wire, batch

VERSION = 9
TIMEOUT_S = 30.0
CRC_AT = 17


pytestmark = pytest.mark.usefixtures("no_turn_is_long")


@contextmanager
def one_moment(broker: Broker) -> Iterator[None]:
    """What is sent meanwhile has all come when the broker looks."""
    entered, go_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        entered.set()
        go_on.wait(TIMEOUT_S)

    assert broker.server is not None
    broker.server.loop.call_soon_threadsafe(stand_still)
    assert entered.wait(TIMEOUT_S)
    try:
        yield
    finally:
        go_on.set()


def used_bytes(broker: Broker) -> int:
    """How many bytes of requests it holds."""
    assert broker.server is not None
    return broker.server.replicas.unpacking.budget.used_bytes


@contextmanager
def producers(broker: Broker, count: int, **how: Any) -> Iterator[list[Wire]]:
    """Connections each of which has produced a record to the topic ``t``."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(broker.bootstrap, "train")) for _ in range(count)]
        for wire in wires:
            while produce(wire, "t", batch(b"before"), **how).error_code:
                assert how.get("timeout_ms"), "nothing but time can run out"
        yield wires


class Moment:
    """Requests that are sent at one moment, and their answers, by connection."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._sent: list[tuple[Wire, Any, int, int]] = []

    def send(self, requests: list[tuple[Wire, Any]]) -> None:
        with one_moment(self._broker):
            for wire, request in requests:
                version = 12 if type(request).__api_key__ == 1 else VERSION
                self._sent.append((wire, request, version, wire.send(request, version)))

    def answers(self) -> list[Any]:
        return [wire.receive(*rest) for wire, *rest in self._sent]


def at_one_moment(broker: Broker, requests: list[tuple[Wire, Any]]) -> list[Any]:
    moment = Moment(broker)
    moment.send(requests)
    return moment.answers()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each run took."""
    counts: list[int] = []
    settle = ProduceRun.settle

    def counted(run: ProduceRun) -> Any:
        counts.append(run.count)
        return settle(run)

    monkeypatch.setattr(ProduceRun, "settle", counted)
    return counts


@pytest.mark.parametrize("acks", [1, -1])
def test_requests_of_one_moment_are_written_with_one_call_and_each_is_told_its_own_offset(
    ottla_broker: Broker, wire: Wire, runs: list[int], monkeypatch: pytest.MonkeyPatch, acks: int
) -> None:
    create_topic(wire, "t")
    writes: list[bytes] = []
    pwrite = Disk.pwrite

    def noted(descriptor: int, data: Any, position: int) -> int:
        writes.append(bytes(data))
        return pwrite(descriptor, data, position)

    with producers(ottla_broker, 8, acks=acks) as wires:
        monkeypatch.setattr(Disk, "pwrite", staticmethod(noted))
        values = [b"value %d" % number for number in range(8)]
        requests = [
            (one, produce_request("t", batch(value_), acks=acks))
            for one, value_ in zip(wires, values, strict=True)
        ]
        told = [outcome(answer) for answer in at_one_moment(ottla_broker, requests)]
    assert sorted(told) == [(0, offset) for offset in range(8, 16)]
    assert 8 in runs
    assert [sum(value_ in one for value_ in values) for one in writes if b"value" in one] == [8]
    for (_, offset), value_ in zip(told, values, strict=True):
        assert value_ in bytes(fetch(wire, "t", offset, max_bytes=1).records)
    assert used_bytes(ottla_broker) == 0


@pytest.mark.parametrize("acks", [1, -1])
def test_all_of_one_moment_are_told_that_their_write_failed(
    ottla_broker: Broker, wire: Wire, runs: list[int], monkeypatch: pytest.MonkeyPatch, acks: int
) -> None:
    create_topic(wire, "t")
    with producers(ottla_broker, 4, acks=acks) as wires:
        have_no_room(monkeypatch)
        requests = [(one, produce_request("t", batch(b"no room"), acks=acks)) for one in wires]
        answers = at_one_moment(ottla_broker, requests)
        assert {outcome(answer) for answer in answers} == {(ErrorCode.KAFKA_STORAGE_ERROR, -1)}
        assert 4 in runs
        monkeypatch.undo()
        requests = [(one, produce_request("t", batch(b"after"), acks=acks)) for one in wires]
        told = [outcome(answer) for answer in at_one_moment(ottla_broker, requests)]
    assert sorted(told) == [(0, offset) for offset in range(4, 8)]
    assert b"no room" not in bytes(fetch(wire, "t").records)


def test_one_that_is_refused_among_them_is_told_so_and_the_others_go_on(
    ottla_broker: Broker, wire: Wire, runs: list[int]
) -> None:
    create_topic(wire, "t")
    damaged = bytearray(batch(b"value"))
    damaged[CRC_AT] ^= 1
    with producers(ottla_broker, 5) as wires:
        sent = [batch(b"value"), bytes(damaged), batch(b"value"), b"", batch(b"value")]
        requests = [
            (one, produce_request("t", records)) for one, records in zip(wires, sent, strict=True)
        ]
        codes = [outcome(answer)[0] for answer in at_one_moment(ottla_broker, requests)]
    assert codes == [0, ErrorCode.CORRUPT_MESSAGE, 0, ErrorCode.INVALID_RECORD, 0]
    assert max(runs) > 1


def test_requests_of_several_kinds_and_other_requests_come_at_one_moment(
    ottla_broker: Broker, wire: Wire, runs: list[int]
) -> None:
    create_topic(wire, "t", 2)
    with producers(ottla_broker, 3) as one_way, producers(ottla_broker, 3, acks=-1) as other_way:
        requests: list[tuple[Wire, Any]] = []
        for first, second in zip(one_way, other_way, strict=True):
            requests.append((first, produce_request("t", batch(b"value"))))
            requests.append((second, produce_request("t", batch(b"value"), acks=-1)))
        requests[3] = (requests[3][0], fetch_request("t", 0))
        requests[4] = (requests[4][0], produce_request("t", batch(b"value"), partition=1))
        answers = at_one_moment(ottla_broker, requests)
        fetched = answers.pop(3)
        elsewhere = answers.pop(3)
        assert outcome(elsewhere) == (0, 0)
        assert sorted(outcome(answer) for answer in answers) == [(0, n) for n in range(6, 10)]
        (partition,) = fetched.responses[0].partitions
        # What it sees is committed and in the file, however far the others had come.
        assert 6 <= partition.high_watermark <= 10
        assert bytes(partition.records).count(b"before") == 6
        assert bytes(partition.records).count(b"value") == partition.high_watermark - 6
    assert max(runs) > 1


def test_answers_of_one_moment_wait_for_the_sync_and_what_comes_behind_waits_for_them(
    monkeypatch: pytest.MonkeyPatch, runs: list[int]
) -> None:
    with Broker({"durability": "disk"}) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        with producers(broker, 4, acks=-1) as wires:
            fdatasync, may_sync = Disk.fdatasync, threading.Event()

            def held(descriptor: int) -> None:
                may_sync.wait(TIMEOUT_S)
                fdatasync(descriptor)

            monkeypatch.setattr(Disk, "fdatasync", staticmethod(held))
            moment = Moment(broker)
            request = produce_request("t", batch(b"value"), acks=-1)
            moment.send([(one, request) for one in wires])
            wait_until(lambda: 4 in runs)
            moment.send([(wires[0], produce_request("t", batch(b"behind"), acks=-1))])
            wait_until(lambda: used_bytes(broker) == 0)  # all of it is appended
            wires[3].socket.close()
            assert not select.select([one.socket for one in wires[:3]], [], [], 0.05)[0]
            may_sync.set()
            moment._sent.pop(3)
            told = [outcome(answer) for answer in moment.answers()]
        assert {code for code, _ in told} == {0}
        assert {offset for _, offset in told[:3]} < set(range(4, 8))
        assert told[3] == (0, 8)


def test_what_times_out_of_one_moment_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with Broker({"durability": "disk"}) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        with producers(broker, 3, acks=-1, timeout_ms=200) as wires:
            fdatasync, may_sync = Disk.fdatasync, threading.Event()

            def held(descriptor: int) -> None:
                may_sync.wait(TIMEOUT_S)
                fdatasync(descriptor)

            monkeypatch.setattr(Disk, "fdatasync", staticmethod(held))
            request = produce_request("t", batch(b"value"), acks=-1, timeout_ms=200)
            answers = at_one_moment(broker, [(one, request) for one in wires])
            may_sync.set()
        assert {outcome(answer)[0] for answer in answers} == {ErrorCode.REQUEST_TIMED_OUT}


def test_who_hangs_up_amid_a_moment_costs_the_others_nothing(
    ottla_broker: Broker, wire: Wire
) -> None:
    create_topic(wire, "t")
    with producers(ottla_broker, 4) as wires:
        request = produce_request("t", batch(b"value"))
        moment = Moment(ottla_broker)
        with one_moment(ottla_broker):
            sent = [(one, one.send(request, VERSION)) for one in wires]
            wires[1].socket.close()
        told = [outcome(one.receive(request, VERSION, n)) for one, n in (sent[0], *sent[2:])]
        assert {code for code, _ in told} == {0}
        moment.send([(one, request) for one in wires[2:]])
        assert {outcome(answer)[0] for answer in moment.answers()} == {0}


def test_a_topic_that_is_made_again_is_written_to_anew(ottla_broker: Broker, wire: Wire) -> None:
    create_topic(wire, "t")
    with producers(ottla_broker, 3) as wires:
        wire.ask(DeleteTopicsRequest(topic_names=["t"], timeout_ms=20_000), 4)
        requests = [(one, produce_request("t", batch(b"lost"))) for one in wires]
        answers = at_one_moment(ottla_broker, requests)
        gone = {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        assert {outcome(answer)[0] for answer in answers} == gone
        create_topic(wire, "t")
        requests = [(one, produce_request("t", batch(b"anew"))) for one in wires]
        told = [outcome(answer) for answer in at_one_moment(ottla_broker, requests)]
    assert sorted(told) == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.ottla({"http.listener": "127.0.0.1:0"})
def test_requests_of_one_moment_are_counted_one_by_one(
    ottla_broker: Broker, wire: Wire, runs: list[int]
) -> None:
    create_topic(wire, "t", max_message_bytes=200)
    with producers(ottla_broker, 4) as wires:
        sizes = (3, 3, 300, 3)
        requests = [
            (one, produce_request("t", batch(b"v" * size)))
            for one, size in zip(wires, sizes, strict=True)
        ]
        at_one_moment(ottla_broker, requests)
    assert max(runs) > 1
    now = metrics(http_of(ottla_broker))
    name = "kafka_network_requestmetrics"
    assert value(now, f"{name}_requests_total", request="Produce") == 8
    assert value(now, f"{name}_errors_total", request="Produce", error="MESSAGE_TOO_LARGE") == 1


def test_a_producer_that_goes_elsewhere_is_followed_there(
    ottla_broker: Broker, wire: Wire, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of its requests is forgotten with what they were like, whichever way they were handled."""
    create_topic(wire, "t", 2)
    ends = [0, 0]
    for partition, acks in [(0, 1), (1, 1), (1, -1), (0, -1)] * 2:
        for number in range(5):
            # Those behind a turn that was long are handled like any.
            monkeypatch.setattr("ottla.network.connection.BUSY_S", -1.0 if number < 2 else 60.0)
            answer = produce(wire, "t", batch(b"value"), partition=partition, acks=acks)
            assert (answer.index, answer.error_code) == (partition, 0)
            assert answer.base_offset == ends[partition]
            ends[partition] += 1
    assert runs


@pytest.mark.parametrize(("acks", "durability"), [(1, "os"), (-1, "os"), (-1, "disk")])
def test_trains_of_several_connections_are_handled_together_and_each_stays_in_order(
    runs: list[int], monkeypatch: pytest.MonkeyPatch, acks: int, durability: str
) -> None:
    monkeypatch.setattr("ottla.network.turns.TURN_S", 60.0)
    with Broker({"durability": durability}) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        lengths = (5, 1, 40, 90)
        with producers(broker, len(lengths), acks=acks) as wires:
            trains = [Train(one) for one in wires]
            for train, length, name in zip(trains, lengths, b"abcd", strict=True):
                for number in range(length):
                    records = batch(b"%c%02d" % (name, number))
                    train.add(produce_request("t", records, acks=acks), VERSION)
            with one_moment(broker):
                for train in trains:
                    train.send()
            offsets = []
            for train in trains:
                told = [outcome(answer) for answer in train.receive()]
                assert {code for code, _ in told} == {0}
                offsets.append([offset for _, offset in told])
        records = bytes(fetch(wire, "t", len(lengths)).records)
    assert all(of_one == sorted(of_one) for of_one in offsets)
    assert sorted(offset for of_one in offsets for offset in of_one) == list(range(4, 140))
    values = sorted(
        (offset, b"%c%02d" % (name, number))
        for of_one, name in zip(offsets, b"abcd", strict=True)
        for number, offset in enumerate(of_one)
    )
    places = [records.index(value_) for _, value_ in values]
    assert places == sorted(places)
    assert max(runs) >= 64  # a connection's own runs are shorter


def test_what_is_not_for_a_run_amid_a_train_is_handled_in_its_turn(
    ottla_broker: Broker, wire: Wire, runs: list[int]
) -> None:
    create_topic(wire, "t", 2)
    damaged = bytearray(batch(b"value"))
    damaged[CRC_AT] ^= 1
    with producers(ottla_broker, 2, acks=1) as wires:
        trains = [Train(one) for one in wires]
        for train in trains:
            for records, partition in (
                (batch(b"value"), 0),
                (bytes(damaged), 0),
                (batch(b"value"), 0),
                (batch(b"value"), 1),
                (batch(b"value"), 0),
            ):
                train.add(produce_request("t", records, partition=partition, acks=1), VERSION)
            train.add(fetch_request("t", 0), 12)
            train.add(produce_request("t", batch(b"value"), acks=1), VERSION)
        with one_moment(ottla_broker):
            for train in trains:
                train.send()
        for train in trains:
            *produced, fetched, last = train.receive()
            told = [outcome(answer) for answer in produced]
            assert [code for code, _ in told] == [0, ErrorCode.CORRUPT_MESSAGE, 0, 0, 0]
            mine = [told[0][1], told[2][1], told[4][1]]
            assert mine == sorted(mine)
            assert fetched.responses[0].partitions[0].high_watermark > mine[-1]
            assert outcome(last)[0] == 0
    assert max(runs) > 1


def test_a_length_that_nobody_sends_behind_a_train_ends_the_connection_and_no_other(
    ottla_broker: Broker, wire: Wire
) -> None:
    create_topic(wire, "t")
    with producers(ottla_broker, 2, acks=1) as wires:
        trains = [Train(one) for one in wires]
        for train in trains:
            for _ in range(3):
                train.add(produce_request("t", batch(b"value"), acks=1), VERSION)
        trains[0].add_bytes(b"\xff\xff\xff\xfe" + bytes(20))
        with one_moment(ottla_broker):
            for train in trains:
                train.send()
        for train in trains:
            assert {outcome(answer)[0] for answer in train.receive()} == {0}
        assert wires[0].is_hung_up()
        assert produce(wires[1], "t", batch(b"value")).error_code == 0


def test_a_run_that_takes_nothing_costs_nobody_his_answer(ottla_broker: Broker, wire: Wire) -> None:
    """An empty batch, and one that is there already, are of the kind, and for no run."""
    create_topic(wire, "t")
    once = batch(b"value", producer_id=7, producer_epoch=0, base_sequence=0)
    with producers(ottla_broker, 3) as wires:
        assert produce(wires[0], "t", once).error_code == 0
        for records, code in ((b"", ErrorCode.INVALID_RECORD), (once, 0)):
            requests = [(one, produce_request("t", records)) for one in wires]
            told = {outcome(answer)[0] for answer in at_one_moment(ottla_broker, requests)}
            assert told == {code}, records


@pytest.mark.ottla({"requests.in.flight.max": 2, "durability": "disk"})
def test_no_more_of_a_connection_are_taken_than_may_be_in_flight(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = [0]
    park = Connection.park_joined

    def noted(connection: Connection, count: int) -> Any:
        most.append(count)
        return park(connection, count)

    monkeypatch.setattr(Connection, "park_joined", noted)
    create_topic(wire, "t")
    with producers(ottla_broker, 2, acks=-1) as wires:
        trains = [Train(one) for one in wires]
        for train in trains:
            for _ in range(9):
                train.add(produce_request("t", batch(b"value"), acks=-1), VERSION)
        with one_moment(ottla_broker):
            for train in trains:
                train.send()
        for train in trains:
            assert {outcome(answer)[0] for answer in train.receive()} == {0}
    assert max(most) == 2


def test_who_turns_to_other_requests_waits_for_those_of_others_no_more_than_once(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(wire, "t")
    waited: list[int] = []
    add = Joining.add

    def counted(joining: Joining, connection: Connection) -> None:
        waited.append(connection.serial)
        add(joining, connection)

    monkeypatch.setattr(Joining, "add", counted)

    def produce_twice() -> int:
        before = len(waited)
        for _ in range(2):
            assert not produce(wire, "t", batch(b"value")).error_code
        return len(waited) - before

    assert produce_twice() == 1
    before = len(waited)
    for _ in range(5):
        fetch(wire, "t", 0)
    assert len(waited) == before + 1
    assert produce_twice() == 1


def test_who_waits_for_the_next_call_is_read_on_and_what_comes_stays_in_order(
    ottla_broker: Broker, wire: Wire, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To pause and to resume a connection costs more than to handle its request."""
    create_topic(wire, "t")
    paused: list[Connection] = []
    read_or_pause = Connection._read_or_pause

    def noted(connection: Connection, waited: bool = True) -> None:
        before = connection._paused
        read_or_pause(connection, waited)
        if connection._paused and not before:
            paused.append(connection)

    with producers(ottla_broker, 8) as wires:
        monkeypatch.setattr("ottla.network.turns.TURN_S", 0.0)  # one connection a call
        monkeypatch.setattr("ottla.network.turns.SHARED_TURN_S", 0.0)
        monkeypatch.setattr(Connection, "_read_or_pause", noted)
        request = produce_request("t", batch(b"value"))
        answers = at_one_moment(ottla_broker, [(one, request) for one in wires])
        assert sorted(outcome(answer) for answer in answers) == [(0, n) for n in range(8, 16)]
        assert sum(runs) == 8
        assert not paused
        # What comes behind what waits is read, once, and handled behind it.
        moment = Moment(ottla_broker)
        for _ in range(3):
            moment.send([(one, request) for one in wires])
        told = [outcome(answer) for answer in moment.answers()]
    assert sorted(told) == [(0, n) for n in range(16, 40)]
    for number in range(8):
        assert told[number::8] == sorted(told[number::8])

"""Clients that stop reading, and a broker that is stopped for longer than its clients wait."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ottla.errors import ErrorCode
from ottla.messages.describe_groups import DescribeGroupsRequest
from tests.crash.checker import Found, History, Mark
from tests.crash.load import LibrdkafkaLoad, Load, OttlaLoad, PlainLoad
from tests.crash.process import BrokerProcess
from tests.faults.running import append, assert_no_traceback, broker, events
from tests.interop.raw import RawClient
from tests.interop.requirements import require_module
from tests.support.requests import create_topic, fetch_request
from tests.support.waiting import wait_until

RECORD_BYTES = 900_000
RECORDS = 8
DEAF_CLIENTS = 20
REQUESTS_EACH = 20
MEMORY_BYTES_MAX = 120 << 20
"""Far below what the answers that nobody reads would take: 2.9 GB."""


def resident_bytes(running: BrokerProcess) -> int:
    """The broker's resident memory."""
    pages = Path(f"/proc/{running.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def connections(running: BrokerProcess) -> int:
    """How many sockets the broker has open."""
    count = 0
    for entry in Path(f"/proc/{running.pid}/fd").iterdir():
        try:
            count += entry.readlink().name.startswith("socket:")
        except OSError:
            continue
    return count


@contextmanager
def deaf_clients(running: BrokerProcess) -> Iterator[list[RawClient]]:
    """Clients that ask for megabytes again and again and take nothing."""
    clients = []
    try:
        for _ in range(DEAF_CLIENTS):
            client = RawClient(running.bootstrap)
            clients.append(client)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(REQUESTS_EACH):
                client.send(fetch_request("t", 0, max_bytes=RECORDS * RECORD_BYTES), 12)
        yield clients
    finally:
        for client in clients:
            client.close()


def test_clients_that_stop_reading_cost_little_memory_and_are_cut_off_and_others_are_served(
    tmp_path: Path,
) -> None:
    with broker(tmp_path, write_stall_ms=1_000) as running, RawClient(running.bootstrap) as raw:
        create_topic(raw, "t")
        for _ in range(RECORDS):
            assert append(raw, bytes(RECORD_BYTES))[0] == ErrorCode.NONE
        create_topic(raw, "other")
        before = connections(running)
        peak = 0
        with deaf_clients(running):
            wait_until(lambda: connections(running) >= before + DEAF_CLIENTS)
            served = 0

            def all_are_cut_off() -> bool:
                nonlocal peak, served
                code, offset = append(raw, b"served", "other")
                assert (code, offset) == (ErrorCode.NONE, served)
                served += 1
                peak = max(peak, resident_bytes(running))
                return connections(running) <= before

            wait_until(all_are_cut_off)
        assert served > 1
        assert peak < MEMORY_BYTES_MAX
        assert len(raw.records("t")) == RECORDS
        assert_no_traceback(running)


def test_a_broker_that_is_stopped_for_longer_than_sessions_last_goes_on_where_it_was(
    tmp_path: Path,
) -> None:
    require_module("confluent_kafka", "confluent-kafka")
    import confluent_kafka

    places = [("t", 0), ("t", 1)]
    history = History()
    settings = {"group.min.session.timeout.ms": 100}
    with broker(tmp_path, **{k.replace(".", "_"): v for k, v in settings.items()}) as running:
        bootstrap = running.bootstrap
        loads: list[Load] = [
            LibrdkafkaLoad("librdkafka", bootstrap, 1, history, places),
            OttlaLoad("ottla", bootstrap, 1, history, places),
            PlainLoad("plain", bootstrap, 1, history, places),
        ]
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "members",
                "session.timeout.ms": 1_000,
                "heartbeat.interval.ms": 200,
                "auto.offset.reset": "earliest",
                "socket.timeout.ms": 2_000,
                "log_level": 0,
            }
        )
        try:
            with RawClient(bootstrap) as raw:
                create_topic(raw, "t", len(places))
                for load in loads:
                    load.start()
                consumer.subscribe(["t"])
                wait_until(lambda: _polled(consumer))
                running.signal(signal.SIGSTOP)
                for load in loads:
                    load.pause(1.0)  # the broker's absence: what is tested is time that goes by
                running.signal(signal.SIGCONT)
                least = history.acknowledged_count() + 100
                wait_until(lambda: history.acknowledged_count() > least)
                wait_until(lambda: _polled(consumer))
                describe = DescribeGroupsRequest(groups=["members"])
                wait_until(lambda: raw.call(describe, 5).groups[0].group_state == "Stable")
                wait_until(lambda: _commits(consumer))
        finally:
            consumer.close()
            for load in loads:
                load.stopped.set()
        for load in loads:
            load.join(60)
        assert [fault for load in loads for fault in load.faults] == []
        with RawClient(bootstrap) as raw:
            for place in places:
                reading = history.begin_reading(place)
                found = [
                    Found(record.offset, Mark.decode(record.value or b""))
                    for record in raw.records(*place)
                ]
                assert reading.finish(0, found, raw.offset(*place)) == []
        assert history.missing(places) == []
        assert not events(running, "log directory is offline")
        assert_no_traceback(running)


def _polled(consumer: object) -> bool:
    message = consumer.poll(0.1)  # type: ignore[attr-defined]
    return message is not None and message.error() is None


def _commits(consumer: object) -> bool:
    import confluent_kafka

    try:
        consumer.commit(asynchronous=False)  # type: ignore[attr-defined]
    except confluent_kafka.KafkaException:
        _polled(consumer)  # the group has moved on: join it again
        return False
    return True

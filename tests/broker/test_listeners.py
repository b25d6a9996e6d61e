"""Listeners as clients meet them: which addresses answer, what each listener tells, who is turned away."""

from __future__ import annotations

import errno
import json
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from ottla import Admin, Producer
from ottla.broker.listening import is_loopback
from ottla.messages.describe_cluster import DescribeClusterRequest
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.metadata import MetadataRequest
from ottla.messages.registry import API_VERSIONS_RANGES
from ottla.testing import Broker
from tests.support.wire import Wire

INSIDE_OUTSIDE = {
    "listeners": "INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.2:0",
    "advertised.listeners": "INSIDE://127.0.0.1:0,OUTSIDE://broker.example:29092",
    "listener.security.protocol.map": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
    "inter.broker.listener.name": "INSIDE",
}


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")


def _addresses(broker: Broker) -> dict[str, str]:
    assert broker.server is not None
    return {name: f"{host}:{port}" for name, host, port in broker.server.addresses}


def _told(bootstrap: str) -> set[tuple[str, str, int]]:
    """What every API that names brokers tells on this listener, in all of its versions."""
    found: set[tuple[str, str, int]] = set()
    with Wire(bootstrap) as wire:
        lo, hi = API_VERSIONS_RANGES[3]
        for version in range(lo, hi + 1):
            answer = wire.ask(MetadataRequest(topics=None if version else []), version)
            found.update(("Metadata", broker.host, broker.port) for broker in answer.brokers)
        lo, hi = API_VERSIONS_RANGES[60]
        for version in range(lo, hi + 1):
            answer = wire.ask(DescribeClusterRequest(endpoint_type=1), version)
            found.update(("DescribeCluster", broker.host, broker.port) for broker in answer.brokers)
        lo, hi = API_VERSIONS_RANGES[10]
        for version in range(lo, hi + 1):
            request = FindCoordinatorRequest(key="g", coordinator_keys=["g"])
            answer: Any = wire.ask(request, version)
            for one in answer.coordinators if version >= 4 else [answer]:
                found.add(("FindCoordinator", one.host, one.port))
    return found


@pytest.mark.ottla(INSIDE_OUTSIDE)
def test_each_listener_tells_its_own_advertised_address_in_every_answer(
    ottla_broker: Broker,
) -> None:
    addresses = _addresses(ottla_broker)
    inside_port = int(addresses["INSIDE"].rpartition(":")[2])
    apis = ("Metadata", "DescribeCluster", "FindCoordinator")
    assert _told(addresses["INSIDE"]) == {(api, "127.0.0.1", inside_port) for api in apis}
    assert _told(addresses["OUTSIDE"]) == {(api, "broker.example", 29092) for api in apis}


@needs_ipv6
def test_localhost_answers_on_both_families_on_one_port() -> None:
    with Broker(host="localhost") as broker:
        for host in ("127.0.0.1", "::1"):
            with Wire(f"{host}:{broker.port}") as wire:
                answer = wire.ask(MetadataRequest(topics=[]), 12)
                assert [(b.host, b.port) for b in answer.brokers] == [("localhost", broker.port)]
        broker.restart()  # the very port, this time asked for
        with Wire(f"::1:{broker.port}") as wire:
            assert wire.ask(MetadataRequest(topics=[]), 12).brokers


@needs_ipv6
def test_a_client_that_tries_ipv6_first_is_answered_at_localhost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resolver that puts ::1 first, as most machines have it."""
    lookup = socket.getaddrinfo

    def six_first(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host != "localhost":
            return lookup(host, port, *more, **named)
        found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))]
        return found + lookup("127.0.0.1", port, *more, **named)

    with Broker(host="localhost") as broker:
        monkeypatch.setattr(socket, "getaddrinfo", six_first)
        with socket.create_connection(("localhost", broker.port)) as sock:
            assert sock.getpeername()[0] == "::1"
        with Producer(f"localhost:{broker.port}") as producer:
            assert producer.send("t", value=b"x").result().offset == 0


def test_localhost_is_127_0_0_1_alone_where_there_is_no_ipv6(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bind = socket.socket.bind

    def without_ipv6(sock: socket.socket, address: Any) -> None:
        if sock.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        bind(sock, address)

    monkeypatch.setattr(socket.socket, "bind", without_ipv6)
    with Broker(host="localhost") as broker, Admin(f"127.0.0.1:{broker.port}") as admin:
        assert admin.describe_cluster().nodes[0].host == "localhost"


@needs_ipv6
def test_a_port_that_is_anothers_on_ipv6_is_not_taken_by_localhost() -> None:
    with closing(socket.socket(socket.AF_INET6)) as other:
        other.bind(("::1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on ::1:{port}: Address already in use"):
            Broker(host="localhost", port=port).start()


@needs_ipv6
@pytest.mark.ottla({"listeners": "SIX://[::1]:0,PLAINTEXT://127.0.0.1:0",
                    "listener.security.protocol.map": "SIX:PLAINTEXT,PLAINTEXT:PLAINTEXT"})  # fmt: skip
def test_an_ipv6_listener_stands_beside_an_ipv4_one(ottla_broker: Broker) -> None:
    for name, address in _addresses(ottla_broker).items():
        host, _, port = address.rpartition(":")
        assert {(host, int(port)) for _, host, port in _told(address)} == {(host, int(port))}, name


@pytest.mark.ottla({"listeners": "PLAINTEXT://:0"})
def test_no_host_is_every_interface_and_this_machines_name_is_told(ottla_broker: Broker) -> None:
    with Wire(f"127.0.0.3:{ottla_broker.port}") as wire:
        (told,) = wire.ask(MetadataRequest(topics=[]), 12).brokers
        assert (told.host, told.port) == (socket.getfqdn(), ottla_broker.port)


@pytest.mark.ottla({"max.connections.per.ip": "1",
                    "max.connections.per.ip.overrides": "localhost:3,127.0.0.9:0"})  # fmt: skip
def test_an_address_may_have_its_own_limit_of_connections(ottla_broker: Broker) -> None:
    def is_served(source: str) -> bool:
        sock = stack.enter_context(
            socket.create_connection(("127.0.0.1", ottla_broker.port), 20, (source, 0))
        )
        sock.sendall(bytes.fromhex("0000000a 0012 0000 00000001 ffff".replace(" ", "")))
        try:
            return sock.recv(4) != b""
        except ConnectionError:
            return False

    with ExitStack() as stack:
        assert [is_served("127.0.0.1") for _ in range(4)] == [True, True, True, False]
        assert [is_served("127.0.0.2") for _ in range(2)] == [True, False]
        assert is_served("127.0.0.9") is False


@pytest.fixture
def events() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    log = logging.getLogger("ottla.broker.listening")
    keeper = Keeper()
    log.addHandler(keeper)
    yield records
    log.removeHandler(keeper)


def test_a_listener_beyond_loopback_is_warned_of_once_by_name(
    events: list[logging.LogRecord],
) -> None:
    settings = {
        "listeners": "INSIDE://127.0.0.1:0,OUTSIDE://:0",
        "listener.security.protocol.map": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
        "inter.broker.listener.name": "INSIDE",
    }
    with Broker(settings) as broker, Admin(f"127.0.0.1:{broker.port}") as admin:
        admin.describe_cluster()
    (warning,) = events
    fields: dict[str, str] = vars(warning)["fields"]
    assert warning.levelno == logging.WARNING
    assert fields["listener"] == "OUTSIDE"
    assert "127.0.0.1" in fields["advice"]
    json.dumps(fields)


def test_loopback_listeners_are_not_warned_of(events: list[logging.LogRecord]) -> None:
    with Broker(), Broker(host="localhost"):
        assert events == []
    assert is_loopback("127.9.9.9")
    assert not is_loopback("192.0.2.1")
    assert not is_loopback("::")

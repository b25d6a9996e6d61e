"""What the tests do to the network really happens: packets are dropped one way, between two brokers only."""

from __future__ import annotations

import socket

import pytest

from tests.cluster.namespaces import Namespaces, host_of, require_namespaces, within


def test_a_cut_drops_packets_one_way_between_two_namespaces() -> None:
    require_namespaces()
    with Namespaces([1, 2, 3]) as namespaces:
        ends = {
            node: within(namespaces.of(node), lambda node=node: _bound(host_of(node)))
            for node in (1, 2, 3)
        }
        try:
            namespaces.cut(1, 2)
            for source, target in ((1, 2), (1, 3), (2, 1), (3, 2)):
                ends[source].sendto(b"%d to %d" % (source, target), ends[target].getsockname())
            assert ends[1].recv(20) == b"2 to 1"
            assert ends[3].recv(20) == b"1 to 3"
            assert ends[2].recv(20) == b"3 to 2"
            ends[2].setblocking(False)
            with pytest.raises(BlockingIOError):
                ends[2].recv(20)
            ends[2].settimeout(20)
            namespaces.heal()
            ends[1].sendto(b"healed", ends[2].getsockname())
            assert ends[2].recv(20) == b"healed"
        finally:
            for end in ends.values():
                end.close()


def test_ways_lead_in_and_out_of_the_namespaces() -> None:
    require_namespaces()
    with Namespaces([1]) as namespaces, socket.create_server(("127.0.0.1", 0)) as here:
        there = within(namespaces.of(1), lambda: socket.create_server((host_of(1), 0)))
        with there:
            way_in = namespaces.way_in(there.getsockname())
            with socket.create_connection(way_in) as client:
                client.sendall(b"in")
                accepted, _ = there.accept()
                with accepted:
                    assert accepted.recv(10) == b"in"
            way_out = namespaces.way_out(here.getsockname())
            with within(namespaces.of(1), lambda: socket.create_connection(way_out)) as client:
                client.sendall(b"out")
                accepted, _ = here.accept()
                with accepted:
                    assert accepted.recv(10) == b"out"


def _bound(host: str) -> socket.socket:
    """A datagram socket of an address, patient for as long as a test may take."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(20)
    made.bind((host, 0))
    return made

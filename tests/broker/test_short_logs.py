"""Brokers whose disks come back without what they had synced: who still has the records is not cut to such a log."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla import Admin, Consumer, Producer
from ottla.log.checkpoints import decode_offsets
from ottla.testing import Cluster
from tests.support.waiting import eventually, wait_until

BROKERS = {1, 2, 3}
PATIENCE = {"request_timeout_ms": 2_000, "retry_backoff_ms": 20, "metadata_max_age_ms": 1_000}
COUNT = 6


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers, one record after the other in a topic ``orders`` that lies on all of them; then all are dead."""
    settings = {
        "durability": "disk",
        "log.flush.offset.checkpoint.interval.ms": 50,
        "controlled.shutdown.enable": "false",
    }
    # A death is noticed when the test says so: all die before anybody has noticed the first.
    with Cluster(3, settings, data=tmp_path, session_timeout_ms=60_000) as opened:
        with Admin(opened.bootstrap) as admin:
            admin.create_topic("orders", 1, 3)
        eventually(lambda: opened.in_sync("orders") == BROKERS, "all are in sync")
        with Producer(opened.bootstrap, **PATIENCE) as producer:
            for number in range(COUNT):
                assert producer.send("orders", b"%d" % number).result().offset == number
        for broker in BROKERS:
            eventually(lambda broker=broker: synced_to(opened, broker) == COUNT, "it is noted")
        for broker in BROKERS:
            opened.kill_broker(broker)
        for broker in BROKERS:
            opened.expire_session(broker)
        assert opened.in_sync("orders") == BROKERS
        yield opened


def synced_to(cluster: Cluster, broker: int) -> int:
    """What the broker's disk says of it."""
    try:
        content = (cluster.data(broker) / "recovery-point-offset-checkpoint").read_bytes()
    except FileNotFoundError:
        return 0
    return decode_offsets(content).get(("orders", 0), 0)


def lose(cluster: Cluster, broker: int, what: str = "records") -> None:
    directory = cluster.data(broker) / "orders-0"
    if what == "directory":
        shutil.rmtree(directory)
        return
    path = directory / f"{0:020}.log"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // COUNT * 2])


def ends(cluster: Cluster) -> set[int]:
    found = [cluster.server(broker).replicas.get("orders", 0) for broker in BROKERS]
    return {partition.log.log_end_offset for partition in found if partition is not None}


def values(cluster: Cluster, count: int) -> list[bytes]:
    found: list[bytes] = []
    with Consumer(bootstrap=cluster.bootstrap, auto_offset_reset="earliest", **PATIENCE) as reader:
        reader.assign([("orders", 0)])

        def read() -> bool:
            found.extend(record.value for record in reader.poll(0.1))
            return len(found) >= count

        wait_until(read)
    return found


@pytest.mark.parametrize("what", ["records", "directory"])
def test_who_starts_first_without_what_it_had_synced_costs_nobody_a_record(
    cluster: Cluster, what: str
) -> None:
    lose(cluster, 1, what)
    cluster.start_broker(1)
    first = cluster.server(1)
    eventually(lambda: first.replicas.get("orders", 0) is not None, "it is told of its replica")
    assert cluster.in_sync("orders") == {2, 3}
    cluster.kill_broker(1)  # nor does it count as whole in its next life
    cluster.expire_session(1)
    for broker in BROKERS:
        cluster.start_broker(broker)
    cluster.wait_until_whole()
    assert ends(cluster) == {COUNT}
    assert values(cluster, COUNT) == [b"%d" % number for number in range(COUNT)]
    for broker in BROKERS:
        assert not cluster.server(broker).directories.short


def test_where_all_lack_what_they_had_synced_only_an_unclean_election_gives_a_leader(
    cluster: Cluster,
) -> None:
    for broker in BROKERS:
        lose(cluster, broker)
        cluster.start_broker(broker)
    eventually(lambda: cluster.in_sync("orders") == set(), "nobody counts as whole")
    with Admin(cluster.bootstrap) as admin:
        assert admin.elect_leaders([("orders", 0)], unclean=True) == {("orders", 0): None}
    cluster.wait_until_whole()
    assert ends(cluster) == {2}
    assert values(cluster, 2) == [b"0", b"1"]

"""A leader whose disk has changed a bit: whoever meets it, its log is out of service, and another replica leads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla import Admin, Consumer, Producer
from ottla.log.disk import Disk
from ottla.log.quarantine import request_quarantine
from ottla.records.batch import HEADER_BYTES
from ottla.testing import Cluster
from tests.support.waiting import eventually, wait_until

COUNT = 6
PATIENCE = {"request_timeout_ms": 2_000, "retry_backoff_ms": 20, "metadata_max_age_ms": 1_000}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers, and some records in a topic ``orders`` that lies on all of them."""
    settings = {
        "replica.fetch.backoff.ms": 20,
        "auto.leader.rebalance.enable": "false",
        "controlled.shutdown.max.retries": 1,
    }
    with Cluster(3, settings, data=tmp_path) as opened:
        with Admin(opened.bootstrap) as admin:
            admin.create_topic("orders", 1, 3)
        with Producer(opened.bootstrap, **PATIENCE) as producer:
            for number in range(COUNT):
                assert producer.send("orders", b"%d" % number).result().offset == number
        opened.wait_until_whole()
        yield opened


def change_a_bit(cluster: Cluster, broker: int) -> None:
    """In the first batch, where only its checksum tells."""
    path = cluster.data(broker) / "orders-0" / f"{0:020}.log"
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + 2)
        (old,) = file.read(1)
        file.seek(HEADER_BYTES + 2)
        file.write(bytes([old ^ 1]))


def quarantined(cluster: Cluster, broker: int) -> bool:
    return (cluster.data(broker) / "orders-0" / "quarantined").exists()


def assert_others_serve(cluster: Cluster, damaged: int) -> None:
    """Another one leads, the third follows it, and all records are there."""
    eventually(lambda: cluster.leader("orders") != damaged, "another one leads")
    eventually(lambda: cluster.in_sync("orders") == {1, 2, 3} - {damaged}, "the third is in sync")
    with Consumer(bootstrap=cluster.bootstrap, auto_offset_reset="earliest", **PATIENCE) as reader:
        reader.assign([("orders", 0)])
        found: list[bytes] = []

        def read() -> bool:
            found.extend(record.value for record in reader.poll(0.1))
            return len(found) >= COUNT

        wait_until(read)
        assert found == [b"%d" % number for number in range(COUNT)]
    with Producer(cluster.bootstrap, **PATIENCE) as producer:
        assert producer.send("orders", b"more").result().offset == COUNT


def test_damage_that_a_follower_meets_takes_the_leaders_replica_out_of_service(
    cluster: Cluster,
) -> None:
    leader = cluster.leader("orders")
    follower = next(broker for broker in cluster.brokers if broker != leader)
    cluster.stop_broker(follower)
    shutil.rmtree(cluster.data(follower) / "orders-0")
    change_a_bit(cluster, leader)
    cluster.start_broker(follower)
    eventually(lambda: quarantined(cluster, leader), "the leader has looked")
    assert not quarantined(cluster, follower)
    assert_others_serve(cluster, leader)


def test_a_leader_whose_log_is_quarantined_while_it_runs_is_replaced(cluster: Cluster) -> None:
    """Here by ``ottla log verify --quarantine``; a read or the cleaner may meet damage as well."""
    leader = cluster.leader("orders")
    request_quarantine(Disk(), str(cluster.data(leader) / "orders-0"), "somebody has looked")
    assert_others_serve(cluster, leader)

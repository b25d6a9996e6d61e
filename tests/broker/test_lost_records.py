"""A broker whose machine went down without syncing what it had acknowledged: it is not believed to have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ottla.broker.broker import Broker as Server
from ottla.broker.session import Session
from ottla.coordination import znodes
from ottla.coordination.znodes import BrokerRegistration
from ottla.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from tests.broker.test_replication import Cluster, play
from tests.broker.test_several_brokers import until

UNCLEAN = 1


def machine_went_down(broker: Server) -> None:
    """The directories look as if the broker had not been stopped, but its machine had."""
    for path in map(Path, broker.config.data_directories):
        (path / ".kafka_cleanshutdown").unlink()
        life = json.loads((path / "last-life").read_text())
        (path / "last-life").write_text(json.dumps({**life, "boot_id": "another"}))


def tail_is_gone(broker: Server, size_bytes: int) -> None:
    """What was written behind ``size_bytes`` was in the page cache only, and no checkpoint speaks of it."""
    (path,) = map(Path, broker.config.data_directories)
    (path / "recovery-point-offset-checkpoint").unlink()
    with (path / "orders-0" / "00000000000000000000.log").open("r+b") as content:
        content.truncate(size_bytes)


async def registration_of(cluster: Cluster, broker: Server) -> BrokerRegistration:
    znode = await broker.session.store.get(znodes.broker_path(broker.node_id))
    return BrokerRegistration.decode(broker.node_id, znode.data)


async def start_again(cluster: Cluster, stopped: Server) -> Server:
    again = Server(stopped.config, connector=cluster.keeper)
    cluster.brokers[stopped.node_id] = again
    await again.start()
    return again


@pytest.mark.parametrize("durability", ["os", "disk"])
def test_the_last_of_an_isr_leads_again_unless_it_may_have_lost_records(
    tmp_path: Path, durability: str
) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3])
        assert await cluster.produce(3) == 0
        third, second = cluster.brokers.pop(3), cluster.brokers.pop(2)
        await third.stop()
        await until(lambda: second.replicas.leader_of("orders", 0).isr == [2], "it is alone")
        await second.stop()
        machine_went_down(second)
        second = await start_again(cluster, second)
        try:
            if durability == "disk":
                await until(lambda: cluster.leader is not None, "it leads what it has synced")
                assert cluster.at(2).log.log_end_offset == 3
                return
            await until(lambda: second.replicas.get("orders", 0) is not None, "it is told")
            assert not (await registration_of(cluster, second)).unclean
            third = await start_again(cluster, third)
            try:
                await until(lambda: third.replicas.get("orders", 0) is not None, "it is told")
                assert cluster.leader is None
                (controller,) = [b for b in cluster.brokers.values() if b.controller.is_active]
                orders = TopicPartitions(topic="orders", partitions=[0])
                await controller.controller.elect_leaders(
                    ElectLeadersRequest(election_type=UNCLEAN, topic_partitions=[orders])
                )
                await until(lambda: cluster.leader is not None, "it is elected uncleanly")
            finally:
                cluster.brokers.pop(3)
                await third.stop()
        finally:
            cluster.brokers.pop(2)
            await second.stop()

    play(tmp_path, test, durability=durability)


def test_who_may_have_lost_records_comes_back_once_it_has_caught_up(tmp_path: Path) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3])
        assert await cluster.produce(3) == 0
        stopped = cluster.brokers.pop(2)
        await stopped.stop()
        machine_went_down(stopped)
        await until(lambda: cluster.leader is not None, "another one leads")
        assert await cluster.produce(2) == 0
        again = await start_again(cluster, stopped)
        try:
            leader = cluster.leader
            assert leader is not None
            await until(lambda: sorted(leader.isr) == [2, 3], "it joins")
            assert cluster.at(2).log.log_end_offset == 5
            assert not (await registration_of(cluster, again)).unclean
            assert not again.directories.may_have_lost
        finally:
            cluster.brokers.pop(2)
            await again.stop()

    play(tmp_path, test, durability="os")


def test_who_may_have_lost_records_says_so_until_it_is_written_that_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bool] = []
    write = Session.register_anew

    async def register_anew(session: Session, *arguments: Any) -> None:
        said.append(session._registration().unclean)  # what a session after this one would say
        await write(session, *arguments)
        said.append(session._registration().unclean)

    async def test(cluster: Cluster) -> None:
        await cluster.create([2, 3])
        stopped = cluster.brokers.pop(2)
        await stopped.stop()
        machine_went_down(stopped)
        monkeypatch.setattr(Session, "register_anew", register_anew)
        again = await start_again(cluster, stopped)
        try:
            await until(lambda: not again.may_have_lost, "it is told")
            assert said == [True, True]
        finally:
            cluster.brokers.pop(2)
            await again.stop()

    play(tmp_path, test, durability="os")


@pytest.mark.parametrize("durability", ["os", "disk"])
def test_the_only_replica_says_which_records_may_be_lost_and_leads(
    tmp_path: Path, durability: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.create([2])
        assert await cluster.produce(3) == 0
        synced = cluster.at(2).log.size_bytes
        assert await cluster.produce(2) == 0
        stopped = cluster.brokers.pop(2)
        await stopped.stop()
        machine_went_down(stopped)
        if durability == "os":
            tail_is_gone(stopped, synced)
        again = await start_again(cluster, stopped)
        try:
            await until(lambda: cluster.leader is not None, "it leads")
            assert cluster.at(2).log.log_end_offset == (3 if durability == "os" else 5)
        finally:
            cluster.brokers.pop(2)
            await again.stop()
        told = [
            vars(line)["fields"]
            for line in caplog.records
            if line.getMessage().startswith("records may be lost")
        ]
        lost = {"partition": "Partition(orders-0)", "from_offset": 3, "committed_before": 5}
        assert told == ([lost] if durability == "os" else [])

    play(tmp_path, test, durability=durability)

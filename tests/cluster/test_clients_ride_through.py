"""No failover becomes an application's problem: librdkafka, Java, aiokafka and our clients, with their defaults.

The leader of a partition that is written and read, and the coordinator of the group, are killed, stopped in order, and
come back. No client tells its application of an error, nothing acknowledged is missing, and the group goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ottla import Admin
from tests.cluster.applications import APPLICATIONS, Application, check_installed
from tests.cluster.processes import SESSION_TIMEOUT_MS, ClusterProcesses
from tests.support.waiting import eventually
from tests.support.zookeeper import Ensemble

PARTITIONS = 3


@pytest.fixture(scope="module")
def cluster(
    ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterProcesses]:
    """Three brokers for all tests here; whoever takes one away brings it back."""
    with ClusterProcesses(tmp_path_factory.mktemp("ride"), ensemble) as running:
        yield running


@pytest.fixture(params=sorted(APPLICATIONS))
def application(cluster: ClusterProcesses, request: pytest.FixtureRequest) -> Iterator[Application]:
    """A client's application that is under way."""
    check_installed(request.param)
    topic = f"{request.param}-{request.node.originalname}"[:90]
    cluster.create_topic(topic, PARTITIONS)
    with APPLICATIONS[request.param](cluster.bootstrap, topic) as running:
        running.await_progress()
        yield running


def coordinator_of(cluster: ClusterProcesses, group: str) -> int:
    """Who coordinates a group."""
    with Admin(cluster.bootstrap) as admin:
        return admin.describe_group(group).coordinator.node_id


def test_a_leader_and_a_coordinator_are_killed(
    cluster: ClusterProcesses, application: Application
) -> None:
    for victim in (
        cluster.leader(application.topic, 0),
        coordinator_of(cluster, application.group),
    ):
        cluster.kill_broker(victim)
        application.await_progress(100)
        cluster.start_broker(victim)
        cluster.wait_until_whole()
    application.finish()
    check_group(cluster, application)


def test_every_broker_is_stopped_in_its_turn(
    cluster: ClusterProcesses, application: Application
) -> None:
    for node in cluster.brokers:
        cluster.stop_broker(node)
        application.await_progress(100)
        cluster.start_broker(node)
        cluster.wait_until_whole()
    application.finish()
    check_group(cluster, application)


def test_a_leader_stands_still_for_twice_its_session_and_wakes(
    cluster: ClusterProcesses, application: Application
) -> None:
    """Nobody hears from it, and no connection breaks; when it wakes, it leads no more and says so."""
    victim = cluster.leader(application.topic, 0)
    cluster.pause(victim)
    try:
        eventually(
            lambda: cluster.zookeeper.brokers() == set(cluster.brokers) - {victim},
            "its session is over",
        )
        assert cluster.leader(application.topic, 0) != victim
        until = time.monotonic() + SESSION_TIMEOUT_MS / 1000
        eventually(lambda: time.monotonic() > until, "as long again has passed")
    finally:
        cluster.resume(victim)
    application.await_progress(100)
    cluster.wait_until_whole()
    application.finish()
    check_group(cluster, application)


def check_group(cluster: ClusterProcesses, application: Application) -> None:
    """The group is stable, has one member, and commits what was read."""
    with Admin(cluster.bootstrap) as admin:
        found = admin.describe_group(application.group)
        assert (found.state, len(found.members)) == ("Stable", 1)
        ends = admin.list_offsets(
            dict.fromkeys([(application.topic, n) for n in range(PARTITIONS)], "latest")
        )
        wanted = {partition: end.offset for partition, end in ends.items() if end is not None}

        def committed() -> bool:
            offsets = admin.group_offsets(application.group)
            return {p: offset.offset for p, offset in offsets.items()} == wanted

        eventually(committed, f"{application.group} has committed up to {wanted}")

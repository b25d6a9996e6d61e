"""No failover becomes an application's problem: librdkafka, Java, aiokafka and our clients, with their defaults.

The leader of a partition that is written and read, and the coordinator of the group, are killed, stopped in order, and
come back. No client tells its application of an error, nothing acknowledged is missing, and the group goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from ottla import Admin
from tests.cluster.applications import APPLICATIONS, END_S, Application, check_installed
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


@pytest.mark.parametrize("name", sorted(APPLICATIONS))
def test_every_client_is_there(name: str) -> None:
    """Who is not takes no part in the others; this says so."""
    check_installed(name)


@pytest.fixture
def applications(
    cluster: ClusterProcesses, request: pytest.FixtureRequest
) -> Iterator[list[Application]]:
    """The applications of all clients, under way side by side: they suffer the same."""
    running: list[Application] = []
    with contextlib.ExitStack() as ends:
        for name in filter(_is_installed, sorted(APPLICATIONS)):
            topic = f"{name}-{request.node.originalname}"[:90]
            cluster.create_topic(topic, PARTITIONS)
            running.append(ends.enter_context(APPLICATIONS[name](cluster.bootstrap, topic)))
        await_progress(running, 30)
        yield running


def _is_installed(name: str) -> bool:
    try:
        check_installed(name)
    except pytest.skip.Exception:
        return False
    return True


def await_progress(applications: list[Application], count: int = 100) -> None:
    """Return once each of them has so many more acknowledged, and so many more seen."""
    goals = [application.further(count) for application in applications]
    for application, goal in zip(applications, goals, strict=True):
        application.await_progress(goal)


def finish(cluster: ClusterProcesses, applications: list[Application]) -> None:
    """Return once each has seen everything that was acknowledged, and its group is well."""
    for application in applications:
        application.stop_sending()
    for application in applications:
        application.finish()
        check_group(cluster, application)


def leaders(cluster: ClusterProcesses, application: Application) -> list[int]:
    """Who leads each of its partitions."""
    return [cluster.leader(application.topic, number) for number in range(PARTITIONS)]


def test_each_leader_and_coordinator_is_killed(
    cluster: ClusterProcesses, applications: list[Application]
) -> None:
    """All brokers in turn: each application loses every leader and its group's coordinator."""
    for victim in cluster.brokers:
        cluster.kill_broker(victim)
        await_progress(applications)
        cluster.start_broker(victim)
        cluster.wait_until_whole()
    finish(cluster, applications)


def test_every_broker_is_stopped_in_its_turn(
    cluster: ClusterProcesses, applications: list[Application]
) -> None:
    for node in cluster.brokers:
        cluster.stop_broker(node)
        await_progress(applications)
        cluster.start_broker(node)
        cluster.wait_until_whole()
    finish(cluster, applications)


def test_a_leader_stands_still_for_twice_its_session_and_wakes(
    cluster: ClusterProcesses, applications: list[Application]
) -> None:
    """Nobody hears from it, and no connection breaks; when it wakes, it leads no more and says so."""
    led = [leaders(cluster, application) for application in applications]
    victim = max(cluster.brokers, key=lambda node: sum(node in one for one in led))
    cluster.pause(victim)
    try:
        eventually(
            lambda: cluster.zookeeper.brokers() == set(cluster.brokers) - {victim},
            "its session is over",
        )
        for application in applications:
            assert victim not in leaders(cluster, application)
        until = time.monotonic() + SESSION_TIMEOUT_MS / 1000
        eventually(lambda: time.monotonic() > until, "as long again has passed")
    finally:
        cluster.resume(victim)
    await_progress(applications)
    cluster.wait_until_whole()
    finish(cluster, applications)


def check_group(cluster: ClusterProcesses, application: Application) -> None:
    """The group is stable, has one member, and commits what was read."""
    with Admin(cluster.bootstrap) as admin:
        seen: list[tuple[str, int]] = []

        def stable() -> bool:
            found = admin.describe_group(application.group)
            seen.append((found.state, len(found.members)))
            return seen[-1] == ("Stable", 1)

        # A client that lost its coordinator amid a join has joined anew: its old member goes with its session.
        try:
            eventually(stable, "the group is stable with one member", END_S)
        except AssertionError:
            raise AssertionError(f"{application.group}: {seen[-1]}") from None
        ends = admin.list_offsets(
            dict.fromkeys([(application.topic, n) for n in range(PARTITIONS)], "latest")
        )
        wanted = {partition: end.offset for partition, end in ends.items() if end is not None}

        def committed() -> bool:
            offsets = admin.group_offsets(application.group)
            return {p: offset.offset for p, offset in offsets.items()} == wanted

        eventually(committed, f"{application.group} has committed up to {wanted}")

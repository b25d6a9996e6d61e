"""``ottla cluster``, ``ottla partition`` and ``ottla topic`` against three brokers that come and go."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ottla import Producer
from ottla.cli.entry import main
from tests.cluster.processes import ClusterProcesses
from tests.support.waiting import eventually
from tests.support.zookeeper import Ensemble

Ottla = Callable[..., Any]
SETTINGS = {"auto.leader.rebalance.enable": "false", "min.insync.replicas": 1}


@pytest.fixture(scope="module")
def cluster(
    ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterProcesses]:
    """Three brokers for all tests here; whoever stops one starts it again."""
    directory = tmp_path_factory.mktemp("command")
    with ClusterProcesses(directory, ensemble, SETTINGS) as running:
        yield running


@pytest.fixture
def ottla(
    cluster: ClusterProcesses,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Ottla:
    """Call the command, which must end with ``code``; what it wrote, as JSON where it is."""
    monkeypatch.setenv("OTTLA_BOOTSTRAP", cluster.bootstrap)

    def call(*argv: str, code: int = 0) -> Any:
        capfd.readouterr()
        ended = main(list(argv))
        out, err = capfd.readouterr()
        assert ended == code, (argv, out, err)
        return json.loads(out) if "json" in argv else out

    return call


def leaders(ottla: Ottla, topic: str) -> dict[int, int | None]:
    """Who leads each partition."""
    (described,) = ottla("topic", "describe", topic, "-o", "json")
    return {row["partition"]: row["leader"] for row in described["partitions"]}


def test_a_topic_is_made_with_replicas_and_shows_who_is_in_sync(
    ottla: Ottla, cluster: ClusterProcesses
) -> None:
    ottla("topic", "create", "made", "--partitions", "3", "--replication-factor", "3")
    cluster.wait_until_whole(["made"])
    (described,) = ottla("topic", "describe", "made", "-o", "json")
    for row in described["partitions"]:
        assert sorted(row["replicas"]) == sorted(row["isr"]) == [1, 2, 3]
        assert row["leader"] == row["replicas"][0]
    assert "IN_SYNC" in ottla("topic", "describe", "made")
    listed = ottla("topic", "list")
    assert ["made", "3", "3"] in [line.split() for line in listed.splitlines()]


def test_the_status_follows_brokers_that_go_and_come(
    ottla: Ottla, cluster: ClusterProcesses
) -> None:
    ottla("topic", "create", "followed", "-p", "3", "-r", "3")
    ottla("topic", "create", "lonely", "-p", "3", "-r", "1")
    cluster.wait_until_whole()
    found = ottla("cluster", "status", "-o", "json")
    assert (found["offline"], found["under_replicated"]) == (0, 0)
    assert found["controller"] == cluster.controller()
    assert [row["broker"] for row in found["brokers"]] == [1, 2, 3]
    cluster.kill_broker(2)
    try:

        def is_seen() -> bool:
            now = ottla("cluster", "status", "-o", "json")
            return now["offline"] == 1 and now["under_replicated"] >= 3

        eventually(is_seen, "the status shows what the broker took along")
        now = ottla("cluster", "status")
        lines = now.splitlines()
        assert "2 of 3 brokers" in lines[0]
        assert "controller 2" not in lines[0]
        assert [line.split()[1] for line in lines if line.split()[0] == "2"] == ["-"]
        assert any(line.startswith("lonely") and "offline" in line for line in lines)
        assert any(line.startswith("followed") and "under-replicated" in line for line in lines)
        watched = watch(cluster)
    finally:
        cluster.start_broker(2)
    assert len(watched) >= 3
    assert {one["offline"] for one in watched} == {1}
    cluster.wait_until_whole()

    def is_whole() -> bool:
        now = ottla("cluster", "status", "-o", "json")
        return (now["offline"], now["under_replicated"]) == (0, 0)

    eventually(is_whole, "the status shows that all is in order")


def watch(cluster: ClusterProcesses) -> list[Any]:
    """What ``--watch`` writes until it is interrupted, after the third time."""
    watching = subprocess.Popen(
        [
            *(sys.executable, "-m", "ottla", "cluster", "status", "--watch", "--interval", "0.1"),
            *("-o", "json", "-b", cluster.bootstrap),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    lines = [watching.stdout.readline() for _ in range(3)]
    watching.send_signal(signal.SIGINT)
    rest, _ = watching.communicate(timeout=30)
    assert watching.returncode == 130
    return [json.loads(line) for line in (*lines, *rest.splitlines())]


def test_replicas_are_moved_to_the_brokers_that_are_named(
    ottla: Ottla, cluster: ClusterProcesses, tmp_path: Path
) -> None:
    ottla("topic", "create", "moved", "-p", "4", "-r", "1")
    cluster.wait_until_whole(["moved"])
    with Producer(cluster.bootstrap) as producer:
        for number in range(100):
            producer.send("moved", value=b"%d" % number, partition=number % 4)
    plan = ottla("partition", "reassign", "moved", "--to", "1,3", "-r", "2", "-o", "json")
    assert {tuple(sorted(each["replicas"])) for each in plan["partitions"]} == {(1, 3)}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    begun = ottla("partition", "reassign", "--plan", str(path), "--execute", "--wait", "-o", "json")
    assert {row["state"] for row in begun} == {"begun"}
    verified = ottla("partition", "reassign", "--plan", str(path), "--verify", "-o", "json")
    assert {row["state"] for row in verified} == {"done"}
    cluster.wait_until_whole(["moved"])
    (described,) = ottla("topic", "describe", "moved", "-o", "json")
    assert [sorted(row["isr"]) for row in described["partitions"]] == [[1, 3]] * 4
    assert sum(row["records"] for row in described["partitions"]) == 100
    set_here = ("topic", "describe", "moved", "-o", "json")
    slowly = ("--execute", "--throttle", "50000000")
    ottla("partition", "reassign", "moved:0", "--to", "2", "-r", "1", *slowly)
    (described,) = ottla(*set_here)
    throttled = {row["name"]: row["value"] for row in described["settings"]}
    assert throttled["follower.replication.throttled.replicas"] == "0:2"

    def is_done() -> bool:
        return ottla("partition", "reassign", "moved:0", "--verify", "-o", "json") == []

    eventually(is_done, "it is moved, and the throttle goes with that")
    (described,) = ottla(*set_here)
    assert not [row for row in described["settings"] if row["source"] == "topic"]
    eventually(lambda: leaders(ottla, "moved")[0] == 2, "the new replica leads")
    assert ottla("partition", "reassign", "--all", "--cancel", "-o", "json") == []


def test_leaders_are_elected(ottla: Ottla, cluster: ClusterProcesses) -> None:
    ottla("topic", "create", "elected", "-p", "3", "-r", "3")
    cluster.wait_until_whole(["elected"])
    preferred = leaders(ottla, "elected")
    assert sorted(filter(None, preferred.values())) == [1, 2, 3]
    cluster.stop_broker(1)
    eventually(lambda: 1 not in leaders(ottla, "elected").values(), "it leads no more")
    cluster.start_broker(1)
    cluster.wait_until_whole()
    assert 1 not in leaders(ottla, "elected").values()
    elected = ottla("partition", "elect", "elected", "--preferred", "-o", "json")
    assert sorted(row["elected"] for row in elected) == [False, False, True]
    eventually(lambda: leaders(ottla, "elected") == preferred, "the preferred replicas lead")
    everything = ottla("partition", "elect", "--all", "-o", "json")
    assert not any(row["topic"] == "elected" for row in everything)


def test_a_partition_whose_isr_is_gone_is_led_by_what_is_there_if_that_is_asked_for(
    ottla: Ottla, cluster: ClusterProcesses
) -> None:
    ottla("topic", "create", "unclean", "-p", "1", "-r", "2")
    cluster.wait_until_whole(["unclean"])
    first = cluster.leader("unclean", 0)
    other = cluster.follower("unclean", 0)
    cluster.stop_broker(other)
    cluster.wait_until_isr(("unclean", 0), {first})
    cluster.stop_broker(first)
    cluster.start_broker(other)
    try:
        assert leaders(ottla, "unclean") == {0: None}
        ottla("partition", "elect", "unclean", "--preferred", code=1)
        (row,) = ottla("partition", "elect", "unclean", "--unclean", "-o", "json")
        assert row["elected"] is True
        eventually(lambda: leaders(ottla, "unclean") == {0: other}, "the other one leads")
    finally:
        cluster.start_broker(first)
    cluster.wait_until_whole()

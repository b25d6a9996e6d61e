"""``ottla cluster`` and ``ottla partition`` against a broker that is alone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Ottla


def test_a_broker_alone_is_a_cluster_in_order(ottla: Ottla) -> None:
    ottla("topic", "create", "t", "-p", "2")
    shown = ottla("cluster", "status")
    assert shown.code == 0
    assert "1 brokers, 2 partitions, 0 offline, 0 under-replicated" in shown.lines[0]
    assert shown.lines[1].split()[:2] == ["BROKER", "ADDRESS"]
    assert shown.lines[2].split()[3:] == ["yes", "2", "2", "2"]
    assert len(shown.lines) == 3
    everything = ottla("cluster", "status", "--all")
    assert [line.split()[:3] for line in everything.lines[4:]] == [["t", "0", "1"], ["t", "1", "1"]]
    found = ottla("cluster", "status", "-o", "json").json
    assert found["controller"] == 1
    assert [row["state"] for row in found["partitions"]] == ["ok", "ok"]


def test_a_plan_is_proposed_and_nothing_is_done(ottla: Ottla, tmp_path: Path) -> None:
    ottla("topic", "create", "t", "-p", "2")
    proposed = ottla("partition", "reassign", "t", "--to", "1")
    assert (proposed.code, proposed.out) == (0, "")
    assert proposed.err == "nothing is to be moved\n"
    plan = ottla("partition", "reassign", "t:1", "--to", "1", "-o", "json")
    assert plan.json == {
        "version": 1,
        "partitions": [{"topic": "t", "partition": 1, "replicas": [1], "log_dirs": ["any"]}],
    }
    path = tmp_path / "plan.json"
    path.write_text(plan.out)
    verified = ottla("partition", "reassign", "--plan", str(path), "--verify", "-o", "json")
    assert [(row["partition"], row["state"]) for row in verified.json] == [(1, "done")]
    assert verified.code == 0
    from_stdin = ottla("partition", "reassign", "--plan", "-", "--verify", stdin=plan.out.encode())
    assert from_stdin.code == 0


def test_what_is_not_as_planned_is_a_failure(ottla: Ottla) -> None:
    ottla("topic", "create", "t")
    item = {"topic": "t", "partition": 0, "replicas": [7]}
    plan = json.dumps({"version": 1, "partitions": [item]}).encode()
    verified = ottla("partition", "reassign", "--plan", "-", "--verify", stdin=plan)
    assert verified.code == 1
    assert "not as planned" in verified.out
    begun = ottla("partition", "reassign", "--plan", "-", "--execute", stdin=plan)
    assert begun.code == 1
    assert "t:0: INVALID_REPLICA_ASSIGNMENT" in begun.err


def test_nothing_is_under_way_to_be_cancelled(ottla: Ottla) -> None:
    ottla("topic", "create", "t")
    cancelled = ottla("partition", "reassign", "--all", "--cancel")
    assert (cancelled.code, cancelled.err) == (0, "nothing is under way\n")
    assert ottla("partition", "reassign", "t", "--verify", "-o", "json").json == []


def test_a_leader_that_is_preferred_needs_no_election(ottla: Ottla) -> None:
    ottla("topic", "create", "t")
    named = ottla("partition", "elect", "t", "-o", "json")
    assert named.json == [{"topic": "t", "partition": 0, "leader": 1, "elected": False}]
    assert named.code == 0
    everything = ottla("partition", "elect", "--all", "--unclean")
    assert (everything.code, everything.err) == (0, "no election was needed\n")


def test_a_mistake_in_the_arguments_is_exit_code_2(ottla: Ottla) -> None:
    ottla("topic", "create", "t")
    for argv, message in [
        (["partition", "reassign"], "say what is wanted"),
        (["partition", "reassign", "--to", "1"], "topics, or --all"),
        (["partition", "reassign", "t", "--to", "one"], "--to wants broker ids"),
        (["partition", "reassign", "t", "--to", "1", "-r", "2"], "cannot hold 2 replicas"),
        (["partition", "reassign", "t", "-r", "1", "--verify"], "goes with --to"),
        (["partition", "reassign", "t", "--to", "1", "--wait"], "go with --execute"),
        (["partition", "reassign", "t", "--plan", "x"], "--plan says it all"),
        (["partition", "reassign", "--all", "--execute", "--verify"], "exclude each other"),
        (["partition", "elect"], "topics, or --all"),
        (["partition", "elect", "t", "--preferred", "--unclean"], "exclude each other"),
        (["partition", "elect", "t:9"], "topic t has no partition 9"),
    ]:
        done = ottla(*argv)
        assert done.code == 2, argv
        assert message in done.err, argv
        assert done.err.count("\n") == 1
    assert ottla("partition", "reassign", "t", "--to", "9").code == 1
    assert ottla("partition", "elect", "nowhere").code == 1

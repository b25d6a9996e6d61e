"""The benchmark's crowd: members of one group that stay alive, and idle connections, as long as it lasts."""

from __future__ import annotations

from pathlib import Path

from bench.peers.crowd import crowd
from bench.peers.products import Running
from ottla.messages.describe_groups import DescribeGroupsRequest
from ottla.testing import Broker


def test_a_crowd_is_one_group_while_it_lasts_and_nothing_after(tmp_path: Path) -> None:
    with Broker({"group.initial.rebalance.delay.ms": 100}) as broker:
        running = Running("Ottla", [broker.port], tmp_path)
        with crowd(running, members=5, idle=20):
            (during,) = running.ask(DescribeGroupsRequest(groups=["bench-crowd"]), 1).groups
        (after,) = running.ask(DescribeGroupsRequest(groups=["bench-crowd"]), 1).groups
    assert len(during.members) == 5
    assert during.group_state == "Stable"
    assert not after.members

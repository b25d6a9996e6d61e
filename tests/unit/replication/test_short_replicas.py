"""A replica that lacks what was synced leads only where that is known, or where there is no other."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ottla.clock import ManualClock
from ottla.errors import ErrorCode
from ottla.log.directories import LogDirectories
from ottla.log.flusher import Durability
from ottla.messages.leader_and_isr import LeaderAndIsrPartitionState
from ottla.replication.replicas import Replicas
from ottla.settings.definitions import TopicConfig
from tests.unit.log.samples import NOW_MS, TOPIC_ID, disk
from tests.unit.replication.test_partition import HeldFlusher

ORDERS = ("orders", 0)


class Short:
    """Broker 1, which had synced ten records of a partition of which it has nothing any more."""

    def __init__(self) -> None:
        on = disk()
        self.directories = LogDirectories(["/logs"], on)
        self.directories.open()
        self.directories.short[ORDERS] = 10
        self.replicas = Replicas(
            self.directories,
            HeldFlusher(on, durability=Durability.DISK),
            node_id=1,
            clock=ManualClock(NOW_MS),
            exists=lambda topic, index: True,
            config_of=lambda topic: TopicConfig.of(),
            **cast(Any, {"move_bytes_per_second": lambda: 0}),
        )

    def told(self, leader: int, epoch: int, isr: list[int], **fields: Any) -> ErrorCode:
        state = LeaderAndIsrPartitionState(
            leader=leader,
            leader_epoch=epoch,
            isr=isr,
            **{"replicas": [1, 2, 3], **fields},
        )
        role = self.replicas.lead if leader == 1 else self.replicas.follow
        return role(*ORDERS[:1], TOPIC_ID, state)


def test_it_does_not_lead_for_a_controller_that_counts_on_it() -> None:
    short = Short()
    assert short.told(1, 5, [1]) is ErrorCode.KAFKA_STORAGE_ERROR
    assert short.told(1, 6, [1, 2]) is ErrorCode.KAFKA_STORAGE_ERROR
    assert short.told(2, 7, [1, 2]) is ErrorCode.NONE  # it follows
    assert short.told(1, 8, [1, 2]) is ErrorCode.KAFKA_STORAGE_ERROR
    assert short.directories.short == {ORDERS: 10}


def test_it_is_a_replica_like_others_once_it_was_out_of_the_isr() -> None:
    short = Short()
    assert short.told(2, 5, [2]) is ErrorCode.NONE
    assert short.directories.short == {}
    assert short.told(1, 6, [1, 2]) is ErrorCode.NONE
    assert short.replicas.leader_of(*ORDERS).is_leader


@pytest.mark.parametrize(
    "fields", [{"replicas": [1]}, {"leader_recovery_state": 1}], ids=["no other", "unclean"]
)
def test_it_leads_where_nobody_else_can_and_says_what_is_lost(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    short = Short()
    assert short.told(1, 5, [1], **fields) is ErrorCode.NONE
    assert short.replicas.leader_of(*ORDERS).is_leader
    assert short.directories.short == {}
    assert any("records are lost" in record.getMessage() for record in caplog.records)


def test_a_replica_that_is_deleted_is_not_short_when_it_is_made_again() -> None:
    short = Short()
    assert short.told(2, 5, [1, 2]) is ErrorCode.NONE
    short.replicas.remove(*ORDERS, delete=True)
    assert short.told(1, 0, [1, 2], is_new=True) is ErrorCode.NONE

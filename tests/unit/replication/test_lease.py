"""What a broker may do while its session with the coordination store lives, and what not when that may be over."""

from __future__ import annotations

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.flusher import Durability
from ottla.log.log import Log
from ottla.replication import lease as lease_module
from ottla.replication.lease import FOREVER, Lease
from ottla.replication.partition import Partition
from ottla.replication.recompression import Unpacking
from tests.unit.log.samples import NOW_MS, TOPIC_ID, disk, new_log
from tests.unit.replication.test_partition import HeldFlusher, Listener, append, seen


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock that leases go by; a test sets its only entry."""
    now = [100.0]
    monkeypatch.setattr(lease_module, "boottime", lambda: now[0])
    return now


def test_a_lease_without_an_end_is_never_over() -> None:
    assert Lease().end == FOREVER
    assert not Lease().is_over()


def test_a_lease_is_over_at_its_end_unless_the_session_lives_on(boot: list[float]) -> None:
    ends = [110.0]
    lease = Lease()
    lease.renew_from(lambda: ends[0])
    assert not lease.is_over()
    boot[0] = 110.0
    assert lease.is_over()
    ends[0] = 115.0
    assert not lease.is_over()
    assert lease.end == 115.0
    boot[0] = 120.0
    assert lease.is_over()


def test_a_lease_that_is_revoked_stays_over_until_the_next_session(boot: list[float]) -> None:
    lease = Lease()
    lease.revoke()
    assert lease.is_over()
    lease.renew_from(lambda: FOREVER)
    assert not lease.is_over()


def leading(log: Log, lease: Lease) -> Partition:
    flusher = HeldFlusher(disk(), durability=Durability.DISK)
    partition = Partition(
        "orders", TOPIC_ID, 0, log, node_id=1, flusher=flusher, unpacking=Unpacking(), lease=lease
    )
    partition.become_leader(5, 0, [1], [1])
    return partition


def test_nothing_is_appended_or_committed_while_the_lease_is_over(boot: list[float]) -> None:
    log, lease, waiting = new_log(disk()), Lease(110.0), Listener()
    partition = leading(log, lease)
    append(partition)
    log.flush(NOW_MS)
    append(partition)
    assert not partition.when_committed(2, waiting, "second")
    boot[0] = 110.0
    log.flush(NOW_MS)
    with pytest.raises(KafkaError) as refused:
        append(partition)
    assert refused.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert (partition.high_watermark, waiting.told, seen(partition)) == (1, [], [0])


def test_a_lease_that_is_renewed_commits_what_was_held_up(boot: list[float]) -> None:
    log, lease, early, late = new_log(disk()), Lease(110.0), Listener(), Listener()
    partition = leading(log, lease)
    append(partition)
    assert not partition.when_committed(1, early, "early")
    boot[0] = 110.0
    partition.lease_ended()
    assert early.told == [("early", ErrorCode.NOT_LEADER_OR_FOLLOWER)]
    log.flush(NOW_MS)
    assert partition.high_watermark == 0
    lease.end = 120.0
    partition.lease_renewed()
    assert partition.high_watermark == 1
    assert partition.when_committed(1, late, "late")

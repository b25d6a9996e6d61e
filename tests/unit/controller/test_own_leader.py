"""The leader in the controller's own process is heard as any other."""

from __future__ import annotations

from typing import Any

from ottla.errors import ErrorCode
from ottla.messages.alter_partition import AlterPartitionRequest
from ottla.replication.isr_changes import IsrChanges
from tests.unit.controller.test_isr_changes import orders
from tests.unit.replication.leaders import Leader


async def test_the_own_leaders_request_is_fenced_by_broker_epochs_too(cluster: Any) -> None:
    subject = await orders(cluster)

    async def send(request: AlterPartitionRequest) -> Any:
        raise AssertionError

    changes = IsrChanges(send, node_id=1, broker_epoch=lambda: subject.epochs[1])
    leader = Leader([1, 2, 3], [1, 2])
    partition = leader.partition
    partition.topic_id = subject.topic_id
    partition.become_leader(0, 1, [1, 2, 3], [1, 2])
    leader.fetch(2, 0, epoch=subject.epochs[2])
    leader.fetch(3, 0, epoch=1)  # of a life of broker 3 that is long over
    proposal = partition.proposal
    assert proposal is not None
    assert proposal.joins == 3
    request = changes._request({partition: proposal})
    before = subject.now
    response = await subject.controller.alter_partition(request)
    code = ErrorCode(response.topics[0].partitions[0].error_code)
    assert (code, subject.now) == (ErrorCode.INELIGIBLE_REPLICA, before)

"""Proposals of this broker's leaders on their way to the controller: AlterPartition (KIP-497).

Rules:
- One request at a time. What is proposed meanwhile, or in the same turn of the loop, goes together in the next.
- A proposal is sent until the controller has answered it, or the partition has heard of a newer state: no answer
  at all, and an error of the whole request, say nothing about what became of it. The pauses in between grow.
- What the partition makes of the answer is its affair: see ``leading``.

Source: ``AlterPartitionManager.scala``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.messages.alter_partition import (
        AlterPartitionRequest,
        AlterPartitionResponse,
        AlterPartitionResponsePartitionData,
        AlterPartitionTopicData,
    )
    from ottla.replication.in_sync import Proposal
    from ottla.replication.partition import Partition

log = logger(__name__)

RETRY_S = 0.05
RETRY_S_MAX = 1.0

Send = Callable[["AlterPartitionRequest"], Awaitable["AlterPartitionResponse"]]
Batch = dict["Partition", "Proposal"]


class IsrChanges:
    """The proposals of one broker; made on a running loop."""

    def __init__(
        self,
        send: Send,
        *,
        node_id: int,
        broker_epoch: Callable[[], int],
        retry_s: float = RETRY_S,
    ) -> None:
        """``send`` brings a request before the controller of the moment; it raises ``KafkaError`` or ``OSError``."""
        self._send = send
        self._node_id = node_id
        self._broker_epoch = broker_epoch
        self._retry_s = retry_s
        self._waiting: Batch = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, partition: Partition, proposal: Proposal) -> None:
        """Ask the controller for it, in place of an earlier one of the partition."""
        self._waiting[partition] = proposal
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="ISR changes")

    async def close(self) -> None:
        """Ask for nothing any more."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> None:
        pause_s = self._retry_s
        while True:
            batch = {p: one for p, one in self._waiting.items() if p.proposal is one}
            self._waiting = {}
            if not batch:
                self._task = None
                return
            if await self._ask(batch):
                pause_s = self._retry_s
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_S_MAX)

    async def _ask(self, batch: Batch) -> bool:
        """Send one request; False where something of it has to be asked for again."""
        try:
            response = await self._send(self._request(batch))
            code = ErrorCode(response.error_code)
        except (KafkaError, OSError) as error:
            code = error.code if isinstance(error, KafkaError) else ErrorCode.NETWORK_EXCEPTION
        except (
            Exception
        ) as error:  # ours to mend, and to be tried again: it must not end the changes
            log.error("ISR changes were not asked for", error=error)
            code = ErrorCode.UNKNOWN_SERVER_ERROR
        if code:
            log.warning("ISR changes are not answered yet", partitions=len(batch), error=code.name)
            self._again(batch)
            return False
        answers = {
            (topic.topic_id, data.partition_index): data
            for topic in response.topics
            for data in topic.partitions
        }
        left: Batch = {}
        for partition, proposal in batch.items():
            answer = answers.get((partition.topic_id, partition.index))
            if answer is None or self._tell(partition, proposal, answer):
                left[partition] = proposal
        self._again(left)
        return not left

    def _tell(
        self, partition: Partition, proposal: Proposal, answer: AlterPartitionResponsePartitionData
    ) -> bool:
        """Tell the partition; whether it has to be asked for again."""
        try:
            return self._told(partition, proposal, answer)
        except Exception as error:  # ours to mend: the other partitions' changes go on
            log.error("an answer was not taken in", partition=repr(partition), error=error)
            return False

    def _told(
        self, partition: Partition, proposal: Proposal, answer: AlterPartitionResponsePartitionData
    ) -> bool:
        if not answer.error_code:
            partition.isr_accepted(
                proposal, answer.isr, answer.leader_epoch, answer.partition_epoch
            )
            return False
        code = ErrorCode(answer.error_code)
        log.info(
            "an ISR change is refused",
            partition=repr(partition),
            proposal=repr(proposal),
            error=code.name,
        )
        return partition.isr_refused(proposal, code)

    def _again(self, batch: Batch) -> None:
        for partition, proposal in batch.items():
            self._waiting.setdefault(partition, proposal)  # unless there is a newer one

    def _request(self, batch: Batch) -> AlterPartitionRequest:
        from ottla.messages.alter_partition import (  # a broker without followers needs none of it
            AlterPartitionBrokerState,
            AlterPartitionPartitionData,
            AlterPartitionRequest,
            AlterPartitionTopicData,
        )

        own_epoch = self._broker_epoch()
        topics: dict[bytes, AlterPartitionTopicData] = {}
        for partition, proposal in batch.items():
            topic = topics.get(partition.topic_id)
            if topic is None:
                topic = topics[partition.topic_id] = AlterPartitionTopicData(
                    topic_name=partition.topic, topic_id=partition.topic_id
                )
            in_sync = partition.in_sync
            assert in_sync is not None  # it has a proposal
            topic.partitions.append(
                AlterPartitionPartitionData(
                    partition_index=partition.index,
                    leader_epoch=proposal.leader_epoch,
                    new_isr=list(proposal.isr),
                    new_isr_with_epochs=[
                        AlterPartitionBrokerState(broker_id=replica, broker_epoch=epoch)
                        for replica, epoch in in_sync.epochs_of(proposal.isr, own_epoch)
                    ],
                    partition_epoch=proposal.partition_epoch,
                )
            )
        return AlterPartitionRequest(
            broker_id=self._node_id, broker_epoch=own_epoch, topics=list(topics.values())
        )

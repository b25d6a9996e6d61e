"""OffsetForLeaderEpoch (key 23): where a leader epoch ended in this log (KIP-101, KIP-279, KIP-320).

Behaviour
- The largest epoch at or below the asked one, and the offset at which the next one began (the log end for the
  current epoch). -1 and -1 for an epoch that is none (-1) or later than all that are known. Of an epoch before
  all that are known: that epoch, and where the first known one began; what lay between is deleted.
- ``current_leader_epoch`` is the epoch of the leader that the client believes in; -1 says that it does not know.
- Consumers (``replica_id`` -1 or -2) and replicas are told the same.

Versions: 3 the asker's replica id.
Errors: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
Source: ``ReplicaManager.lastOffsetForLeaderEpoch``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import KafkaError
from ottla.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
)
from ottla.network.stepping import Steps, begun

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request


STEP_PARTITIONS = 200
"""How many partitions are looked up before others have their turn: some milliseconds."""


def handle(
    broker: Broker, request: Request
) -> OffsetForLeaderEpochResponse | Steps[OffsetForLeaderEpochResponse]:
    """Answer every partition; many of them in steps, as if each were asked for alone."""
    return begun(_handle(broker, request))


def _handle(broker: Broker, request: Request) -> Steps[OffsetForLeaderEpochResponse]:
    body: OffsetForLeaderEpochRequest = request.body
    response = OffsetForLeaderEpochResponse()
    left = STEP_PARTITIONS
    for topic in body.topics:
        answers = OffsetForLeaderTopicResult(topic=topic.topic)
        response.topics.append(answers)
        for wanted in topic.partitions:
            answer = EpochEndOffset(partition=wanted.partition)
            answers.partitions.append(answer)
            try:
                partition = broker.replicas.leader_of(topic.topic, wanted.partition)
                partition.require_leader(wanted.current_leader_epoch)
            except KafkaError as error:
                answer.error_code = error.code
            else:
                end = partition.log.end_offset_for_epoch(wanted.leader_epoch)
                if end is not None:
                    answer.leader_epoch, answer.end_offset = end
            left -= 1
            if not left:
                left = STEP_PARTITIONS
                yield
    return response

"""ISRs as their leaders want them: AlterPartition, judged and written.

Rules: a leader is heard only under its broker epoch, its leader epoch and the partition epoch that is stored. Into
an ISR comes only a replica of the partition that is alive, under the broker epoch the leader saw (KIP-903), and
that is neither about to stop nor distrusted (KIP-841, invariants 19 and 20). What is asked for and is already so
is a success. Requests that wait together are written together. Whose state is out of date is told the present one.
Source: ``KafkaController.tryProcessAlterPartition``;
that an ISR holds its leader and only replicas is KRaft's check (``ReplicationControlManager``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ottla.controller.announcer import Announcer
from ottla.controller.cluster_state import ClusterState, PartitionId
from ottla.controller.election import LEADER_RECOVERED, LEADER_RECOVERING
from ottla.controller.office import write_states
from ottla.coordination.store import Store
from ottla.coordination.znodes import LeaderAndIsr
from ottla.errors import ErrorCode
from ottla.logs import logger
from ottla.messages.alter_partition import (
    AlterPartitionPartitionData,
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionResponsePartitionData,
    AlterPartitionResponseTopicData,
    AlterPartitionTopicData,
)
from ottla.topic_ids import ZERO_ID

log = logger(__name__)

ANY_EPOCH = -1
"""The broker epoch of an ISR's member that its leader does not know: not compared."""

ASK_AGAIN = ErrorCode.UNKNOWN_SERVER_ERROR
"""Answered for what can't be read now: any code that says more would be heeded as an answer for good."""


class IsrRequest:
    """An AlterPartition that waits to be written with others, and then its response."""

    def __init__(self, request: AlterPartitionRequest) -> None:
        self.request = request
        self.response: AlterPartitionResponse | None = None


class _Answer(NamedTuple):
    """What is answered for one partition: where ``error`` is NONE, the state that is stored then."""

    topic: AlterPartitionResponseTopicData
    partition: PartitionId | None
    number: int
    error: ErrorCode


class IsrChanges:
    """Alters ISRs, for whoever holds the controller's office."""

    def __init__(self, store: Store, announcer: Announcer) -> None:
        self._store = store
        self._announcer = announcer

    async def alter(
        self, state: ClusterState, requests: Sequence[AlterPartitionRequest]
    ) -> tuple[list[AlterPartitionResponse], list[PartitionId]]:
        """The response to each of ``requests``, and the partitions whose ISR is another now."""
        changes: dict[PartitionId, LeaderAndIsr] = {}
        judged: list[tuple[AlterPartitionResponse, list[_Answer]]] = []
        for request in requests:
            response, answers = AlterPartitionResponse(), list[_Answer]()
            live = state.brokers.get(request.broker_id)
            if live is None or live.epoch != request.broker_epoch:
                response.error_code = ErrorCode.STALE_BROKER_EPOCH
            else:
                for topic in request.topics:
                    answers += _judge_topic(state, request.broker_id, topic, changes, response)
            judged.append((response, answers))
        written, lost = await write_states(self._store, state, changes) if changes else ([], [])
        if changes:
            # Where somebody else wrote, everybody is told what is so.
            self._announcer.update_metadata(state, list(changes))
        missed = set(lost)
        for request, (_, answers) in zip(requests, judged, strict=True):
            outdated: list[PartitionId] = []
            for answer in answers:
                data = _answered(state, answer, missed)
                answer.topic.partitions.append(data)
                if data.error_code == ErrorCode.INVALID_UPDATE_VERSION and answer.partition:
                    outdated.append(answer.partition)
            if outdated:  # it asks no more before it has heard of a newer state
                self._announcer.leader_and_isr(state, outdated, to=(request.broker_id,))
        return [response for response, _ in judged], written


def _judge_topic(
    state: ClusterState,
    broker_id: int,
    topic: AlterPartitionTopicData,
    changes: dict[PartitionId, LeaderAndIsr],
    response: AlterPartitionResponse,
) -> list[_Answer]:
    """Take in what may be written, and say what is to be answered."""
    by_id = topic.topic_id != ZERO_ID
    known = state.topic_by_id(topic.topic_id) if by_id else state.topics.get(topic.topic_name)
    told = AlterPartitionResponseTopicData(topic_name=topic.topic_name, topic_id=topic.topic_id)
    response.topics.append(told)
    answers: list[_Answer] = []
    for wanted in topic.partitions:
        index = wanted.partition_index
        if known is None or known.name in state.deleting:
            unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if known is None and state.unreadable_topics:
                unknown = ASK_AGAIN  # it may be one of them
            answers.append(_Answer(told, None, index, unknown))
            continue
        partition = PartitionId(known.name, index)
        verdict = judge(state, partition, broker_id, wanted, by_id=by_id)
        if (
            isinstance(verdict, LeaderAndIsr)
            # The same asked for again, its first answer being lost, is no other.
            and changes.setdefault(partition, verdict) != verdict
        ):
            answers.append(_Answer(told, partition, index, ErrorCode.INVALID_UPDATE_VERSION))
            continue
        error = ErrorCode.NONE if isinstance(verdict, LeaderAndIsr) else verdict
        answers.append(_Answer(told, partition, index, error))
    return answers


def judge(
    state: ClusterState,
    partition: PartitionId,
    broker_id: int,
    wanted: AlterPartitionPartitionData,
    *,
    by_id: bool,
) -> LeaderAndIsr | ErrorCode:
    """The state to write; else the error, which is NONE where the partition is so already."""
    known = state.topics[partition.topic].partitions
    current = known.get(partition.partition)
    if current is None:
        if partition in state.unreadable_partitions:
            return ASK_AGAIN
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    # A leader of this process sends both, as it made them: the epochs must count there, too (KIP-903).
    members = [
        (member.broker_id, member.broker_epoch) for member in wanted.new_isr_with_epochs
    ] or [(member, ANY_EPOCH) for member in wanted.new_isr]
    isr = tuple(member for member, _ in members)
    if (
        wanted.partition_epoch > current.partition_epoch
        or wanted.leader_epoch > current.leader_epoch
    ):
        return ErrorCode.NOT_CONTROLLER  # it knows more than we: there is another controller
    if wanted.leader_epoch < current.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if broker_id != current.leader:
        return ErrorCode.INVALID_REQUEST
    if (
        sorted(isr) == sorted(current.isr)
        and wanted.leader_recovery_state == current.leader_recovery_state
    ):
        return ErrorCode.NONE
    if wanted.partition_epoch < current.partition_epoch:
        return ErrorCode.INVALID_UPDATE_VERSION
    if _is_impossible(state, partition, current, isr, wanted.leader_recovery_state):
        return ErrorCode.INVALID_REQUEST
    ineligible = [
        member
        for member, epoch in members
        if not _is_eligible(state, partition, current, member, epoch)
    ]
    if ineligible:
        log.info(
            "replicas may not join an ISR",
            topic=partition.topic,
            partition=partition.partition,
            replicas=ineligible,
        )
        # Versions 0 and 1, which name topics, do not know the better code.
        return ErrorCode.INELIGIBLE_REPLICA if by_id else ErrorCode.OPERATION_NOT_ATTEMPTED
    return current._replace(
        isr=isr,
        controller_epoch=state.controller_epoch,
        leader_recovery_state=wanted.leader_recovery_state,
    )


def _is_impossible(
    state: ClusterState,
    partition: PartitionId,
    current: LeaderAndIsr,
    isr: tuple[int, ...],
    recovery_state: int,
) -> bool:
    replicas = state.assignment(partition)
    return (
        current.leader not in isr
        or len(set(isr)) != len(isr)
        or not set(isr) <= set(replicas)
        or recovery_state not in (LEADER_RECOVERED, LEADER_RECOVERING)
        or (recovery_state == LEADER_RECOVERING and len(isr) > 1)
        or (
            recovery_state == LEADER_RECOVERING
            and current.leader_recovery_state == LEADER_RECOVERED
        )
    )


def _is_eligible(
    state: ClusterState, partition: PartitionId, current: LeaderAndIsr, member: int, epoch: int
) -> bool:
    known = state.brokers.get(member)
    if known is None or epoch not in (ANY_EPOCH, known.epoch):
        return False
    if member == current.leader or member in current.isr:
        return True  # also a leader that stops: it may wait for just this ISR, to hand over
    return state.is_alive(member) and not state.may_lack(member, partition)


def _answered(
    state: ClusterState, answer: _Answer, missed: set[PartitionId]
) -> AlterPartitionResponsePartitionData:
    error = answer.error
    if answer.partition in missed and error is ErrorCode.NONE:
        error = ErrorCode.INVALID_UPDATE_VERSION
    if error is not ErrorCode.NONE or answer.partition is None:
        return AlterPartitionResponsePartitionData(partition_index=answer.number, error_code=error)
    now = state.topics[answer.partition.topic].partitions[answer.partition.partition]
    return AlterPartitionResponsePartitionData(
        partition_index=answer.number,
        leader_id=now.leader,
        leader_epoch=now.leader_epoch,
        isr=list(now.isr),
        leader_recovery_state=now.leader_recovery_state,
        partition_epoch=now.partition_epoch,
    )

"""What admin tools ask beyond topics, settings and groups: records, offsets, producers, elections, moves, rights."""

from __future__ import annotations

from ottla.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.messages.describe_acls import DescribeAclsRequest
from ottla.messages.describe_client_quotas import DescribeClientQuotasRequest
from ottla.messages.describe_delegation_token import DescribeDelegationTokenRequest
from ottla.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from ottla.messages.describe_producers import DescribeProducersRequest
from ottla.messages.describe_producers import TopicRequest as ProducersTopic
from ottla.messages.describe_user_scram_credentials import DescribeUserScramCredentialsRequest
from ottla.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from ottla.messages.list_transactions import ListTransactionsRequest
from ottla.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.records.builder import build_batch
from tests.interop.answers.asking import Asker
from tests.interop.answers.groups import commit, ready
from tests.interop.answers.producing import RECORDS
from tests.interop.answers.producing import request as produce_request
from tests.interop.answers.reading import fetch, fill, offsets


def delete_records(asker: Asker) -> None:
    topic = asker.topic("records", 2)
    fill(asker, topic)

    def delete(words: str, name: str, index: int, offset: int) -> None:
        partition = DeleteRecordsPartition(partition_index=index, offset=offset)
        wanted = DeleteRecordsTopic(name=name, partitions=[partition])
        asker.ask_every(words, DeleteRecordsRequest(topics=[wanted], timeout_ms=10_000))

    delete("before 2", topic, 0, 2)
    delete("before 2 again", topic, 0, 2)
    delete("before 1", topic, 0, 1)
    delete("past the end", topic, 0, 6)
    delete("a negative offset", topic, 0, -2)
    delete("of an empty partition", topic, 1, 0)
    delete("of one that is not there", topic, 9, 0)
    delete("of a topic that is not there", "not.there", 0, 0)
    asker.ask("a fetch of what is gone", fetch(asker, topic, 1), 12)
    asker.ask("a fetch of what is left", fetch(asker, topic, 2), 12)
    asker.ask("the earliest", offsets(asker, topic, -2), 7)
    delete("all", topic, 0, -1)
    asker.ask("the earliest of nothing", offsets(asker, topic, -2), 7)
    compacted = asker.topic("records.compacted", cleanup_policy="compact")
    delete("of a compacted topic", compacted, 0, 0)


def delete_offsets(asker: Asker) -> None:
    topic = asker.topic("forget", 2)
    ready(asker, "forget")

    def forget(words: str, group: str, name: str, *partitions: int) -> None:
        wanted = [OffsetDeleteRequestPartition(partition_index=index) for index in partitions]
        topics = [OffsetDeleteRequestTopic(name=name, partitions=wanted)]
        asker.ask(words, OffsetDeleteRequest(group_id=group, topics=topics), 0)

    forget("of no group", "forget", topic, 0)
    asker.ask("a commit", commit(asker, "forget", topic, (0, 1)), 8)
    forget("one, and one that is not there", "forget", topic, 0, 9)
    forget("it again", "forget", topic, 0)
    forget("of a topic that is not there", "forget", "not.there", 0)
    forget("of a group without a name", "", topic, 0)
    asker.ask("nothing", OffsetDeleteRequest(group_id="forget"), 0)


def producers(asker: Asker) -> None:
    topic = asker.topic("producers")
    for sequence in (0, 1):
        batch = build_batch(RECORDS, producer_id=77, producer_epoch=3, base_sequence=sequence)
        asker.ask(f"batch {sequence}", produce_request(asker, topic, batch), 9)
    for name, index in ((topic, 0), (topic, 9), ("not.there", 0), ("no spaces", 0)):
        wanted = ProducersTopic(name=name, partition_indexes=[index])
        asker.ask(f"of {name} {index}", DescribeProducersRequest(topics=[wanted]), 0)


def elections_and_moves(asker: Asker) -> None:
    topic = asker.topic("moves")
    for kind in (0, 1, 2):
        for name, index in ((topic, 0), (topic, 9), ("not.there", 0)):
            wanted = TopicPartitions(topic=name, partitions=[index])
            request = ElectLeadersRequest(
                election_type=kind, topic_partitions=[wanted], timeout_ms=10_000
            )
            asker.ask_every(
                f"election {kind} of {name} {index}", request, (1, 2) if kind else (0, 2)
            )
    for replicas in ([1], [7], [], [1, 1], [-1], None):
        for name, index in ((topic, 0), (topic, 9), ("not.there", 0)):
            partition = ReassignablePartition(partition_index=index, replicas=replicas)
            moved = ReassignableTopic(name=name, partitions=[partition])
            request = AlterPartitionReassignmentsRequest(topics=[moved], timeout_ms=10_000)
            asker.ask(f"{name} {index} to {replicas}", request, 0)
    listed = ListPartitionReassignmentsTopics(name=topic, partition_indexes=[0, 9])
    asker.ask("moves", ListPartitionReassignmentsRequest(topics=[listed], timeout_ms=10_000), 0)
    asker.ask("all moves", ListPartitionReassignmentsRequest(topics=None, timeout_ms=10_000), 0)


def log_directories(asker: Asker) -> None:
    topic = asker.topic("directories", 2)
    for names in ((topic,), ("not.there",)):
        wanted = [DescribableLogDirTopic(topic=name, partitions=[0, 9]) for name in names]
        answer = asker.ask_unkept(DescribeLogDirsRequest(topics=wanted), 4)
        found = [
            (each.name, [(p.partition_index, p.is_future_key) for p in each.partitions])
            for result in answer.results
            for each in result.topics
        ]
        asker.note(f"{names}", {"error": answer.error_code, "found": str(found)})


def rights_and_secrets(asker: Asker) -> None:
    every = {"resource_type_filter": 1, "pattern_type_filter": 1, "operation": 1}
    asker.ask_every("rights", DescribeAclsRequest(**every, permission_type=1))
    asker.ask_every("quotas", DescribeClientQuotasRequest())
    asker.ask_every("tokens", DescribeDelegationTokenRequest(owners=None))
    asker.ask_every("secrets", DescribeUserScramCredentialsRequest(users=None))
    asker.ask("transactions", ListTransactionsRequest(producer_id_filters=[98765]), 0)
    asker.ask("transactions in a state", ListTransactionsRequest(state_filters=["Nonsense"]), 0)


QUESTIONS = (
    delete_records,
    delete_offsets,
    producers,
    elections_and_moves,
    log_directories,
    rights_and_secrets,
)

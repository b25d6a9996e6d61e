"""SIGSTOP for twice the session timeout: others take over, and it wakes up in the belief that nothing happened."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from ottla.errors import ErrorCode
from tests.cluster.bounces import BOUNCES, SEED, pause, to_each, zookeeper_pause
from tests.cluster.processes import ClusterProcesses
from tests.cluster.replica_files import check_replicas, read_replica
from tests.cluster.trial import Trial
from tests.interop.raw import RawClient
from tests.support.requests import produce, produce_request
from tests.support.waiting import eventually
from tests.support.wire import batch
from tests.support.zookeeper import Ensemble

pytestmark = pytest.mark.interop

QUEUED = 12
"""How many requests wait in each connection of a broker that stands still."""


def test_a_broker_that_was_paused_writes_nothing_in_the_name_of_its_old_leadership(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with ClusterProcesses(tmp_path, ensemble) as cluster, Trial(cluster, SEED) as trial:
        trial.begin()
        trial.repeat(BOUNCES, *to_each(trial, pause), lambda _: zookeeper_pause(trial))
        trial.finish()


def test_what_waits_in_a_paused_leaders_sockets_is_neither_acknowledged_nor_kept(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    """Whatever acks it asks for, on connections from before and from meanwhile; min.insync.replicas stops none of it."""
    topic = "waited-for"
    with (
        ClusterProcesses(tmp_path, ensemble) as cluster,
        contextlib.ExitStack() as exits,
    ):
        cluster.create_topic(topic, 2, min_insync_replicas=1)
        victim = cluster.leader(topic, 0)
        led = [index for index in range(2) if cluster.leader(topic, index) == victim]

        def connect(node: int) -> RawClient:
            return exits.enter_context(RawClient(cluster.bootstrap_of(node)))

        before = {acks: connect(victim) for acks in (-1, 1, 0)}
        for index in led:
            _write(before[-1], topic, index, b"before")
        cluster.pause(victim)
        meanwhile = {acks: connect(victim) for acks in (-1, 1)}
        asked = []
        for acks, client in (*before.items(), *meanwhile.items()):
            for number in range(QUEUED):
                sequences: dict[str, Any] = {
                    "producer_id": 7,
                    "producer_epoch": 0,
                    "base_sequence": number,
                }
                records = batch(b"of a zombie", **(sequences if client is before[1] else {}))
                request = produce_request(
                    topic, records, partition=led[number % len(led)], acks=acks
                )
                asked.append((client, request, client.send(request, 9)))
        for index in led:
            eventually(
                lambda index=index: cluster.leader(topic, index) != victim,  # type: ignore[misc]
                "another broker leads",
            )
            _write(connect(cluster.leader(topic, index)), topic, index, b"after")
        cluster.resume(victim)

        for client, request, number in asked:
            if client is not before[0]:
                answer = client.receive(request, 9, number).responses[0].partition_responses[0]
                assert answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER, answer
                assert answer.base_offset == -1
        assert before[0].is_hung_up(), "acks=0 learns it by that"
        cluster.wait_until_whole([topic])
        for index in led:
            reader = connect(cluster.leader(topic, index))
            values = [record.value for record in reader.records(topic, index)]
            assert values == [b"before", b"after"]
            replicas = [
                read_replica(node, cluster.log_directory(node, (topic, index)))
                for node in cluster.brokers
            ]
            assert check_replicas((topic, index), replicas, len(values)) == []
            assert [replica.batches[-1].next_offset for replica in replicas] == [2, 2, 2]


def _write(leader: RawClient, topic: str, index: int, value: bytes) -> None:
    """Once, as soon as the leader has heard that it leads."""

    def taken() -> bool:
        code = ErrorCode(produce(leader, topic, batch(value), partition=index).error_code)
        assert code in (
            ErrorCode.NONE,
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        )
        return code is ErrorCode.NONE

    eventually(taken, f"{topic}-{index} takes {value!r}")

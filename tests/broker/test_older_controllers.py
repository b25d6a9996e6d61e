"""What controllers of Kafka 1 to 3 send: UpdateMetadata and StopReplica in all their versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ottla.broker.broker import Broker as Server
from ottla.broker.metadata_cache import Endpoint
from ottla.coordination.embedded import Keeper
from ottla.messages.stop_replica import (
    StopReplicaPartitionState,
    StopReplicaPartitionV0,
    StopReplicaRequest,
    StopReplicaTopicState,
    StopReplicaTopicV1,
)
from ottla.messages.update_metadata import (
    UpdateMetadataBroker,
    UpdateMetadataEndpoint,
    UpdateMetadataPartitionState,
    UpdateMetadataRequest,
    UpdateMetadataTopicState,
)
from ottla.topic_ids import ZERO_ID
from tests.broker.test_several_brokers import codes, lead, run_with, told

TOPICS = {"orders": bytes(range(16)), "items": bytes(range(1, 17))}
LISTENERS_BY_NAME, BY_TOPIC, TOPIC_IDS = 3, 5, 7
SSL = 1


def an_update(version: int, broker_epoch: int) -> UpdateMetadataRequest:
    """Two topics of two partitions, led by broker 1 in the epoch ``version``, and by nobody; broker 9 at ``version``."""
    topics = [
        UpdateMetadataTopicState(
            topic_name=name,
            topic_id=topic_id,
            partition_states=[
                UpdateMetadataPartitionState(
                    topic_name=name,
                    partition_index=index,
                    leader=1 - 2 * index,
                    leader_epoch=version,
                    isr=[1],
                    replicas=[1, 9],
                    offline_replicas=[9],
                )
                for index in (0, 1)
            ],
        )
        for name, topic_id in TOPICS.items()
    ]
    named = version >= LISTENERS_BY_NAME
    plain, ssl = (
        UpdateMetadataEndpoint(
            host=f"{kind}-{version}",
            port=9092 + protocol,
            listener=kind if named else "",
            security_protocol=protocol,
        )
        for protocol, kind in enumerate(("PLAINTEXT", "SSL"))
    )
    return UpdateMetadataRequest(
        controller_id=9,
        controller_epoch=100,
        broker_epoch=broker_epoch,
        topic_states=topics,
        ungrouped_partition_states=[state for topic in topics for state in topic.partition_states],
        live_brokers=[
            UpdateMetadataBroker(
                id=9,
                v0_host=f"PLAINTEXT-{version}",
                v0_port=9092,
                endpoints=[plain, ssl],
                rack="r" if version >= 2 else None,
            )
        ],
    )


def test_every_version_of_update_metadata_is_gone_by(tmp_path: Path) -> None:
    async def order(keeper: Keeper, broker: Server) -> None:
        for version in range(9):
            answer = await told(broker, an_update(version, broker.broker_epoch), version)
            assert answer.error_code == 0, version
            metadata = broker.metadata
            assert set(metadata.topics) >= set(TOPICS), version
            for name, topic_id in TOPICS.items():
                partitions = metadata.topics[name].partitions
                assert [partitions[index].leader for index in (0, 1)] == [1, -1], version
                assert partitions[0].leader_epoch == version
                assert (partitions[0].replicas, partitions[0].isr) == ([1, 9], [1])
                assert partitions[0].offline_replicas == ([9] if version >= 4 else [])
                known = topic_id if version >= TOPIC_IDS else ZERO_ID
                assert metadata.topic_id(name) == known, version
                assert metadata.topic_name(topic_id) == (name if known == topic_id else None)
            assert metadata.topic_name(ZERO_ID) is None, version
            live = metadata.brokers[9]
            assert live.endpoints["PLAINTEXT"] == Endpoint(f"PLAINTEXT-{version}", 9092)
            assert ("SSL" in live.endpoints) == (version > 0)
            assert live.rack == ("r" if version >= 2 else None)
            assert broker.endpoint_of(9) == (f"PLAINTEXT-{version}", 9092)

    run_with(tmp_path, [1], order)


def a_stop(version: int, leader_epoch: int, *, delete: bool) -> StopReplicaRequest:
    state = StopReplicaPartitionState(
        partition_index=0, leader_epoch=leader_epoch, delete_partition=delete
    )
    return StopReplicaRequest(
        controller_id=9,
        controller_epoch=100,
        delete_partitions=delete,
        ungrouped_partitions=[StopReplicaPartitionV0(topic_name="orders", partition_index=0)],
        topics=[StopReplicaTopicV1(name="orders", partition_indexes=[0])],
        topic_states=[StopReplicaTopicState(topic_name="orders", partition_states=[state])],
    )


def test_every_version_of_stop_replica_is_followed(tmp_path: Path) -> None:
    async def order(keeper: Keeper, broker: Server) -> None:
        for version in range(5):
            for delete in (False, True):
                epoch = 2 * version + delete
                assert codes(await told(broker, lead(1, epoch), 7)) == [0, 0]
                request: Any = a_stop(version, epoch, delete=delete)
                answer = await told(broker, request, version)
                (gone,) = answer.partition_errors
                found = (answer.error_code, gone.topic_name, gone.partition_index, gone.error_code)
                assert found == (0, "orders", 0, 0), version
                assert broker.replicas.get("orders", 0) is None
                is_kept = broker.directories.get("orders", 0) is not None
                assert is_kept != delete, version

    run_with(tmp_path, [1], order)

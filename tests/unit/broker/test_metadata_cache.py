"""The metadata cache follows the controller's UpdateMetadata."""

from __future__ import annotations

from ottla.broker.metadata_cache import DELETED, FULL, MetadataCache
from ottla.messages.update_metadata import (
    UpdateMetadataBroker,
    UpdateMetadataEndpoint,
    UpdateMetadataPartitionState,
    UpdateMetadataRequest,
    UpdateMetadataTopicState,
)

FIRST, SECOND = b"1" * 16, b"2" * 16


def topic(name: str, topic_id: bytes, *leaders: int) -> UpdateMetadataTopicState:
    return UpdateMetadataTopicState(
        topic_name=name,
        topic_id=topic_id,
        partition_states=[
            UpdateMetadataPartitionState(
                partition_index=index, leader=leader, leader_epoch=3, isr=[1], replicas=[1]
            )
            for index, leader in enumerate(leaders)
        ],
    )


def test_topics_are_known_by_name_and_by_id() -> None:
    cache = MetadataCache()
    assert cache.update(UpdateMetadataRequest(topic_states=[topic("a", FIRST, 1, 1)])) == []
    assert cache.topic_id("a") == FIRST
    assert cache.topic_name(FIRST) == "a"
    assert cache.has_partition("a", 1)
    assert not cache.has_partition("a", 2)
    assert not cache.has_partition("b", 0)


def test_a_deleted_topic_is_gone_and_named_once() -> None:
    cache = MetadataCache()
    cache.update(UpdateMetadataRequest(topic_states=[topic("a", FIRST, 1)]))
    deletion = UpdateMetadataRequest(topic_states=[topic("a", FIRST, DELETED)])
    assert cache.update(deletion) == ["a"]
    assert cache.update(deletion) == []
    assert cache.topic_name(FIRST) is None
    assert cache.topic_id("a") is None


def test_a_topic_made_again_loses_its_old_id_and_partitions() -> None:
    cache = MetadataCache()
    cache.update(UpdateMetadataRequest(topic_states=[topic("a", FIRST, 1, 1)]))
    remade = UpdateMetadataRequest(topic_states=[topic("a", SECOND, 1)])
    assert cache.update(remade) == ["a"], "the old one is gone, and what groups committed in it"
    assert cache.update(remade) == []
    assert cache.topic_name(FIRST) is None
    assert cache.topic_name(SECOND) == "a"
    assert not cache.has_partition("a", 1)


def test_a_topic_that_a_full_update_names_without_partitions_stays_as_it_is() -> None:
    cache = MetadataCache()
    cache.update(UpdateMetadataRequest(topic_states=[topic("a", FIRST, 1, 1)]))
    unreadable = [UpdateMetadataTopicState(topic_name=name) for name in ("a", "unknown")]
    assert cache.update(UpdateMetadataRequest(type=FULL, topic_states=unreadable)) == []
    assert cache.has_partition("a", 1)
    assert list(cache.topics) == ["a"]
    assert cache.update(UpdateMetadataRequest(type=FULL)) == ["a"]


def test_brokers_are_kept_where_an_update_names_none() -> None:
    cache = MetadataCache()
    endpoint = UpdateMetadataEndpoint(host="here", port=9092, listener="PLAINTEXT")
    cache.update(
        UpdateMetadataRequest(
            controller_id=1, live_brokers=[UpdateMetadataBroker(id=1, endpoints=[endpoint])]
        )
    )
    cache.update(UpdateMetadataRequest(controller_id=1, topic_states=[topic("a", FIRST, 1)]))
    assert cache.brokers[1].endpoints["PLAINTEXT"] == ("here", 9092)
    assert cache.controller_id == 1


def test_the_leader_epochs_that_clients_are_told_never_go_back() -> None:
    cache = MetadataCache()
    news = topic("a", FIRST, 2, 2)
    news.partition_states[0].leader_epoch = 5
    cache.update(UpdateMetadataRequest(topic_states=[news]))
    cache.update(UpdateMetadataRequest(topic_states=[topic("a", FIRST, 1, 1)]))
    partitions = cache.topics["a"].partitions
    assert [(p.leader, p.leader_epoch) for p in partitions.values()] == [(2, 5), (1, 3)]
    cache.update(UpdateMetadataRequest(topic_states=[topic("a", SECOND, 1, 1)]))
    assert cache.leader_of("a", 0) == 1


def test_a_full_update_forgets_the_topics_that_it_does_not_name() -> None:
    cache = MetadataCache()
    cache.update(UpdateMetadataRequest(topic_states=[topic("a", FIRST, 1), topic("b", SECOND, 1)]))
    assert cache.update(UpdateMetadataRequest(type=FULL, topic_states=[topic("b", SECOND, 1)])) == [
        "a"
    ]
    assert list(cache.topics) == ["b"]
    assert cache.topic_name(FIRST) is None

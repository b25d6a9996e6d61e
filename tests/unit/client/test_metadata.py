"""What is known of the cluster is replaced only by what is newer."""

from __future__ import annotations

import pytest

from ottla.client.metadata import Metadata
from ottla.client.settings import parse_bootstrap
from ottla.errors import ErrorCode
from ottla.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

ID, OTHER_ID = b"i" * 16, b"o" * 16


def answer(*topics: MetadataResponseTopic, nodes: int = 2) -> MetadataResponse:
    return MetadataResponse(
        brokers=[
            MetadataResponseBroker(node_id=n, host=f"host{n}", port=9092) for n in range(nodes)
        ],
        cluster_id="c",
        controller_id=0,
        topics=list(topics),
    )


def topic(leader: int, epoch: int, topic_id: bytes = ID, error: int = 0) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=error,
        name="t",
        topic_id=topic_id,
        partitions=[]
        if error
        else [
            MetadataResponsePartition(
                error_code=0,
                partition_index=0,
                leader_id=leader,
                leader_epoch=epoch,
                replica_nodes=[0, 1],
                isr_nodes=[0],
            )
        ],
    )


@pytest.fixture
def metadata() -> Metadata:
    metadata = Metadata()
    metadata.update(answer(topic(leader=0, epoch=5)))
    return metadata


def test_leaders_and_ids_are_known(metadata: Metadata) -> None:
    assert metadata.leader_of("t", 0) == 0
    assert metadata.leader_of("t", 1) is None
    assert metadata.leader_of("u", 0) is None
    assert metadata.topic_id("t") == ID
    assert metadata.name_of(ID) == "t"


def test_an_answer_that_lags_behind_does_not_bring_an_old_leader_back(metadata: Metadata) -> None:
    metadata.update(answer(topic(leader=1, epoch=4)))
    assert metadata.leader_of("t", 0) == 0
    metadata.update(answer(topic(leader=1, epoch=6)))
    assert metadata.leader_of("t", 0) == 1


def test_a_topic_that_was_made_anew_starts_its_epochs_again(metadata: Metadata) -> None:
    metadata.update(answer(topic(leader=1, epoch=0, topic_id=OTHER_ID)))
    assert metadata.leader_of("t", 0) == 1
    assert metadata.name_of(ID) is None
    assert metadata.name_of(OTHER_ID) == "t"


def test_an_answer_that_did_not_know_the_topic_yet_brings_no_old_leader_back(
    metadata: Metadata,
) -> None:
    metadata.update(answer(topic(0, 0, error=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)))
    assert metadata.leader_of("t", 0) is None
    metadata.update(answer(topic(leader=1, epoch=4)))
    assert metadata.leader_of("t", 0) == 0
    metadata.update(answer(topic(0, 0, error=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)))
    metadata.update(answer(topic(leader=1, epoch=0, topic_id=OTHER_ID)))
    assert metadata.leader_of("t", 0) == 1


def test_an_unknown_topic_is_forgotten_with_the_reason(metadata: Metadata) -> None:
    metadata.update(answer(topic(0, 0, error=int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))))
    assert "t" not in metadata.topics
    assert metadata.errors == {"t": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
    metadata.update(answer(topic(leader=1, epoch=0)))
    assert metadata.errors == {}


def test_a_leader_that_is_no_known_broker_is_none(metadata: Metadata) -> None:
    metadata.update(answer(topic(leader=7, epoch=9)))
    assert metadata.leader_of("t", 0) is None


def test_a_newer_leader_out_of_another_answer_is_taken(metadata: Metadata) -> None:
    assert not metadata.new_leader("t", 0, 1, 5)
    assert not metadata.new_leader("t", 0, 9, 6)
    assert metadata.new_leader("t", 0, 1, 6)
    assert metadata.leader_of("t", 0) == 1


def test_topics_of_no_interest_are_forgotten(metadata: Metadata) -> None:
    metadata.keep_only(["u"])
    assert metadata.topics == {}
    assert metadata.name_of(ID) is None


def test_an_answer_without_brokers_keeps_the_ones_that_are_known(metadata: Metadata) -> None:
    metadata.update(answer(nodes=0))
    assert set(metadata.nodes) == {0, 1}


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("localhost", [("localhost", 9092)]),
        ("a:1,b:2", [("a", 1), ("b", 2)]),
        ([" a:1 ", "b"], [("a", 1), ("b", 9092)]),
        ("[::1]:9093,[::2]", [("::1", 9093), ("::2", 9092)]),
    ],
)
def test_addresses_are_read(text: str, addresses: list[tuple[str, int]]) -> None:
    assert list(parse_bootstrap(text)) == addresses


@pytest.mark.parametrize("text", ["", ",", "a:b", "a:0", "a:65536", ":9092"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_bootstrap(text)


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTTLA_BOOTSTRAP", "somewhere:1")
    assert parse_bootstrap(None) == (("somewhere", 1),)
    monkeypatch.delenv("OTTLA_BOOTSTRAP")
    assert parse_bootstrap(None) == (("localhost", 9092),)

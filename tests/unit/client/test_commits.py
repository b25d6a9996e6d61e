"""Committed offsets while the metadata change underneath."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from ottla.client.consumer.commits import CommittedOffsets
from ottla.client.metadata import Metadata, TopicMetadata
from ottla.client.types import OffsetAndMetadata, TopicPartition
from ottla.messages.offset_fetch import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)

TOPIC_ID = b"i" * 16


def test_an_offset_of_a_topic_that_the_metadata_forget_meanwhile_is_not_missing() -> None:
    metadata = Metadata()
    metadata.topics["t"] = TopicMetadata("t", TOPIC_ID, False, {})
    answer = OffsetFetchResponse(
        groups=[
            OffsetFetchResponseGroup(
                topics=[
                    OffsetFetchResponseTopics(
                        topic_id=TOPIC_ID,
                        partitions=[
                            OffsetFetchResponsePartitions(partition_index=0, committed_offset=7)
                        ],
                    )
                ]
            )
        ]
    )

    async def call(request: Any, code_of: Any, *, timeout_ms: float) -> OffsetFetchResponse:
        request(SimpleNamespace(version_for=lambda key, versions=None: 10))
        metadata.keep_only([])
        return answer

    offsets = CommittedOffsets(
        cast("Any", SimpleNamespace(metadata=metadata)),
        cast("Any", SimpleNamespace(group="g", call=call)),
    )
    found = asyncio.run(offsets.fetch([TopicPartition("t", 0)], timeout_ms=1000))
    assert found == {TopicPartition("t", 0): OffsetAndMetadata(7)}

"""aiokafka's admin client: records."""

from __future__ import annotations

import pytest

from tests.interop.aiokafka.adapter import (
    admin,
    admin_client,
    aiokafka,
    asynchronous,
    create_topic,
    producer,
)

pytestmark = pytest.mark.interop


@asynchronous
async def test_records_are_deleted_from_the_start(bootstrap: str, unused: str) -> None:
    await create_topic(bootstrap, unused)
    async with producer(bootstrap) as writer:
        for number in range(3):
            await writer.send_and_wait(unused, b"%d" % number, partition=0)
    partition = aiokafka.TopicPartition(unused, 0)
    async with admin_client(bootstrap) as client:
        found = await client.delete_records({partition: admin.RecordsToDelete(2)})
        assert found == {partition: 2}
        with pytest.raises(aiokafka.errors.OffsetOutOfRangeError):
            await client.delete_records({partition: admin.RecordsToDelete(4)})

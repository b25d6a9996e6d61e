"""The log directories' part of the admin client: what lies where."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from ottla.client.admin.descriptions import LogDirDescription, LogDirReplica
from ottla.client.admin.groups import GroupAdmin
from ottla.errors import KafkaError


class LogDirAdmin(GroupAdmin):
    """What ``AsyncAdmin`` can do with log directories; needs ``cluster`` started."""

    async def describe_log_dirs(
        self, brokers: Collection[int] | None = None
    ) -> list[LogDirDescription]:
        """The log directories of ``brokers`` (of all) with what lies in them.

        Raises ``KafkaError`` where a broker does not answer; a directory that is offline says so itself.
        """
        await self._start()
        nodes = self.cluster.metadata.nodes if brokers is None else brokers
        found = await asyncio.gather(*(self._describe(node_id) for node_id in sorted(nodes)))
        return [directory for directories in found for directory in directories]

    async def _describe(self, node_id: int) -> list[LogDirDescription]:
        from ottla.messages.describe_log_dirs import DescribeLogDirsRequest

        answer = await self.ask_any(DescribeLogDirsRequest(topics=None), node_id)
        if answer.error_code:
            raise KafkaError(answer.error_code, f"broker {node_id}")
        return [
            LogDirDescription(
                node_id,
                result.log_dir,
                KafkaError(result.error_code) if result.error_code else None,
                result.total_bytes,
                result.usable_bytes,
                sorted(
                    LogDirReplica(
                        topic.name,
                        replica.partition_index,
                        replica.partition_size,
                        replica.offset_lag,
                        replica.is_future_key,
                    )
                    for topic in result.topics
                    for replica in topic.partitions
                ),
            )
            for result in answer.results
        ]

"""The log directories' part of the admin client: what lies where, and what is to lie elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

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
        nodes = await self.nodes() if brokers is None else brokers
        found = await asyncio.gather(*(self._describe(node_id) for node_id in sorted(nodes)))
        return [directory for directories in found for directory in directories]

    async def alter_replica_log_dirs(
        self, wanted: Mapping[tuple[str, int, int], str]
    ) -> dict[tuple[str, int, int], KafkaError | None]:
        """Have replicas lie in other log directories of their brokers.

        ``wanted``: the absolute path for each topic, partition and broker. Returns why one was refused, or
        None: then the broker has begun to move it. ``describe_log_dirs`` shows a future replica until it is
        done. One that is not there yet is refused (REPLICA_NOT_AVAILABLE), and will be made in the directory.
        """
        await self._start()
        brokers = sorted({broker for _, _, broker in wanted})
        found = await asyncio.gather(*(self._alter(broker, wanted) for broker in brokers))
        return {key: error for outcome in found for key, error in outcome.items()}

    async def _alter(
        self, node_id: int, wanted: Mapping[tuple[str, int, int], str]
    ) -> dict[tuple[str, int, int], KafkaError | None]:
        from ottla.messages.alter_replica_log_dirs import (
            AlterReplicaLogDir,
            AlterReplicaLogDirsRequest,
            AlterReplicaLogDirTopic,
        )

        paths: dict[str, dict[str, list[int]]] = {}
        for (topic, partition, broker), path in wanted.items():
            if broker == node_id:
                paths.setdefault(path, {}).setdefault(topic, []).append(partition)
        request = AlterReplicaLogDirsRequest(
            dirs=[
                AlterReplicaLogDir(
                    path=path,
                    topics=[
                        AlterReplicaLogDirTopic(name=topic, partitions=partitions)
                        for topic, partitions in topics.items()
                    ],
                )
                for path, topics in paths.items()
            ]
        )
        answer = await self.ask_any(request, node_id)
        return {
            (topic.topic_name, one.partition_index, node_id): (
                KafkaError(one.error_code, f"{topic.topic_name}-{one.partition_index}")
                if one.error_code
                else None
            )
            for topic in answer.results
            for one in topic.partitions
        }

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

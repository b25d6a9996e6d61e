"""AlterReplicaLogDirs (key 34): have replicas lie in other log directories of this broker.

Behaviour
- The answer says that the move has begun; DescribeLogDirs tells of the future replica until it is the current
  one. Asking again changes nothing, asking for another directory turns the move there, asking for the one
  where the partition lies ends it.
- A partition that is not here gets REPLICA_NOT_AVAILABLE (UNKNOWN_TOPIC_OR_PARTITION where there is none in the
  cluster), and will be made in the directory when it comes.
- While a directory is offline nothing is moved. A partition that is named in several directories goes to the
  last one.

Errors: a partition's INVALID_TOPIC_EXCEPTION, LOG_DIR_NOT_FOUND, KAFKA_STORAGE_ERROR, REPLICA_NOT_AVAILABLE,
UNKNOWN_TOPIC_OR_PARTITION.
Source: ``ReplicaManager.alterReplicaLogDirs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.request import Request

log = logger(__name__)


def handle(broker: Broker, request: Request) -> AlterReplicaLogDirsResponse:
    """Begin the moves."""
    body: AlterReplicaLogDirsRequest = request.body
    wanted = {
        (topic.name, index): directory.path
        for directory in body.dirs
        for topic in directory.topics
        for index in topic.partitions
    }
    topics: dict[str, AlterReplicaLogDirTopicResult] = {}
    for (name, index), path in wanted.items():
        code = ErrorCode.NONE
        try:
            broker.replicas.move(name, index, path)
        except KafkaError as error:
            log.warning("not moved", topic=name, partition=index, to=path, reason=str(error))
            code = error.code
        answer = topics.setdefault(name, AlterReplicaLogDirTopicResult(topic_name=name))
        answer.partitions.append(
            AlterReplicaLogDirPartitionResult(partition_index=index, error_code=code)
        )
    return AlterReplicaLogDirsResponse(results=list(topics.values()))

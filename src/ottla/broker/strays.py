"""Replicas that lie here though the cluster gives them to others: left by what happened while this broker was away.

Rules: a controller's word is not enough to take a log out of service. Only what the store assigns to others, or does
not know (or knows under another topic id), is one; where the store does not answer nothing is. What is to be deleted
is none: its StopReplica comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.coordination import znodes
from ottla.coordination.store import StoreError
from ottla.coordination.znodes import MalformedZnode, TopicAssignment
from ottla.logs import logger
from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

log = logger(__name__)

Key = tuple[str, int]


async def unknown_to_cluster(broker: Broker, replicas: Iterable[Key]) -> list[Key]:
    """Which of these replicas the store does not give to this broker."""
    by_topic: dict[str, list[Key]] = {}
    for key in replicas:
        by_topic.setdefault(key[0], []).append(key)
    if not by_topic:
        return []
    names = list(by_topic)
    paths = [*map(znodes.topic_path, names), *map(znodes.delete_topic_path, names)]
    try:
        found = await broker.session.store.get_many(paths)
    except StoreError as error:
        log.warning("replicas that may be unknown to the cluster stay", reason=str(error))
        return []
    strays: list[Key] = []
    for name, topic, deletion in zip(names, found, found[len(names) :], strict=False):
        if deletion is not None:
            continue
        try:
            known = TopicAssignment.decode(name, topic.data) if topic is not None else None
        except MalformedZnode as error:
            log.error("replicas that may be unknown to the cluster stay", reason=str(error))
            continue
        strays += [key for key in by_topic[name] if not _is_ours(broker, key, known)]
    return strays


def _is_ours(broker: Broker, key: Key, known: TopicAssignment | None) -> bool:
    if known is None or broker.node_id not in known.partitions.get(key[1], ()):
        return False
    lies_here = broker.directories.get(*key)
    return lies_here is None or lies_here.topic_id in (ZERO_ID, known.topic_id)

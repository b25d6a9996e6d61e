"""Which replicas ``ottla partition reassign`` gives partitions: plans, without a broker.

A plan's file is that of Kafka's own tool. A plan that is made here moves as little as it can: replicas that may
stay do; then brokers that have more than their share give some to those that have less. No two replicas of a
partition go into one rack where that can be helped, and no broker is preferred to lead more than its share.
Source: ``ReassignPartitionsCommand.scala``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ottla.cli.failures import UsageError
from ottla.cli.offset_reset import Partition

Assignment = dict[Partition, list[int]]
"""The replicas of each partition, the preferred leader first."""

ANY = "any"
"""A log directory that the broker chooses itself."""

LEADER_THROTTLED = "leader.replication.throttled.replicas"
FOLLOWER_THROTTLED = "follower.replication.throttled.replicas"
LEADER_RATE = "leader.replication.throttled.rate"
FOLLOWER_RATE = "follower.replication.throttled.rate"
LOG_DIR_RATE = "replica.alter.log.dirs.io.max.bytes.per.second"


class Plan(NamedTuple):
    """What is wanted: replicas, and log directories by topic, partition and broker where they are chosen."""

    replicas: Assignment
    log_dirs: dict[tuple[str, int, int], str]


def read_plan(text: str) -> Plan:
    """The plan of a file; raises UsageError for what is none."""
    try:
        found = json.loads(text)
        if found.get("version") != 1:
            raise UsageError(f"the plan's version is {found.get('version')!r}, expected 1")
        replicas: Assignment = {}
        log_dirs: dict[tuple[str, int, int], str] = {}
        for item in found["partitions"]:
            topic, partition = str(item["topic"]), int(item["partition"])
            if (topic, partition) in replicas:
                raise UsageError(f"the plan has {topic}:{partition} twice")
            brokers = replicas[topic, partition] = [int(broker) for broker in item["replicas"]]
            if not brokers or len(set(brokers)) != len(brokers):
                raise UsageError(f"the plan's replicas of {topic}:{partition} are {brokers}")
            paths = item.get("log_dirs") or [ANY] * len(brokers)
            if len(paths) != len(brokers):
                raise UsageError(
                    f"the plan has not as many log_dirs as replicas of {topic}:{partition}"
                )
            for broker, path in zip(brokers, paths, strict=True):
                if path != ANY:
                    log_dirs[topic, partition, broker] = str(path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"that is no plan of Kafka's: {type(error).__name__}: {error}") from None
    if not replicas:
        raise UsageError("the plan names no partition")
    return Plan(replicas, log_dirs)


def plan_document(assignment: Mapping[Partition, Sequence[int]]) -> dict[str, Any]:
    """An assignment as Kafka's tool reads and writes it."""
    return {
        "version": 1,
        "partitions": [
            {
                "topic": topic,
                "partition": partition,
                "replicas": list(replicas),
                "log_dirs": [ANY] * len(replicas),
            }
            for (topic, partition), replicas in sorted(assignment.items())
        ],
    }


def propose(
    current: Mapping[Partition, Sequence[int]],
    brokers: Sequence[int],
    racks: Mapping[int, str | None],
    replication_factor: int | None = None,
) -> Assignment:
    """Replicas on ``brokers`` only; as many as there are, or ``replication_factor``. Raises UsageError."""
    targets = list(dict.fromkeys(brokers))
    planner = _Planner(targets, racks)
    wanted: Assignment = {}
    for partition, replicas in sorted(current.items()):
        count = replication_factor if replication_factor is not None else len(replicas)
        if not 1 <= count <= len(targets):
            raise UsageError(
                f"{len(targets)} brokers cannot hold {count} replicas of {partition[0]}:{partition[1]}"
            )
        wanted[partition] = planner.keep(replicas, count)
    for partition, replicas in wanted.items():
        planner.fill(replicas, _count(current[partition], replication_factor))
    planner.level(wanted)
    planner.level_leaders(wanted)
    return wanted


def _count(replicas: Sequence[int], replication_factor: int | None) -> int:
    return len(replicas) if replication_factor is None else replication_factor


class _Planner:
    """How many replicas each broker has in the plan so far."""

    def __init__(self, targets: list[int], racks: Mapping[int, str | None]) -> None:
        self._targets = targets
        self._racks = {broker: racks.get(broker) or f"broker {broker}" for broker in targets}
        self._load = Counter(dict.fromkeys(targets, 0))
        self._held: dict[int, Assignment] = {}

    def keep(self, replicas: Sequence[int], count: int) -> list[int]:
        kept: list[int] = []
        for broker in replicas:
            if broker in self._load and len(kept) < count:
                kept.append(broker)
                self._load[broker] += 1
        return kept

    def fill(self, replicas: list[int], count: int) -> None:
        while len(replicas) < count:
            used = {self._racks[broker] for broker in replicas}
            chosen = min(
                (broker for broker in self._targets if broker not in replicas),
                key=lambda broker: (self._racks[broker] in used, self._load[broker]),
            )
            replicas.append(chosen)
            self._load[chosen] += 1

    def level(self, wanted: Assignment) -> None:
        """Move replicas from the fullest to the emptiest broker until none has two more than another."""
        for partition, replicas in wanted.items():
            for broker in replicas:
                self._held.setdefault(broker, {})[partition] = replicas
        moved = True
        while moved:
            moved = False
            by_load = sorted(self._targets, key=lambda broker: self._load[broker])
            for emptiest in by_load:
                for fullest in reversed(by_load):
                    if self._load[fullest] - self._load[emptiest] < 2:
                        break
                    if self._move_one(fullest, emptiest):
                        moved = True
                        break
                if moved:
                    break

    def _move_one(self, source: int, target: int) -> bool:
        for partition, replicas in self._held[source].items():
            if target in replicas:
                continue
            others = {self._racks[broker] for broker in replicas if broker != source}
            if self._racks[target] in others and self._racks[source] not in others:
                continue
            replicas[replicas.index(source)] = target
            self._load[source] -= 1
            self._load[target] += 1
            self._held.setdefault(target, {})[partition] = self._held[source].pop(partition)
            return True
        return False

    def level_leaders(self, wanted: Assignment) -> None:
        """Let another replica stand first where the one that does leads more than its share."""
        leads = Counter(replicas[0] for replicas in wanted.values())
        moved = True
        while moved:
            moved = False
            for replicas in wanted.values():
                least = min(replicas, key=lambda broker: leads[broker])
                if leads[replicas[0]] - leads[least] >= 2:
                    leads[replicas[0]] -= 1
                    leads[least] += 1
                    replicas.remove(least)
                    replicas.insert(0, least)
                    moved = True


def throttled_replicas(
    current: Mapping[Partition, Sequence[int]], wanted: Mapping[Partition, Sequence[int]]
) -> dict[str, dict[str, str]]:
    """By topic, the settings that say which replicas a throttle holds back: sources, and those who come new."""
    leaders: dict[str, list[str]] = {}
    followers: dict[str, list[str]] = {}
    for partition, replicas in sorted(wanted.items()):
        topic, number = partition
        sources = current.get(partition, ())
        new = [broker for broker in replicas if broker not in sources]
        if new:
            leaders.setdefault(topic, []).extend(f"{number}:{broker}" for broker in sources)
            followers.setdefault(topic, []).extend(f"{number}:{broker}" for broker in new)
    return {
        topic: {LEADER_THROTTLED: ",".join(leaders[topic]), FOLLOWER_THROTTLED: ",".join(each)}
        for topic, each in followers.items()
    }


def moving_brokers(
    current: Mapping[Partition, Sequence[int]], wanted: Mapping[Partition, Sequence[int]]
) -> list[int]:
    """Who sends or receives in a plan."""
    brokers: set[int] = set()
    for partition, replicas in wanted.items():
        sources = current.get(partition, ())
        if set(replicas) - set(sources):
            brokers.update(sources, replicas)
    return sorted(brokers)


def parse_brokers(text: str) -> list[int]:
    """``1,2,3`` as a list; raises UsageError."""
    try:
        brokers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--to wants broker ids, as 1,2,3, got {text!r}") from None
    if not brokers or len(set(brokers)) != len(brokers):
        raise UsageError(f"--to wants different broker ids, as 1,2,3, got {text!r}")
    return brokers


def described(partitions: Iterable[Any], topic: str) -> Assignment:
    """The replicas that a topic's partitions have now."""
    return {(topic, each.partition): list(each.replicas) for each in partitions}

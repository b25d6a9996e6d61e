"""A broker under load that is to lose nothing, whatever is done to it.

One data directory and one port live through all of it, and so do the clients: what was in flight when the
broker died is sent again to its successor. What has to hold is in ``checker``.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ottla.log.names import CLEAN_SHUTDOWN
from ottla.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.messages.metadata import MetadataRequest
from ottla.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.records.batch import iter_batches
from ottla.settings.topic_config import TopicConfig
from tests.crash.checker import Found, History, Mark, Partition
from tests.crash.load import (
    TOPIC_RESOURCE,
    CommitLoad,
    DeletionLoad,
    LibrdkafkaLoad,
    Load,
    OttlaLoad,
    PlainLoad,
    RequestLoad,
    SettingLoad,
    TopicLoad,
)
from tests.crash.process import BrokerProcess, newest_segments, segment_count
from tests.crash.recovery import recover_twice
from tests.interop.raw import RawClient
from tests.support.requests import create_topic
from tests.support.segment_files import without_room
from tests.support.waiting import wait_until

TOPIC = "load"
SHRINKING = "shrinking"
PARTITIONS = 4
EARLIEST = -2
PLACES: list[Partition] = [(TOPIC, partition) for partition in range(PARTITIONS)]
SEGMENT_BYTES = 65_536
SETTINGS: dict[str, object] = {
    "log.segment.bytes": SEGMENT_BYTES,
    "log.index.interval.bytes": 512,
    "log.retention.ms": -1,
    "log.flush.offset.checkpoint.interval.ms": 300,
    "replica.high.watermark.checkpoint.interval.ms": 200,
    "offsets.topic.num.partitions": 4,
    "offsets.topic.segment.bytes": 16_384,
    "log.segment.delete.delay.ms": 0,
}
TRIGGER_DEADLINE_S = 1.0
OF_THE_TOPIC = 1


def config_of(topic: str) -> TopicConfig:
    """The settings that the broker's topics have, as far as they matter to files."""
    return TopicConfig.from_overrides(
        None, {"segment.bytes": str(SEGMENT_BYTES), "index.interval.bytes": "512"}
    )


class Ordeal:
    """A broker, its clients, and what they were promised."""

    def __init__(
        self,
        directory: Path,
        seed: int,
        *,
        data: Path | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """``directory`` takes what is only looked at; ``data`` is the broker's, by default below it."""
        self.random = random.Random(seed)
        self.directory = directory
        self.data = directory / "data" if data is None else data
        self.broker = BrokerProcess(
            self.data, directory / "broker.log", {**SETTINGS, **(settings or {})}
        )
        self.broker.start()
        self.broker.wait_until_ready()
        with RawClient(self.broker.bootstrap) as raw:
            create_topic(raw, TOPIC, PARTITIONS)
            create_topic(raw, SHRINKING, segment_bytes=8_000)
        self.history = History()
        bootstrap, history = self.broker.bootstrap, self.history
        self.commits = CommitLoad("committer", bootstrap, seed, TOPIC)
        self.topics = TopicLoad("topic-maker", bootstrap, seed, history)
        self.altered = SettingLoad("setter", bootstrap, seed, TOPIC)
        self.shrinking = DeletionLoad("deleter", bootstrap, seed, SHRINKING)
        self.plain = PlainLoad("plain", bootstrap, seed, history, PLACES)
        self.loads: list[Load] = [
            LibrdkafkaLoad("librdkafka-1", bootstrap, seed, history, PLACES),
            LibrdkafkaLoad("librdkafka-2", bootstrap, seed, history, PLACES),
            OttlaLoad("ottla", bootstrap, seed, history, PLACES),
            self.plain,
            self.commits,
            self.topics,
            self.altered,
            self.shrinking,
        ]
        self.interrupted: Counter[str] = Counter()
        self.torn = 0

    def begin(self) -> None:
        """Let the clients go, and wait until the producers have something acknowledged."""
        for load in self.loads:
            load.start()
        self.await_progress()

    def await_progress(self) -> None:
        """Wait until something more is acknowledged."""
        before = self.history.acknowledged_count()
        wait_until(lambda: self.history.acknowledged_count() > before or self.faults())

    def faults(self) -> list[str]:
        """What clients met that they should not have."""
        return [fault for load in self.loads for fault in load.faults]

    # Killing

    def await_moment(self, moment: str) -> None:
        """Return at such a moment; the broker is running, or about to."""
        if moment == "while it starts":
            self.broker.kill()
            self.broker.start()
            self.spin(self.random.uniform(0.0, 0.35))
        elif moment == "while it stops":
            self.broker.signal(signal.SIGTERM)
            self.spin(self.random.uniform(0.0, 0.04))
        elif moment == "while a segment rolls":
            before = segment_count(self.data, TOPIC)
            self._until(lambda: segment_count(self.data, TOPIC) > before)
            self.spin(self.random.uniform(0.0, 0.003))
        elif moment == "while a topic is made":
            self._until(lambda: self.topics.waiting_for in ("create a topic", "delete a topic"))
            self.spin(self.random.uniform(0.0, 0.006))
        elif moment == "while a checkpoint is renamed":
            self._until(lambda: any(self.data.glob("*-checkpoint.tmp")))
            self.spin(self.random.uniform(0.0, 0.002))
        else:
            self.spin(self.random.uniform(0.0, 0.6))
        for load in (self.plain, self.commits, self.topics, self.altered, self.shrinking):
            assert isinstance(load, RequestLoad)
            self.interrupted[load.waiting_for] += 1

    @staticmethod
    def spin(seconds: float) -> None:
        """Let time go by, awake."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            os.sched_yield()

    @staticmethod
    def _until(condition: object) -> None:
        assert callable(condition)
        end = time.monotonic() + TRIGGER_DEADLINE_S
        while not condition() and time.monotonic() < end:
            os.sched_yield()

    def tear_a_tail(self) -> None:
        """Leave at the end of a log what a write that was cut short leaves: part of it, zeros, or rubbish."""
        if (self.data / CLEAN_SHUTDOWN).exists():
            return  # it had stopped: there was no write
        path = self.random.choice(newest_segments(self.data, TOPIC))
        log = without_room(path.read_bytes())
        batches = [log[at : at + header.size_bytes] for at, header in iter_batches(log)]
        tails = [bytes(self.random.randrange(1, 200)), self.random.randbytes(100)]
        if batches:
            last = batches[-1]
            tails.append(last[: self.random.randrange(1, len(last))])
        with path.open("r+b") as file:
            file.seek(len(log))
            file.write(self.random.choice(tails))
            if self.random.random() < 0.5:  # else what is left of the room follows
                file.truncate()
        with path.with_suffix(".index").open("ab") as file:
            file.write(self.random.randbytes(self.random.randrange(12)))
        self.torn += 1

    # Checking

    def restart(self) -> None:
        """Start the broker again on what the kill left."""
        self.broker.start()
        self.broker.wait_until_ready()

    def check(self, *, from_start: bool) -> list[str]:
        """What does not hold now: records, committed offsets, topics."""
        with RawClient(self.broker.bootstrap, "checker") as raw:
            faults = self._check_offsets(raw) + self._check_setting(raw)
            faults += self._check_log_start(raw)
            promised = self.topics.topics.promised()
            faults += self.topics.topics.check(promised, self._topics(raw))
            for place in [*PLACES, *list(self.topics.written)]:
                faults += self._check_partition(raw, place, from_start=from_start)
        return faults + self.faults()

    def _check_partition(self, raw: RawClient, place: Partition, *, from_start: bool) -> list[str]:
        reading = self.history.begin_reading(place)
        start = 0 if from_start else self.history.next_offset(place)
        try:
            end = raw.offset(*place)
            found = [
                Found(record.offset, Mark.decode(record.value or b""))
                for record in raw.records(*place, offset=start)
                if record.offset < end
            ]
        except AssertionError:
            if place in self.topics.written:
                raise
            return []  # it was deleted meanwhile
        return reading.finish(start, found, end)

    def _check_offsets(self, raw: RawClient) -> list[str]:
        offsets = self.commits.offsets
        acknowledged = offsets.acknowledged
        topic = OffsetFetchRequestTopics(name=TOPIC, partition_indexes=[0])
        group = OffsetFetchRequestGroup(group_id=self.commits.name, topics=[topic])
        request = OffsetFetchRequest(groups=[group])
        fetched: list[int] = []

        def answered() -> bool:
            (answer,) = raw.call(request, 8).groups
            fetched[:] = [p.committed_offset for t in answer.topics for p in t.partitions]
            return bool(answer.error_code == 0)

        wait_until(answered)
        return offsets.check(acknowledged, max(fetched[0], 0))

    def _check_log_start(self, raw: RawClient) -> list[str]:
        """The start has not gone back, and what was written behind it is there."""
        starts = self.shrinking.starts
        acknowledged, written = starts.acknowledged, dict(self.shrinking.written)
        start = raw.offset(SHRINKING, timestamp_ms=EARLIEST)
        faults = starts.check(acknowledged, start)
        end = raw.offset(SHRINKING)
        found: dict[int, bytes | None] = {}
        while start < end and not found:
            # It moves on while we read: where that overtakes us, we begin again.
            start = raw.offset(SHRINKING, timestamp_ms=EARLIEST)
            try:
                found = {r.offset: r.value for r in raw.records(SHRINKING, offset=start)}
            except AssertionError:
                continue
        for offset, value in sorted(written.items()):
            if offset >= start and found.get(offset) != value:
                faults.append(f"lost: {SHRINKING} {offset}, acknowledged")
        return faults

    def _check_setting(self, raw: RawClient) -> list[str]:
        values = self.altered.values
        acknowledged = values.acknowledged
        resource = DescribeConfigsResource(
            resource_type=TOPIC_RESOURCE,
            resource_name=TOPIC,
            configuration_keys=["max.message.bytes"],
        )
        (result,) = raw.call(DescribeConfigsRequest(resources=[resource]), 4).results
        value = int(result.configs[0].value)
        never_set = result.configs[0].config_source != OF_THE_TOPIC
        return values.check(acknowledged, 0 if never_set else value - SettingLoad.LEAST)

    @staticmethod
    def _topics(raw: RawClient) -> dict[str, bytes]:
        answer = raw.call(MetadataRequest(topics=None), 12)
        return {topic.name: bytes(topic.topic_id) for topic in answer.topics}

    def check_recovery(self) -> dict[str, bytes]:
        """Recover copies of what the kill left; the files after that."""
        files, differing = recover_twice(self.data, self.directory, config_of)
        assert not differing, differing
        return files

    def end(self) -> None:
        """Let the clients finish what they have begun."""
        for load in self.loads:
            load.stopped.set()
        for load in self.loads:
            load.join(90)
            assert not load.is_alive(), f"{load.name} does not end"

    def give_up(self) -> None:
        """Stop everything, whatever state it is in."""
        for load in self.loads:
            load.abandoned.set()
            load.stopped.set()
        self.broker.kill()
        for load in self.loads:
            if load.is_alive() and isinstance(load, RequestLoad):
                load.join(10)

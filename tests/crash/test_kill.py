"""kill -9 at any moment, again and again, while producers, groups and topic makers go on.

One data directory and one port live through all of it, and so do the clients: what was in flight when the
broker died is sent again to its successor. What has to hold is in ``checker``.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla.log.names import CLEAN_SHUTDOWN
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
    CommitLoad,
    LibrdkafkaLoad,
    Load,
    OttlaLoad,
    PlainLoad,
    RequestLoad,
    TopicLoad,
)
from tests.crash.process import BrokerProcess, newest_segments, segment_count
from tests.crash.recovery import recover_twice
from tests.interop.raw import RawClient
from tests.interop.requirements import require_module
from tests.support.requests import create_topic
from tests.support.waiting import wait_until

SEED = int(os.environ.get("OTTLA_TEST_SEED", "1"))
KILLS = int(os.environ.get("OTTLA_TEST_KILLS", "50"))
RECOVERED_TWICE_EVERY = 5
READ_FROM_THE_START_EVERY = 10

TOPIC = "load"
PARTITIONS = 4
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
MOMENTS = {
    "at some time": 18,
    "while a segment rolls": 12,
    "while a topic is made": 10,
    "while it starts": 6,
    "while it stops": 4,
}
TRIGGER_DEADLINE_S = 1.0


def config_of(topic: str) -> TopicConfig:
    """The settings that the broker's topics have, as far as they matter to files."""
    return TopicConfig.from_overrides(
        None, {"segment.bytes": str(SEGMENT_BYTES), "index.interval.bytes": "512"}
    )


class Ordeal:
    """A broker, its clients, and what they were promised."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.directory = directory
        self.data = directory / "data"
        self.broker = BrokerProcess(self.data, directory / "broker.log", SETTINGS)
        self.broker.start()
        self.broker.wait_until_ready()
        with RawClient(self.broker.bootstrap) as raw:
            create_topic(raw, TOPIC, PARTITIONS)
        self.history = History()
        bootstrap, history = self.broker.bootstrap, self.history
        self.commits = CommitLoad("committer", bootstrap, seed, TOPIC)
        self.topics = TopicLoad("topic-maker", bootstrap, seed, history)
        self.plain = PlainLoad("plain", bootstrap, seed, history, PLACES)
        self.loads: list[Load] = [
            LibrdkafkaLoad("librdkafka-1", bootstrap, seed, history, PLACES),
            LibrdkafkaLoad("librdkafka-2", bootstrap, seed, history, PLACES),
            OttlaLoad("ottla", bootstrap, seed, history, PLACES),
            self.plain,
            self.commits,
            self.topics,
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

    def kill(self, moment: str) -> None:
        """SIGKILL at such a moment; the broker is running, or about to."""
        if moment == "while it starts":
            self.broker.kill()
            self.broker.start()
            self._spin(self.random.uniform(0.0, 0.35))
        elif moment == "while it stops":
            self.broker.signal(signal.SIGTERM)
            self._spin(self.random.uniform(0.0, 0.04))
        elif moment == "while a segment rolls":
            before = segment_count(self.data, TOPIC)
            self._until(lambda: segment_count(self.data, TOPIC) > before)
            self._spin(self.random.uniform(0.0, 0.003))
        elif moment == "while a topic is made":
            self._until(lambda: self.topics.waiting_for in ("create a topic", "delete a topic"))
            self._spin(self.random.uniform(0.0, 0.006))
        else:
            self._spin(self.random.uniform(0.0, 0.6))
        for load in (self.plain, self.commits, self.topics):
            assert isinstance(load, RequestLoad)
            self.interrupted[load.waiting_for] += 1
        self.broker.kill()

    @staticmethod
    def _spin(seconds: float) -> None:
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
        log = path.read_bytes()
        batches = [log[at : at + header.size_bytes] for at, header in iter_batches(log)]
        tails = [bytes(self.random.randrange(1, 200)), self.random.randbytes(100)]
        if batches:
            last = batches[-1]
            tails.append(last[: self.random.randrange(1, len(last))])
        with path.open("ab") as file:
            file.write(self.random.choice(tails))
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
            faults = self._check_offsets(raw)
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


@pytest.fixture
def ordeal(tmp_path: Path) -> Iterator[Ordeal]:
    """A broker under load, which is not left running."""
    require_module("confluent_kafka", "confluent-kafka")
    started = Ordeal(tmp_path, SEED)
    try:
        yield started
    finally:
        for load in started.loads:
            load.stopped.set()
        started.broker.kill()


@pytest.mark.interop
def test_nothing_promised_is_lost_and_nothing_doubled_by_kills_at_any_moment(
    ordeal: Ordeal,
) -> None:
    moments = ordeal.random.choices(list(MOMENTS), list(MOMENTS.values()), k=KILLS)
    ordeal.begin()
    for number, moment in enumerate(moments, 1):
        where = f"kill {number} of {KILLS}, {moment}, OTTLA_TEST_SEED={SEED}, {ordeal.directory}"
        ordeal.kill(moment)
        if ordeal.random.random() < 0.4:
            ordeal.tear_a_tail()
        recovered = ordeal.check_recovery() if number % RECOVERED_TWICE_EVERY == 0 else {}
        ordeal.restart()
        faults = ordeal.check(from_start=number % READ_FROM_THE_START_EVERY == 0)
        assert not faults, (where, faults)
        for name, held in recovered.items():
            if name.startswith(f"{TOPIC}-") and name.endswith(".log"):
                assert (ordeal.data / name).read_bytes().startswith(held), (where, name)
        ordeal.await_progress()
    ordeal.end()
    faults = ordeal.check(from_start=True)
    faults += ordeal.history.missing(PLACES) if not faults else []
    assert not faults, (SEED, faults)
    print(
        f"{KILLS} kills ({dict(Counter(moments))}), {ordeal.torn} torn tails, "
        f"{ordeal.history.acknowledged_count()} records acknowledged, "
        f"{ordeal.commits.offsets.acknowledged} commits, {segment_count(ordeal.data, TOPIC)} segments, "
        f"interrupted: {dict(ordeal.interrupted)}"
    )
    if KILLS >= 50:
        for what in ("produce", "commit", "create a topic"):
            assert ordeal.interrupted[what], f"no kill interrupted: {what}"
    ordeal.broker.signal(signal.SIGTERM)
    assert ordeal.broker.wait() == 0

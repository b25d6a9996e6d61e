"""Produce requests that came together: who is told what, and when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.broker.handlers.produce_run import ProduceRun, run_behind
from ottla.errors import ErrorCode
from ottla.log.flusher import Durability, Flusher
from ottla.log.log import Log
from ottla.messages import registry
from ottla.messages.produce import PartitionProduceResponse, TopicProduceResponse
from ottla.network.budget import SMALL_BYTES_MAX, SharedBudget
from ottla.network.request import Answers, Request
from ottla.replication.gathering import Gathering
from ottla.replication.partition import Partition
from ottla.replication.recompression import Unpacking
from tests.unit.log.samples import NOW_MS, TOPIC_ID, batch, disk, idempotent, new_log

OUT_OF_TIME = ErrorCode.REQUEST_TIMED_OUT
VERSION = 9


class HeldFlusher(Flusher):
    """Syncs nothing by itself: a test flushes the log when its time has come."""

    def request(self, log: Log, *, alone: bool = False) -> None:
        pass


class Stage:
    """A partition, and what a run needs of a broker."""

    def __init__(self, **config: Any) -> None:
        self.partition = Partition(
            "orders",
            TOPIC_ID,
            0,
            new_log(disk(), **config),
            node_id=1,
            flusher=HeldFlusher(disk(), durability=Durability.DISK),
            unpacking=Unpacking(),
        )
        self.partition.become_leader(5, 0, [1], [1])
        self.gathering = Gathering()
        self.broker: Any = SimpleNamespace(
            gathering=self.gathering, loop=asyncio.get_running_loop()
        )

    def commit(self, end_offset: int) -> None:
        """What a follower or a sync that saw only a part brings about."""
        self.partition.log.flushed_end_offset = end_offset
        self.partition.appended()

    def run(
        self, *, acks: int = -1, timeout_ms: int = 60_000, budget: SharedBudget | None = None
    ) -> ProduceRun | None:
        """A run behind a request."""
        peer: Any = SimpleNamespace(listener_name="PLAINTEXT")
        first = Request(0, VERSION, 0, "test", None, peer, NOW_MS, budget)
        topic = TopicProduceResponse(
            name="orders", partition_responses=[PartitionProduceResponse(index=0)]
        )
        return run_behind(
            self.broker, first, self.partition, topic, acks=acks, timeout_ms=timeout_ms
        )

    def of(self, count: int, **how: Any) -> tuple[ProduceRun, Any]:
        """A run of ``count`` records, one a request, and what settling it gave."""
        run = self.run(**how)
        assert run is not None
        for number in range(count):
            assert run.joined(number, memoryview(batch(1)), 100)
        self.gathering.settle(NOW_MS)
        return run, run.settle()


def decoded(answers: Answers) -> list[tuple[int, int, int]]:
    """Correlation id, error code and offset of each."""
    data, found = answers.encoded, []
    while data:
        size = int.from_bytes(data[:4], "big")
        frame, data = data[4 : 4 + size], data[4 + size :]
        (topic,) = registry.decode_response(0, VERSION, frame).responses
        (answer,) = topic.partition_responses
        found.append((registry.read_correlation_id(frame), answer.error_code, answer.base_offset))
    return found


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_the_answers_of_a_run_wait_for_its_last_record() -> None:
    async def main() -> None:
        stage = Stage()
        _, parked = stage.of(2)
        stage.partition.log.flush(NOW_MS)
        assert decoded(await parked) == [(0, 0, 0), (1, 0, 1)]
        _, behind = stage.of(3)
        stage.commit(4)
        assert not behind.done()
        stage.commit(5)
        assert decoded(await behind) == [(0, 0, 2), (1, 0, 3), (2, 0, 4)]

    on_a_loop(main)


def test_a_batch_that_is_there_already_is_not_for_a_run() -> None:
    """What it is told waits for the producer's last record, not for the run's."""

    async def main() -> None:
        stage = Stage()
        run = stage.run()
        assert run is not None
        for sequence in range(7):
            assert run.joined(sequence, memoryview(idempotent(7, sequence)), 100)
        assert not run.joined(7, memoryview(idempotent(7, 1)), 100)
        assert run.joined(8, memoryview(idempotent(7, 2)), 100), "of the last five"
        stage.gathering.settle(NOW_MS)
        parked: Any = run.settle()
        stage.commit(7)
        assert decoded(await parked) == [*((n, 0, n) for n in range(7)), (8, 0, 2)]

    on_a_loop(main)


def test_a_producers_batch_that_time_ran_out_for_is_logged_with_its_offset(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        stage = Stage()
        run = stage.run(timeout_ms=0)
        assert run is not None
        for sequence in (0, 2):
            assert run.joined(sequence, memoryview(idempotent(7, sequence, 2)), 100)
        stage.gathering.settle(NOW_MS)
        parked: Any = run.settle()
        stage.commit(2)
        assert decoded(await parked) == [(0, 0, 0), (2, OUT_OF_TIME, -1)]

    with caplog.at_level(logging.DEBUG):
        on_a_loop(main)
    (logged,) = [vars(record)["fields"] for record in caplog.records if "batch" in record.msg]
    assert logged["refused_with"] == "REQUEST_TIMED_OUT"
    assert (logged["producer_id"], logged["first_sequence"], logged["appended_at"]) == (7, 2, 2)
    assert logged["known_sequences"] == "0-1, 2-3"


def test_when_time_is_up_what_is_committed_is_said_to_be() -> None:
    async def main() -> None:
        stage = Stage()
        _, parked = stage.of(3, timeout_ms=0)
        stage.commit(2)
        assert decoded(await parked) == [(0, 0, 0), (1, 0, 1), (2, OUT_OF_TIME, -1)]
        stage.partition.log.flush(NOW_MS)  # too late, and nobody minds
        assert stage.partition.high_watermark == 3

    on_a_loop(main)


def test_when_the_leader_goes_what_was_not_committed_is_not_said_to_be() -> None:
    async def main() -> None:
        stage = Stage()
        _, parked = stage.of(2)
        stage.commit(1)
        stage.partition.resign(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        answers = await parked
        assert decoded(answers) == [(0, 0, 0), (1, ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)]
        assert answers.error_codes == (ErrorCode.NOT_LEADER_OR_FOLLOWER,)

    on_a_loop(main)


def test_a_request_that_is_refused_keeps_its_place_in_the_run_and_holds_up_nobody() -> None:
    async def main() -> None:
        stage = Stage()
        run = stage.run(acks=1)
        assert run is not None
        bent = bytearray(batch(1))
        bent[17] ^= 1
        for number, records in enumerate((batch(1), bytes(bent), batch(1))):
            assert run.joined(number, memoryview(bytearray(records)), 100)
        stage.gathering.settle(NOW_MS)
        answers = run.settle()
        assert isinstance(answers, Answers)
        assert decoded(answers) == [(0, 0, 0), (1, ErrorCode.CORRUPT_MESSAGE, -1), (2, 0, 1)]

    on_a_loop(main)


def test_an_answer_that_nobody_waits_for_any_more_is_not_given_twice() -> None:
    async def main() -> None:
        stage = Stage()
        _, parked = stage.of(1)
        parked.cancel()  # the connection went
        stage.partition.log.flush(NOW_MS)
        assert parked.cancelled()
        assert stage.partition.high_watermark == 1

    on_a_loop(main)


@pytest.mark.parametrize(
    "config", [{"compression_type": "gzip"}, {"cleanup_policy": "compact"}], ids=str
)
def test_where_a_batch_may_have_to_be_unpacked_every_request_is_handled_by_itself(
    config: dict[str, Any],
) -> None:
    async def main() -> None:
        assert Stage().run() is not None
        assert Stage(**config).run() is None

    on_a_loop(main)


def test_a_request_without_answer_or_records_or_of_size_is_not_for_a_run() -> None:
    async def main() -> None:
        stage = Stage()
        assert stage.run(acks=0) is None
        run = stage.run()
        assert run is not None
        assert not run.joined(1, memoryview(b""), 100)
        assert not run.joined(1, memoryview(batch(1)), SMALL_BYTES_MAX + 1)
        assert (run.count, stage.partition.log.log_end_offset) == (0, 0)

    on_a_loop(main)


def test_the_memory_of_a_runs_requests_is_given_back_to_the_small_ones_part() -> None:
    async def main() -> None:
        stage = Stage()
        budget = SharedBudget(64 << 20)
        sizes = [60_000, 50_000, 64_000]
        for size in sizes:
            assert budget.reserve(size)
        run = stage.run(budget=budget)
        assert run is not None
        for number, size in enumerate(sizes):
            run.joined(number, memoryview(batch(1)), size)
        stage.gathering.settle(NOW_MS)
        run.settle()
        run.release()
        assert budget.used_bytes == 0
        assert budget.reserve((64 << 20) * 7 // 8)  # the large ones' part is as it was

    on_a_loop(main)


def test_a_request_that_was_refused_leaves_nothing_behind_in_a_run_that_waits() -> None:
    async def main() -> None:
        stage = Stage()
        run = stage.run()
        assert run is not None
        bent = bytearray(batch(1))
        bent[17] ^= 1
        assert run.joined(0, memoryview(batch(1)), 100)
        assert run.joined(1, memoryview(bent), 100)
        stage.gathering.settle(NOW_MS)
        parked = run.settle()
        bent.append(0)  # BufferError where anybody still has a view of it
        assert isinstance(parked, asyncio.Future)
        stage.partition.log.flush(NOW_MS)
        assert decoded(await parked) == [(0, 0, 0), (1, ErrorCode.CORRUPT_MESSAGE, -1)]

    on_a_loop(main)

"""Log starts are on disk before anybody is told, and many share one writing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.log.checkpoint_turns import Checkpoint
from ottla.log.directory import LogDirectory
from ottla.log.log import Log
from ottla.replication.checkpointed_starts import CheckpointedStarts
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import NOW_MS, TOPIC_ID, append

PATH = "/data/logs"
CONFIG = TopicConfig.of()


class Slow(LogDirectory):
    """A directory whose writing of starts can be held up, and made to fail."""

    def __init__(self) -> None:
        super().__init__(PATH, SimulatedDisk())
        self.open()
        self.load(lambda topic: CONFIG, NOW_MS)
        self.writings: list[dict[tuple[str, int], int]] = []
        self.begun = threading.Event()
        self.may_go_on = threading.Event()
        self.fails = False

    def write_log_starts(self, starts: Checkpoint) -> None:
        self.writings.append(starts.offsets)
        self.begun.set()
        assert self.may_go_on.wait(20)
        if self.fails:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
        super().write_log_starts(starts)

    def filled(self, partition: int) -> Log:
        """A log with three records."""
        log = self.create("orders", partition, TOPIC_ID, CONFIG, NOW_MS)
        append(log, 3)
        log.flush(NOW_MS)
        return log


async def held_up(directory: Slow, *others: Any) -> list[Any]:
    """The outcomes, with all of ``others`` waiting while the first one is written."""
    first, *rest = [asyncio.ensure_future(work) for work in others]
    await asyncio.to_thread(directory.begun.wait, 20)
    for _ in range(5):
        await asyncio.sleep(0)
    directory.may_go_on.set()
    return await asyncio.gather(first, *rest, return_exceptions=True)


def test_who_waits_shares_one_writing() -> None:
    directory = Slow()
    logs = [directory.filled(partition) for partition in range(4)]

    async def work() -> None:
        starts = CheckpointedStarts(directory)
        outcomes = await held_up(
            directory, *(starts.keep({log: number}) for number, log in enumerate(logs[1:], 1))
        )
        assert outcomes == [None] * 3

    asyncio.run(work())
    assert directory.writings == [
        {("orders", 1): 1},
        {("orders", 1): 1, ("orders", 2): 2, ("orders", 3): 3},
    ]
    assert [log.log_start_offset for log in logs] == [0] * 4  # only written down so far


@pytest.mark.parametrize("others", [1, 2])
def test_nobody_is_told_of_a_start_whose_writing_failed(others: int) -> None:
    directory = Slow()
    log = directory.filled(0)
    directory.fails = True

    async def work() -> None:
        starts = CheckpointedStarts(directory)
        outcomes = await held_up(directory, *(starts.keep({log: 2}) for _ in range(1 + others)))
        assert all(isinstance(outcome, KafkaError) for outcome in outcomes)

    asyncio.run(work())

"""The worker as a process of its own: what it answers, how fast it goes, and when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla.log.compaction.job import (
    GONE,
    RATE,
    UNCLEANABLE,
    CleanedGroup,
    CleaningDone,
    CleaningFailed,
    CleaningJob,
)
from ottla.log.compaction.worker import NICENESS, answers, read_answer
from ottla.log.disk import Disk
from ottla.log.log import Log
from ottla.settings.definitions import TopicConfig
from tests.support.waiting import wait_until
from tests.unit.log.compacting import LIMITS, job_of
from tests.unit.log.samples import NOW_MS, TOPIC_ID, append

Worker = subprocess.Popen[bytes]


@pytest.fixture
def worker() -> Iterator[Worker]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = subprocess.Popen(
        [sys.executable, "-P", "-m", "ottla.log.compaction.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    with started:
        yield started
        started.kill()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    made = Log.create(
        Disk(), str(tmp_path), "t", 0, TOPIC_ID, TopicConfig.of(cleanup_policy="compact"), NOW_MS
    )
    for _ in range(10):
        append(made, 3, size=200)
    made.roll(NOW_MS)
    made.flush(NOW_MS)
    return made


def order(worker: Worker, job: CleaningJob) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
    worker.stdin.flush()


def answer(worker: Worker) -> CleanedGroup | CleaningDone:
    assert worker.stdout is not None
    return read_answer(worker.stdout.readline())


def test_worker_does_job_after_job_and_gives_way(worker: Worker, log: Log) -> None:
    for number in range(2):
        order(worker, job_of(log, token=f"job{number}"))
        group = answer(worker)
        assert isinstance(group, CleanedGroup)
        assert Path(log.directory, f"{0:020d}.log.job{number}.cleaned").stat().st_size == (
            group.size_bytes
        )
        done = answer(worker)
        assert isinstance(done, CleaningDone)
        assert done.clean_end_offset == 30
        assert done.counts.records_kept == 3
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) >= NICENESS


def test_worker_ends_with_its_input_even_amid_a_job(worker: Worker, log: Log) -> None:
    order(worker, job_of(log, limits=LIMITS._replace(bytes_per_second=1.0)))
    assert worker.stdin is not None
    worker.stdin.close()
    wait_until(lambda: worker.poll() is not None)
    assert worker.returncode == 0


def test_rate_that_changes_amid_a_job_is_heeded_at_once(worker: Worker, log: Log) -> None:
    """At the first rate the job would take most of an hour."""
    order(worker, job_of(log, limits=LIMITS._replace(bytes_per_second=2.0)))
    assert worker.stdin is not None
    for rate in (1.0, 1e9):
        worker.stdin.write(json.dumps({RATE: rate}).encode() + b"\n")
        worker.stdin.flush()
    assert isinstance(answer(worker), CleanedGroup)
    assert isinstance(answer(worker), CleaningDone)


def test_rate_that_comes_between_jobs_is_no_job(worker: Worker, log: Log) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps({RATE: 1.0}).encode() + b"\n")
    order(worker, job_of(log))
    assert isinstance(answer(worker), CleanedGroup)


def test_failed_job_is_an_answer_and_the_worker_goes_on(worker: Worker, log: Log) -> None:
    order(worker, job_of(log)._replace(directory="/nowhere/t-0"))
    with pytest.raises(CleaningFailed, match="nowhere") as failed:
        answer(worker)
    assert failed.value.kind == GONE
    order(worker, job_of(log))
    assert isinstance(answer(worker), CleanedGroup)


def test_bug_in_a_cleaning_is_told_of_with_its_traceback(log: Log) -> None:
    def spend(size_bytes: int) -> None:
        raise ZeroDivisionError

    class Broken:
        pass

    throttle = Broken()
    throttle.spend = spend  # type: ignore[attr-defined]
    (said,) = answers(job_of(log), Disk(), throttle)  # type: ignore[arg-type]
    with pytest.raises(CleaningFailed, match="ZeroDivisionError") as failed:
        read_answer(json.dumps(said).encode())
    assert failed.value.kind == UNCLEANABLE

"""What ``ottla log verify`` and ``ottla doctor`` share: finding logs by their paths, and checking many of them.

Rules: everything is read beside a broker that may be running; a partition is checked by one process from its
first segment to its last; several partitions by several processes where there is much to read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ottla.cli.failures import CommandFailed
from ottla.cli.several_places import MARK, MEMBER_MARK
from ottla.coordination import znodes
from ottla.coordination.store_copy import FILE_NAME, StoreCopy, read_copy
from ottla.log import names
from ottla.log.verification.directories import (
    DirectoryState,
    looks_like_a_log_directory,
    read_directory,
)
from ottla.log.verification.partitions import Expected, PartitionCheck, PartitionReport
from ottla.log.verification.segments import Rules, Standing

PARALLEL_FROM_BYTES = 256 << 20
"""Below so much to read, starting processes costs more than they save."""
JOBS_MAX = 8


class Target(NamedTuple):
    """One partition's directory to check, or the segment ``only`` of it."""

    directory: str
    expected: Expected
    only: int | None
    size_bytes: int


class Targets(NamedTuple):
    """What was asked for: log directories as a whole, and partitions in or outside of them."""

    states: list[DirectoryState]
    targets: list[Target]


def find_targets(paths: Iterable[str], *, deep: bool) -> Targets:
    """The partitions that ``paths`` name: log directories, partitions' directories, segments' files.

    Raises CommandFailed for what is none of these, ``OSError``.
    """
    states: dict[str, DirectoryState] = {}
    stores: dict[str, StoreCopy | None] = {}
    targets: dict[tuple[str, int | None], Target] = {}

    def context(log_directory: str) -> tuple[DirectoryState, StoreCopy | None] | None:
        if not looks_like_a_log_directory(log_directory):
            return None
        if log_directory not in states:
            states[log_directory] = read_directory(log_directory)
            stores[log_directory] = read_copy(f"{log_directory}/{FILE_NAME}")
        around = stores.get(os.path.dirname(log_directory))
        store = stores[log_directory] or around or next(filter(None, stores.values()), None)
        return states[log_directory], store

    asked: list[DirectoryState] = []
    for path in _each_brokers(map(os.path.abspath, paths), stores):
        name = names.parse_directory_name(os.path.basename(path))
        if os.path.isdir(path) and (name is None or looks_like_a_log_directory(path)):
            found = context(path)
            if found is None:
                raise CommandFailed(
                    f"{path} is neither a broker's data directory nor a partition's"
                )
            asked.append(found[0])
            for directory, parsed in found[0].partitions.items():
                if not parsed.suffix:
                    add_target(targets, f"{path}/{directory}", None, found, deep)
        elif os.path.isdir(path):
            add_target(targets, path, None, context(os.path.dirname(path)), deep)
        else:
            base = segment_of(path)
            directory = os.path.dirname(path)
            add_target(targets, directory, base, context(os.path.dirname(directory)), deep)
    return Targets(asked, list(targets.values()))


def _each_brokers(paths: Iterable[str], stores: dict[str, StoreCopy | None]) -> Iterator[str]:
    """``paths``, and in the place of a directory of several brokers each one's; the store they share goes to ``stores``."""
    for path in paths:
        members = []
        if os.path.exists(f"{path}/{MARK}"):
            members = [
                entry.path
                for entry in os.scandir(path)
                if os.path.exists(f"{entry.path}/{MEMBER_MARK}")
            ]
            stores[path] = read_copy(f"{path}/{FILE_NAME}")
        yield from sorted(members) or [path]


def segment_of(path: str) -> int:
    """The base offset of the segment that a file belongs to. Raises CommandFailed."""
    if not os.path.exists(path):
        raise CommandFailed(f"{path}: No such file or directory")
    name = os.path.basename(path)
    base = names.offset_of(name)
    if base is None or not name.endswith(names.SEGMENT_SUFFIXES):
        raise CommandFailed(f"{path} is no file of a segment, by its name (see ottla log dump)")
    return base


def add_target(
    targets: dict[tuple[str, int | None], Target],
    directory: str,
    only: int | None,
    context: tuple[DirectoryState, StoreCopy | None] | None,
    deep: bool,
) -> None:
    """Add a partition's directory, with what its log directory and the store know of it."""
    try:
        size = sum(entry.stat().st_size for entry in os.scandir(directory) if entry.is_file())
    except FileNotFoundError:
        size = 0  # it is told of when it is checked
    expected = Expected(Rules(Standing.CLEAN, deep=deep))
    parsed = names.parse_directory_name(os.path.basename(directory))
    if context is not None and parsed is not None:
        expected = expected_of(*context, parsed.topic, parsed.partition, deep=deep)
    targets[directory, only] = Target(directory, expected, only, size)


def expected_of(
    state: DirectoryState, store: StoreCopy | None, topic: str, partition: int, *, deep: bool
) -> Expected:
    """What the log directory's checkpoints and the store say of a partition."""
    point = state.offset(names.RECOVERY_POINT_CHECKPOINT, topic, partition)
    was_compacted = state.offset(names.CLEANER_CHECKPOINT, topic, partition) is not None
    dense, topic_id = False if was_compacted else None, None
    if store is not None and store.problem is None:
        assignment = topic_of(store, topic)
        topic_id = assignment.topic_id if assignment is not None else None
        if assignment is not None and dense is None:
            dense = "compact" not in settings_of(store, topic).get("cleanup.policy", "")
    return Expected(
        Rules(state.standing_of(topic, partition), max(point or 0, 0), dense, deep),
        log_start_offset=state.offset(names.LOG_START_CHECKPOINT, topic, partition),
        recovery_point=point,
        high_watermark=state.offset(names.HIGH_WATERMARK_CHECKPOINT, topic, partition),
        topic_id=topic_id,
    )


def topic_of(store: StoreCopy, topic: str) -> znodes.TopicAssignment | None:
    """What the store has of a topic; None if it knows none, or none that can be read."""
    data = store.znodes.get(znodes.topic_path(topic))
    try:
        return znodes.TopicAssignment.decode(topic, data) if data is not None else None
    except znodes.MalformedZnode:
        return None


def settings_of(store: StoreCopy, topic: str) -> dict[str, str]:
    """A topic's own settings, as the store has them."""
    path = znodes.config_path("topics", topic)
    try:
        return znodes.decode_config(path, store.znodes.get(path, b""))
    except znodes.MalformedZnode:
        return {}


def check(
    targets: list[Target], jobs: int | None, on_bytes: Callable[[int], None]
) -> Iterator[PartitionReport | OSError]:
    """The reports of ``targets``, in their order; an ``OSError`` where a directory can't be read.

    ``jobs``: how many processes; None chooses by the size of it all.
    """
    if jobs is None:
        large = sum(target.size_bytes for target in targets) >= PARALLEL_FROM_BYTES
        jobs = min(os.cpu_count() or 1, JOBS_MAX) if large else 1
    jobs = min(jobs, len(targets))
    if jobs <= 1:
        for target in targets:
            yield _check_one(target, on_bytes)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    spawn = multiprocessing.get_context("spawn")
    done = spawn.Value("q", 0)
    with ProcessPoolExecutor(jobs, spawn, _start_worker, (done,)) as pool:
        futures = [pool.submit(_check_in_worker, target) for target in targets]
        told = 0
        for future in futures:
            while not future.done():
                _wait_for(future)
                on_bytes(done.value - told)
                told = done.value
            yield future.result()


def _wait_for(future: Any) -> None:
    from concurrent.futures import wait

    wait([future], timeout=0.2)


def _check_one(target: Target, on_bytes: Callable[[int], None]) -> PartitionReport | OSError:
    try:
        return PartitionCheck(target.directory, target.expected, on_bytes=on_bytes).run(target.only)
    except OSError as error:
        return error


_bytes_done: Any = None


def _start_worker(done: Any) -> None:
    import signal

    global _bytes_done
    _bytes_done = done
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's business


def _check_in_worker(target: Target) -> PartitionReport | OSError:
    return _check_one(target, _count)


def _count(count: int) -> None:
    with _bytes_done.get_lock():
        _bytes_done.value += count

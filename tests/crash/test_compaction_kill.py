"""kill -9 of the broker and of its worker, and power losses, while a compacted topic is cleaned, again and again.

Each key is written, and now and then deleted, with a number that only rises. After every kill the newest record of a
key is the last one that was acknowledged, or one that was sent after it; no deleted value is back; no worker process
has outlived its broker.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ottla.log.names import CLEANED_SUFFIX, SWAP_SUFFIX
from ottla.records.batch import iter_batches
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from tests.crash.process import BrokerProcess
from tests.crash.volume import Volume, freeze, require_volumes
from tests.support.requests import create_topic, fetch, list_offset, produce
from tests.support.waiting import wait_until
from tests.support.wire import Wire

SEED = int(os.environ.get("OTTLA_TEST_SEED", "1"))
KILLS = int(os.environ.get("OTTLA_TEST_KILLS", "16"))
SETTINGS: dict[str, object] = {
    "log.cleaner.backoff.ms": 20,
    "log.cleaner.min.cleanable.ratio": 0.01,
    "log.cleaner.delete.retention.ms": 50,
    "log.cleaner.io.max.bytes.per.second": 150_000,
    "log.cleanup.policy": "compact",
    "log.segment.bytes": 4_000,
    "log.segment.delete.delay.ms": 0,
}
KEYS = 8
BURST = 60
NEEDS_PROC = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="needs /proc to find the workers"
)
MOMENT_DEADLINE_S = 3.0


class Keys:
    """What was sent and acknowledged of each key: the number of a record, negative for a tombstone."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.number = 0
        self.acknowledged: dict[int, int] = {}
        self.sent: dict[int, list[int]] = {key: [] for key in range(KEYS)}

    def send(self, wire: Wire) -> None:
        """Write or delete one key; raises ``OSError`` if the broker is gone."""
        self.number += 1
        key = self.chance.randrange(KEYS)
        dead = self.chance.random() < 0.2
        number = -self.number if dead else self.number
        value = None if dead else b"%d " % number + b"v" * 60
        batch = build_batch([(1, b"%d" % key, value, [("number", b"%d" % number)])])
        self.sent[key].append(number)
        answer = produce(wire, "t", bytes(batch))
        assert answer.error_code == 0
        self.acknowledged[key] = number

    def check(self, wire: Wire) -> int:
        """Read everything and compare; returns how many records there are."""
        newest: dict[int, int] = {}
        offset, end, count = 0, list_offset(wire, "t", -1).offset, 0
        while offset < end:
            content = fetch(wire, "t", offset).records
            for position, header in iter_batches(content):
                for record in decode_batch(content, position=position):
                    newest[int(record.key or b"")] = int(record.headers[0][1] or b"")
                    count += 1
                offset = header.next_offset
        for key, acknowledged in self.acknowledged.items():
            later = [n for n in self.sent[key] if abs(n) >= abs(acknowledged)]
            allowed = set(later)
            if key not in newest:
                assert any(n < 0 for n in later), f"key {key} is gone: {later}"
            else:
                assert newest[key] in allowed, f"key {key} is {newest[key]}, not of {later}"
            self.sent[key] = later
        return count


def names(broker: BrokerProcess, suffix: str) -> list[Path]:
    return [path for path in broker.data.glob("t-0/*") if path.name.endswith(suffix)]


def workers(broker: BrokerProcess) -> list[int]:
    """The processes of the broker, as the system lists them."""
    assert broker._process is not None
    children = Path(f"/proc/{broker._process.pid}/task/{broker._process.pid}/children")
    found: list[int] = []
    for task in children.parents[1].glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def compact_and_cut(
    broker: BrokerProcess, chance: random.Random, cuts: int, cut: Callable[[], None]
) -> set[str]:
    """Write, clean and ``cut`` the broker's life short, again and again; the moments that were met."""
    keys = Keys(chance)
    broker.start()
    seen: set[str] = set()
    try:
        broker.wait_until_ready()
        with Wire(broker.bootstrap) as wire:
            create_topic(wire, "t")
        for number in range(cuts):
            moment = ("cleaned", "swap", "worker", "some time")[number % 4]
            with suppress(OSError, EOFError), Wire(broker.bootstrap) as wire:
                keys.check(wire)
                for _ in range(BURST):
                    keys.send(wire)
                _await_moment(broker, moment, chance, seen)
                if moment == "worker":
                    for pid in workers(broker):
                        os.kill(pid, signal.SIGKILL)
                    for _ in range(BURST):
                        keys.send(wire)
            children = workers(broker)
            cut()
            wait_until(lambda: not any(runs(pid) for pid in children))  # noqa: B023
            broker.start()
            broker.wait_until_ready()
        with Wire(broker.bootstrap) as wire:
            keys.check(wire)
            for _ in range(BURST):
                keys.send(wire)
            wait_until(lambda: keys.check(wire) < keys.number / 2)
        assert b"Traceback" not in broker.printed()
        return seen
    finally:
        broker.kill()


@NEEDS_PROC
def test_killed_amid_compaction_every_key_has_its_newest_value(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", tmp_path / "broker.log", SETTINGS)
    seen = compact_and_cut(broker, random.Random(SEED), KILLS, broker.kill)
    assert {"cleaned", "worker"} <= seen


@NEEDS_PROC
@pytest.mark.interop
def test_power_loss_amid_compaction_leaves_every_keys_newest_value(tmp_path: Path) -> None:
    require_volumes()
    chance = random.Random(SEED)
    with Volume(tmp_path, 64) as volume:
        broker = BrokerProcess(volume.path / "data", tmp_path / "broker.log", SETTINGS)

        def cut() -> None:
            if chance.random() < 0.5:
                volume.write_back_some(chance)
            freeze(broker, amid_syncs=True)
            volume.lose_power()
            broker.kill()
            volume.power_on()

        seen = compact_and_cut(broker, chance, KILLS, cut)
        assert {"cleaned", "worker"} <= seen


def _await_moment(
    broker: BrokerProcess, moment: str, chance: random.Random, seen: set[str]
) -> None:
    suffix = {"cleaned": CLEANED_SUFFIX, "swap": SWAP_SUFFIX}.get(moment)

    def is_there() -> bool:
        if suffix is not None:
            return bool(names(broker, suffix))
        if moment == "worker":
            return bool(workers(broker) and names(broker, CLEANED_SUFFIX))
        return chance.random() < 0.05

    with suppress(AssertionError):  # the cleaner may have been through before anybody looked
        wait_until(is_there, MOMENT_DEADLINE_S)
        seen.add(moment)

"""The volume loses its power as a machine does: nobody is told that something is synced which is gone.

A plain program, no broker: threads append to files, sync, and tell how far. Where this fails, what the tests of
power loss find says nothing about a broker. The same for the volume whose syncs fail: a sync says yes, and what it
spoke for is there, or it says no.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.volume import ThinVolume, Volume, freeze, require_volumes
from tests.support.waiting import wait_until

ROUNDS = 8
FILES = 6
TOLD_AT_LEAST = 20
PROGRAM = """
import os, random, sys, threading

def append(path):
    chance, size = random.Random(path), 0
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    while True:  # or until a sync fails
        size += os.write(file, b"x" * chance.randrange(100, 2000))
        os.fdatasync(file)
        os.write(1, f"{path} {size}\\n".encode())

def replace(path):
    while True:
        file = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(file, bytes(100))
        os.fsync(file)
        os.close(file)
        os.rename(path + ".tmp", path)

for path in sys.argv[2:]:
    threading.Thread(target=append, args=[path]).start()
if sys.argv[1]:
    threading.Thread(target=replace, args=[sys.argv[1]]).start()
"""


class Program:
    """The program, running; what it has told lies in a file beside the volume."""

    def __init__(self, volume: Path, told: Path, *, replaces: bool = True) -> None:
        self.told = told
        replaced = str(volume / "replaced") if replaces else ""
        paths = [str(volume / f"appended-{number}") for number in range(FILES)]
        with told.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, replaced, *paths],
                stdout=output,
                stderr=subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def synced(self) -> dict[Path, int]:
        """How far each file is synced, as it was told."""
        lines = self.told.read_bytes().splitlines()
        return {Path(path.decode()): int(size) for path, size in map(bytes.split, lines)}


@pytest.mark.parametrize("amid_syncs", [True, False])
def test_what_a_program_was_told_is_synced_outlives_the_power_cut(
    tmp_path: Path, amid_syncs: bool
) -> None:
    require_volumes()
    chance = random.Random(1)
    with Volume(tmp_path, 256) as volume:
        for _ in range(ROUNDS):
            synced = cut(
                volume, tmp_path / "told", TOLD_AT_LEAST + chance.randrange(200), amid_syncs
            )
            assert synced
            assert {path: size for path, size in synced.items() if path.stat().st_size < size} == {}
            for path in synced:
                path.unlink()


def cut(volume: Volume, told: Path, enough: int, amid_syncs: bool) -> dict[Path, int]:
    """Run the program until it has told ``enough``, and cut the power; how far each file is synced."""
    program = Program(volume.path, told)
    try:
        wait_until(lambda: told.read_bytes().count(b"\n") >= enough)
        freeze(program, amid_syncs=amid_syncs)
        volume.lose_power()
        if not amid_syncs:  # from here on every sync fails, and is not told
            program.signal(signal.SIGCONT)
            wait_until(program.ended)
    finally:
        program.kill()
    volume.power_on()
    return program.synced()


def test_what_a_program_was_told_is_synced_outlives_a_disk_that_takes_no_more(
    tmp_path: Path,
) -> None:
    require_volumes()
    with ThinVolume(tmp_path) as volume:
        for _ in range(ROUNDS):
            synced = break_amid_appends(volume, tmp_path / "told")
            volume.forget()  # what is in memory only is not kept
            kept = {path: path.read_bytes()[:size] for path, size in synced.items()}
            assert {path: kept[path].count(b"x") for path in synced} == synced
            volume.mend()
            for path in synced:
                path.unlink()


def break_amid_appends(volume: ThinVolume, told: Path) -> dict[Path, int]:
    """Take the volume's room away from the program, and let it come to its end; how far each file is synced."""
    program = Program(volume.path, told, replaces=False)
    try:
        wait_until(lambda: len(program.synced()) == FILES)
        volume.break_writes()
        wait_until(program.ended)  # each thread with the first sync that failed
    finally:
        program.kill()
    return program.synced()

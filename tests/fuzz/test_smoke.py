"""A few thousand seeded inputs for each target, without coverage's guidance: what ``make fuzz`` runs must run.

``OTTLA_TEST_SEED`` chooses others.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import answers, files, messages, records, sockets
from tests.fuzz.judging import Judge

SEED = int(os.environ.get("OTTLA_TEST_SEED", "3"))
EXTREMES = (
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0" * 4,
    b"\xff" * 10,
    b"\x7f\xff",
)


def bent(chance: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds with one to four changes."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[place : place + 1] = bytes((chance.randrange(256),))
            case 1:
                value = chance.choice(EXTREMES)
                data[place : place + len(value)] = value
            case 2:
                data[place:place] = chance.randbytes(chance.randrange(1, 20))
            case 3:
                del data[place : place + chance.randrange(1, 20)]
            case _:
                data[place:] = chance.choice(seeds)[place:]
    return bytes(data)


@pytest.mark.parametrize(
    ("target", "bent_inputs", "whole_inputs"),
    [
        (messages, 6000, True),
        (records, 3000, True),
        (files, 500, True),
        (answers, 300, False),
        (sockets, 100, False),
    ],
    ids=lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "__name__") else "",
)
def test_no_input_does_what_it_must_not(
    target: Any, bent_inputs: int, whole_inputs: bool, tmp_path: Path
) -> None:
    judge = Judge(target.one, tmp_path)
    seeds = list(target.seeds())
    chance = random.Random(SEED)
    try:
        for data in seeds if whole_inputs else chance.sample(seeds, 60):
            judge(data)
        for _ in range(bent_inputs):
            judge(bent(chance, seeds))
    finally:
        close = getattr(target, "close", None)
        if close is not None:
            close()
    told = "\n".join(path.read_text("utf-8") for path in tmp_path.glob("*.txt"))
    assert not judge.findings, f"OTTLA_TEST_SEED={SEED}\n{told}"

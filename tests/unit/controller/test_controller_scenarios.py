"""Plays the transcripts in ``tests/scenarios/controller_*.txt``.

A block is commands, a line ``----``, and what is so after them; a blank line ends it. ``OTTLA_REWRITE_SCENARIOS=1``
puts what is so now in the place of what is written there. After a block stand the answers, then every partition as
the store has it (replicas, ``+`` those being added, ``-`` those being removed; leader, epoch, ISR), and then
brokers that were told to stop or delete replicas. Every broker that lives must know what the store has.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.controller.telling import Teller

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("controller_*.txt"))
REWRITE = bool(os.environ.get("OTTLA_REWRITE_SCENARIOS"))


class Transcript:
    """A file of blocks: what is done, and what is so then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._played: list[str] = []
        self.blocks = path.read_text().rstrip("\n").split("\n\n")

    def played(self, given: str, told: str) -> None:
        self._played.append(f"{given}\n----\n{told}".rstrip("\n") if told else f"{given}\n----")

    def passed(self, block: str) -> None:
        self._played.append(block)

    def rewrite(self) -> None:
        self._path.write_text("\n\n".join(self._played) + "\n")


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
async def test_scenario(cluster: Any, path: Path) -> None:
    teller, transcript = Teller(cluster), Transcript(path)
    for block in transcript.blocks:
        given, separator, expected = block.partition("\n----")
        commands = [line for line in given.split("\n") if line and not line.startswith("#")]
        for command in commands:
            await teller.say(command)
        if not commands:
            transcript.passed(block)
            continue
        told = "\n".join(await teller.told())
        transcript.played(given, told)
        if not REWRITE:
            assert separator, given
            assert told == expected.lstrip("\n"), given
    if REWRITE:
        transcript.rewrite()

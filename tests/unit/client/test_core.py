"""What a consumer makes of the application's wishes and of news, whatever came first; no broker is there."""

from __future__ import annotations

import asyncio

from ottla.client.consumer.core import ConsumerCore
from ottla.client.consumer.fetched import Chunk
from ottla.client.consumer.positions import EARLIEST_TIMESTAMP, LeaderAndEpoch, Phase
from ottla.client.consumer.settings import consumer_settings
from ottla.client.record import Record
from ottla.client.types import TopicPartition
from tests.unit.client.test_failover import SETTINGS

T0 = TopicPartition("t", 0)


def records_at(*offsets: int) -> list[Record]:
    return [Record(*T0, offset, 0, None, b"v", []) for offset in offsets]


def core_that_iterates(phase: Phase) -> ConsumerCore:
    """The application has the first of three records in its hands; the others have been fetched."""
    core = ConsumerCore(SETTINGS, consumer_settings(None))
    core.positions.assign([T0])
    state = core.positions.get(T0)
    state.leader = LeaderAndEpoch(1, 3)
    state.seek(5, 3)
    core.cursor.load([Chunk(state, state.version, records_at(5, 6, 7), 8, 3)])
    state.fetch_offset = 8
    core.cursor.next_record()
    state.phase = phase
    return core


def test_a_pause_leaves_what_was_sought_to_be_found() -> None:
    async def play() -> None:
        core = core_that_iterates(Phase.FETCH)
        state = core.positions.get(T0)
        state.request_reset(EARLIEST_TIMESTAMP)
        core.pause([T0])
        assert state.phase is Phase.RESET
        state.seek(2)
        core.pause([T0])
        assert (state.phase, state.position) == (Phase.FETCH, 2)

    asyncio.run(play())


def test_a_pause_takes_no_doubt_away() -> None:
    """A newer leader is being asked whether it has what was read."""

    async def play() -> None:
        core = core_that_iterates(Phase.VALIDATE)
        state = core.positions.get(T0)
        core.pause([T0])
        assert (state.phase, state.fetch_offset, state.fetch_epoch) == (Phase.VALIDATE, 6, 3)

    asyncio.run(play())

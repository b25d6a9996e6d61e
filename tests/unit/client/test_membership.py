"""A member's place in its group is not lost while its application goes on."""

from __future__ import annotations

import itertools
from typing import Any, cast

from ottla.client.consumer.cursor import Cursor
from ottla.client.consumer.fetched import Chunk
from ottla.client.consumer.membership import Membership
from ottla.client.consumer.positions import PartitionState
from ottla.client.consumer.settings import consumer_settings
from ottla.client.record import Record
from ottla.client.types import TopicPartition


def cursor_over(*counts: int) -> Cursor:
    """A cursor before chunks of so many records each."""
    cursor = Cursor()
    state = PartitionState(TopicPartition("t", 0))
    chunks, offset = [], 0
    for count in counts:
        records = [
            Record(
                topic="t",
                partition=0,
                offset=offset + index,
                timestamp_ms=0,
                key=None,
                value=b"",
                headers=[],
            )
            for index in range(count)
        ]
        offset += count
        chunks.append(Chunk(state, state.version, records, offset, 0))
    cursor.load(chunks)
    return cursor


def test_the_place_of_an_iteration_is_another_after_every_record() -> None:
    cursor = cursor_over(3, 2)
    places = [cursor.place]
    while cursor.next_record() is not None:
        places.append(cursor.place)
    assert len(places) == 6
    assert all(one != other for one, other in itertools.pairwise(places))


def test_who_goes_from_record_to_record_is_alive_however_long_the_poll_is_away() -> None:
    settings = consumer_settings("g")
    member = Membership(cast("Any", None), cast("Any", None), settings, lambda: None)
    cursor = cursor_over(2)
    member.iteration = lambda: cursor.place
    member.note_life()
    member.last_poll = 0.0
    member.note_life()
    assert member.last_poll == 0.0  # it stands still
    cursor.next_record()
    member.note_life()
    assert member.last_poll > 0.0


def test_who_waits_in_a_poll_is_alive_and_has_all_its_time_when_the_wait_ends() -> None:
    settings = consumer_settings("g")
    member = Membership(cast("Any", None), cast("Any", None), settings, lambda: None)
    member.note_life()
    with member.waiting(), member.waiting():
        member.last_poll = 0.0
        member.note_life()
        assert member.last_poll > 0.0
        member.last_poll = 0.0
    assert member.last_poll > 0.0
    member.last_poll = 0.0
    member.note_life()
    assert member.last_poll == 0.0

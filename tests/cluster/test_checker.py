"""The checkers find each fault that is planted in a history, in ZooKeeper's states and in files, and none elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ottla.records.batch import stamp
from ottla.records.builder import build_batch
from tests.cluster.checker import Log, State, check_history, check_states
from tests.cluster.history import (
    NOWHERE,
    Acknowledged,
    Event,
    Order,
    Read,
    Sent,
    Watermark,
)
from tests.cluster.replica_files import check_replicas, read_replica
from tests.crash.checker import Found, Mark

PLACE = ("t", 0)
ORDERS = {
    "a": Order.ONCE,
    "b": Order.ONCE,
    "n": Order.FIRST_COPIES,
    "l": Order.NONE,
    "e": Order.ONCE_AN_EPOCH,
}


class Story:
    """A good history of 20 records by two producers in turn, all acknowledged and read; for tests to spoil."""

    def __init__(self) -> None:
        self.found = [Found(offset, Mark("ab"[offset % 2], offset // 2)) for offset in range(20)]
        self.events: list[Event] = []
        for offset, mark in self.found:
            self.events.append(Sent(offset, PLACE, mark))
            self.events.append(Acknowledged(offset + 0.1, PLACE, offset, mark))
            self.events.append(Read(offset + 0.2, "reader", PLACE, offset, mark))
            asked, answered = offset + 0.15, offset + 0.25
            self.events.append(Watermark(asked, answered, PLACE, 3, offset + 1, offset))
            self.events.append(Watermark(asked, answered, PLACE, None, offset + 1))
        self.end = 20
        self.epochs: dict[int, tuple[int, int]] = {}

    def kinds(self) -> set[str]:
        """The kinds of violation that the checker finds."""
        log = Log(self.found, self.end, self.epochs)
        faults = check_history(self.events, ORDERS, {PLACE: log})
        return {fault.partition(":")[0] for fault in faults}

    def drop(self, kind: type[Event], offset: int) -> None:
        """Forget an event of the record at an offset."""
        self.events = [
            event
            for event in self.events
            if not (isinstance(event, kind) and getattr(event, "offset", None) == offset)
        ]


def test_a_faultless_history_has_no_violation() -> None:
    assert Story().kinds() == set()


def test_what_was_neither_acknowledged_nor_read_may_be_missing_or_there() -> None:
    story = Story()
    story.events.append(Sent(30.0, PLACE, Mark("a", 10)))
    assert story.kinds() == set()
    story.found.append(Found(20, Mark("a", 10)))
    story.end = 21
    assert story.kinds() == set()


def test_a_lost_acknowledged_record_is_found() -> None:
    story = Story()
    story.drop(Read, 19)
    del story.found[19]
    story.end = 19
    assert story.kinds() == {"lost"}


def test_an_acknowledged_record_at_another_offset_is_lost() -> None:
    story = Story()
    story.drop(Acknowledged, 18)
    story.events.append(Acknowledged(50.0, PLACE, 19, Mark("a", 9)))
    assert story.kinds() == {"lost", "diverged"}


def test_a_record_acknowledged_without_an_offset_has_to_be_somewhere() -> None:
    story = Story()
    story.drop(Acknowledged, 19)
    story.events.append(Acknowledged(50.0, PLACE, NOWHERE, Mark("b", 9)))
    assert story.kinds() == set()
    story.drop(Read, 19)
    del story.found[19]
    story.end = 19
    assert story.kinds() == {"lost"}


def test_a_record_that_was_read_and_is_gone_has_vanished() -> None:
    story = Story()
    story.drop(Acknowledged, 19)
    del story.found[19]
    story.end = 19
    assert story.kinds() == {"vanished"}


def test_two_values_at_one_offset_are_found_whoever_saw_them() -> None:
    story = Story()
    story.events.append(Read(7.2, "other", PLACE, 7, Mark("a", 3)))
    assert story.kinds() == {"diverged"}


def test_two_readers_who_were_given_different_records_are_found_though_neither_is_there() -> None:
    story = Story()
    for reader, mark in (("x", Mark("a", 10)), ("y", Mark("b", 10))):
        story.events.append(Sent(30.0, PLACE, mark))
        story.events.append(Read(31.0, reader, PLACE, 20, mark))
    assert story.kinds() == {"vanished", "diverged"}


def test_a_record_of_an_idempotent_producer_that_is_there_twice_is_found() -> None:
    story = Story()
    story.found.append(Found(20, Mark("a", 9)))
    story.end = 21
    assert story.kinds() == {"doubled"}


@pytest.mark.parametrize(("epochs", "kinds"), [((0, 0, 1), set()), ((0, 0, 0), {"doubled"})])
def test_what_comes_again_in_a_new_epoch_of_its_producer_was_sent_again(
    epochs: tuple[int, ...], kinds: set[str]
) -> None:
    story = Story()
    for at, (number, epoch) in enumerate(zip((0, 1, 1), epochs, strict=True)):
        mark = Mark("e", number)
        story.found.append(Found(20 + at, mark))
        story.epochs[20 + at] = (1000, epoch)
        story.events.append(Sent(20, PLACE, mark))
    story.end = 23
    assert story.kinds() == kinds


def test_a_producer_that_is_not_idempotent_may_have_a_record_there_twice() -> None:
    story = Story()
    story.events.append(Sent(30.0, PLACE, Mark("n", 0)))
    story.found += [Found(20, Mark("n", 0)), Found(21, Mark("n", 0))]
    story.end = 22
    assert story.kinds() == set()


def test_records_in_another_order_than_they_were_sent_in_are_found() -> None:
    story = Story()
    story.events += [Sent(30.0, PLACE, Mark("n", number)) for number in range(2)]
    story.found += [Found(20, Mark("n", 1)), Found(21, Mark("n", 0))]
    story.end = 22
    assert story.kinds() == {"reordered"}


def test_a_producer_that_promises_no_order_may_have_its_records_in_any() -> None:
    story = Story()
    story.events += [Sent(30.0, PLACE, Mark("l", number)) for number in range(2)]
    story.found += [Found(20 + at, Mark("l", number)) for at, number in enumerate((1, 0, 1))]
    story.end = 23
    assert story.kinds() == set()


def test_an_idempotent_producers_missing_record_before_a_later_one_is_found() -> None:
    story = Story()
    story.events += [Sent(30.0, PLACE, Mark("a", number)) for number in (10, 11)]
    story.found.append(Found(20, Mark("a", 11)))
    story.end = 21
    assert story.kinds() == {"gap"}


def test_offsets_with_a_hole_are_found() -> None:
    story = Story()
    story.events.append(Sent(30.0, PLACE, Mark("a", 10)))
    story.found.append(Found(21, Mark("a", 10)))
    story.end = 22
    assert story.kinds() == {"gap"}


def test_a_log_that_ends_before_its_high_watermark_is_found() -> None:
    story = Story()
    story.end = 21
    assert story.kinds() == {"gap"}


def test_a_record_that_nobody_sent_is_found_wherever_it_shows() -> None:
    story = Story()
    story.found.append(Found(20, Mark("stranger", 0)))
    story.end = 21
    assert story.kinds() == {"phantom"}
    story = Story()
    story.events.append(Read(40.0, "reader", PLACE, 20, Mark("stranger", 0)))
    assert story.kinds() == {"phantom", "vanished"}


def test_a_record_in_another_partition_than_it_was_sent_to_is_found() -> None:
    story = Story()
    story.events.append(Sent(30.0, ("t", 1), Mark("a", 50)))
    story.found.append(Found(20, Mark("a", 50)))
    story.end = 21
    logs = {PLACE: Log(story.found, 21), ("t", 1): Log([], 0)}
    faults = check_history(story.events, ORDERS, logs)
    assert {fault.partition(":")[0] for fault in faults} == {"phantom"}


@pytest.mark.parametrize("leader_epoch", [3, None])
def test_a_high_watermark_that_goes_back_is_found(leader_epoch: int | None) -> None:
    story = Story()
    story.events.append(Watermark(40.0, 40.1, PLACE, leader_epoch, 19))
    assert story.kinds() == {"watermark"}


def test_a_new_leaders_high_watermark_may_be_behind_that_of_the_old_one() -> None:
    story = Story()
    story.events.append(Watermark(40.0, 40.1, PLACE, 4, 15))
    assert story.kinds() == set()


def test_answers_that_overtake_each_other_say_nothing_of_the_high_watermark() -> None:
    story = Story()
    story.events.append(Watermark(1.0, 40.1, PLACE, 3, 2))
    assert story.kinds() == set()


def test_a_record_at_the_high_watermark_that_came_with_it_is_found() -> None:
    story = Story()
    story.events.append(Watermark(40.0, 40.1, PLACE, 3, 20, last_read=20))
    assert story.kinds() == {"watermark"}


def test_a_reader_that_is_not_given_a_record_is_found() -> None:
    story = Story()
    story.drop(Read, 8)
    assert story.kinds() == {"skipped"}


def test_a_reader_that_is_given_a_record_again_is_found() -> None:
    story = Story()
    story.events.append(Read(40.0, "reader", PLACE, 19, Mark("b", 9)))
    assert story.kinds() == {"repeated"}


# ZooKeeper's states


def state(version: int, leader: int, epoch: int, *isr: int) -> State:
    """A state of the partition on brokers 1, 2 and 3."""
    return State(PLACE, version, leader, epoch, isr, (1, 2, 3))


GOOD_STATES = [
    state(0, 1, 0, 1, 2, 3),
    state(1, 1, 0, 1, 2),
    state(2, 2, 1, 2),
    state(3, -1, 2, 2),
    state(4, 2, 3, 2),
    state(5, 2, 3, 2, 1, 3),
]


def test_a_faultless_course_of_leaders_has_no_violation() -> None:
    assert check_states(GOOD_STATES) == []


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        (state(6, 1, 2, 1, 2), "epoch"),  # an epoch that falls
        (state(6, 3, 3, 1, 2, 3), "epoch"),  # another leader in the same epoch
        (state(4, 2, 3, 2, 3), "epoch"),  # a state that is older than one seen before
        (state(6, 1, 4, 2, 3), "leader"),  # a leader outside of the ISR
        (state(6, 2, 3, 2, 4), "leader"),  # an ISR with a stranger
    ],
)
def test_a_course_of_leaders_that_cannot_be_is_found(planted: State, kind: str) -> None:
    (fault, *_) = check_states([*GOOD_STATES, planted])
    assert fault.startswith(f"{kind}:")


def test_an_unclean_election_is_found_unless_it_is_allowed() -> None:
    states = [*GOOD_STATES[:3], state(3, 3, 2, 3)]
    assert [fault.partition(":")[0] for fault in check_states(states)] == ["leader"]
    assert check_states(states, unclean_allowed=True) == []


# Files


def log(*epochs: int, skip: int = 0, **fields: int) -> bytearray:
    """A log of batches of two records each, one a leader epoch given."""
    data = bytearray()
    for number, epoch in enumerate(epochs):
        batch = build_batch([(1_700_000_000_000, None, b"%d" % number, ())] * 2, **fields)
        stamp(batch, 2 * number + (skip if number else 0), epoch)
        data += batch
    return data


def violations(tmp_path: Path, *logs: bytearray, high_watermark: int = 6) -> set[str]:
    """The kinds of violation between replicas with these logs."""
    replicas = []
    for broker, data in enumerate(logs, 1):
        directory = tmp_path / str(broker)
        directory.mkdir()
        (directory / f"{0:020}.log").write_bytes(data)
        replicas.append(read_replica(broker, directory))
    faults = check_replicas(PLACE, replicas, high_watermark)
    return {fault.partition(":")[0] for fault in faults}


def test_equal_files_have_no_violation_wherever_their_segments_begin(tmp_path: Path) -> None:
    data = log(0, 0, 2)
    assert violations(tmp_path, data, log(0, 0, 2), data) == set()
    size = len(data) // 3
    rolled = tmp_path / "rolled"
    rolled.mkdir()
    (rolled / f"{0:020}.log").write_bytes(data[:size])
    (rolled / f"{2:020}.log").write_bytes(data[size:])
    one, other = read_replica(1, tmp_path / "1"), read_replica(2, rolled)
    assert check_replicas(PLACE, [one, other], 6) == []


def test_what_lies_above_the_high_watermark_may_differ_in_epochs(tmp_path: Path) -> None:
    assert violations(tmp_path, log(0, 0, 1), log(0, 0, 2), log(0, 0), high_watermark=4) == set()


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda: log(0, 0, 3), "differ"),  # another leader's batch
        (lambda: log(0, 0, 2, base_sequence=7, producer_id=1, producer_epoch=0), "differ"),
        (lambda: log(0, 0), "short"),
        (lambda: log(0, 3, 2), "epoch"),
        (lambda: log(0, 0, 2, skip=1), "gap"),
        (lambda: log(0, 0, 2)[:-1], "damaged"),
        (lambda: log(0, 0, 2)[:-1] + b"?", "damaged"),
    ],
)
def test_a_file_that_is_not_like_the_others_is_found(
    spoil: Callable[[], bytearray], kind: str, tmp_path: Path
) -> None:
    assert kind in violations(tmp_path, log(0, 0, 2), spoil())


def test_two_leaders_that_appended_in_one_epoch_are_found_above_the_high_watermark(
    tmp_path: Path,
) -> None:
    other = log(0, 0, 2, base_sequence=7, producer_id=1, producer_epoch=0)
    assert violations(tmp_path, log(0, 0, 2), other, high_watermark=4) == {"differ"}

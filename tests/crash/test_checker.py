"""The checker finds each fault that is planted, and none in a history without one."""

from __future__ import annotations

import pytest

from tests.crash.checker import CommittedOffsets, Found, History, Mark, Topics

PLACE = ("t", 0)


def written(count: int, acknowledged: int) -> tuple[History, list[Found]]:
    """A history of ``count`` records by two producers in turn, the first ``acknowledged`` acknowledged."""
    history = History()
    log = []
    for offset in range(count):
        mark = history.send(PLACE, "ab"[offset % 2])
        log.append(Found(offset, mark))
        if offset < acknowledged:
            history.acknowledge(PLACE, offset, mark)
    return history, log


def faults(history: History, log: list[Found], start: int = 0, end: int | None = None) -> list[str]:
    """What the checker says of a reading."""
    high_watermark = start + len(log) if end is None else end
    return history.begin_reading(PLACE).finish(start, log, high_watermark)


def kinds(found: list[str]) -> set[str]:
    """The kinds of fault."""
    return {fault.partition(":")[0] for fault in found}


def test_a_faultless_history_has_no_violation() -> None:
    history, log = written(20, 20)
    assert faults(history, log) == []
    assert history.missing([PLACE]) == []


def test_what_is_not_acknowledged_may_be_missing_until_the_end() -> None:
    history, log = written(20, 10)
    assert faults(history, log[:13]) == []
    assert kinds(history.missing([PLACE])) == {"lost"}


def test_reading_on_from_where_the_last_one_ended_is_enough() -> None:
    history, log = written(20, 15)
    assert faults(history, log[:15]) == []
    assert history.next_offset(PLACE) == 15
    assert faults(history, log[15:], start=15) == []
    assert history.missing([PLACE]) == []


def test_a_lost_record_is_found() -> None:
    history, log = written(20, 20)
    assert "lost: t-0 19, Mark(producer='b', number=9), acknowledged" in faults(history, log[:-1])


def test_a_record_that_is_acknowledged_without_an_offset_has_to_be_somewhere() -> None:
    history, log = written(20, 0)
    history.acknowledge(PLACE, -1, log[19].mark)
    assert faults(history, log) == []
    history, log = written(20, 0)
    history.acknowledge(PLACE, -1, log[19].mark)
    assert kinds(faults(history, log[:-1])) == {"lost"}


def test_an_acknowledgement_while_a_reader_reads_is_not_held_against_it() -> None:
    history, log = written(20, 10)
    reading = history.begin_reading(PLACE)
    history.acknowledge(PLACE, 15, log[15].mark)
    assert reading.finish(0, log[:12], 12) == []
    assert kinds(faults(history, log[:12])) == {"lost"}


def test_what_a_reader_has_seen_may_not_go_away_even_if_nobody_was_told() -> None:
    history, log = written(20, 0)
    assert faults(history, log) == []
    assert kinds(faults(history, log[:-1])) == {"lost"}


def test_a_changed_record_is_found() -> None:
    history, log = written(20, 20)
    log[7], log[8] = Found(7, log[8].mark), Found(8, log[7].mark)
    assert kinds(faults(history, log)) == {"changed"}


def test_a_record_that_differs_from_what_was_seen_is_found() -> None:
    history, log = written(20, 0)
    assert faults(history, log[:10]) == []
    assert kinds(faults(history, [Found(0, log[2].mark), *log[1:10]])) == {"changed"}


def test_an_offset_that_is_acknowledged_twice_is_found() -> None:
    history, log = written(20, 20)
    history.acknowledge(PLACE, 3, Mark("a", 4711))
    assert kinds(faults(history, log)) == {"changed"}


@pytest.mark.parametrize("acknowledged", [0, 20])
def test_a_doubled_record_is_found(acknowledged: int) -> None:
    history, log = written(20, acknowledged)
    doubled = [*log, Found(20, log[18].mark)]
    assert kinds(faults(history, doubled)) == {"doubled"}


def test_an_offset_that_comes_twice_is_found() -> None:
    history, log = written(20, 20)
    assert "doubled" in kinds(faults(history, [*log[:5], *log[4:]], end=20))


def test_a_gap_in_the_offsets_is_found() -> None:
    history, log = written(20, 0)
    moved = [*log[:10], *(Found(offset + 1, mark) for offset, mark in log[10:])]
    assert kinds(faults(history, moved, end=21)) == {"gap"}


def test_a_gap_in_a_producers_numbers_is_found() -> None:
    history, log = written(20, 0)
    without = [Found(n, record.mark) for n, record in enumerate(log[:4] + log[5:])]
    assert kinds(faults(history, without)) == {"gap"}


def test_records_out_of_order_are_found() -> None:
    history, log = written(20, 0)
    marks = [record.mark for record in log]
    marks[4], marks[6] = marks[6], marks[4]
    assert kinds(faults(history, [Found(n, mark) for n, mark in enumerate(marks)])) == {
        "gap",
        "doubled",
    }


def test_a_log_that_ends_before_its_high_watermark_is_found() -> None:
    history, log = written(20, 0)
    assert kinds(faults(history, log, end=21)) == {"gap"}


def test_a_record_that_nobody_sent_is_found() -> None:
    history, log = written(20, 20)
    assert kinds(faults(history, [*log, Found(20, Mark("a", 10))])) == {"phantom"}
    assert kinds(faults(History(), [Found(0, Mark("nobody", 0))])) == {"phantom"}


def test_a_mark_survives_its_encoding_and_padding() -> None:
    mark = Mark("producer-1", 17)
    assert Mark.decode(mark.encode()) == mark
    assert Mark.decode(mark.encode() + b" " + b"x" * 100) == mark


def test_committed_offsets_may_lie_between_what_was_promised_and_what_was_tried() -> None:
    offsets = CommittedOffsets()
    for _ in range(5):
        offsets.acknowledge(offsets.attempt())
    offsets.attempt()
    assert offsets.check(offsets.acknowledged, 5) == []
    assert offsets.check(offsets.acknowledged, 6) == []
    assert kinds(offsets.check(offsets.acknowledged, 4)) == {"lost"}
    assert kinds(offsets.check(offsets.acknowledged, 5)) == {"lost"}, "6 has been seen"
    assert kinds(offsets.check(offsets.acknowledged, 7)) == {"phantom"}


def test_topics_are_as_they_were_promised() -> None:
    topics = Topics()
    for name in ("kept", "gone", "half", "half-gone"):
        topics.begin(name)
    topics.created("kept", b"1")
    topics.created("gone", b"2")
    topics.created("half-gone", b"3")
    topics.begin("gone")
    topics.deleted("gone")
    topics.begin("half-gone")

    def check(there: dict[str, bytes]) -> list[str]:
        return topics.check(topics.promised(), there)

    assert check({"kept": b"1"}) == []
    assert check({"kept": b"1", "half": b"9", "half-gone": b"3"}) == []
    assert kinds(check({})) == {"lost"}
    assert kinds(check({"kept": b"5"})) == {"changed"}
    assert kinds(check({"kept": b"1", "gone": b"2"})) == {"phantom"}


def test_what_happens_to_topics_while_they_are_asked_for_may_be_seen_or_not() -> None:
    topics = Topics()
    topics.begin("old")
    topics.created("old", b"1")
    promised = topics.promised()
    topics.begin("new")
    topics.created("new", b"2")
    topics.begin("old")
    topics.deleted("old")
    assert topics.check(promised, {}) == []
    assert topics.check(promised, {"old": b"1", "new": b"2"}) == []
    assert kinds(topics.check(topics.promised(), {})) == {"lost"}

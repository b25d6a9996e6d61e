"""The same questions to Ottla and to Apache Kafka, as frames: what differs is fixed, or has its reason here.

``answers/`` has the questions; each is asked in every version that has something to say. A difference that
is not in ``DIFFERENCES`` fails, and so does one that is there no longer: neither broker changes unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase

import pytest

from ottla.testing import Broker
from tests.interop.answers import administering, groups, producing, reading, settings, topics
from tests.interop.answers.asking import Asker, Question, differences
from tests.interop.answers.known import ANYTHING, DIFFERENCES
from tests.interop.requirements import leave_out
from tests.support.apache_kafka import SETTINGS as NODE_SETTINGS
from tests.support.apache_kafka import Node
from tests.support.java import MissingTool

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("apache-kafka")]

# What Apache Kafka's node is started with, as far as Ottla's defaults are others.
SETTINGS = {
    name: value
    for name, value in NODE_SETTINGS.items()
    if name
    in ("num.partitions", "group.min.session.timeout.ms", "group.initial.rebalance.delay.ms")
}
ROOMS = (producing, reading, topics, settings, groups, administering)
QUESTIONS = {
    f"{room.__name__.rpartition('.')[2]}.{question.__name__}": question
    for room in ROOMS
    for question in room.QUESTIONS
}


@pytest.fixture(scope="module")
def brokers() -> Iterator[tuple[str, str]]:
    """Ours and theirs."""
    with ExitStack() as stack:
        try:
            theirs = stack.enter_context(Node())
        except MissingTool as missing:
            leave_out(str(missing))
        ours = stack.enter_context(Broker(SETTINGS))
        yield ours.bootstrap, theirs.bootstrap


@pytest.mark.parametrize("name", QUESTIONS)
def test_both_brokers_answer_alike(name: str, brokers: tuple[str, str]) -> None:
    found = differences(*(answers(QUESTIONS[name], bootstrap) for bootstrap in brokers))
    known = [difference for difference in DIFFERENCES if difference.question == name]
    news = []
    unused = set(known)
    for place, (ours, theirs) in found.items():
        for difference in known:
            if (
                fnmatchcase(place, difference.place)
                and difference.ours in (repr(ours), ANYTHING)
                and difference.theirs in (repr(theirs), ANYTHING)
            ):
                unused.discard(difference)
                break
        else:
            news.append(f"{place}: ours {ours!r}, theirs {theirs!r}")
    assert not news, "\n".join(news)
    assert not unused, "no longer different: " + ", ".join(each.place for each in unused)


def test_every_known_difference_belongs_to_a_question() -> None:
    assert {difference.question for difference in DIFFERENCES} <= set(QUESTIONS)
    assert all(difference.reason for difference in DIFFERENCES)


def answers(question: Question, bootstrap: str) -> dict[str, object]:
    """What a broker says to a question."""
    asker = Asker(bootstrap)
    try:
        question(asker)
    finally:
        asker.close()
    assert asker.answers
    return asker.answers

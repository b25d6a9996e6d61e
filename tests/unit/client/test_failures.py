"""What went wrong in the background is told once, and only while it concerns anybody."""

from __future__ import annotations

from ottla.client.consumer.failures import Failures
from ottla.client.consumer.positions import PartitionState
from ottla.client.errors import ErrorCode, KafkaError, LogTruncated
from ottla.client.types import TopicPartition

T0, T1 = (TopicPartition("t", number) for number in range(2))


def told_by(failures: Failures) -> list[KafkaError]:
    told = []
    while True:
        try:
            failures.raise_next()
        except KafkaError as error:
            told.append(error)
        else:
            return told


def test_a_failure_that_comes_again_before_a_poll_is_told_once() -> None:
    """Else who polls more seldom than is retried hears of it for ever, and remembers ever more of it."""
    failures = Failures()
    states = [PartitionState(T0), PartitionState(T1)]
    for _ in range(3):
        for state in states:
            failures.add(KafkaError(ErrorCode.TOPIC_AUTHORIZATION_FAILED), [state])
    failures.add(KafkaError(ErrorCode.CORRUPT_MESSAGE), states[:1])
    assert [error.code for error in told_by(failures)] == [
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.CORRUPT_MESSAGE,
    ]
    failures.add(KafkaError(ErrorCode.CORRUPT_MESSAGE), states[:1])
    assert len(told_by(failures)) == 1


def test_failures_that_concern_no_position_are_all_told() -> None:
    failures = Failures()
    for partition in (T0, T1):
        failures.add(LogTruncated({partition: 5}))
    assert len(told_by(failures)) == 2

"""Altering settings while the broker runs."""

from __future__ import annotations

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.settings.alter import (
    APPEND,
    DELETE,
    SET,
    SUBTRACT,
    Operation,
    alter_broker_overrides,
    alter_topic_overrides,
)
from ottla.settings.definitions import BrokerConfig

BROKER = BrokerConfig.of()


def _topic_refusal(current: dict[str, str], *operations: Operation) -> tuple[ErrorCode, str]:
    before = dict(current)
    with pytest.raises(KafkaError) as caught:
        alter_topic_overrides(BROKER, current, operations)
    assert current == before
    return caught.value.code, str(caught.value.message)


def test_operations_change_what_they_name_and_nothing_else() -> None:
    current = {"retention.ms": "1", "segment.bytes": "100"}
    result = alter_topic_overrides(
        BROKER,
        current,
        [
            Operation("retention.ms", SET, "2"),
            Operation("segment.bytes", DELETE),
            Operation("flush.ms", DELETE),
        ],
    )
    assert result == {"retention.ms": "2"}
    assert current == {"retention.ms": "1", "segment.bytes": "100"}


def test_lists_are_appended_to_and_subtracted_from_what_holds_now() -> None:
    def alter(current: dict[str, str], kind: int, value: str) -> str:
        operation = Operation("cleanup.policy", kind, value)
        return alter_topic_overrides(BROKER, current, [operation])["cleanup.policy"]

    assert alter({}, APPEND, "compact") == "delete,compact"
    assert alter({"cleanup.policy": "compact"}, APPEND, "compact,delete") == "compact,delete"
    assert alter({"cleanup.policy": "compact,delete"}, SUBTRACT, "delete") == "compact"
    assert alter({"cleanup.policy": "compact"}, SUBTRACT, "delete") == "compact"


def test_operations_that_make_no_sense_are_invalid_requests() -> None:
    assert _topic_refusal(
        {}, Operation("retention.ms", SET, "1"), Operation("retention.ms", DELETE)
    ) == (
        ErrorCode.INVALID_REQUEST,
        "Error due to duplicate config keys",
    )
    assert _topic_refusal({}, Operation("retention.ms", SET), Operation("flush.ms", APPEND)) == (
        ErrorCode.INVALID_REQUEST,
        "Null value not supported for : retention.ms, flush.ms",
    )
    code, message = _topic_refusal({}, Operation("retention.ms", 9, "1"))
    assert (code, message) == (
        ErrorCode.INVALID_REQUEST,
        "Unknown operation type 9 for retention.ms",
    )


def test_values_that_can_not_be_are_invalid_config() -> None:
    for operation, message in [
        (Operation("retention.ms", SET, "x"), "Not a number of type LONG"),
        (Operation("bananas", SET, "x"), "Unknown topic config name: bananas"),
        (Operation("retention.ms", APPEND, "1"), "Config value append is not allowed"),
        (Operation("retention.ms", SUBTRACT, "1"), "Config value subtract is not allowed"),
        (Operation("cleanup.policy", APPEND, "shred"), "String must be one of"),
        (Operation("min.compaction.lag.ms", SET, str(2**63 - 1)), None),
    ]:
        if message is None:
            assert alter_topic_overrides(BROKER, {}, [operation])
            continue
        code, text = _topic_refusal({}, operation)
        assert code is ErrorCode.INVALID_CONFIG
        assert message in text


def test_a_stored_override_that_nobody_knows_any_more_is_no_obstacle_and_can_go() -> None:
    stored = {"shiny": "1"}
    assert alter_topic_overrides(BROKER, stored, [Operation("flush.ms", SET, "5")]) == {
        "shiny": "1",
        "flush.ms": "5",
    }
    assert alter_topic_overrides(BROKER, stored, [Operation("shiny", DELETE)]) == {}


def test_a_broker_is_altered_alone_or_with_all_others() -> None:
    broker = BrokerConfig.of().with_dynamic(
        {"min.insync.replicas": "9"}, {"message.max.bytes": "50"}
    )
    operations = [Operation("message.max.bytes", SET, "60")]
    assert alter_broker_overrides(broker, operations, this_broker=True) == {
        "message.max.bytes": "60"
    }
    assert alter_broker_overrides(broker, operations, this_broker=False) == {
        "min.insync.replicas": "9",
        "message.max.bytes": "60",
    }


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (
            Operation("num.partitions", SET, "2"),
            "Cannot update these configs dynamically: num.partitions",
        ),
        (Operation("min.insync.replicas", SET, "x"), "Not a number of type INT"),
        (Operation("min.insync.replica", SET, "1"), "did you mean min.insync.replicas?"),
        (Operation("log.cleanup.policy", APPEND, "shred"), "String must be one of"),
        (Operation("log.retention.ms", SET, "0"), "must be -1"),
    ],
)
def test_a_broker_refuses_as_kafka_does(operation: Operation, message: str) -> None:
    with pytest.raises(KafkaError) as caught:
        alter_broker_overrides(BROKER, [operation], this_broker=True)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert message in str(caught.value)

"""Error codes as they come over the wire."""

from __future__ import annotations

import pytest

from ottla.errors import ErrorCode, KafkaError


@pytest.mark.parametrize("number", [-256, -2, 999, 32767])
def test_a_code_that_is_not_known_is_an_unknown_server_error(number: int) -> None:
    assert ErrorCode(number) is ErrorCode.UNKNOWN_SERVER_ERROR
    error = KafkaError(number, "why")
    assert error.code is ErrorCode.UNKNOWN_SERVER_ERROR
    assert not error.retriable
    assert error.message == f"error code {number}: why"


def test_what_is_no_number_is_no_error_code() -> None:
    with pytest.raises(ValueError):
        ErrorCode("NONE")

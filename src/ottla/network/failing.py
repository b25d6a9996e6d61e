"""Answers to requests that cannot be handled: of a version that is not spoken, or whose handler raised.

Rule: what went wrong inside is told to the log, and to the peer a code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.registry import API_VERSIONS
from ottla.network.request import Joined, Request, Run
from ottla.wire.schema import Message

log = logger(__name__)

ErrorResponse: TypeAlias = Callable[[Request, KafkaError], Message | None]


def error_answer(
    error_response: ErrorResponse | None,
    request: Request | Run | Joined,
    peer: str,
    error: Exception,
) -> tuple[ErrorCode, Message | None]:
    """The code for what a handler raised, and the answer that tells it; ``None`` if there is none."""
    if not isinstance(error, KafkaError):
        log.error(
            "a request failed",
            error=error,
            api_key=request.api_key,
            api_version=request.api_version,
            peer=peer,
        )
        error = KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
    message = None
    if error_response is not None and isinstance(request, Request):
        try:
            message = error_response(request, error)
        except Exception as second:
            log.error("no answer could be made of an error", error=second)
    return error.code, message


def refusal(key: int, supported: tuple[int, int] | None) -> Message | None:
    """The answer to a version that is not spoken: of ApiVersions its version 0 (KIP-511), of all else none."""
    if key != API_VERSIONS or supported is None:
        return None
    from ottla.messages.api_versions import ApiVersion, ApiVersionsResponse

    return ApiVersionsResponse(
        error_code=ErrorCode.UNSUPPORTED_VERSION,
        api_keys=[ApiVersion(api_key=key, min_version=supported[0], max_version=supported[1])],
        throttle_time_ms=0,
        supported_features=[],
        finalized_features=[],
    )

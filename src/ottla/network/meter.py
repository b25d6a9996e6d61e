"""Requests by API: how many, how long, how large, with which errors.

Rules: it is on the way of every answer, so that it costs a fraction of a microsecond; a broker whose metrics
nobody asked for has none. A request's time begins when it is decoded and ends when its answer is encoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import frexp
from time import monotonic
from typing import Any

from ottla.messages.registry import API_NAMES, api
from ottla.metering import LOWEST, TINY_S, Histogram
from ottla.network.request import Answers, Request, Run
from ottla.wire.schema import Message, MessageType

ErrorFinder = Callable[[Any, "Counter[int]"], None]

PRODUCE = 0
FETCH = 1


class ApiMeter(Histogram):
    """One API's answers."""

    __slots__ = ("errors", "find_errors", "request_bytes", "response_bytes")

    def __init__(self, api_key: int) -> None:
        super().__init__()
        self.request_bytes = 0
        self.response_bytes = 0
        """Of Fetch only, whose answers are what the broker is for."""
        self.errors: Counter[int] = Counter()
        """By error code, each time that a partition, a topic or the whole was answered with it."""
        self.find_errors = _finder(api_key)


class RequestMeter:
    """All answers of a server."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: list[ApiMeter | None] = [None] * (max(API_NAMES) + 1)

    @property
    def apis(self) -> dict[int, ApiMeter]:
        """What was counted, by API key."""
        return {key: one for key, one in enumerate(self._by_key) if one is not None}

    def answered(self, request: Request, message: Message | None) -> None:
        """Count an answer; ``message`` is ``None`` where none is due (acks=0)."""
        one = self._by_key[request.api_key]
        if one is None:
            one = self._by_key[request.api_key] = ApiMeter(request.api_key)
        # Histogram.observe, without the call.
        seconds = monotonic() - request.started_s
        one.total_s += seconds
        one.buckets[frexp(seconds + TINY_S)[1] - LOWEST] += 1
        one.request_bytes += request.frame_bytes
        if message is not None and one.find_errors is not None:
            one.find_errors(message, one.errors)

    def run_answered(self, run: Run, answers: Answers) -> None:
        """Count the answers of a run; their time began with that of the request that it follows."""
        one = self._by_key[run.api_key]
        if one is None:
            one = self._by_key[run.api_key] = ApiMeter(run.api_key)
        seconds = monotonic() - run.started_s
        one.total_s += seconds * run.count
        one.buckets[frexp(seconds + TINY_S)[1] - LOWEST] += run.count
        one.request_bytes += run.frame_bytes
        one.errors.update(answers.error_codes)

    def sent(self, api_key: int, chunks: Sequence[Any]) -> None:
        """Count an answer's bytes."""
        one = self._by_key[api_key]
        if one is not None:
            one.response_bytes += sum(map(len, chunks))


def _finder(api_key: int) -> ErrorFinder | None:
    if api_key == PRODUCE:
        return _errors_of_produce
    if api_key == FETCH:
        return _errors_of_fetch
    return _finder_of(api(api_key).response)


def _errors_of_produce(message: Any, errors: Counter[int]) -> None:
    for topic in message.responses:
        for partition in topic.partition_responses:
            if partition.error_code:
                errors[partition.error_code] += 1


def _errors_of_fetch(message: Any, errors: Counter[int]) -> None:
    if message.error_code:
        errors[message.error_code] += 1
    for topic in message.responses:
        for partition in topic.partitions:
            if partition.error_code:
                errors[partition.error_code] += 1


def _finder_of(of: MessageType) -> ErrorFinder | None:
    """Looks through a message for the error codes that its definition has, in it and in its arrays."""
    has_code = "error_code" in of.__fields__
    nested: list[tuple[str, ErrorFinder]] = []
    for name, spec in of.__fields__.items():
        if spec.kind == "array" and isinstance(spec.of, MessageType):
            inner = _finder_of(spec.of)
            if inner is not None:
                nested.append((name, inner))
    if not has_code and not nested:
        return None

    def find(message: Any, errors: Counter[int]) -> None:
        if has_code and message.error_code:
            errors[message.error_code] += 1
        for name, inner in nested:
            for one in getattr(message, name) or ():
                inner(one, errors)

    return find

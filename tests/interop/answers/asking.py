"""Asking a broker questions whose answers can be held beside another broker's.

An answer becomes plain dicts and lists in which everything that a broker chooses for itself has a name in the
order in which it came up: ids of topics, members, producers and clusters, its port, and times of day. Texts of
errors count only as there or not. Rule: nothing else is smoothed out; what differs then is a difference.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from ottla.errors import ErrorCode
from ottla.messages import registry
from ottla.messages.api_versions import ApiVersionsRequest
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.records.batch import iter_batches
from ottla.wire.schema import Message
from tests.interop.samples import BASE_MS
from tests.support.requests import create_topic
from tests.support.waiting import eventually
from tests.support.wire import Wire

Answer = Any
Question = Callable[["Asker"], None]
HUNG_UP = "hung up"
NEAR_MS = 1_200_000
MEMBER = re.compile(r"^.*-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
NO_ID = bytes(16)
ABOUT = (
    *("name", "topic", "resource_name", "group_id", "key", "api_key", "member_id", "node_id"),
    *("index", "partition", "partition_index", "batch_index"),
)
NOT_YET = (
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.CONCURRENT_TRANSACTIONS,
)


class Asker:
    """A broker that is asked: ``answers`` has what it said, each under the words of the question."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.answers: dict[str, Answer] = {}
        self.ids: dict[str, bytes] = {}
        self._port = int(bootstrap.rpartition(":")[2])
        self._wire = Wire(bootstrap)
        self._names: dict[str, dict[Any, str]] = {}
        ranges = self._wire.ask(ApiVersionsRequest(), 0).api_keys
        self.ranges = {each.api_key: (each.min_version, each.max_version) for each in ranges}

    def close(self) -> None:
        """Hang up."""
        self._wire.socket.close()

    def topic(self, name: str, partitions: int = 1, **settings: object) -> str:
        """A new topic that takes records; its name."""
        self.ids[name] = create_topic(self._wire, name, partitions, **settings)
        self._name("topic_id", self.ids[name], name)
        latest = [ListOffsetsPartition(partition_index=i, timestamp=-1) for i in range(partitions)]
        request = ListOffsetsRequest(
            replica_id=-1, topics=[ListOffsetsTopic(name=name, partitions=latest)]
        )

        def leads() -> bool:
            (found,) = self._wire.ask(request, 7).topics
            return all(partition.error_code == 0 for partition in found.partitions)

        eventually(leads, f"leaders of {name}")
        return name

    def ask(self, words: str, request: Message, version: int) -> Any:
        """Send a request and keep the answer under ``words``; returns the response as it came, or None."""
        response = self._answer(request, version)
        if getattr(response, "error_code", 0) in NOT_YET:
            response = eventually(
                lambda: self._unless(NOT_YET, request, version), f"no other answer to {words}"
            )
        self.note(words, HUNG_UP if response is None else response)
        return response

    def _answer(self, request: Message, version: int) -> Any:
        try:
            return self._wire.ask(request, version)
        except ConnectionError:
            self._wire.socket.close()
            self._wire = Wire(self.bootstrap)
            return None

    def _unless(self, codes: Iterable[int], request: Message, version: int) -> Any:
        response = self._answer(request, version)
        return None if response is not None and response.error_code in codes else response

    def ask_unkept(self, request: Message, version: int) -> Any:
        """Send a request; the response, which is not kept."""
        return self._answer(request, version)

    def ask_bytes(self, key: int | None, version: int, frame: bytes) -> Any:
        """Send a frame as it is; the answer as that of ``key`` and ``version``, or as bytes, or ``HUNG_UP``."""
        self._wire.socket.sendall(len(frame).to_bytes(4, "big") + frame)
        try:
            answer = self._wire.receive_frame()
        except ConnectionError:
            self._wire.socket.close()
            self._wire = Wire(self.bootstrap)
            return HUNG_UP
        return answer if key is None else registry.decode_response(key, version, answer)

    def ask_every(self, words: str, request: Message, versions: Iterable[int] | None = None) -> Any:
        """Ask in every version that both brokers may have; returns the last response."""
        lo, hi = registry.api(type(request).__api_key__).versions
        response = None
        for version in range(lo, hi + 1) if versions is None else versions:
            response = self.ask(f"{words}, version {version}", request, version)
        return response

    def note(self, words: str, answer: Answer) -> None:
        """Keep an answer."""
        assert words not in self.answers, f"two answers to {words}"
        self.answers[words] = self._plain(answer, "")

    def known(self, kind: str, value: Any) -> str:
        """The name of something that the broker chose."""
        return self._name(kind, value)

    def _name(self, kind: str, value: Any, name: str | None = None) -> str:
        names = self._names.setdefault(kind, {})
        return names.setdefault(value, name or f"{kind} {len(names) + 1}")

    def _plain(self, value: Any, field: str) -> Any:
        if isinstance(value, Message):
            fields = ((name, getattr(value, name)) for name in type(value).__fields__)
            return {
                name: self._plain(held, name)
                for name, held in fields
                if name not in ("throttle_time_ms",)
            }
        if isinstance(value, dict):
            return {str(name): self._plain(held, str(name)) for name, held in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(each, field) for each in value]
        if isinstance(value, bytes | bytearray | memoryview):
            return self._bytes(bytes(value), field)
        if isinstance(value, str):
            return self._text(value, field)
        if isinstance(value, int) and not isinstance(value, bool):
            return self._number(value, field)
        return value

    def _bytes(self, value: bytes, field: str) -> Any:
        if field == "records":
            return [self._batch(header) for _, header in iter_batches(value)]
        if len(value) == len(NO_ID) and field.endswith("_id"):
            return "none" if value == NO_ID else self._name("topic_id", value)
        return value.hex()

    def _batch(self, header: Any) -> dict[str, Any]:
        return {
            "base_offset": header.base_offset,
            "leader_epoch": header.leader_epoch,
            "attributes": header.attributes,
            "records": header.record_count,
            "max_timestamp": self._number(header.max_timestamp_ms, "max_timestamp"),
            "base_sequence": header.base_sequence,
        }

    def _text(self, value: str, field: str) -> str:
        if field in ("error_message", "documentation", "batch_index_error_message") and value:
            return "a text"
        if field == "cluster_id" and value:
            return self._name("cluster", value)
        if MEMBER.match(value):
            return self._name("member", value)
        return value

    def _number(self, value: int, field: str) -> Any:
        if field == "port" and value == self._port:
            return "its port"
        if field == "session_id" and value:
            return self._name("session", value)
        if field == "producer_id" and value >= 0:
            return self._name("producer", value)
        if abs(value - BASE_MS) < NEAR_MS:
            return f"{value - BASE_MS} ms later"
        if abs(value - time.time() * 1000) < NEAR_MS:
            return "now"
        return value


def differences(ours: Answer, theirs: Answer, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two answers differ: a path to each place, and what either has there.

    Where the error codes of two answers differ, or both are errors with texts, nothing else is held side by side.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.get("error_code", 0) != theirs.get("error_code", 0):
            return {f"{path}/error_code": (ours.get("error_code"), theirs.get("error_code"))}
        found: dict[str, tuple[Any, Any]] = {}
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            if name == "error_message" and ours.get("error_code"):
                continue
            place = f"{path}/{name}" if path else name
            found |= differences(ours.get(name, "absent"), theirs.get(name, "absent"), place)
        return found
    if isinstance(ours, list) and isinstance(theirs, list):
        by_name = [{_order(each): each for each in side} for side in (ours, theirs)]
        if len(by_name[0]) == len(ours) and len(by_name[1]) == len(theirs):
            return differences(*by_name, path)
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        found = {}
        for pair in zip(sorted(ours, key=_order), sorted(theirs, key=_order), strict=True):
            found |= differences(*pair, f"{path}/{_order(pair[0])}")
        return found
    return {} if ours == theirs else {path: (ours, theirs)}


def _order(value: Any) -> str:
    """What tells an element of a list from the others: what it is about, which brokers list in any order."""
    if isinstance(value, dict):
        about = [str(value[name]) for name in ABOUT if name in value]
        return " ".join(about) if about else str(value.get("base_offset", ""))
    return str(value)

"""A fetch session with one broker (KIP-227): a Fetch names only what changed since the one before.

The broker remembers the session's partitions; we remember what it knows. A session begins with a full
Fetch (epoch 0); an answer without a session id means that the broker keeps none. Any doubt (a lost
answer, an error of the session) begins a new one. Source: ``FetchSessionHandler.java``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode

INVALID_SESSION_ID = 0
INITIAL_EPOCH = 0
FINAL_EPOCH = -1


class Wanted(NamedTuple):
    """What is asked for a partition."""

    topic_id: bytes
    fetch_offset: int
    leader_epoch: int
    last_fetched_epoch: int
    max_bytes: int


class SessionFetch(NamedTuple):
    """What the next Fetch of a session says."""

    session_id: int
    epoch: int
    to_send: dict[TopicPartition, Wanted]
    to_forget: dict[TopicPartition, bytes]


class FetchSession:
    """What one broker remembers of us."""

    def __init__(self) -> None:
        self.session_id = INVALID_SESSION_ID
        self.epoch = INITIAL_EPOCH
        self._known: dict[TopicPartition, Wanted] = {}
        self._with_ids = False

    @property
    def partitions(self) -> dict[TopicPartition, Wanted]:
        """The partitions that the broker answers for: those of the last ``next_fetch``."""
        return self._known

    def next_fetch(
        self, wanted: Mapping[TopicPartition, Wanted], *, with_ids: bool
    ) -> SessionFetch:
        """The next Fetch that asks for ``wanted``; ``with_ids`` says that its version names topics by id."""
        if with_ids != self._with_ids:
            self._with_ids = with_ids
            if self.session_id != INVALID_SESSION_ID:
                self.epoch = INITIAL_EPOCH  # a session cannot change its way of naming
        if self.epoch == INITIAL_EPOCH:
            self._known = dict(wanted)
            # A known id with epoch 0 has the broker close that session and begin another.
            return SessionFetch(self.session_id, INITIAL_EPOCH, dict(wanted), {})
        to_send = {p: want for p, want in wanted.items() if self._known.get(p) != want}
        to_forget = {
            partition: known.topic_id
            for partition, known in self._known.items()
            if partition not in wanted
            or (with_ids and wanted[partition].topic_id != known.topic_id)
        }
        self._known = dict(wanted)
        return SessionFetch(self.session_id, self.epoch, to_send, to_forget)

    def answered(self, code: ErrorCode, session_id: int) -> None:
        """Take over what the answer says about the session."""
        if code is not ErrorCode.NONE:
            if code is ErrorCode.FETCH_SESSION_ID_NOT_FOUND:
                self.session_id = INVALID_SESSION_ID
            self.epoch = INITIAL_EPOCH
            return
        self.session_id = session_id
        if session_id == INVALID_SESSION_ID:
            self.epoch = INITIAL_EPOCH
        else:
            self.epoch = self.epoch + 1 if self.epoch < 0x7FFFFFFF else 1

    def failed(self) -> None:
        """The answer is lost: what the broker thinks is unknown."""
        self.epoch = INITIAL_EPOCH

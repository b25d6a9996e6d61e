"""What an operation on a group asks of its shell: answers, and at most one record.

Rules: an answer in ``answers`` may go out at once. One in ``guarded`` waits until everything that the group
has appended so far is committed, so that no member acts on a generation that a failover could undo. With
``store`` the shell appends the value under the group's key *at once*, and calls ``accepted`` or ``refused``
before anything else happens to the group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ottla.errors import ErrorCode
from ottla.messages.group_log import GroupMetadataValue
from ottla.messages.join_group import JoinGroupResponse
from ottla.messages.sync_group import SyncGroupResponse

Response = JoinGroupResponse | SyncGroupResponse


class Moment(NamedTuple):
    """One instant on both clocks: the wall's for records, the steady one's for deadlines."""

    wall_ms: int
    monotonic_ms: int


class Waiter:
    """Whoever waits for an answer; a shell derives its own. The group only keeps and returns it."""

    __slots__ = ()


class Answer(NamedTuple):
    """A response and the one who waits for it."""

    waiter: Waiter
    response: Response


class Store(NamedTuple):
    """A value to append under the group's key."""

    value: GroupMetadataValue
    accepted: Callable[[Moment], Outcome]
    """Call when the record is in the log (not yet committed)."""
    refused: Callable[[ErrorCode, Moment], Outcome]
    """Call when it could not be appended, with the error that members shall see."""


class Outcome:
    """The effects of one operation."""

    __slots__ = ("answers", "guarded", "store")

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.guarded: list[Answer] = []
        self.store: Store | None = None

    def answer(self, waiter: Waiter, response: Response) -> None:
        """Let ``response`` go out now."""
        self.answers.append(Answer(waiter, response))

    def guard(self, waiter: Waiter, response: Response) -> None:
        """Let ``response`` go out once what the group appended is committed."""
        self.guarded.append(Answer(waiter, response))

    def put(self, store: Store) -> None:
        """Ask for a record."""
        if self.store is not None:
            raise RuntimeError("one operation on a group wrote two records")
        self.store = store


def with_error(response: Response, code: ErrorCode) -> Response:
    """What is sent in the place of ``response`` when its record was not committed."""
    if isinstance(response, JoinGroupResponse):
        return JoinGroupResponse(member_id=response.member_id, error_code=code)
    return SyncGroupResponse(error_code=code)

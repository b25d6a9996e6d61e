"""What heartbeats find out about a session, and what becomes of its connection then. No server, no sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ottla.clock import boottime
from ottla.coordination.store import ConnectionLoss, NotAuthorized, SessionExpired, StoreError
from ottla.coordination.zookeeper_heart import Heart

TIMEOUT_S = 60.0


class Stage:
    """A heart, what it asked for, and how often it gave the connection up."""

    def __init__(self) -> None:
        self.replies: list[Callable[[Any, Exception | None], None]] = []
        self.cuts = 0
        self.heart = Heart(boottime(), "/ours", submit=self._submit, cut=self._cut)
        self.heart.granted(TIMEOUT_S)
        self.heart.start()

    def _submit(self, request: Any, reply: Callable[[Any, Exception | None], None]) -> bool:
        self.replies.append(reply)
        return True

    def _cut(self) -> None:
        self.cuts += 1


def on_a_loop(test: Callable[[Stage], None]) -> None:
    async def main() -> None:
        stage = Stage()
        try:
            test(stage)
        finally:
            stage.heart.stop()

    asyncio.run(main())


@pytest.mark.parametrize("refusal", [SessionExpired("/ours"), ConnectionLoss("it moved")])
def test_a_session_that_the_server_does_not_know_loses_its_connection(refusal: StoreError) -> None:
    """A server may keep a connection whose session has ended: on the next one it says that it has."""

    def test(stage: Stage) -> None:
        before = stage.heart.lives_until
        stage.replies[0]([refusal], None)
        assert stage.cuts == 1
        assert stage.heart.lives_until == before
        stage.heart.resume()
        assert len(stage.replies) == 2, "it beats on the next connection"

    on_a_loop(test)


def test_who_may_not_see_our_path_is_asked_again_on_the_same_connection() -> None:
    def test(stage: Stage) -> None:
        before = stage.heart.lives_until
        stage.replies[0]([NotAuthorized("/ours")], None)
        assert stage.cuts == 0
        assert stage.heart.lives_until == before

    on_a_loop(test)


def test_an_answer_extends_the_lease() -> None:
    def test(stage: Stage) -> None:
        before = stage.heart.lives_until
        stage.replies[0]([None], None)
        assert stage.cuts == 0
        assert stage.heart.lives_until >= before

    on_a_loop(test)

"""The thread under the synchronous clients: nobody who waits for it waits for ever."""

from __future__ import annotations

import threading
from typing import Any

from ottla.client.loop_thread import LoopThread


def test_who_asks_in_the_moment_in_which_the_loop_ends_is_told() -> None:
    thread = LoopThread("test")
    loop = thread.loop
    close, call = loop.close, loop.call_soon_threadsafe
    called = threading.Event()
    told: list[str] = []

    async def work() -> None:
        """Never begun."""

    def ask() -> None:
        try:
            thread.run(work())
        except RuntimeError as error:
            told.append(str(error))

    late = threading.Thread(target=ask, daemon=True)

    def call_and_say_so(*arguments: Any, **options: Any) -> Any:
        handle = call(*arguments, **options)
        called.set()
        return handle

    def close_behind_the_last_question() -> None:
        loop.call_soon_threadsafe = call_and_say_so  # type: ignore[method-assign, assignment]
        late.start()
        called.wait(10)
        close()

    loop.close = close_behind_the_last_question  # type: ignore[method-assign]
    thread.stop()
    late.join(10)
    assert not late.is_alive()
    assert len(told) == 1

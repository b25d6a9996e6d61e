"""``ottla serve`` under valgrind; a reader on its event loop begins to count at a ``+``, and ends at a ``-``.

It counts from its own start on, so the first ``-`` ends the count of that; ``m`` asks how many modules are imported.

Arguments: ``probe.c``'s library, the descriptor that commands come by, the one by which they are confirmed, and then
those of ``ottla serve``. Not by signals: callgrind does not stand it when another thread gets one.
"""

from __future__ import annotations

import asyncio
import os
import sys

from bench.quick import still_clock
from bench.quick.counting import Probe

NUMBER_BYTES = 4


class Control(asyncio.DefaultEventLoopPolicy):
    """Gives the broker's loop the reader of commands."""

    def __init__(self, probe: Probe, commands: int, confirmed: int) -> None:
        super().__init__()
        self._probe = probe
        self._commands = commands
        self._confirmed = confirmed
        self._clock = still_clock.install()
        self._counted = 0
        self._clock.stand()
        probe.start()

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """The broker's."""
        loop = super().new_event_loop()
        loop.add_reader(self._commands, self._command)
        return loop

    def _command(self) -> None:
        command = os.read(self._commands, 1)
        if command == b"+":
            self._clock.stand()
            os.write(self._confirmed, command)
            self._probe.start()
        elif command == b"-":
            self._probe.stop(f"work-{self._counted}")
            self._counted += 1
            self._clock.go_on()
            os.write(self._confirmed, command)
        elif command == b"m":
            os.write(self._confirmed, len(sys.modules).to_bytes(NUMBER_BYTES, "big"))


def main() -> int:
    """Serve."""
    asyncio.set_event_loop_policy(Control(Probe(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
    from ottla.cli import entry

    sys.argv = ["ottla", "serve", *sys.argv[4:]]
    return entry.main() or 0


if __name__ == "__main__":
    sys.exit(main())

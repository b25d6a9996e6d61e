"""``ottla serve --brokers N``: N brokers in processes of their own, and in this one the store that they share.

Rules:
- The brokers stop when this process ends, however it ends: each holds the end of a pipe (the lifeline) whose other
  end only this process has. They hand nothing over to each other then; the store is there until the last is gone.
- One that ends by itself is started again, after a pause that grows while it keeps ending. Before all were ready
  for the first time it ends the command, with its own exit code.
- Where this process was killed, the next one waits for the brokers that it left: each holds a lock.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ottla import capabilities
from ottla.cli.failures import EXIT_FAILED, EXIT_IN_USE, EXIT_OK, EXIT_USAGE, one_line
from ottla.cli.several_places import LOCK, SOCKET, Member, members_of, prepare
from ottla.cli.version import VERSION
from ottla.logs import logger
from ottla.settings.setting import SettingError

if TYPE_CHECKING:
    from ottla.cli.serve_options import Arguments
    from ottla.settings.broker_config import BrokerConfig

log = logger(__name__)

PAUSE_MIN_S, PAUSE_MAX_S = 0.2, 30.0
LEFT_OVER_S = 30.0
"""So long the brokers of a command that was killed are waited for."""
_POLL_S = 0.1
_SOUND_S = 60.0
"""A broker that was ready for so long has nothing to do with what ended it before."""

_READY = re.compile(r"ottla \S+ ready: node \d+ on (.+), data in .+ \(start took [\d.]+ s\)\n")


class InUse(Exception):
    """Another process has the directory."""


class BrokerEnded(Exception):
    """A broker ended before all were ready; it has said why. ``code`` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"a broker ended with exit code {code}")
        self.code = code


def serve_several(arguments: Arguments, config: BrokerConfig, level: str) -> int:
    """Run the brokers until told to stop; the command's exit code."""
    from ottla import logs
    from ottla.cli.serve import fail
    from ottla.coordination.store import StoreError

    logs.configure(level)
    try:
        if not hasattr(asyncio.AbstractEventLoop, "create_unix_server") or os.name != "posix":
            raise SettingError("--brokers wants Unix sockets, which this system does not have")
        from ottla.cli.serve_options import brokers_of

        members = members_of(arguments, config, brokers_of(arguments))
        prepare(config.data_directories, members)
        return asyncio.run(Several(config.data_directories, members).run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_OK
    except SettingError as error:
        return fail(one_line(error), EXIT_USAGE)
    except InUse as error:
        return fail(one_line(error), EXIT_IN_USE)
    except BrokerEnded as error:
        return error.code
    except (OSError, StoreError) as error:
        return fail(one_line(error), EXIT_FAILED)


class Several:
    """The brokers, their store, and what holds them together."""

    def __init__(self, directories: tuple[str, ...], members: list[Member]) -> None:
        self._directories = directories
        self._first = Path(directories[0])
        self._brokers = [_Broker(self, member) for member in members]
        self.stop = asyncio.Event()
        self.failed: asyncio.Future[None]
        self.all_ready = False
        self.lifeline = -1
        self.lock = -1
        self.environment = _environment()

    @property
    def socket(self) -> Path:
        """Where the brokers find their store."""
        return self._first / SOCKET

    async def run(self) -> int:
        """Start them, and return when they have stopped. Raises what kept them from it."""
        loop = asyncio.get_running_loop()
        self.failed = loop.create_future()
        give_back = capabilities.on_signals(loop, lambda: on_signal())

        def on_signal() -> None:
            self.stop.set()
            capabilities.notify_service_manager("STOPPING=1")
            give_back()  # the second one ends this process at once, and the brokers by their lifeline

        async with AsyncExitStack() as exits:
            await self._take_locks(exits)
            if self.stop.is_set():
                return EXIT_OK
            await self._open_store(exits)
            self._start(exits)
            stopping = loop.create_task(self.stop.wait())
            ready = loop.create_task(self._all_are_ready())
            exits.callback(stopping.cancel)
            exits.callback(ready.cancel)
            await asyncio.wait((stopping, ready, self.failed), return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and not self.failed.done():
                self.all_ready = True
                self._tell()
            await asyncio.wait((stopping, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            self.failed.result()
        return EXIT_OK

    def fail(self, error: BaseException) -> None:
        """End the command."""
        if not self.failed.done():
            self.failed.set_exception(error)

    # What they share

    async def _take_locks(self, exits: AsyncExitStack) -> None:
        import fcntl

        from ottla.log import names
        from ottla.log.disk import Disk

        disk = Disk()
        for directory in self._directories:
            try:
                held = disk.lock(f"{directory}/{names.LOCK}")
            except BlockingIOError as error:
                raise InUse(f"{directory} is in use by {error.strerror}") from error
            exits.callback(disk.unlock, held)
        self.lock = os.open(self._first / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        exits.callback(os.close, self.lock)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LEFT_OVER_S
        told = False
        while not self.stop.is_set():
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if loop.time() > deadline:
                    raise InUse(f"{self._first} is in use by brokers of an earlier start") from None
            if not told:
                log.warning("waiting for brokers of an earlier start to end")
                told = True
            await asyncio.sleep(_POLL_S)

    async def _open_store(self, exits: AsyncExitStack) -> None:
        from ottla.coordination.bootstrap import initial_layout, new_cluster_id
        from ottla.coordination.embedded import Keeper
        from ottla.coordination.local_server import StoreServer
        from ottla.coordination.sqlite_file import FILE_NAME

        keeper = await Keeper.open(
            self._first / FILE_NAME,
            initial=initial_layout(new_cluster_id()),
            on_failure=lambda error: self.fail(OSError(f"the store has failed: {error}")),
        )
        exits.push_async_callback(keeper.close)
        server = StoreServer(keeper)
        exits.push_async_callback(server.close)
        await server.start(self.socket)

    # The brokers

    def _start(self, exits: AsyncExitStack) -> None:
        self.lifeline, end = os.pipe()
        exits.callback(os.close, self.lifeline)
        keepers = [asyncio.create_task(broker.keep()) for broker in self._brokers]

        async def stop_all() -> None:
            self.stop.set()
            for broker in self._brokers:
                broker.stop_pausing()
            os.close(end)
            await asyncio.gather(*keepers, return_exceptions=True)

        exits.push_async_callback(stop_all)

    async def _all_are_ready(self) -> None:
        for broker in self._brokers:
            await broker.ready.wait()

    def _tell(self) -> None:
        from ottla.cli.serve import keep_watchdog, seconds_since_start, write

        nodes = ", ".join(
            f"node {broker.member.node_id} on {broker.where}" for broker in self._brokers
        )
        write(
            sys.stdout,
            f"ottla {VERSION} ready: {len(self._brokers)} brokers, {nodes}, "
            f"data in {', '.join(self._directories)} (start took {seconds_since_start():.2f} s)",
        )
        capabilities.notify_service_manager(f"READY=1\nMAINPID={os.getpid()}")
        keep_watchdog(asyncio.get_running_loop())


class _Broker:
    """One of them: a process, and the one after it."""

    def __init__(self, several: Several, member: Member) -> None:
        self.member = member
        self.where = ""
        self.ready = asyncio.Event()
        self._several = several
        self._pause: asyncio.Task[None] | None = None
        self._ready_at: float | None = None

    async def keep(self) -> None:
        """Have it running until all stop."""
        pause_s = PAUSE_MIN_S
        while not self._several.stop.is_set():
            self._ready_at = None
            try:
                code = await self._run()
            except Exception as error:
                self._several.fail(error)
                return
            if self._several.stop.is_set():
                return
            if not self._several.all_ready:
                self._several.fail(BrokerEnded(code if code > 0 else EXIT_FAILED))
                return
            ready_at = self._ready_at
            if ready_at is not None and self._now() - ready_at > _SOUND_S:
                pause_s = PAUSE_MIN_S
            log.error(
                "a broker has ended and is started again",
                broker=self.member.node_id,
                code=code,
                seconds=pause_s,
            )
            self._pause = asyncio.create_task(asyncio.sleep(pause_s))
            await asyncio.wait((self._pause,))
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    def stop_pausing(self) -> None:
        """It is not to be started again."""
        if self._pause is not None:
            self._pause.cancel()

    async def _run(self) -> int:
        several = self._several
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ottla", "serve", *self._arguments()),
            f"--store-socket={several.socket.absolute()}",
            f"--lifeline={several.lifeline}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(several.lifeline, several.lock),
            env=several.environment,
            start_new_session=True,  # Ctrl-C is this process's to hear
        )
        assert process.stdout is not None
        async for line in process.stdout:
            self._heard(line.decode(errors="replace"))
        return await process.wait()

    def _arguments(self) -> list[str]:
        """As at the first start, but that a port which was any is now the one that clients know."""
        result = list(self.member.arguments)
        if self.where and "://" not in self.where:
            result = [
                f"--listen={self.where}"
                if one.startswith("--listen=") and one.endswith(":0")
                else one
                for one in result
            ]
        return result

    def _heard(self, line: str) -> None:
        ready = _READY.fullmatch(line)
        if ready is None:
            with suppress(OSError):
                sys.stderr.write(line)
                sys.stderr.flush()
            return
        self.where = ready[1]
        self._ready_at = self._now()
        if self._several.all_ready:
            log.info("a broker is ready again", broker=self.member.node_id)
        self.ready.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _environment() -> dict[str, str]:
    """What the brokers get: the service manager hears of this process alone."""
    own = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
    return {name: text for name, text in os.environ.items() if name not in own}

"""The worker process as the broker has it: started for the first job, ended when it has been idle.

Rule: whatever becomes of it, its death is an exception here and nothing more. It is asked to end by closing its
input, and made to by SIGKILL: it owns nothing that could be left in a bad state.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import suppress

from ottla.log.compaction.job import RATE, CleanedGroup, CleaningDone, CleaningJob

IDLE_S = 30.0
_LINE_BYTES_MAX = 64 << 20
_WORKER = "ottla.log.compaction.worker"


class WorkerDied(Exception):
    """The process ended amid a job; ``code`` is its exit code, negative for a signal."""

    def __init__(self, code: int) -> None:
        super().__init__(f"killed by signal {-code}" if code < 0 else f"exit code {code}")
        self.code = code


class CleanerProcess:
    """A worker process, while there is need of one. One job at a time; all on the loop."""

    def __init__(self, *, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._process: Process | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._rate: float | None = None

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def clean(self, job: CleaningJob) -> AsyncGenerator[CleanedGroup | CleaningDone, None]:
        """What ``Cleaning.run`` gives, from over there.

        Where it is not taken to its end (``aclosing``), or fails, the process is ended. Raises ``CleaningFailed``, ``WorkerDied``, and
        ``OSError`` where no process can be started.
        """
        from ottla.log.compaction.worker import read_answer

        if self._ending is not None:
            self._ending.cancel()
        process = await self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        done = False
        try:
            process.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
            if self._rate is not None:  # it may be newer than the job
                self.throttle(self._rate)
            with suppress(ConnectionError):  # it is dead, which reading tells
                await process.stdin.drain()
            while not done:
                line = await process.stdout.readline()
                if not line.endswith(b"\n"):
                    raise WorkerDied(await process.wait())
                step = read_answer(line)
                done = isinstance(step, CleaningDone)
                yield step
        finally:
            if done and process.returncode is None and not self._is_closed:
                self._ending = asyncio.get_running_loop().call_later(self._idle_s, self._be_idle)
            else:
                await self._end(process)

    def throttle(self, bytes_per_second: float) -> None:
        """Let what it is doing, and all that follows, go on at another rate."""
        self._rate = bytes_per_second
        process = self._process
        if process is not None and not _is_ending(process):
            assert process.stdin is not None
            process.stdin.write(json.dumps({RATE: bytes_per_second}).encode() + b"\n")

    async def _started(self) -> Process:
        process = self._process
        if process is not None and process.returncode is None and not _is_ending(process):
            return process
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable or "python3", "-P", "-m", _WORKER),
            stdin=PIPE,
            stdout=PIPE,
            env=environment,
            limit=_LINE_BYTES_MAX,
        )
        if self._is_closed:
            await self._end(process)
        return process

    async def _end(self, process: Process) -> None:
        """Kill it, and let go of it once it is gone."""
        if self._process is process:
            self._process = None
        with suppress(ProcessLookupError):
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()

    def _be_idle(self) -> None:
        """It ends when its input does."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def close(self) -> None:
        """Have no process from now on: what one is doing fails."""
        self._is_closed = True
        if self._ending is not None:
            self._ending.cancel()
        if self._process is not None:
            await self._end(self._process)


def _is_ending(process: Process) -> bool:
    return process.stdin is None or process.stdin.is_closing()

"""What one input may do: raise nothing undocumented, end soon, take little memory.

Rules: a finding does not end the run. The first input of each kind (which exception, raised where) is kept
in a file of its own, so that a run of ten minutes tells of everything that it met.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

CPU_SECONDS_MAX = 4.0
"""For one input of up to 64 KiB, with the instrumentation's cost in it: ten times what the slowest takes."""

MEMORY_KIB_MAX = 96 * 1024
"""How much the process's peak may rise by one input."""


class Judge:
    """Runs inputs and keeps what must not happen."""

    def __init__(self, one: Callable[[bytes], None], findings: Path) -> None:
        """``findings``: the directory for inputs that did what they must not."""
        self._one = one
        self._directory = findings
        self.findings: dict[str, Path] = {}
        self.slowest_s = 0.0
        self.executions = 0

    def __call__(self, data: bytes) -> None:
        """Run one input."""
        self.executions += 1
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.process_time()
        try:
            self._one(data)
        except Exception as error:
            self._keep(_place_of(error), data, traceback.format_exc())
        took_s = time.process_time() - begun
        self.slowest_s = max(self.slowest_s, took_s)
        if took_s > CPU_SECONDS_MAX:
            self._keep("slow", data, f"{took_s:.1f} s of CPU time for {len(data)} bytes")
        rise_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib
        if rise_kib > MEMORY_KIB_MAX:
            self._keep("memory", data, f"{rise_kib} KiB for {len(data)} bytes")

    def _keep(self, kind: str, data: bytes, told: str) -> None:
        if kind in self.findings:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        name = f"{kind.partition(' ')[0]}-{hashlib.sha1(data).hexdigest()[:12]}"
        path = self._directory / name
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(f"{kind}\n{data!r}\n\n{told}\n", "utf-8")
        self.findings[kind] = path
        print(f"FINDING {kind}: {path}\n{told}", file=sys.stderr, flush=True)


def _place_of(error: Exception) -> str:
    """The exception and where it was raised: the last line of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "ottla" in frame.filename] or list(frames)
    last = ours[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"

"""``python -m tests.fuzz [TARGET ...] --seconds N``: each target in a process of its own, with a summary.

Atheris instruments our modules as they are imported, and the generated codecs as they are compiled. Corpora and
findings lie under ``--place`` (default ``build/fuzz``) and are taken up again by the next run.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

TARGETS = ("messages", "records", "files", "answers", "sockets")
INPUT_BYTES_MAX = 16 * 1024
PROCESS_MEMORY_MIB_MAX = 1024
INPUT_SECONDS_MAX = 60


def main() -> int:
    """Run the targets one after the other; 1 if there was a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--place", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    unknown = set(asked.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}")
    if asked.inside:
        return _fuzz(asked.targets[0], asked)
    print(f"seed {asked.seed}, corpora and findings in {asked.place.absolute()}", flush=True)
    failed = False
    for name in asked.targets or TARGETS:
        failed |= _run(name, asked)
    return int(failed)


def _run(name: str, asked: Any) -> bool:
    """One target in a child process; prints one line; whether there was a finding."""
    place = asked.place / name
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz", name, "--inside"]
    command += [f"--seconds={asked.seconds}", f"--seed={asked.seed}", f"--place={asked.place}"]
    output = place / "output.txt"
    with output.open("wb") as sink:
        ended = subprocess.run(command, stdout=sink, stderr=subprocess.STDOUT, check=False)
    printed = output.read_text("utf-8", "replace")
    found = [line for line in printed.splitlines() if line.startswith("FINDING ")]
    told = [line[6:] for line in printed.splitlines() if line.startswith("TOLD: ")]
    print(
        f"{name}: {told[-1] if told else f'ended with {ended.returncode}: see {output}'}",
        flush=True,
    )
    for line in found:
        print(f"  {line}", flush=True)
    return bool(found) or not told


def _fuzz(name: str, asked: Any) -> int:
    """In the child: instrument, seed the corpus, fuzz."""
    import atheris  # type: ignore[import-not-found, unused-ignore]

    with atheris.instrument_imports(include=["ottla"]):
        from ottla.wire import compiler

    compile_plain = compiler._Source.compile

    def compile_instrumented(source: Any, title: str) -> Any:
        function = compile_plain(source, title)
        return atheris.instrument_func(function) if title.startswith("decode") else function

    compiler._Source.compile = compile_instrumented  # type: ignore[method-assign]
    with atheris.instrument_imports(include=["ottla"]):
        target = import_module(f"tests.fuzz.{name}")
    from tests.fuzz.judging import Judge

    place = asked.place / name
    corpus = place / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number:05}").write_bytes(seed)
        target.one(seed)  # compiles what it needs, before the time counts
    judge = Judge(target.one, place / "findings")
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-seed={asked.seed % 2**32}",
            f"-max_len={INPUT_BYTES_MAX}",
            f"-rss_limit_mb={PROCESS_MEMORY_MIB_MAX}",
            f"-timeout={INPUT_SECONDS_MAX}",
            f"-artifact_prefix={place}/",
            "-len_control=10",
        ],
        _until(asked.seconds, judge, target),
        **getattr(target, "MUTATOR", {}),
    )
    atheris.Fuzz()
    return 0


def _until(seconds: int, judge: Any, target: Any) -> Any:
    """What runs an input, and after so many seconds tells what became of all of them and ends the process.

    libFuzzer's own end is the process's at once: a target's broker would be left behind.
    """
    begun = time.monotonic()

    def run(data: bytes) -> None:
        took = time.monotonic() - begun
        if took < seconds:
            judge(data)
            return
        told = {
            "executions": judge.executions,
            "a second": round(judge.executions / took),
            "findings": len(judge.findings),
            "slowest input": f"{judge.slowest_s:.2f} s of CPU time",
            "peak memory": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB",
            **(target.end() if hasattr(target, "end") else {}),
        }
        if hasattr(target, "close"):
            target.close()
        print("TOLD: " + ", ".join(f"{name} {one}" for name, one in told.items()), flush=True)
        os._exit(0)

    return run


if __name__ == "__main__":
    sys.exit(main())

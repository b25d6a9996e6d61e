"""Fetch the clients of Node and Go that the interop tests run: ``python -m tests.interop.programs.fetch [NAME...]``.

They are pinned by lock files and go into a cache outside the tree, ``$XDG_CACHE_HOME/ottla-tests``, once for each
content of those files. Rules: what is in the cache is whole, however many processes fetch at once; nothing but the
standard library is needed here, so that this runs before a virtual environment is there.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
NODE_CLIENTS = {"kafkajs": "kafkajs", "confluent-kafka-javascript": "confluent"}
GO_CLIENTS = ("franz-go", "sarama")
CLIENTS = (*NODE_CLIENTS, *GO_CLIENTS)


class CannotFetch(Exception):
    """A client cannot be had here; the message says what is missing."""


def cached(client: str) -> Path | None:
    """Where a client is in the cache, or None. Raises CannotFetch without Node, or Go."""
    place = _place(client)
    return place if place.exists() else None


@functools.cache
def fetch(client: str) -> Path:
    """A client's place in the cache, fetched if it is not there: its node_modules, or the Go program.

    Raises CannotFetch with the end of what npm or go said.
    """
    place = _place(client)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(place.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=place.parent) as temporary:
                made = _install(client, Path(temporary))
                made.rename(place)
    return place


def _place(client: str) -> Path:
    if client in NODE_CLIENTS:
        folder = HERE / "javascript" / NODE_CLIENTS[client]
        # What is native in it is made for a version of Node.
        made_of = [folder / "package.json", folder / "package-lock.json"]
        name = f"{client}-node_modules"
        version = _version_of(_program("node"))
    else:
        made_of = sorted(path for path in (HERE / "golang").iterdir() if path.is_file())
        name, version = "interop-go", ""
        _program("go")
    digest = hashlib.sha256(version.encode())
    for path in made_of:
        digest.update(path.read_bytes())
    return cache() / f"{name}-{digest.hexdigest()[:16]}"


def cache() -> Path:
    """The directory outside the tree that keeps what is fetched."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ottla-tests"


def _install(client: str, temporary: Path) -> Path:
    if client in NODE_CLIENTS:
        for path in (HERE / "javascript" / NODE_CLIENTS[client]).iterdir():
            shutil.copy(path, temporary)
        # Where the native part is not to be had ready made it is compiled, against the machine's libraries.
        _run(
            [_program("npm"), "ci", "--no-audit", "--no-fund", "--loglevel=error"],
            temporary,
            {"CKJS_LINKING": "dynamic"},
        )
        return temporary / "node_modules"
    program = temporary / "interop"
    _run(
        [_program("go"), "build", "-buildvcs=false", "-o", str(program), "."],
        HERE / "golang",
        # Go 1.21 and later fetch the version that go.mod asks for.
        {"GOTOOLCHAIN": "auto", "CGO_ENABLED": "0"},
    )
    return program


def _program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/local/go/bin")
    if path is None:
        raise CannotFetch(f"the program {name} is not installed")
    return path


@functools.cache
def _version_of(program: str) -> str:
    command = [program, "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-15:])
        raise CannotFetch(f"{' '.join(command)} failed: {end}")


def main(clients: Sequence[str]) -> int:
    """Fetch the clients named, or all; says where each is. 1 if one cannot be had."""
    failed = False
    for client in clients or CLIENTS:
        try:
            print(f"{client}: {fetch(client)}", flush=True)
        except CannotFetch as error:
            failed = True
            print(f"{client}: {error}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The coordination store of a broker that is alone: where its file lies among several log directories.

Rules: it is made in the first entry of ``log.dirs`` and stays where it is found, so that directories may be
added and put in another order. It is never made anew while it may lie in a directory that is offline or was
left out: the cluster would forget its topics.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ottla.coordination.bootstrap import initial_layout, new_cluster_id
from ottla.coordination.embedded import Keeper
from ottla.settings.setting import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from ottla.clock import Clock
    from ottla.log.directories import LogDirectories

STORE_FILE = "ottla-store.sqlite"


def find_store(directories: LogDirectories, *, is_new: bool) -> str:
    """The path of the store's file, which need not exist yet. Blocks.

    ``is_new``: no directory has belonged to a cluster before. Raises ``OSError`` where the file may be in
    a directory that is offline, ``SettingError`` where there are two, or it is missing.
    """
    paths = [f"{directory.path}/{STORE_FILE}" for directory in directories]
    found = [path for path in paths if directories.disk.exists(path)]
    if len(found) > 1:
        raise SettingError(f"log.dirs: {' and '.join(found)} are stores of two clusters' state")
    if found:
        return found[0]
    for directory in directories.all:
        if directory.offline is not None:
            raise OSError(
                f"{STORE_FILE} is in no log directory that can be used, and {directory.path} is "
                f"offline: {directory.offline}"
            )
    first = os.path.dirname(paths[0])
    if not is_new and not directories.all[0].was_signed:
        raise SettingError(
            f"log.dirs: {STORE_FILE} is missing. {first} is new and the others are not: "
            "is the directory that holds it mounted, and named in log.dirs?"
        )
    return paths[0]


def exported_mark(path: str) -> str:
    """The file beside a store that says to which ZooKeeper its state has gone (``ottla store export``)."""
    return f"{path}.exported"


def check_exported(directories: LogDirectories, *, in_cluster: bool) -> None:
    """A broker that is alone must not go on with what a cluster has, nor a cluster without it. Blocks.

    Raises ``SettingError``.
    """
    disk = directories.disk
    for directory in directories:
        path = f"{directory.path}/{STORE_FILE}"
        if not disk.exists(path):
            continue
        is_exported = disk.exists(exported_mark(path))
        if in_cluster and not is_exported:
            raise SettingError(
                f"zookeeper.connect: {path} has the state of a broker that was alone, and no cluster "
                "knows its topics: run ottla store export before"
            )
        if is_exported and not in_cluster:
            where = disk.read_file(exported_mark(path), 4096).decode("utf-8", "replace").strip()
            raise SettingError(
                f"log.dirs: the state in {path} has gone to the ZooKeeper {where}: start with "
                f"--zookeeper {where}"
            )


async def open_store(
    path: str,
    cluster_id: str | None,
    clock: Clock,
    exits: AsyncExitStack,
    on_failure: Callable[[BaseException], None],
) -> Keeper:
    """The store of a broker that is its own cluster; ``exits`` closes it. Raises what ``Keeper.open`` does."""
    opening = asyncio.get_running_loop().create_task(
        Keeper.open(
            Path(path),
            initial=initial_layout(cluster_id or new_cluster_id()),
            clock=clock,
            on_failure=on_failure,
        )
    )
    exits.push_async_callback(_close, opening)
    return await asyncio.shield(opening)  # the file is opened in a thread, cancelled or not


async def _close(opening: asyncio.Task[Keeper]) -> None:
    await asyncio.wait((opening,))
    if opening.exception() is None:
        await opening.result().close()

"""``ottla store``: the state of a broker that is alone, topics and settings and all that it knows of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli.common import OutputOption
from ottla.cli.failures import CommandFailed, UsageError
from ottla.cli.manual import manual
from ottla.cli.output import Output, note, say, show_json
from ottla.cli.several_places import MARK

if TYPE_CHECKING:
    from ottla.coordination.export import Plan
    from ottla.settings.broker_config import BrokerConfig

app = typer.Typer(
    name="store",
    help="Bring the state of a single broker into a cluster.",
    no_args_is_help=True,
)

EXPORT_HELP = manual("""
    Make a single broker the first of a cluster: put what it keeps about its topics, settings, ids and epochs into
    a ZooKeeper. Its records stay where they are.

    The broker must be stopped. The ZooKeeper, or the path behind its servers, must be empty: where there is another
    cluster, or a broker that runs, nothing is written. An export that was broken off is gone on with by another one.
    All is read back and compared in the end. From then on the broker is started with ottla serve --zookeeper on
    the same data, and no more without; others join it with the same --zookeeper and data directories of their own.
    The state of several brokers (ottla serve --brokers) goes the same way: each is then started by itself, with --data
    DIR/broker-K.

    Exit codes: 0 done, 1 refused or failed, 2 asked wrongly.

    Examples:

      ottla store export --data data --zookeeper zk1:2181,zk2:2181,zk3:2181/ottla --dry-run
      ottla store export --data data --zookeeper zk1:2181,zk2:2181,zk3:2181/ottla
    """)


@app.callback()
def _group() -> None:
    """Keeps the command's name although it is the only one."""


@app.command("export", help=EXPORT_HELP)
def export(
    zookeeper: Annotated[
        str | None,
        typer.Option(
            "--zookeeper",
            metavar="HOST:PORT,...[/PATH]",
            help="The ZooKeeper servers, and a path that is made if it is not there.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="DIR", help="The broker's data directory, as for ottla serve."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="FILE", help="The broker's server.properties."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting, such as zookeeper.digest.auth."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Put a stopped single broker's state into a ZooKeeper."""
    settings = _settings(zookeeper, data, config, assignments or [])
    if not settings.zookeeper_connect:
        raise UsageError("say where to: --zookeeper HOST:PORT")
    with _stopped_broker(settings) as store_file:
        found = _znodes(store_file)
        plan = asyncio.run(_export(settings, found, dry_run, _progress(output)))
        if not dry_run:
            _mark(store_file, settings.zookeeper_connect)
    _tell(plan, settings, dry_run, output)


def _settings(
    zookeeper: str | None, data: list[str] | None, config: str | None, assignments: list[str]
) -> BrokerConfig:
    from ottla.settings import sources
    from ottla.settings.broker_config import BrokerConfig

    options: dict[str, object] = {}
    if zookeeper is not None:
        options["zookeeper.connect"] = zookeeper
    if data:
        options["log.dirs"] = ",".join(data)
    file = sources.from_file(Path(config).read_text(), config) if config is not None else []
    return BrokerConfig.build(
        file,
        sources.from_environment(os.environ),
        sources.from_assignments(assignments),
        sources.from_options(options),
    )


@contextmanager
def _stopped_broker(settings: BrokerConfig) -> Iterator[Path]:
    """The store's file, with the log directories locked as a broker locks them."""
    from ottla.broker.store_place import STORE_FILE
    from ottla.log import names
    from ottla.log.disk import Disk

    directories = settings.data_directories
    files = [Path(each) / STORE_FILE for each in directories]
    there = [file for file in files if file.exists()]
    if len(there) != 1:
        which = "several stores" if there else "no store of a single broker"
        raise CommandFailed(f"there is {which} in {', '.join(directories)}")
    disk = Disk()
    locks = []
    try:
        for directory in directories:
            try:
                locks.append(disk.lock(f"{directory}/{names.LOCK}"))
            except BlockingIOError as error:
                reason = f"a broker is using {directory} ({error.strerror}): stop it before"
                raise CommandFailed(reason) from None
        yield there[0]
    finally:
        for lock in locks:
            disk.unlock(lock)


def _znodes(store_file: Path) -> dict[str, bytes]:
    from ottla.coordination.store_copy import read_copy

    copy = read_copy(store_file)
    if copy is None or copy.problem is not None:
        raise CommandFailed(copy.problem if copy and copy.problem else f"{store_file} has gone")
    return copy.znodes


async def _export(
    settings: BrokerConfig,
    found: dict[str, bytes],
    dry_run: bool,
    progress: Callable[[int], None],
) -> Plan:
    from ottla.coordination.export import ExportRefused, carry_out, plan
    from ottla.coordination.store import StoreError
    from ottla.coordination.zookeeper_access import ensemble_of

    ensemble = ensemble_of(settings)
    root = ""
    if dry_run:  # which makes no path either, so that it looks from above
        root, ensemble.address = ensemble.address.chroot, ensemble.address._replace(chroot="")
    try:
        store = await ensemble.connect()
        planned = await plan(store, found, root=root)
        if not dry_run:
            await carry_out(store, planned, progress)
    except (ExportRefused, StoreError) as error:
        raise CommandFailed(
            f"{settings.zookeeper_connect}: {error or type(error).__name__}"
        ) from None
    finally:
        await ensemble.close()
    return planned


def _mark(store_file: Path, connect: str) -> None:
    from ottla.broker.store_place import exported_mark
    from ottla.log.disk import Disk

    Disk().replace_file(exported_mark(str(store_file)), f"{connect}\n".encode())


def _progress(output: Output) -> Callable[[int], None]:
    def tell(done: int) -> None:
        if output is not Output.json:
            note(f"{done:,} znodes written")

    return tell


def _tell(plan: Plan, settings: BrokerConfig, dry_run: bool, output: Output) -> None:
    connect = settings.zookeeper_connect
    if output is Output.json:
        show_json(
            {
                "cluster_id": plan.cluster_id,
                "zookeeper": connect,
                "topics": plan.topics,
                "partitions": plan.partitions,
                "znodes": len(plan.wanted),
                "written": 0 if dry_run else len(plan.writes),
                "to_write": len(plan.writes) if dry_run else 0,
                "resumed": plan.is_begun,
            }
        )
        return
    amount = f"{len(plan.topics):,} topics with {plan.partitions:,} partitions"
    if dry_run:
        again = ", going on with one that was broken off" if plan.is_begun else ""
        say(
            f"cluster {plan.cluster_id}: {amount}; {len(plan.writes):,} znodes would be written{again}"
        )
        return
    say(f"cluster {plan.cluster_id}: {amount} are in ZooKeeper, read back and compared")
    directory = settings.data_directories[0]
    if os.path.exists(f"{directory}/{MARK}"):
        say(f"start each broker with --zookeeper {connect} --data {directory}/broker-K")
        return
    say(f"start the broker with --zookeeper {connect} on the same data, and no more without")

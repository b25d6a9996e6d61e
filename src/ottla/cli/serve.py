"""``ottla serve``: a broker in this process until SIGTERM or SIGINT; several, in processes of their own, with ``--brokers``.

Nothing slow is imported here before the broker listens: no typer, no rich, no structlog. Exit codes: 0
after a clean stop, 1 when the broker can't start or fails, 2 when its settings can't be taken, 3 when another broker has its data directory.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from ottla.cli.failures import EXIT_FAILED, EXIT_IN_USE, EXIT_OK, EXIT_USAGE, one_line
from ottla.cli.serve_options import Arguments, brokers_of, overridden_by, settings_of
from ottla.cli.several_places import Place, check_alone, place_of
from ottla.cli.version import VERSION
from ottla.settings import sources
from ottla.settings.broker_config import BrokerConfig
from ottla.settings.listeners import format_address
from ottla.settings.setting import SettingError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ottla.broker.broker import Broker

LOG_LEVEL_VARIABLE = "OTTLA_LOG_LEVEL"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def serve(arguments: Arguments) -> int:
    """Run a broker until it is told to stop; the command's exit code."""
    try:
        config = config_of(arguments)
        level = _log_level()
        count, place = brokers_of(arguments), place_of(arguments)
        if count == 1 and place is None:
            check_alone(config)
    except SettingError as error:
        return fail(one_line(error), EXIT_USAGE)
    if config.ignored:
        names = ", ".join(config.ignored)
        write(sys.stderr, f"ottla: warning: settings of Kafka's that do nothing here: {names}")
    if count > 1:
        from ottla.cli.serve_several import serve_several

        return serve_several(arguments, config, level)
    return _run(config, level, place)


def config_of(arguments: Arguments) -> BrokerConfig:
    """The broker's settings from file, environment and options; raises SettingError."""
    file: list[sources.Given] = []
    path = arguments.get("config")
    if isinstance(path, str):
        try:
            with open(path, encoding="utf-8") as stream:
                file = sources.from_file(stream.read(), path)
        except OSError as error:
            raise SettingError(f"--config {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingError(f"--config {path}: the file is not UTF-8") from None
    assignments = arguments.get("set") or ()
    return BrokerConfig.build(
        file,
        sources.from_options(overridden_by(arguments), "command line"),
        sources.from_environment(os.environ),
        sources.from_assignments(assignments),
        sources.from_options(settings_of(arguments), "command line"),
    )


def _log_level() -> str:
    level = os.environ.get(LOG_LEVEL_VARIABLE, "INFO").upper()
    if level not in LOG_LEVELS:
        allowed = ", ".join(LOG_LEVELS)
        raise SettingError(f"{LOG_LEVEL_VARIABLE}={level}: must be one of {allowed}")
    return level


def _run(config: BrokerConfig, level: str, place: Place | None) -> int:
    import gc

    # All that is made until the broker listens (modules, classes) stays: collecting finds nothing in it and
    # costs a tenth of the start. From then on it is left out of the collector's rounds.
    gc.disable()
    try:
        return _run_until_stopped(config, level, place)
    finally:
        gc.enable()


def _run_until_stopped(config: BrokerConfig, level: str, place: Place | None) -> int:
    import asyncio

    from ottla import logs
    from ottla.cli.held_events import hold_events

    logs.configure(level, broker=None if place is None else config.node_id)
    held = hold_events()
    try:
        return asyncio.run(_serve(config, held.hand_over, place))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_OK
    except SettingError as error:
        return fail(one_line(error), EXIT_USAGE)
    except Exception as error:
        if not _expected(error):
            import logging

            logging.getLogger(__name__).error("the broker failed", exc_info=error)
        return fail(one_line(error), EXIT_IN_USE if _in_use(error) else EXIT_FAILED)
    finally:
        held.hand_over()


def _expected(error: Exception) -> bool:
    """Whether an error's own words are enough: the world's doing, not a fault in the program."""
    from ottla.coordination.store import StoreError
    from ottla.errors import KafkaError
    from ottla.log.checkpoints import CorruptCheckpoint
    from ottla.log.directories import DirectoryMismatch
    from ottla.log.directory import DirectoryInUse

    worldly = (
        OSError,
        KafkaError,
        StoreError,
        CorruptCheckpoint,
        DirectoryInUse,
        DirectoryMismatch,
    )
    return isinstance(error, worldly)


def _in_use(error: Exception) -> bool:
    from ottla.log.directory import DirectoryInUse

    return isinstance(error, DirectoryInUse)


async def _serve(
    config: BrokerConfig, release_events: Callable[[], None], place: Place | None = None
) -> int:
    import asyncio
    import gc

    from ottla import capabilities
    from ottla.broker.broker import Broker
    from ottla.cli.held_events import RELEASE_AFTER_S

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    in_turn = True
    broker = Broker(config) if place is None else Broker(config, connector=place.stores(config))
    starting = loop.create_task(broker.start())

    def on_signal() -> None:
        stop.set()
        starting.cancel()  # nothing, once it is done
        capabilities.notify_service_manager("STOPPING=1")
        give_back()  # the second one ends the process at once

    def on_end_of_all() -> None:
        nonlocal in_turn
        assert place is not None
        loop.remove_reader(place.lifeline)
        in_turn = False
        on_signal()

    give_back = capabilities.on_signals(loop, on_signal)
    if place is not None:
        loop.add_reader(place.lifeline, on_end_of_all)
    try:
        try:
            await starting
        except asyncio.CancelledError:
            if stop.is_set():
                return EXIT_OK
            raise
        gc.freeze()
        gc.enable()
        write(sys.stdout, ready_line(config, broker))
        capabilities.notify_service_manager(f"READY=1\nMAINPID={os.getpid()}")
        keep_watchdog(loop)
        release = loop.call_later(RELEASE_AFTER_S, loop.run_in_executor, None, release_events)
        try:
            await broker.serve_until(stop)
        finally:
            release.cancel()  # or it may come when the executor is gone
    finally:
        await (broker.stop() if in_turn else broker.stop(in_turn=False))
    return EXIT_OK


def keep_watchdog(loop: asyncio.AbstractEventLoop) -> None:
    """Tell the service manager, as often as it wants to hear it, that the loop still turns."""
    from ottla import capabilities

    interval_s = capabilities.watchdog_interval_s()
    if interval_s is not None:
        capabilities.notify_service_manager("WATCHDOG=1")
        loop.call_later(interval_s, keep_watchdog, loop)


def ready_line(config: BrokerConfig, broker: Broker) -> str:
    """The line that says that the broker is ready, where, and how long that took."""
    where = [(name, format_address(host, port)) for name, host, port in broker.addresses]
    if len(where) == 1:
        ((_, listening),) = where
    else:
        listening = ", ".join(f"{name}://{address}" for name, address in where)
    directories = ", ".join(config.data_directories)
    return (
        f"ottla {VERSION} ready: node {broker.node_id} on {listening}, "
        f"data in {directories} (start took {seconds_since_start():.2f} s)"
    )


def seconds_since_start() -> float:
    """How long this process has been running, by the system's account (Linux), else by its own."""
    import time

    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as stream:
            started = int(stream.read().rpartition(")")[2].split()[19])
        running = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError, IndexError):
        return time.process_time()
    return max(running, 0.0)


def fail(text: str, code: int) -> int:
    write(sys.stderr, f"ottla serve: {text}")
    return code


def write(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()

"""The options of ``ottla serve``, as data: the command's help and its quick parser are made of it.

``parse`` knows the plain forms (``--flag value``, ``--flag=value``) and imports nothing; whatever it does
not understand, a call for help included, goes to typer, whose command has the same options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ottla.settings.listeners import format_address, split_address
from ottla.settings.setting import SettingError


class ServeOption(NamedTuple):
    """One option; ``name`` is its key among the parsed arguments."""

    name: str
    flag: str
    metavar: str
    help: str
    repeatable: bool = False


SERVE_OPTIONS = (
    ServeOption(
        "data",
        "--data",
        "DIR",
        "Directory for the broker's data; it is made when it is not there. "
        "The same as --set log.dirs=DIR. Given several times, the partitions are spread over them. "
        "(default: ./data)",
        repeatable=True,
    ),
    ServeOption(
        "listen",
        "--listen",
        "HOST:PORT",
        "Address to listen on; port 0 takes a free one, and the line that says that the broker is ready "
        "names it. No host (:9092) is every interface; nobody is asked who they are, so do that only "
        "where you trust the network. (default: 127.0.0.1:9092)",
    ),
    ServeOption(
        "advertise",
        "--advertise",
        "HOST:PORT",
        "Address that clients are told to connect to, when they reach the broker by another one than "
        "--listen: from another machine, or through a container's or a router's port.",
    ),
    ServeOption(
        "node_id",
        "--node-id",
        "N",
        "The broker's number. It is written into the data directory and can't change afterwards. "
        "(default: 1; with --zookeeper the next one that is free above 1000)",
    ),
    ServeOption(
        "zookeeper",
        "--zookeeper",
        "HOST:PORT,...[/PATH]",
        "The ZooKeeper servers of a cluster, which this broker joins; all its brokers name the same, and the "
        "same path if any. The same as --set zookeeper.connect=... (default: none; the broker is alone)",
    ),
    ServeOption(
        "config",
        "--config",
        "FILE",
        "A server.properties file; Kafka's own works. A setting that Kafka knows and Ottla does not "
        "implement gives a warning, a name that nobody knows is an error.",
    ),
    ServeOption(
        "set",
        "--set",
        "NAME=VALUE",
        "One setting by Kafka's name, as in --set log.retention.ms=3600000. May be repeated. Stronger "
        "than the environment (OTTLA_LOG_RETENTION_MS=...), which is stronger than the file.",
        repeatable=True,
    ),
)

Arguments = Mapping[str, str | Sequence[str] | None]

_BY_FLAG = {option.flag: option for option in SERVE_OPTIONS}


def parse(argv: Sequence[str]) -> Arguments | None:
    """The arguments after ``serve``; None where they are not plain ``--flag value`` pairs."""
    arguments: dict[str, str | list[str] | None] = {}
    position = 0
    while position < len(argv):
        flag, equals, value = argv[position].partition("=")
        position += 1
        option = _BY_FLAG.get(flag)
        if option is None:
            return None
        if not equals:
            if position == len(argv) or argv[position].startswith("-"):
                return None
            value = argv[position]
            position += 1
        if option.repeatable:
            values = arguments.setdefault(option.name, [])
            assert isinstance(values, list)
            values.append(value)
        else:
            arguments[option.name] = value
    return arguments


def settings_of(arguments: Arguments) -> dict[str, str]:
    """The settings that the options of their own stand for; raises SettingError."""
    settings: dict[str, str] = {}
    data = arguments.get("data")
    if data:
        settings["log.dirs"] = data if isinstance(data, str) else ",".join(data)
    node_id = arguments.get("node_id")
    if isinstance(node_id, str):
        settings["node.id"] = node_id
    zookeeper = arguments.get("zookeeper")
    if isinstance(zookeeper, str):
        settings["zookeeper.connect"] = zookeeper
    listen = arguments.get("listen")
    if isinstance(listen, str):
        settings["listeners"] = f"PLAINTEXT://{_address('--listen', listen)}"
    advertise = arguments.get("advertise")
    if isinstance(advertise, str):
        settings["advertised.listeners"] = f"PLAINTEXT://{_address('--advertise', advertise)}"
    return settings


def overridden_by(arguments: Arguments) -> dict[str, str]:
    """What the options say against a settings file, and against nothing else: what it tells of its own
    listeners' names and addresses is not about the one of ``--listen``."""
    if not isinstance(arguments.get("listen"), str):
        return {}
    return {
        "advertised.listeners": "",
        "inter.broker.listener.name": "",
        "security.inter.broker.protocol": "",
        "control.plane.listener.name": "",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT",
    }


def _address(flag: str, text: str) -> str:
    try:
        host, port = split_address(flag, text)
    except SettingError:
        raise SettingError(f"{flag} wants HOST:PORT, got {text!r}") from None
    return format_address(host, port)

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
        "where you trust the network. With --brokers N the further ones take the ports after it, or "
        "it is given N times. (default: 127.0.0.1:9092)",
        repeatable=True,
    ),
    ServeOption(
        "advertise",
        "--advertise",
        "HOST:PORT",
        "Address that clients are told to connect to, when they reach the broker by another one than "
        "--listen: from another machine, or through a container's or a router's port. With --brokers N "
        "the further ones take the ports after it, or it is given N times.",
        repeatable=True,
    ),
    ServeOption(
        "node_id",
        "--node-id",
        "N",
        "The broker's number. It is written into the data directory and can't change afterwards. "
        "(default: 1; with --zookeeper the next one that is free above 1000) With --brokers N the "
        "first one's; the others count on.",
    ),
    ServeOption(
        "brokers",
        "--brokers",
        "N",
        "So many brokers, processes of their own, that are one cluster on this machine: for its cores, as a "
        "broker uses one. No ZooKeeper is needed. Their data is in DIR/broker-1, DIR/broker-2 and so on. "
        "(default: 1)",
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

INTERNAL_OPTIONS = (
    ServeOption(
        "store_socket",
        "--store-socket",
        "PATH",
        "Where the brokers of this machine have their store.",
    ),
    ServeOption("lifeline", "--lifeline", "FD", "A pipe whose end is the end of all of them."),
)
"""What ``--brokers`` gives to the brokers that it starts, and nobody else."""

Arguments = Mapping[str, str | Sequence[str] | None]

BROKERS_MAX = 100

_BY_FLAG = {option.flag: option for option in (*SERVE_OPTIONS, *INTERNAL_OPTIONS)}


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
    listen = addresses(arguments, "listen")
    if listen:
        settings["listeners"] = f"PLAINTEXT://{listen[0]}"
    advertise = addresses(arguments, "advertise")
    if advertise:
        settings["advertised.listeners"] = f"PLAINTEXT://{advertise[0]}"
    return settings


def brokers_of(arguments: Arguments) -> int:
    """How many brokers to start; raises SettingError."""
    text = arguments.get("brokers")
    if not isinstance(text, str):
        return 1
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= BROKERS_MAX:
        raise SettingError(f"--brokers wants a number from 1 to {BROKERS_MAX}, got {text!r}")
    return int(text)


def addresses(arguments: Arguments, name: str) -> list[str]:
    """The addresses that ``--listen`` or ``--advertise`` was given: one, or one a broker. Raises SettingError."""
    given = arguments.get(name) or ()
    texts = [given] if isinstance(given, str) else list(given)
    count = brokers_of(arguments)
    if len(texts) not in (0, 1, count):
        raise SettingError(f"--{name} is given {len(texts)} times, for --brokers {count}")
    return [_address(f"--{name}", text) for text in texts]


def overridden_by(arguments: Arguments) -> dict[str, str]:
    """What the options say against a settings file, and against nothing else: what it tells of its own
    listeners' names and addresses is not about the one of ``--listen``."""
    if not arguments.get("listen"):
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

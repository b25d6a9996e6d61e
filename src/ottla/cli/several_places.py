"""Where the brokers of ``ottla serve --brokers N`` have their things: marks, the store's socket, addresses.

A directory ``DIR`` of theirs holds, beside ``broker-K`` for each:

- ``ottla-brokers.json``: how many they are. Nobody else starts there.
- ``ottla-store.sqlite``: the store (in the first of several directories), and ``ottla-socket``, where it is offered.
- ``ottla-brokers.lock``: locked as long as one of the processes lives, whoever started it.

Imported by every start: nothing slow in here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ottla.cli.serve_options import Arguments, addresses
from ottla.settings.listeners import format_address, parse_listeners, split_address
from ottla.settings.setting import SettingError

if TYPE_CHECKING:
    from ottla.coordination.local import LocalStores
    from ottla.settings.broker_config import BrokerConfig

MARK = "ottla-brokers.json"
MEMBER_MARK = "ottla-one-of-several"
LOCK = "ottla-brokers.lock"
SOCKET = "ottla-socket/store"

_SINGLES = ("meta.properties", "ottla-store.sqlite")


class Place(NamedTuple):
    """What a broker is told by the process that started it."""

    socket: str
    lifeline: int

    def stores(self, config: BrokerConfig) -> LocalStores:
        """The way to the store that they share."""
        from ottla.coordination.local import LocalStores

        return LocalStores(self.socket, config.zookeeper_session_timeout_ms)


def place_of(arguments: Arguments) -> Place | None:
    """None for a broker that nobody else has started."""
    socket, lifeline = arguments.get("store_socket"), arguments.get("lifeline")
    if not isinstance(socket, str) or not isinstance(lifeline, str):
        return None
    return Place(socket, int(lifeline))


def check_alone(config: BrokerConfig) -> None:
    """Whether a broker by itself may have these directories. Raises ``SettingError``."""
    for directory in config.data_directories:
        if os.path.exists(f"{directory}/{MARK}"):
            count = read_mark(directory).brokers
            raise SettingError(
                f"log.dirs: {directory} has the data of {count} brokers: start them with "
                f"--brokers {count}"
            )
        if not config.zookeeper_connect and os.path.exists(f"{directory}/{MEMBER_MARK}"):
            raise SettingError(
                f"log.dirs: {directory} has the data of one of several brokers: start them with "
                f"--brokers and --data {os.path.dirname(os.path.abspath(directory))}"
            )


class Mark(NamedTuple):
    """How many brokers have their data in a directory, and the first one's id."""

    brokers: int
    node_id: int


def read_mark(directory: str) -> Mark:
    """What the directory says; no brokers where it says nothing. Raises ``SettingError``."""
    import json

    path = f"{directory}/{MARK}"
    try:
        with open(path, encoding="utf-8") as stream:
            fields = json.load(stream)
            return Mark(int(fields["brokers"]), int(fields["node_id"]))
    except FileNotFoundError:
        return Mark(0, 1)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(f"{path} can't be read: {error}") from None


def prepare(directories: Sequence[str], members: Sequence[Member]) -> None:
    """Make the directories, or see that they are of so many brokers or fewer. Raises ``SettingError``, ``OSError``."""
    import json

    count, first_id = len(members), members[0].node_id
    before = [_check(directory, count) for directory in directories]
    for directory, known in zip(directories, before, strict=True):
        for number in range(1, count + 1):
            member = f"{directory}/broker-{number}"
            os.makedirs(member, exist_ok=True)
            if number > known:
                _write(f"{member}/{MEMBER_MARK}", "")
        if known < count:
            _write(
                f"{directory}/{MARK}",
                json.dumps({"version": 0, "brokers": count, "node_id": first_id}),
            )


def _check(directory: str, count: int) -> int:
    from ottla.broker.store_place import exported_mark

    known = read_mark(directory).brokers
    if known > count:
        raise SettingError(f"--brokers: {directory} has the data of {known}; {count} are too few")
    if not known:
        for name in _SINGLES:
            if os.path.exists(f"{directory}/{name}"):
                raise SettingError(
                    f"--brokers: {directory} has the data of a single broker, which can't be made that of "
                    "several; give them another directory"
                )
    mark = exported_mark(f"{directory}/{_SINGLES[1]}")
    if os.path.exists(mark):
        with open(mark, encoding="utf-8") as stream:
            where = stream.read().strip()
        raise SettingError(
            f"--brokers: the state in {directory} has gone to the ZooKeeper {where}: start each broker with "
            f"--zookeeper {where} --data {directory}/broker-K"
        )
    return known


def _write(path: str, text: str) -> None:
    from ottla.log.disk import Disk

    Disk().replace_file(path, text.encode())


class Member(NamedTuple):
    """One of the brokers: its number, its id, and the arguments of its ``ottla serve``."""

    number: int
    node_id: int
    arguments: list[str]


def members_of(arguments: Arguments, config: BrokerConfig, count: int) -> list[Member]:
    """All of them. Raises ``SettingError``."""
    if config.zookeeper_connect:
        raise SettingError("--brokers has a store of its own: zookeeper.connect goes without it")
    first_id = config.node_id
    if config.wants_id:
        first_id = read_mark(config.data_directories[0]).node_id
    own = [_own_arguments(arguments, config, index, first_id + index) for index in range(count)]
    return [Member(index + 1, first_id + index, one) for index, one in enumerate(own)]


def _own_arguments(
    arguments: Arguments, config: BrokerConfig, index: int, node_id: int
) -> list[str]:
    result: list[str] = []
    for directory in config.data_directories:
        result += ["--data", f"{directory}/broker-{index + 1}"]
    given = arguments.get("config")
    if isinstance(given, str):
        result += ["--config", given]
    result += [f"--set={assignment}" for assignment in arguments.get("set") or ()]
    result += [f"--node-id={node_id}", f"--set=broker.id={node_id}"]
    for name, listeners in (
        ("listen", config.listeners),
        ("advertise", config.advertised_listeners),
    ):
        texts = addresses(arguments, name)
        if texts:
            text = texts[index] if len(texts) > 1 else _moved(f"--{name}", texts[0], index)
            result.append(f"--{name}={text}")
        elif listeners:
            setting = "listeners" if name == "listen" else "advertised.listeners"
            result.append(f"--set={setting}={_all_moved(setting, listeners, index)}")
    if config.http_listener:
        moved = _moved("http.listener", config.http_listener, index)
        result.append(f"--set=http.listener={moved}")
    return result


def _moved(setting: str, address: str, by: int) -> str:
    """An address with another port; 0, any, stays. Raises ``SettingError``."""
    host, port = split_address(setting, address)
    if port + by > 65535:
        raise SettingError(f"{setting}={address}: there are no {by} ports after it")
    return format_address(host, port + by if port else 0)


def _all_moved(setting: str, listeners: str, by: int) -> str:
    return ",".join(
        f"{one.name}://{_moved(setting, format_address(one.host, one.port), by)}"
        for one in parse_listeners(setting, listeners)
    )

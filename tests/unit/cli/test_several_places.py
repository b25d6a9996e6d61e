"""What each broker of ``ottla serve --brokers N`` is started with, and whose a data directory is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ottla.cli.serve import config_of
from ottla.cli.serve_options import Arguments, brokers_of
from ottla.cli.several_places import check_alone, members_of, place_of, prepare, read_mark
from ottla.settings.setting import SettingError


def _arguments(**given: str | list[str]) -> Arguments:
    return given


def _members(arguments: Arguments) -> list[list[str]]:
    members = members_of(arguments, config_of(arguments), brokers_of(arguments))
    return [member.arguments for member in members]


def _prepare(data: Path, count: int, **given: str | list[str]) -> None:
    arguments = _arguments(brokers=str(count), data=[str(data)], **given)
    prepare([str(data)], members_of(arguments, config_of(arguments), count))


def test_each_has_its_directories_id_and_ports(tmp_path: Path) -> None:
    arguments = _arguments(
        brokers="2",
        data=[f"{tmp_path}/a", f"{tmp_path}/b"],
        node_id="5",
        listen=[":9092"],
        advertise=["h:19092"],
        set=["http.listener=:9644", "num.partitions=3"],
    )
    one, two = _members(arguments)
    assert one[:4] == ["--data", f"{tmp_path}/a/broker-1", "--data", f"{tmp_path}/b/broker-1"]
    assert two[:4] == ["--data", f"{tmp_path}/a/broker-2", "--data", f"{tmp_path}/b/broker-2"]
    assert one[4:6] == two[4:6] == ["--set=http.listener=:9644", "--set=num.partitions=3"]
    assert two[6:] == [
        "--node-id=6",
        "--set=broker.id=6",
        "--listen=:9093",
        "--advertise=h:19093",
        "--set=http.listener=:9645",
    ]


def test_addresses_may_be_given_one_by_one_and_any_port_stays_any() -> None:
    arguments = _arguments(brokers="2", listen=["a:1", "b:2"])
    assert [one[-1] for one in _members(arguments)] == ["--listen=a:1", "--listen=b:2"]
    arguments = _arguments(brokers="2", listen=["a:0"])
    assert [one[-1] for one in _members(arguments)] == ["--listen=a:0", "--listen=a:0"]


def test_listeners_of_a_settings_file_move_on_for_each(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text(
        "broker.id=3\nlisteners=IN://:7000,OUT://:8000\ninter.broker.listener.name=IN\n"
        "listener.security.protocol.map=IN:PLAINTEXT,OUT:PLAINTEXT\n"
        "advertised.listeners=IN://i:7000,OUT://o:9000\n"
    )
    two = _members(_arguments(brokers="2", config=str(file)))[1]
    assert f"--config {file} --node-id=4 --set=broker.id=4" in " ".join(two)
    assert "--set=listeners=IN://:7001,OUT://:8001" in two
    assert "--set=advertised.listeners=IN://i:7001,OUT://o:9001" in two


@pytest.mark.parametrize(
    "given",
    [
        {"brokers": "0"},
        {"brokers": "two"},
        {"brokers": "101"},
        {"brokers": "3", "listen": [":1", ":2"]},
        {"brokers": "2", "listen": [":65535"]},
        {"brokers": "2", "zookeeper": "zk:2181"},
    ],
)
def test_what_can_not_be_is_refused(given: dict[str, str | list[str]]) -> None:
    with pytest.raises(SettingError):
        _members(_arguments(**given))


def test_directories_of_one_and_of_several_are_told_apart(tmp_path: Path) -> None:
    single, several = tmp_path / "single", tmp_path / "several"
    single.mkdir()
    (single / "meta.properties").write_text("")
    with pytest.raises(SettingError, match="a single broker"):
        _prepare(single, 2)
    _prepare(several, 3, node_id="4")
    with pytest.raises(SettingError, match="start them with --brokers 3"):
        check_alone(config_of(_arguments(data=[str(several)])))
    member = _arguments(data=[str(several / "broker-2")])
    with pytest.raises(SettingError, match=f"--brokers and --data {several}"):
        check_alone(config_of(member))
    check_alone(config_of({**member, "zookeeper": "zk:2181"}))  # where the store was exported to
    with pytest.raises(SettingError, match="2 are too few"):
        _prepare(several, 2, node_id="4")
    _prepare(several, 5)
    assert read_mark(str(several)) == (5, 4)
    (several / "ottla-store.sqlite.exported").write_text("zk:2181\n")
    with pytest.raises(SettingError, match="has gone to the ZooKeeper zk:2181"):
        _prepare(several, 5)


def test_only_a_broker_that_was_started_by_the_command_has_a_place() -> None:
    assert place_of({}) is None
    assert place_of(_arguments(store_socket="/s", lifeline="5")) == ("/s", 5)

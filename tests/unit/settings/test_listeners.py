"""Listener lists."""

from __future__ import annotations

import pytest

from ottla.settings.definitions import BrokerConfig, Listener, SettingError
from ottla.settings.listeners import format_address, parse_listeners, split_address


def _refusal(**options: str) -> str:
    with pytest.raises(SettingError) as caught:
        BrokerConfig.of({name.replace("_", "."): value for name, value in options.items()})
    return str(caught.value)


def test_listeners_are_read_with_any_host() -> None:
    text = "PLAINTEXT://:9092, internal://10.0.0.1:0,SIX://[::1]:1"
    assert parse_listeners("listeners", text) == (
        Listener("PLAINTEXT", "", 9092),
        Listener("INTERNAL", "10.0.0.1", 0),
        Listener("SIX", "::1", 1),
    )


@pytest.mark.parametrize(
    "text",
    ["localhost:9092", "://a:1", "PLAINTEXT://a", "PLAINTEXT://a:b", "PLAINTEXT://a:65536",
     "PLAINTEXT://::1:9092", "PLAINTEXT://a/b:1", "PLAINTEXT://a:1,PLAINTEXT://b:2", "PLAINTEXT://a:٣"],
)  # fmt: skip
def test_a_broken_listener_is_refused(text: str) -> None:
    assert "listeners" in _refusal(listeners=text)


def test_addresses_come_back_from_their_text() -> None:
    for host, port in [("localhost", 1), ("::1", 2), ("", 0)]:
        assert split_address("x", format_address(host, port)) == (host, port)


def test_a_listener_needs_a_protocol_that_is_implemented() -> None:
    assert "No security protocol defined for listener OUTSIDE" in _refusal(listeners="OUTSIDE://:1")
    assert "Security protocol SASL_SSL is not implemented" in _refusal(listeners="SASL_SSL://:1")
    config = BrokerConfig.of(
        {
            "listeners": "OUTSIDE://:1,PLAINTEXT://:2",
            "listener.security.protocol.map": "outside:plaintext,PLAINTEXT:PLAINTEXT",
        }
    )
    assert [listener.name for listener in config.endpoints] == ["OUTSIDE", "PLAINTEXT"]
    assert "NAME:PROTOCOL" in _refusal(listener_security_protocol_map="PLAINTEXT:TLS")
    assert "twice" in _refusal(listener_security_protocol_map="A:SSL,A:SSL")


def test_a_broker_needs_a_listener_for_clients() -> None:
    message = _refusal(listeners="CONTROLLER://:1", controller_listener_names="controller")
    assert "No listener for clients" in message


def test_what_is_advertised_is_among_the_listeners_and_can_be_reached() -> None:
    assert "among those of listeners: PLAINTEXT" in _refusal(advertised_listeners="OTHER://a:1")
    assert "can't be told to clients" in _refusal(advertised_listeners="PLAINTEXT://0.0.0.0:1")
    assert "advertised listeners: PLAINTEXT" in _refusal(inter_broker_listener_name="OTHER")
    config = BrokerConfig.of({"advertised.listeners": "PLAINTEXT://broker.example:29092"})
    assert config.advertised_endpoints == (Listener("PLAINTEXT", "broker.example", 29092),)
    assert config.endpoints == (Listener("PLAINTEXT", "127.0.0.1", 9092),)
    assert BrokerConfig.of({"advertised.listeners": ""}).advertised_endpoints == config.endpoints


@pytest.mark.parametrize(
    "listeners", ["A://:1,PLAINTEXT://:1", "A://127.0.0.1:1,PLAINTEXT://127.0.0.2:1",
                  "A://a:1,PLAINTEXT://[::1]:1", "A://[::1]:1,PLAINTEXT://127.0.0.1:1,C://:1"]
)  # fmt: skip
def test_a_port_stands_once_but_for_one_address_of_each_family(listeners: str) -> None:
    protocols = "A:PLAINTEXT,PLAINTEXT:PLAINTEXT,C:PLAINTEXT"
    message = _refusal(listeners=listeners, listener_security_protocol_map=protocols)
    assert "Each listener must have a different port" in message
    both = {
        "listeners": "A://[::1]:1,PLAINTEXT://127.0.0.1:1,C://:0,D://:0",
        "listener.security.protocol.map": protocols + ",D:PLAINTEXT",
        "advertised.listeners": "A://lb:9,PLAINTEXT://lb:9",  # what is advertised may be one address
    }
    assert len(BrokerConfig.of(both).endpoints) == 4


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_the_address_of_every_interface_is_not_advertised_even_unasked(host: str) -> None:
    assert "can't be told to clients" in _refusal(listeners=f"PLAINTEXT://{host}:9092")
    told = BrokerConfig.of(
        {
            "listeners": f"PLAINTEXT://{host}:9092",
            "advertised.listeners": "PLAINTEXT://:9092",  # this machine's name
        }
    )
    assert told.advertised_endpoints[0].host == ""


def _two(**more: str) -> dict[str, str]:
    return {
        "listeners": "IN://:1,OUT://:2",
        "listener.security.protocol.map": "IN:PLAINTEXT,OUT:PLAINTEXT",
    } | {name.replace("_", "."): value for name, value in more.items()}


def test_the_listener_among_brokers_is_named_or_is_called_as_its_protocol() -> None:
    assert BrokerConfig.of({}).inter_broker_listener == "PLAINTEXT"
    assert BrokerConfig.of(_two(inter_broker_listener_name="in")).inter_broker_listener == "IN"
    with pytest.raises(SettingError, match="advertised listeners: IN, OUT"):
        BrokerConfig.of(_two())
    with pytest.raises(SettingError, match="Only one of"):
        BrokerConfig.of(
            _two(inter_broker_listener_name="IN", security_inter_broker_protocol="PLAINTEXT")
        )
    with pytest.raises(SettingError, match="String must be one of: PLAINTEXT, SSL"):
        BrokerConfig.of({"security.inter.broker.protocol": "TLS"})


def test_the_control_planes_listener_is_an_advertised_one_of_its_own() -> None:
    named = {"inter_broker_listener_name": "IN"}
    assert BrokerConfig.of(_two(**named, control_plane_listener_name="OUT")).endpoints
    for name, reason in [("IN", "another one"), ("NO", "advertised listeners: IN, OUT")]:
        with pytest.raises(SettingError, match=reason):
            BrokerConfig.of(_two(**named, control_plane_listener_name=name))
    with pytest.raises(SettingError, match="KRaft"):
        BrokerConfig.of(_two(**named, control_plane_listener_name="OUT", process_roles="broker"))


def test_limits_by_address_are_read() -> None:
    text = "127.0.0.1:5, [::1]:2,some.host:0"
    config = BrokerConfig.of(
        {"max.connections.per.ip.overrides": text, "max.connections.per.ip": 0}
    )
    assert config.ip_limits == {"127.0.0.1": 5, "::1": 2, "some.host": 0}
    for bad in ("127.0.0.1", "a:b", ":3", "a b:3", "a:-1", "a:9999999999"):
        assert "max.connections.per.ip.overrides" in _refusal(max_connections_per_ip_overrides=bad)

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

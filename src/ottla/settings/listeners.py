"""Listeners: ``NAME://host:port`` lists, and which of them a broker opens.

Source: ``SocketServerConfigs.listenerListToEndPoints``, ``KafkaConfig.validateValues``.
"""

from __future__ import annotations

from typing import NamedTuple

from ottla.settings.setting import SettingError, invalid

IMPLEMENTED_PROTOCOLS = ("PLAINTEXT",)
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


class Listener(NamedTuple):
    """One listener. An empty host is every interface; port 0 a free one."""

    name: str
    host: str
    port: int
    protocol: str = "PLAINTEXT"


def parse_listeners(setting: str, text: str) -> tuple[Listener, ...]:
    """The listeners of a comma-separated list; raises SettingError in the name of ``setting``."""
    result: list[Listener] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, separator, address = entry.partition("://")
        if not separator or not name:
            raise invalid(
                setting, entry, "Expected NAME://host:port, as in PLAINTEXT://127.0.0.1:9092"
            )
        host, port = split_address(setting, address)
        result.append(Listener(name.upper(), host, port))
    names = [listener.name for listener in result]
    if len(set(names)) != len(names):
        raise invalid(setting, text, "Each listener must have a different name")
    return tuple(result)


def split_address(setting: str, text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` taken apart; raises SettingError in the name of ``setting``."""
    host, separator, port = text.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit()) or int(port[:6]) > 65535:
        raise invalid(setting, text, "Expected host:port with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise invalid(setting, text, "An IPv6 address stands in brackets, as in [::1]:9092")
    if any(character.isspace() or character in "/[]" for character in host):
        raise invalid(setting, text, "Expected host:port")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """``host:port`` with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_protocol_map(text: str) -> dict[str, str]:
    """Listener name -> security protocol; raises SettingError."""
    setting = "listener.security.protocol.map"
    result: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, separator, protocol = entry.rpartition(":")
        if not separator or not name or protocol.upper() not in PROTOCOLS:
            expected = ", ".join(PROTOCOLS)
            raise invalid(setting, entry, f"Expected NAME:PROTOCOL with one of: {expected}")
        if name.upper() in result:
            raise invalid(setting, text, f"{name.upper()} stands in it twice")
        result[name.upper()] = protocol.upper()
    return result


def opened_listeners(
    listeners: str, protocol_map: str, controller_names: str | None
) -> tuple[Listener, ...]:
    """The listeners that the broker opens: those that are not for Kafka's controllers.

    Raises SettingError when none is left, when a name has no security protocol, or when its protocol is
    not implemented.
    """
    controllers = {name.strip().upper() for name in (controller_names or "").split(",")}
    protocols = parse_protocol_map(protocol_map)
    result: list[Listener] = []
    for listener in parse_listeners("listeners", listeners):
        if listener.name in controllers:
            continue
        protocol = protocols.get(listener.name)
        if protocol is None:
            raise invalid(
                "listeners",
                f"{listener.name}://{format_address(listener.host, listener.port)}",
                f"No security protocol defined for listener {listener.name} "
                "in listener.security.protocol.map",
            )
        if protocol not in IMPLEMENTED_PROTOCOLS:
            raise invalid(
                "listeners",
                f"{listener.name}://{format_address(listener.host, listener.port)}",
                f"Security protocol {protocol} is not implemented; use {IMPLEMENTED_PROTOCOLS[0]}",
            )
        result.append(listener._replace(protocol=protocol))
    if not result:
        raise SettingError("No listener for clients: every one of listeners is a controller's")
    return tuple(result)


def advertised_listeners(
    opened: tuple[Listener, ...], advertised: str | None, controller_names: str | None
) -> tuple[Listener, ...]:
    """What clients are told: ``advertised.listeners``, or the opened ones where it is not set.

    A host may be empty and a port 0 only where they come from ``listeners``; the broker fills them in
    once it listens. Raises SettingError.
    """
    if advertised is None:
        return opened
    controllers = {name.strip().upper() for name in (controller_names or "").split(",")}
    setting = "advertised.listeners"
    by_name = {listener.name: listener for listener in opened}
    result: list[Listener] = []
    for listener in parse_listeners(setting, advertised):
        if listener.name in controllers:
            continue
        if listener.name not in by_name:
            expected = ", ".join(by_name)
            reason = f"Its listener names must be among those of listeners: {expected}"
            raise invalid(setting, listener.name, reason)
        if listener.host in ("0.0.0.0", "::"):
            reason = "It can't be told to clients; use an address that they reach"
            raise invalid(setting, listener.host, reason)
        result.append(listener._replace(protocol=by_name[listener.name].protocol))
    if not result:
        raise SettingError("advertised.listeners names no listener for clients")
    return tuple(result)

"""Listeners: ``NAME://host:port`` lists, and which of them a broker opens.

Source: ``SocketServerConfigs.listenerListToEndPoints``, ``CoreUtils.listenerListToEndPoints`` (ports),
``KafkaConfig.validateValues`` of 3.9.
"""

from __future__ import annotations

from typing import NamedTuple

from ottla.settings.setting import SettingError, invalid

IMPLEMENTED_PROTOCOLS = ("PLAINTEXT",)
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
EVERY_INTERFACE = ("0.0.0.0", "::")


class Listener(NamedTuple):
    """One listener. An empty host is every interface; port 0 a free one."""

    name: str
    host: str
    port: int
    protocol: str = "PLAINTEXT"


def parse_listeners(
    setting: str, text: str, *, distinct_ports: bool = False
) -> tuple[Listener, ...]:
    """The listeners of a comma-separated list; raises SettingError in the name of ``setting``.

    ``distinct_ports``: a port may stand twice only with an IPv4 and an IPv6 address (KIP-797)."""
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
    if distinct_ports:
        _check_ports(setting, text, result)
    return tuple(result)


def _check_ports(setting: str, text: str, listeners: list[Listener]) -> None:
    by_port: dict[int, list[str]] = {}
    for listener in listeners:
        if listener.port:
            by_port.setdefault(listener.port, []).append(listener.host)
    for port, hosts in by_port.items():
        if len(hosts) > 1 and sorted(map(_ip_version, hosts)) != [4, 6]:
            reason = (
                "Each listener must have a different port unless exactly one listener has an IPv4 "
                f"address and the other an IPv6 address (port {port})"
            )
            raise invalid(setting, text, reason)


def _ip_version(host: str) -> int:
    """4 or 6; 0 for a name, or for none."""
    if ":" in host:
        return 6
    parts = host.split(".")
    return 4 if len(parts) == 4 and all(part.isdigit() for part in parts) else 0


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
    for listener in parse_listeners("listeners", listeners, distinct_ports=True):
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

    A host may be empty and a port 0; the broker fills them in once it listens. Raises SettingError, also
    for the addresses of every interface: they lead a client to its own machine.
    """
    controllers = {name.strip().upper() for name in (controller_names or "").split(",")}
    setting = "advertised.listeners"
    by_name = {listener.name: listener for listener in opened}
    told = opened if advertised is None else parse_listeners(setting, advertised)
    result: list[Listener] = []
    for listener in told:
        if listener.name in controllers:
            continue
        if listener.name not in by_name:
            expected = ", ".join(by_name)
            reason = f"Its listener names must be among those of listeners: {expected}"
            raise invalid(setting, listener.name, reason)
        if listener.host in EVERY_INTERFACE:
            address = f"{listener.name}://{format_address(listener.host, listener.port)}"
            reason = (
                "It can't be told to clients; use an address that they reach (--advertise), or no host "
                "for this machine's name"
            )
            raise invalid(setting, address, reason)
        result.append(listener._replace(protocol=by_name[listener.name].protocol))
    if not result:
        raise SettingError("advertised.listeners names no listener for clients")
    return tuple(result)


def inter_broker_listener(
    name: str | None, protocol: str | None, advertised: tuple[Listener, ...]
) -> str:
    """The listener that brokers use among themselves: ``inter.broker.listener.name``, or the one that is
    named as ``security.inter.broker.protocol`` where that is set, or PLAINTEXT. Raises SettingError."""
    if name and protocol:
        raise SettingError(
            "Only one of inter.broker.listener.name and security.inter.broker.protocol should be set"
        )
    found = (name or protocol or PROTOCOLS[0]).strip().upper()
    if not name and found not in PROTOCOLS:
        expected = f"String must be one of: {', '.join(PROTOCOLS)}"
        raise invalid("security.inter.broker.protocol", protocol, expected)
    names = [listener.name for listener in advertised]
    if found not in names:
        reason = f"It must be one of the advertised listeners: {', '.join(names)}"
        raise invalid("inter.broker.listener.name", found, reason)
    return found


def check_control_plane(
    name: str | None,
    advertised: tuple[Listener, ...],
    inter_broker: str,
    process_roles: tuple[str, ...],
) -> None:
    """Raise SettingError where ``control.plane.listener.name`` can't be taken."""
    if not name:
        return
    setting = "control.plane.listener.name"
    if process_roles:
        raise invalid(setting, name, "It is not supported in KRaft mode")
    names = [listener.name for listener in advertised]
    if name.upper() not in names:
        reason = f"It must be one of the advertised listeners: {', '.join(names)}"
        raise invalid(setting, name, reason)
    if name.upper() == inter_broker:
        raise invalid(setting, name, "It must be another one than the inter broker listener")


def parse_ip_limits(text: str) -> dict[str, int]:
    """``max.connections.per.ip.overrides``: host or address -> connections; raises SettingError."""
    setting = "max.connections.per.ip.overrides"
    result: dict[str, int] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host, separator, count = entry.rpartition(":")
        host = host.strip().removeprefix("[").removesuffix("]")
        count = count.strip()
        if not separator or not (count.isascii() and count.isdigit()) or len(count) > 9:
            raise invalid(setting, entry, "Expected address:count, as in 127.0.0.1:200")
        if not host or not all(c.isalnum() or c in "-._:%" for c in host):
            raise invalid(setting, entry, "It contains an invalid address")
        result[host] = int(count)
    return result

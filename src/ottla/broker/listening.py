"""The broker's listeners: taken early, opened late, and told of by the addresses that clients reach.

Rules:
- All addresses are taken before anything is written to disk: a start that fails because of one of them leaves
  nothing behind. Nobody is accepted before the logs are loaded.
- What is advertised is settled once the ports are known: port 0 stands for the one that was found, an empty
  host for this machine's name, as in Kafka.
- Whoever can be reached from another machine in plain text is told once, at the start.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ottla.coordination.znodes import Endpoint
from ottla.logs import logger
from ottla.messages.registry import API_VERSIONS_RANGES, BETWEEN_BROKERS, api
from ottla.network.limits import NetworkLimits
from ottla.network.server import Listener, Server
from ottla.settings.listeners import format_address

if TYPE_CHECKING:
    from ottla.clock import Clock
    from ottla.errors import KafkaError
    from ottla.network.request import Request
    from ottla.network.stepping import Dispatch
    from ottla.settings.broker_config import BrokerConfig
    from ottla.wire.schema import Message

log = logger(__name__)

OPEN_ADVICE = (
    "anybody who reaches this address can read and write everything: TLS and SASL are not there yet; "
    "listen on 127.0.0.1 (or localhost), or keep the address inside a private network or a firewall"
)


async def new_server(
    dispatch: Dispatch,
    config: BrokerConfig,
    clock: Clock,
    settle: Callable[[], None],
    *,
    in_cluster: bool,
) -> Server:
    """The broker's network side, which listens nowhere yet. Raises ``OSError``.

    As in Kafka every listener of a broker of a cluster takes what brokers ask each other.
    """
    return Server(
        dispatch,
        limits=await network_limits(config),
        apis={
            key: versions
            for key, versions in API_VERSIONS_RANGES.items()
            if in_cluster or key not in BETWEEN_BROKERS
        },
        error_response=error_response,
        clock=clock,
        settle=settle,
    )


def error_response(request: Request, error: KafkaError) -> Message | None:
    """The answer to a request whose handler failed; None where the API has no place for an error."""
    response = api(request.api_key).response()
    field = type(response).__fields__.get("error_code")
    if field is not None and field.versions.has(request.api_version):
        setattr(response, "error_code", error.code)  # noqa: B010
        return response
    return None


async def network_limits(config: BrokerConfig) -> NetworkLimits:
    """The bounds of the network room as the settings have them. Raises ``OSError`` for an unknown host."""
    settings: dict[str, Any] = {
        name: getattr(config, name) for name in NetworkLimits._fields if hasattr(config, name)
    }
    settings["ip_limits"] = await _resolved(config.ip_limits)
    return NetworkLimits(**settings)


async def _resolved(limits: Mapping[str, int]) -> dict[str, int]:
    """The limits by address: a name stands for every address that it has now, as in Kafka."""
    loop = asyncio.get_running_loop()
    found: dict[str, int] = {}
    for host, limit in limits.items():
        try:
            addresses = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise OSError(f"max.connections.per.ip.overrides: {host}: {error.strerror}") from error
        found.update((str(address[4][0]), limit) for address in addresses)
    return found


async def take_listeners(server: Server, config: BrokerConfig) -> list[Listener]:
    """The listeners' addresses, all of them or none. Raises ``OSError``."""
    taken: list[Listener] = []
    try:
        for endpoint in config.endpoints:
            host, name = endpoint.host or None, endpoint.name
            taken.append(await server.bind(host, endpoint.port, name=name))
    except BaseException:
        let_go(taken)
        raise
    return taken


def let_go(listeners: list[Listener]) -> None:
    """Close the addresses; nothing for those that are closed."""
    for listener in listeners:
        for sock in listener.sockets:
            sock.close()


async def advertised(config: BrokerConfig, listeners: list[Listener]) -> tuple[Endpoint, ...]:
    """What clients are told, by listener."""
    ports = {listener.name: listener.port for listener in listeners}
    told = []
    for endpoint in config.advertised_endpoints:
        host = endpoint.host or await asyncio.to_thread(socket.getfqdn)
        port = endpoint.port or ports[endpoint.name]
        told.append(Endpoint(endpoint.name, endpoint.protocol, host, port))
    return tuple(told)


def warn_of_open_listeners(config: BrokerConfig, listeners: list[Listener]) -> None:
    """One line for each listener beyond loopback whose peers are neither encrypted nor authenticated."""
    protocols = {endpoint.name: endpoint.protocol for endpoint in config.endpoints}
    for listener in listeners:
        addresses = [sock.getsockname()[0] for sock in listener.sockets]
        if protocols[listener.name] == "PLAINTEXT" and not all(map(is_loopback, addresses)):
            log.warning(
                "a listener is open to other machines in plain text",
                listener=listener.name,
                address=", ".join(format_address(host, listener.port) for host in addresses),
                advice=OPEN_ADVICE,
            )


def is_loopback(address: str) -> bool:
    """Whether a socket's own address is reached from this machine alone."""
    return address == "::1" or (address.startswith("127.") and ":" not in address)

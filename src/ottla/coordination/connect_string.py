"""``host:port,host:port/chroot``: where a ZooKeeper ensemble is, as Kafka writes it."""

from __future__ import annotations

from typing import NamedTuple

from ottla.coordination.store import BadArguments, validate_path

DEFAULT_PORT = 2181


class Server(NamedTuple):
    """One ZooKeeper server's address for clients."""

    host: str
    port: int


class ConnectString(NamedTuple):
    """The servers, and the path that stands before all paths (empty for none)."""

    servers: tuple[Server, ...]
    chroot: str

    @classmethod
    def parse(cls, text: str) -> ConnectString:
        """Raises ValueError with what is wrong."""
        addresses, slash, rest = text.strip().partition("/")
        chroot = "/" + rest.rstrip("/") if slash and rest.strip("/") else ""
        if chroot:
            try:
                validate_path(chroot)
            except BadArguments as error:
                raise ValueError(f"chroot {error}") from error
        servers = tuple(
            _parse_server(each.strip()) for each in addresses.split(",") if each.strip()
        )
        if not servers:
            raise ValueError(f"{text!r} names no server")
        return cls(servers, chroot)

    def __str__(self) -> str:
        return ",".join(map(_format_server, self.servers)) + self.chroot


def _parse_server(text: str) -> Server:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        is_bad = not bracket or (port and not port.startswith(":"))
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
        is_bad = ":" in port
    number = port or str(DEFAULT_PORT)
    if (
        is_bad
        or not host
        or not number.isascii()
        or not number.isdigit()
        or not 0 < int(number) < 65536
    ):
        raise ValueError(f"{text!r} is no host:port")
    return Server(host, int(number))


def _format_server(server: Server) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{host}:{server.port}"

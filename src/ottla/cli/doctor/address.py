"""What is wrong with a client's address: from the name to what the brokers advertise.

Rules: everything has a deadline; a server that is none of Kafka's is sent what it can shrug off (an
ApiVersions request, the start of a TLS handshake, an HTTP request) on connections of their own; metadata is
asked for without any topic, so that none is made.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any, NamedTuple

from ottla.cli.doctor.diagnosis import Diagnoses
from ottla.messages.registry import (
    API_NAMES,
    API_VERSIONS_RANGES,
    decode_response,
    encode_request,
    encode_size,
)
from ottla.settings.listeners import format_address
from ottla.wire.primitives import DecodeError
from ottla.wire.schema import Message

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 16 << 20
CLIENT_ID = "ottla-doctor"

# What a client can't do without, by the API's key: from and up to which version it speaks.
# Java 4 and this package have the same lower ends (KIP-896).
_NEEDED = (0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18)
_CLIENTS: dict[str, dict[int, tuple[int, int]]] = {
    "Ottla's and Java 4's clients": {key: API_VERSIONS_RANGES[key] for key in _NEEDED},
    "librdkafka 2": {
        0: (0, 10),
        1: (0, 16),
        2: (0, 7),
        3: (0, 12),
        8: (1, 9),
        9: (0, 9),
        10: (0, 2),
        11: (0, 5),
        12: (0, 3),
        13: (0, 1),
        14: (0, 3),
        18: (0, 3),
    },
}


class NotKafka(Exception):
    """What answers is no Kafka broker, or none that can be talked to in the clear; says what it is."""

    def __init__(self, code: str, what: str, fix: str) -> None:
        self.code, self.what, self.fix = code, what, fix
        super().__init__(what)


class Reached(NamedTuple):
    """A broker that answered. ``brokers``: node id, host and port as it advertises them."""

    address: str
    cluster_id: str | None
    brokers: list[tuple[int, str, int]]
    versions: dict[int, tuple[int, int]]


class AddressDoctor:
    """Looks at bootstrap addresses the way a client does."""

    def __init__(self, found: Diagnoses) -> None:
        self._found = found

    def look_at(self, host: str, port: int) -> Reached | None:
        """Look at one address, and at what the broker there says of the cluster."""
        address = format_address(host, port)
        reached = self._reach(address, host, port, "bootstrap")
        if reached is None:
            return None
        self._compare_versions(reached)
        if not reached.brokers:
            self._found.error(
                "no-brokers",
                address,
                "it knows of no broker, itself included",
                "The broker is starting or has lost touch with its cluster.",
                "Wait a moment; look at its log.",
            )
        for node_id, told_host, told_port in reached.brokers:
            self._look_at_advertised(reached, node_id, told_host, told_port)
        if not any(
            item.subject.startswith(address) for item in self._found.all if item.code != "ok"
        ):
            names = ", ".join(format_address(host, port) for _, host, port in reached.brokers)
            self._found.info(
                "ok", address, f"cluster {reached.cluster_id} answers and advertises {names}"
            )
        return reached

    # Getting there

    def _reach(self, subject: str, host: str, port: int, role: str) -> Reached | None:
        """Talk to what is at an address; None where that fails, which is told of."""
        found = self._found
        try:
            places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            found.error(
                f"{role}-unresolved",
                subject,
                f"the name {host} can't be resolved ({getattr(error, 'strerror', error)})",
                fix="Correct the name, or make it known (DNS, /etc/hosts).",
            )
            return None
        failures: dict[str, str] = {}
        open_place: Any = None
        for place in places:
            shown = format_address(str(place[4][0]), port)
            try:
                with _connect(place):
                    open_place = open_place or place
            except OSError as error:
                failures[shown] = _why(error)
        if open_place is None:
            listed = "; ".join(f"{shown}: {why}" for shown, why in failures.items())
            found.error(
                f"{role}-unreachable",
                subject,
                f"nothing can be reached there ({listed})",
                _refusal_means(failures.values()),
                "Start the broker, or correct the address; ottla serve says where it listens.",
            )
            return None
        for shown, why in failures.items():
            found.warn(
                "one-address",
                subject,
                f"of its addresses {shown} can't be reached ({why})",
                "A client that tries that one first loses time at every connection.",
                "Let the broker listen on it, too, or name the other one.",
            )
        try:
            return _talk(subject, open_place)
        except NotKafka as error:
            found.error(f"{role}-{error.code}", subject, error.what, fix=error.fix)
            return None

    # What it says

    def _compare_versions(self, reached: Reached) -> None:
        for client, wanted in _CLIENTS.items():
            missing = [
                API_NAMES[key]
                for key, (low, high) in wanted.items()
                if key not in reached.versions
                or reached.versions[key][0] > high
                or reached.versions[key][1] < low
            ]
            if missing:
                self._found.warn(
                    "versions",
                    reached.address,
                    f"{client} find no common version of {', '.join(missing)}",
                    "The broker is too old (before Kafka 2.1) or too new for them.",
                    "Take a broker or a client of another version.",
                )

    def _look_at_advertised(self, reached: Reached, node_id: int, host: str, port: int) -> None:
        found, told = self._found, format_address(host, port)
        if told == reached.address:
            return
        inner = Diagnoses()
        other = AddressDoctor(inner)._reach(told, host, port, "advertised")
        fix = (
            f"Set the broker's advertised.listeners (ottla serve --advertise HOST:PORT) to what clients "
            f"use to reach it, as {reached.address}."
        )
        if other is None:
            reason = inner.all[-1].what if inner.all else "it can't be reached"
            found.error(
                "advertised",
                f"{reached.address} -> {told}",
                f"broker {node_id} tells clients to go on to {told}, and from here {reason}",
                "A client uses its bootstrap address only to ask for the brokers' own ones, and talks to "
                f"those from then on.{_loopback_means(host, reached.address)}",
                fix,
            )
        elif other.cluster_id != reached.cluster_id:
            found.error(
                "advertised-other",
                f"{reached.address} -> {told}",
                f"broker {node_id} tells clients to go on to {told}, where another cluster answers "
                f"({other.cluster_id} instead of {reached.cluster_id})",
                f"Clients would talk to the wrong brokers.{_loopback_means(host, reached.address)}",
                fix,
            )


def _talk(subject: str, place: Any) -> Reached:
    """Ask for versions and metadata. Raises NotKafka."""
    from ottla.messages.api_versions import ApiVersionsRequest
    from ottla.messages.metadata import MetadataRequest

    try:
        with _connect(place) as connection:
            versions: Any = _ask(connection, ApiVersionsRequest(), 0)
            metadata: Any = _ask(connection, MetadataRequest(topics=[]), 2)
    except (OSError, DecodeError) as error:
        raise _identify(place, error) from None
    return Reached(
        subject,
        metadata.cluster_id,
        [(broker.node_id, broker.host, broker.port) for broker in metadata.brokers],
        {item.api_key: (item.min_version, item.max_version) for item in versions.api_keys},
    )


def _ask(connection: socket.socket, request: Message, version: int) -> Message:
    chunks = encode_request(request, version, 1, CLIENT_ID)
    connection.sendall(encode_size(chunks) + b"".join(bytes(chunk) for chunk in chunks))
    size = int.from_bytes(_read(connection, 4), "big")
    if not 4 <= size <= ANSWER_BYTES_MAX:
        raise DecodeError(f"an answer of {size} bytes")
    body = _read(connection, size)
    return decode_response(type(request).__api_key__, version, body)


def _read(connection: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 16))
        if not part:
            raise ConnectionResetError("closed")
        parts += part
    return parts


def _connect(place: Any) -> socket.socket:
    family, kind, protocol, _, address = place
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect(address)
        connection.settimeout(ANSWER_TIMEOUT_S)
    except OSError:
        connection.close()
        raise
    return connection


def _identify(place: Any, error: Exception) -> NotKafka:
    """What it is that did not answer as a broker does."""
    if _speaks_tls(place):
        return NotKafka(
            "tls",
            "it speaks TLS",
            "Use the address of a PLAINTEXT listener: Ottla's own clients have no TLS yet; give others "
            "security.protocol=SSL.",
        )
    banner = _banner(place)
    if banner.startswith(b"HTTP/"):
        return NotKafka(
            "http",
            "it is an HTTP server",
            "Kafka's protocol is no HTTP: use the broker's listener, not a proxy's or a metrics port.",
        )
    if banner:
        shown = banner[:40].decode("latin-1").splitlines()[0]
        return NotKafka(
            "not-kafka", f"it is no Kafka broker; it says {shown!r}", "Correct the port."
        )
    if isinstance(error, TimeoutError):
        return NotKafka(
            "silent",
            f"it accepts connections and answers nothing within {ANSWER_TIMEOUT_S:.0f} s",
            "It is no Kafka broker, or one that hangs or is starting: look at its log.",
        )
    return NotKafka(
        "closed",
        f"it closes the connection instead of answering ({_why(error)})",
        "It is no Kafka broker, or its listener wants TLS or SASL: use a PLAINTEXT listener.",
    )


def _speaks_tls(place: Any) -> bool:
    """Whether it answers the start of a handshake; who it is does not matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connect(place) as connection, context.wrap_socket(connection):
            return True
    except ssl.SSLError as error:
        reason = str(getattr(error, "reason", "") or "")
        return "ALERT" in reason or "CERTIFICATE" in reason
    except OSError:
        return False


def _banner(place: Any) -> bytes:
    """What it says to an HTTP request, or of itself."""
    try:
        with _connect(place) as connection:
            connection.settimeout(1.0)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(200)
    except OSError:
        return b""


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(getattr(error, "strerror", None) or error)


def _refusal_means(reasons: Any) -> str:
    if any("refused" in reason for reason in reasons):
        return "The machine is there, and nothing listens on that port."
    return "The machine is off or another one, or a firewall drops what is sent to it."


def _loopback_means(host: str, bootstrap: str) -> str:
    if not (host == "localhost" or host.startswith("127.") or host == "::1"):
        return ""
    if bootstrap.startswith(("localhost", "127.", "[::1]")):
        return ""
    return f" {host} is the client's own machine to each client."

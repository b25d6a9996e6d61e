"""How a broker reaches ZooKeeper: Kafka 3.9's ``zookeeper.*`` settings, and one of our own.

Source: ``ZkConfigs``. Where Kafka takes Java's key stores, PEM files are taken here: decision 20.
"""

from __future__ import annotations

from ottla.settings.setting import (
    BOOLEAN,
    HIGH,
    INT,
    LIST,
    LOW,
    MEDIUM,
    PASSWORD,
    STRING,
    Range,
    Setting,
    invalid,
)

_PEM_TYPES = ("PEM",)
_TLS_VERSIONS = ("TLS", "TLSv1.2", "TLSv1.3")

# fmt: off
ZOOKEEPER_SETTINGS = (
    Setting("zookeeper.connect", STRING, None, None, HIGH,
        "The ZooKeeper servers that keep the cluster's state: host:port, comma-separated, and then, if wanted, /a/path under which all of it lies. Not set: the broker is alone, and keeps it in a file."),
    Setting("zookeeper.session.timeout.ms", INT, 18_000, Range(1), HIGH,
        "A broker that ZooKeeper doesn't hear of for so long is dead to the cluster; it gives up its own leaderships before. In milliseconds."),
    Setting("zookeeper.connection.timeout.ms", INT, None, Range(1), HIGH,
        "How long a ZooKeeper server is looked for when a session is begun; as long as zookeeper.session.timeout.ms if not set. In milliseconds."),
    Setting("zookeeper.max.in.flight.requests", INT, 10, Range(1), HIGH,
        "Requests that ZooKeeper may have before it has answered the first of them. More than 100 count as 100."),
    Setting("zookeeper.set.acl", BOOLEAN, False, None, HIGH,
        "Whether only the brokers' own ZooKeeper user may change what they create there, and only it may read users' and brokers' settings."),
    Setting("zookeeper.digest.auth", PASSWORD, None, None, MEDIUM,
        "user:password, who the broker is to ZooKeeper (scheme digest). Ottla's own setting; in Kafka a JAAS file says it."),
    Setting("zookeeper.ssl.client.enable", BOOLEAN, False, None, MEDIUM,
        "Whether the connections to ZooKeeper are TLS."),
    Setting("zookeeper.ssl.keystore.location", STRING, None, None, MEDIUM,
        "A PEM file with the broker's certificate and its key, to show to ZooKeeper."),
    Setting("zookeeper.ssl.keystore.password", PASSWORD, None, None, MEDIUM,
        "What the key in zookeeper.ssl.keystore.location is encrypted with."),
    Setting("zookeeper.ssl.keystore.type", STRING, None, _PEM_TYPES, MEDIUM,
        "PEM is the only one here; JKS and PKCS12 are to be converted (keytool, openssl pkcs12)."),
    Setting("zookeeper.ssl.truststore.location", STRING, None, None, MEDIUM,
        "A PEM file with the certificates that vouch for ZooKeeper's; the system's if not set."),
    Setting("zookeeper.ssl.truststore.password", PASSWORD, None, None, MEDIUM,
        "Taken and not needed: certificates in PEM are not encrypted."),
    Setting("zookeeper.ssl.truststore.type", STRING, None, _PEM_TYPES, MEDIUM,
        "PEM is the only one here; JKS and PKCS12 are to be converted (keytool, openssl pkcs12)."),
    Setting("zookeeper.ssl.protocol", STRING, "TLSv1.2", _TLS_VERSIONS, LOW,
        "The version of TLS that is spoken with ZooKeeper where zookeeper.ssl.enabled.protocols names none; TLS for any from 1.2 on."),
    Setting("zookeeper.ssl.enabled.protocols", LIST, None, _TLS_VERSIONS, LOW,
        "The versions of TLS that may be spoken with ZooKeeper."),
    Setting("zookeeper.ssl.cipher.suites", LIST, None, None, LOW,
        "The ciphers that may be used up to TLS 1.2, by OpenSSL's names (Kafka wants Java's); OpenSSL's own choice if not set."),
    Setting("zookeeper.ssl.endpoint.identification.algorithm", STRING, "HTTPS", None, LOW,
        "HTTPS: ZooKeeper's certificate must be for the host that was called. Empty: for any host."),
    Setting("zookeeper.ssl.crl.enable", BOOLEAN, False, ("false",), LOW,
        "Whether revocation lists are looked at; they can't be here, so that true is refused."),
    Setting("zookeeper.ssl.ocsp.enable", BOOLEAN, False, ("false",), LOW,
        "Whether OCSP is asked about certificates; it can't be here, so that true is refused."),
)
# fmt: on


class ZooKeeperConfig:
    """These settings as attributes, dots as underscores."""

    __slots__ = ()

    zookeeper_connect: str | None
    zookeeper_session_timeout_ms: int
    zookeeper_connection_timeout_ms: int | None
    zookeeper_max_in_flight_requests: int
    zookeeper_set_acl: bool
    zookeeper_digest_auth: str | None
    zookeeper_ssl_client_enable: bool
    zookeeper_ssl_keystore_location: str | None
    zookeeper_ssl_keystore_password: str | None
    zookeeper_ssl_keystore_type: str | None
    zookeeper_ssl_truststore_location: str | None
    zookeeper_ssl_truststore_password: str | None
    zookeeper_ssl_truststore_type: str | None
    zookeeper_ssl_protocol: str
    zookeeper_ssl_enabled_protocols: tuple[str, ...] | None
    zookeeper_ssl_cipher_suites: tuple[str, ...] | None
    zookeeper_ssl_endpoint_identification_algorithm: str
    zookeeper_ssl_crl_enable: bool
    zookeeper_ssl_ocsp_enable: bool


def check_zookeeper(config: ZooKeeperConfig) -> None:
    """Raise SettingError where these values contradict each other."""
    algorithm = config.zookeeper_ssl_endpoint_identification_algorithm
    if algorithm.lower() not in ("", "https"):
        name = "zookeeper.ssl.endpoint.identification.algorithm"
        raise invalid(name, algorithm, "It is HTTPS or empty")
    digest = config.zookeeper_digest_auth
    if digest is not None and not all(digest.partition(":")):
        raise invalid("zookeeper.digest.auth", "[hidden]", "It has the form user:password")
    has_certificate = config.zookeeper_ssl_client_enable and config.zookeeper_ssl_keystore_location
    if config.zookeeper_set_acl and digest is None and not has_certificate:
        reason = "ZooKeeper must know the broker: set zookeeper.digest.auth, or a certificate (zookeeper.ssl.keystore.location)"
        raise invalid("zookeeper.set.acl", "true", reason)

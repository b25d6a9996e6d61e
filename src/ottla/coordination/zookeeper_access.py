"""A broker's way to its ZooKeeper, from its settings: servers, timeouts, TLS, who we are, who may do what.

Imports kazoo and, for TLS, ``ssl``: only for a broker that has ``zookeeper.connect``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ottla.coordination.znodes import is_open_to_all, is_secret
from ottla.coordination.zookeeper import ZooKeeper
from ottla.coordination.zookeeper_requests import CREATOR_ALL, WORLD_ALL, WORLD_READ, Acl
from ottla.settings.setting import invalid

if TYPE_CHECKING:
    import ssl

    from ottla.settings.zookeeper_settings import ZooKeeperConfig


def ensemble_of(config: ZooKeeperConfig) -> ZooKeeper:
    """The ensemble that ``zookeeper.connect`` names, which must be set. Raises SettingError."""
    connect = config.zookeeper_connect or ""
    try:
        return ZooKeeper(
            connect,
            session_timeout_ms=config.zookeeper_session_timeout_ms,
            connection_timeout_ms=config.zookeeper_connection_timeout_ms,
            max_in_flight=config.zookeeper_max_in_flight_requests,
            digest=config.zookeeper_digest_auth,
            tls=_tls(config) if config.zookeeper_ssl_client_enable else None,
            acl=guarded if config.zookeeper_set_acl else unguarded,
        )
    except ValueError as error:
        raise invalid("zookeeper.connect", connect, str(error)) from error


def unguarded(path: str) -> Sequence[Acl]:
    """Anybody may do anything."""
    return (WORLD_ALL,)


def guarded(path: str) -> Sequence[Acl]:
    """``zookeeper.set.acl``: its creator may do anything, others read what is no secret.

    Source: ``ZkData.defaultAcls``.
    """
    if is_open_to_all(path):
        return (WORLD_ALL,)
    return (CREATOR_ALL,) if is_secret(path) else (CREATOR_ALL, WORLD_READ)


def _tls(config: ZooKeeperConfig) -> ssl.SSLContext:
    import ssl

    versions = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(config.zookeeper_ssl_endpoint_identification_algorithm)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    spoken = config.zookeeper_ssl_enabled_protocols or (config.zookeeper_ssl_protocol,)
    if "TLS" not in spoken:
        context.minimum_version = min(versions[each] for each in spoken)
        context.maximum_version = max(versions[each] for each in spoken)
    ciphers = config.zookeeper_ssl_cipher_suites
    if ciphers:
        try:
            context.set_ciphers(":".join(ciphers))
        except ssl.SSLError as error:
            raise invalid(
                "zookeeper.ssl.cipher.suites", ",".join(ciphers), f"OpenSSL: {error}"
            ) from error
    _load_certificates(context, config)
    return context


def _load_certificates(context: ssl.SSLContext, config: ZooKeeperConfig) -> None:
    trusted = config.zookeeper_ssl_truststore_location
    if trusted is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(trusted)
        except OSError as error:  # ssl.SSLError is one
            reason = f"No PEM file of certificates: {error}. {_CONVERT}"
            raise invalid("zookeeper.ssl.truststore.location", trusted, reason) from error
    shown = config.zookeeper_ssl_keystore_location
    if shown is not None:
        # Never None: OpenSSL would ask at the terminal.
        password = config.zookeeper_ssl_keystore_password or ""
        try:
            context.load_cert_chain(shown, password=password)
        except OSError as error:
            reason = f"No PEM file of a certificate and its key: {error}. {_CONVERT}"
            raise invalid("zookeeper.ssl.keystore.location", shown, reason) from error


_CONVERT = (
    "A Java key store is converted by: keytool -importkeystore -srckeystore STORE -destkeystore s.p12 "
    "-deststoretype PKCS12; openssl pkcs12 -in s.p12 -out FILE.pem"
)

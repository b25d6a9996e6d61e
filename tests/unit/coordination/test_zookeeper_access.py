"""Who may see a cluster's znodes, and on what wire: TLS, ZooKeeper's digest scheme, and access lists."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla.coordination import znodes
from ottla.coordination.bootstrap import prepare_layout
from ottla.coordination.store import ConnectionLoss, Create, NotAuthorized
from ottla.coordination.zookeeper import ZooKeeper
from ottla.coordination.zookeeper_access import ensemble_of
from ottla.settings.definitions import BrokerConfig, SettingError
from tests.interop.requirements import require_program
from tests.support.ports import HeldPorts
from tests.support.zookeeper import Ensemble, require_zookeeper


def of(connect: str, **settings: object) -> ZooKeeper:
    given = {f"zookeeper.{name.replace('_', '.')}": value for name, value in settings.items()}
    return ensemble_of(BrokerConfig.of({"zookeeper.connect": connect, **given}))


# Who


async def test_what_a_guarded_cluster_holds_only_its_brokers_change(zookeeper: Ensemble) -> None:
    connect = zookeeper.fresh_chroot()
    brokers = of(connect, set_acl=True, digest_auth="ottla:s3cret")
    stranger, impostor = of(connect), of(connect, digest_auth="ottla:guessed")
    try:
        store = await brokers.connect()
        await prepare_layout(store)
        await store.create("/config/users/alice", b"scram")
        await store.multi([Create("/brokers/topics/t", b"x")])
        for other in (await stranger.connect(), await impostor.connect()):
            assert (await other.get("/brokers/topics/t")).data == b"x"
            with pytest.raises(NotAuthorized):
                await other.set("/brokers/topics/t", b"")
            with pytest.raises(NotAuthorized):
                await other.create("/brokers/ids/1", b"", ephemeral=True)
            with pytest.raises(NotAuthorized):
                await other.get("/config/users/alice")
            with pytest.raises(NotAuthorized):
                await other.get_many(["/config/users/alice"])
            with pytest.raises(NotAuthorized):
                await other.multi([Create("/brokers/topics/u")])
            await other.create("/consumers/group-", sequential=True)
        colleague = await of(connect, set_acl=True, digest_auth="ottla:s3cret").connect()
        assert (await colleague.get("/config/users/alice")).data == b"scram"
        await colleague.delete("/brokers/topics/t")
        await colleague.close()
    finally:
        await asyncio.gather(brokers.close(), stranger.close(), impostor.close())


def test_secrets_are_where_kafka_has_them() -> None:
    assert all(
        map(znodes.is_secret, ("/config/users/a", "/config/brokers/1", "/delegation_token/tokens"))
    )
    assert not any(map(znodes.is_secret, ("/config/topics/t", "/delegation_token", "/brokers")))


# On what wire


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ca.pem``, and ``server.pem`` and ``client.pem`` that it vouches for, with their keys."""
    openssl = require_program("openssl", "openssl")
    home = tmp_path_factory.mktemp("certificates")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=home, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    run(*new, "-x509", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    for name, names in ("server", "IP:127.0.0.1"), ("client", "DNS:broker"):
        run(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (home / "names").write_text(f"subjectAltName={names}\n")
        run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.crt"),
        )
        both = (home / f"{name}.key").read_text() + (home / f"{name}.crt").read_text()
        (home / f"{name}.pem").write_text(both)
    return home


@pytest.fixture(scope="module")
def secure(certificates: Path) -> Iterator[str]:
    """``host:port`` where a ZooKeeper speaks TLS, and only with whom the CA vouches for."""
    require_zookeeper()
    held = HeldPorts(1)
    settings = {
        "secureClientPort": held.ports[0],
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "ssl.keyStore.location": certificates / "server.pem",
        "ssl.trustStore.location": certificates / "ca.pem",
    }
    with Ensemble(1, settings=settings):
        yield f"127.0.0.1:{held.ports[0]}"
    held.release()


async def test_a_session_over_tls_shows_a_certificate_and_does_what_others_do(
    secure: str, certificates: Path
) -> None:
    ensemble = of(
        f"{secure}/tls",
        ssl_client_enable=True,
        ssl_keystore_location=certificates / "client.pem",
        ssl_truststore_location=certificates / "ca.pem",
    )
    try:
        store = await ensemble.connect()
        await store.multi([Create(f"/{index}", bytes(1000)) for index in range(500)])
        found = await store.get_many([f"/{index}" for index in range(500)])
        assert all(znode is not None and len(znode.data) == 1000 for znode in found)
        first = store.lives_until
        # Answers that come in one TLS record are not left lying until something else comes.
        async with asyncio.timeout(5):
            for _ in range(20):
                await asyncio.gather(*(store.exists(f"/{index}") for index in range(10)))
        assert store.lives_until >= first
    finally:
        await ensemble.close()


@pytest.mark.parametrize(
    ("what", "settings"),
    [
        ("no certificate", {"ssl_truststore_location": "ca.pem"}),
        ("nobody vouches for the server", {"ssl_keystore_location": "client.pem"}),
        (
            "another host",
            {"ssl_keystore_location": "client.pem", "ssl_truststore_location": "ca.pem"},
        ),
    ],
)
async def test_who_is_not_trusted_gets_no_session(
    secure: str, certificates: Path, what: str, settings: dict[str, str]
) -> None:
    connect = secure.replace("127.0.0.1", "localhost") if what == "another host" else secure
    ensemble = of(
        connect,
        ssl_client_enable=True,
        connection_timeout_ms=1500,
        **{name: certificates / value for name, value in settings.items()},
    )
    try:
        with pytest.raises(ConnectionLoss):
            await ensemble.connect()
    finally:
        await ensemble.close()


def test_what_is_no_pem_file_is_refused_with_the_way_to_make_one(tmp_path: Path) -> None:
    store = tmp_path / "broker.jks"
    store.write_bytes(b"\xfe\xed\xfe\xed\0\0\0\2")
    for name in ("ssl_keystore_location", "ssl_truststore_location"):
        with pytest.raises(SettingError, match="openssl pkcs12"):
            of("z:2181", ssl_client_enable=True, **{name: store})
    with pytest.raises(SettingError, match=r"zookeeper\.connect"):
        of("z:what")
    with pytest.raises(SettingError, match=r"cipher\.suites"):
        of("z:2181", ssl_client_enable=True, ssl_cipher_suites="ROT13")


def test_a_broker_that_is_alone_imports_no_zookeeper_client(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from ottla.broker.broker import Broker
from ottla.settings.broker_config import BrokerConfig
async def run():
    broker = Broker(BrokerConfig.of({"log.dirs": sys.argv[1], "listeners": "PLAINTEXT://127.0.0.1:0"}))
    await broker.start()
    await broker.stop()
asyncio.run(run())
print(sorted({"kazoo", "ottla.coordination.zookeeper"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr

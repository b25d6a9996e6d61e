"""What the tests do to ZooKeeper really happens: a session is ended from outside."""

from __future__ import annotations

from kazoo.client import KazooClient

from tests.cluster.zookeeper_view import ZooKeeperView, end_session
from tests.support.waiting import wait_until
from tests.support.zookeeper import Ensemble


def test_a_session_is_ended_by_who_knows_only_its_id(ensemble: Ensemble) -> None:
    connect = ensemble.fresh_chroot()
    servers, slash, path = connect.partition("/")
    owner = KazooClient(servers, timeout=5.0)
    owner.start(10)
    try:
        owner.create(f"{slash}{path}/brokers/ids/1", b"{}", ephemeral=True, makepath=True)
        view = ZooKeeperView(connect)
        view.start()
        try:
            assert view.brokers() == {1}
            end_session(servers, owner.client_id[0])
            wait_until(lambda: view.brokers() == set())
        finally:
            view.close()
    finally:
        owner.stop()
        owner.close()

"""The real ZooKeeper that other tests build on does what they ask of it."""

from __future__ import annotations

from tests.support.zookeeper import Ensemble, require_zookeeper


def test_an_ensemble_elects_a_leader_again_when_its_leader_is_killed_and_takes_it_back() -> None:
    require_zookeeper()
    with Ensemble(3) as ensemble:
        killed = ensemble.leader()
        killed.kill()
        assert ensemble.wait_for_leader() is not killed
        killed.start()
        assert sorted(str(server.role()) for server in ensemble.servers) == [
            "follower",
            "follower",
            "leader",
        ]
        processes = [server.pid for server in ensemble.servers]
    assert len(set(processes)) == 3
    assert not any(server.is_running for server in ensemble.servers)
    assert not any(server.directory.exists() for server in ensemble.servers)


def test_a_paused_leader_is_replaced_and_follows_when_it_goes_on() -> None:
    require_zookeeper()
    with Ensemble(3) as ensemble:
        paused = ensemble.leader()
        paused.pause()
        assert paused.role() is None
        assert ensemble.wait_for_leader() is not paused
        paused.resume()
        paused.wait_until_serving()


def test_a_server_comes_back_on_its_port(zookeeper: Ensemble) -> None:
    with Ensemble(1) as own:
        (server,) = own.servers
        assert own.connect != zookeeper.connect
        server.stop()
        assert server.role() is None
        server.restart()
        assert server.role() == "standalone"
        assert own.fresh_chroot() != own.fresh_chroot()

"""What is done to a cluster's processes, and to whom: each fault comes back by itself within the call.

A bounce is over once every partition takes records again and the cluster is whole; ``Trial.repeat`` sees to that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from tests.cluster.processes import SESSION_TIMEOUT_MS
from tests.cluster.trial import Trial

SEED = int(os.environ.get("OTTLA_TEST_SEED", "1"))
BOUNCES = int(os.environ.get("OTTLA_TEST_BOUNCES", "5"))
"""How often each fault is repeated; at most ``BOUNCES_MAX``."""
BOUNCES_MAX = 200
BOUNCES = min(BOUNCES, BOUNCES_MAX)
PAUSE_S = 2 * SESSION_TIMEOUT_MS / 1000

Victim = Callable[[Trial], int]
"""Chooses a broker."""


def leader(trial: Trial) -> int:
    """Who leads one of the partitions."""
    return trial.cluster.leader(*trial.random.choice(trial.places))


def controller(trial: Trial) -> int:
    """Who is the controller now."""
    return trial.cluster.controller()


def follower(trial: Trial) -> int:
    """A replica of one of the partitions that does not lead it, nor is the controller if that can be."""
    place = trial.random.choice(trial.places)
    state = trial.cluster.zookeeper.state(place)
    assert state is not None
    others = [node for node in state.replicas if node != trial.cluster.leader(*place)]
    return min(others, key=lambda node: node == trial.cluster.controller())


VICTIMS: dict[str, Victim] = {"leader": leader, "controller": controller, "follower": follower}


def to_each(
    trial: Trial, fault: Callable[[Trial, int], None], who: Iterable[str] = VICTIMS
) -> list[Callable[[int], None]]:
    """The fault as ``Trial.repeat`` takes it, once for each kind of victim."""
    return [lambda _, name=name: fault(trial, VICTIMS[name](trial)) for name in who]  # type: ignore[misc]


def kill(trial: Trial, victim: int) -> None:
    """SIGKILL; its partitions go on without it; it comes back."""
    trial.note(f"SIGKILL of broker {victim}")
    trial.cluster.kill_broker(victim)
    trial.await_progress_without(victim)
    trial.cluster.start_broker(victim)


def kill_and_start_at_once(trial: Trial, victim: int) -> None:
    """SIGKILL, and another life while ZooKeeper still believes in the last one."""
    trial.note(f"SIGKILL of broker {victim}, started at once")
    trial.cluster.kill_broker(victim)
    trial.cluster.start_broker(victim)


def terminate(trial: Trial, victim: int) -> None:
    """SIGTERM; its partitions go on without it; it comes back."""
    trial.note(f"SIGTERM of broker {victim}")
    trial.cluster.stop_broker(victim)
    trial.await_progress_without(victim)
    trial.cluster.start_broker(victim)


def pause(trial: Trial, victim: int) -> None:
    """SIGSTOP for twice the session timeout; it wakes up with requests of another age before it."""
    trial.note(f"SIGSTOP of broker {victim}")
    trial.cluster.pause(victim)
    trial.let_pass(PAUSE_S)
    trial.await_progress_without(victim)
    trial.note(f"SIGCONT of broker {victim}")
    trial.cluster.resume(victim)


def expire(trial: Trial, victim: int) -> None:
    """Its session is ended by ZooKeeper while it is well."""
    trial.note(f"the session of broker {victim} ends")
    trial.cluster.expire_session(victim)


def cut_from_zookeeper(trial: Trial, victim: int) -> None:
    """Its clients and the other brokers reach it, and it does not reach ZooKeeper."""
    trial.note(f"broker {victim} is cut off from ZooKeeper")
    trial.cluster.cut_from_zookeeper(victim)
    trial.let_pass(PAUSE_S)
    trial.await_progress_without(victim)
    trial.note("healed")
    trial.cluster.heal()


def cut_from_others(trial: Trial, victim: int) -> None:
    """It reaches ZooKeeper, and neither clients nor other brokers reach it."""
    trial.note(f"broker {victim} is cut off from clients and other brokers")
    trial.cluster.cut_from_others(victim)
    trial.let_pass(PAUSE_S)
    trial.note("healed")
    trial.cluster.heal()


def zookeeper_kill(trial: Trial) -> None:
    """SIGKILL of ZooKeeper's leader; the two others elect one; it comes back."""
    server = trial.cluster.ensemble.leader()
    trial.note(f"SIGKILL of ZooKeeper's leader {server.number}")
    server.kill()
    trial.await_progress()
    server.start()
    trial.cluster.ensemble.wait_for_leader()


def zookeeper_terminate(trial: Trial) -> None:
    """The same with SIGTERM."""
    server = trial.cluster.ensemble.leader()
    trial.note(f"SIGTERM of ZooKeeper's leader {server.number}")
    server.stop()
    trial.await_progress()
    server.start()
    trial.cluster.ensemble.wait_for_leader()


def zookeeper_pause(trial: Trial) -> None:
    """SIGSTOP of ZooKeeper's leader for twice the brokers' session timeout."""
    server = trial.cluster.ensemble.leader()
    trial.note(f"SIGSTOP of ZooKeeper's leader {server.number}")
    server.pause()
    try:
        trial.let_pass(PAUSE_S)
    finally:
        server.resume()
    trial.note(f"SIGCONT of ZooKeeper server {server.number}")
    trial.cluster.ensemble.wait_for_leader()

"""What ZooKeeper says of a cluster, through a session that is no broker's; and the power to end a broker's.

Every state that a partition's znode is seen in is kept, in the order in which it was seen, for ``check_states``.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry

from tests.cluster.checker import State
from tests.crash.checker import Partition
from tests.support.waiting import eventually

T = TypeVar("T")

SESSION_TIMEOUT_S = 10.0
TRIES = 40
EXPIRY_S = 20.0


class ZooKeeperView:
    """Reads a cluster's znodes; ``start`` it, and ``close`` it."""

    def __init__(self, connect: str) -> None:
        self.connect = connect
        """Where it is: servers and chroot."""
        self._servers, slash, path = connect.partition("/")
        self._chroot = slash + path
        self._client = KazooClient(
            self._servers,
            timeout=SESSION_TIMEOUT_S,
            connection_retry=KazooRetry(max_tries=-1, delay=0.05, max_delay=0.3),
            command_retry=KazooRetry(max_tries=TRIES, delay=0.05, max_delay=0.3),
        )
        self._lock = threading.Lock()
        self._seen: list[State] = []
        self._latest: dict[Partition, int] = {}
        self._watched: set[Partition] = set()
        self._replicas: dict[Partition, tuple[int, ...]] = {}

    def start(self) -> None:
        """Connect; a chroot need not be there yet."""
        self._client.start(30)
        self._client.chroot = self._chroot

    def close(self) -> None:
        """End the session."""
        self._client.stop()
        self._client.close()

    # Reading

    def brokers(self) -> set[int]:
        """Who is registered."""
        return {int(name) for name in self._children("/brokers/ids")}

    def broker_epoch(self, node: int) -> int | None:
        """The czxid of a broker's registration; None if it has none."""
        found = self._get(f"/brokers/ids/{node}")
        return None if found is None else int(found[1].czxid)

    def controller(self) -> int | None:
        """Who is the controller."""
        found = self._get("/controller")
        return None if found is None else int(json.loads(found[0])["brokerid"])

    def controller_epoch(self) -> int:
        """How many controllers there have been."""
        found = self._get("/controller_epoch")
        return 0 if found is None else int(found[0])

    def topics(self) -> list[str]:
        """All topics."""
        return sorted(self._children("/brokers/topics"))

    def states(self) -> dict[Partition, State]:
        """All partitions' states as they are now."""
        states = {}
        for topic in self.topics():
            found = self._get(f"/brokers/topics/{topic}")
            if found is None:
                continue
            for number, replicas in json.loads(found[0])["partitions"].items():
                partition = (topic, int(number))
                self._replicas[partition] = tuple(replicas)
                state = self.state(partition)
                if state is not None:
                    states[partition] = state
        return states

    def state(self, partition: Partition) -> State | None:
        """A partition's state as it is now; None if it has none."""
        if partition not in self._replicas:
            found = self._get(f"/brokers/topics/{partition[0]}")
            if found is None:
                return None
            of_all = json.loads(found[0])["partitions"]
            self._replicas[partition] = tuple(of_all.get(str(partition[1]), ()))
        path = _state_path(partition)
        self._watch(partition, path)
        found = self._get(path)
        return None if found is None else self._note(partition, found[0], found[1].version)

    def seen(self) -> list[State]:
        """Every state that was seen, in that order."""
        with self._lock:
            return list(self._seen)

    def _watch(self, partition: Partition, path: str) -> None:
        with self._lock:
            if partition in self._watched:
                return
            self._watched.add(partition)

        def changed(data: bytes | None, stat: Any) -> None:
            if data is not None:
                self._note(partition, data, stat.version)

        self._client.DataWatch(path, changed)

    def _note(self, partition: Partition, data: bytes, version: int) -> State:
        fields = json.loads(data)
        state = State(
            partition,
            version,
            fields["leader"],
            fields["leader_epoch"],
            tuple(fields["isr"]),
            self._replicas.get(partition, ()),
        )
        with self._lock:  # two threads may have read two states and come here in the other order
            if version > self._latest.get(partition, -1):
                self._latest[partition] = version
                self._seen.append(state)
        return state

    def _get(self, path: str) -> tuple[bytes, Any] | None:
        try:
            return self._insist(lambda: self._client.get(path))
        except NoNodeError:
            return None

    def _children(self, path: str) -> list[str]:
        try:
            return self._insist(lambda: self._client.get_children(path))
        except NoNodeError:
            return []

    def _insist(self, ask: Callable[[], T]) -> T:
        """An answer, also where ZooKeeper's leader has just died."""
        return self._client.retry(ask)  # type: ignore[no-any-return]

    # Expiry

    def expire_session_of(self, node: int) -> None:
        """End the session that owns a broker's registration, and wait until the broker has another one.

        Whoever knows a session's password may go on with it and close it, and ZooKeeper makes the password of the
        session's id alone (``SessionTrackerImpl``, ``ZooKeeperServer.generatePasswd``).
        """
        found = self._get(f"/brokers/ids/{node}")
        assert found is not None, f"broker {node} is not registered"
        session_id, epoch = found[1].ephemeralOwner, found[1].czxid

        def gone() -> bool:
            end_session(
                self._servers, session_id
            )  # in vain where the broker takes it back meanwhile
            now = self._get(f"/brokers/ids/{node}")
            return now is None or bool(now[1].ephemeralOwner != session_id)

        eventually(gone, f"the session of broker {node} has ended", EXPIRY_S)

        def anew() -> bool:
            now = self.broker_epoch(node)
            return now is not None and now != epoch

        eventually(anew, f"broker {node} has a new session", EXPIRY_S)

    def end_session_of_dead(self, node: int) -> None:
        """End the session that a dead broker's registration is of, and wait until that is gone."""
        found = self._get(f"/brokers/ids/{node}")
        if found is not None:
            end_session(self._servers, found[1].ephemeralOwner)
        eventually(lambda: node not in self.brokers(), f"broker {node} is gone", EXPIRY_S)


def _state_path(partition: Partition) -> str:
    return f"/brokers/topics/{partition[0]}/partitions/{partition[1]}/state"


def end_session(servers: str, session_id: int) -> None:
    """Take a session over and close it."""
    client = KazooClient(
        servers, client_id=(session_id, session_password(session_id)), timeout=SESSION_TIMEOUT_S
    )
    try:
        client.start(10)
    except KazooTimeoutError:
        return  # it has ended already
    finally:
        with contextlib.suppress(KazooException, KazooTimeoutError):
            client.stop()
        client.close()


SUPER_SECRET = 0xB3415C00


def session_password(session_id: int) -> bytes:
    """What ZooKeeper gives a session as its password: 16 bytes of Java's ``Random(id ^ secret)``."""
    return bytes(_java_random_bytes((session_id ^ SUPER_SECRET) & (2**64 - 1), 16))


def _java_random_bytes(seed: int, count: int) -> Iterator[int]:
    """Java's ``new Random(seed).nextBytes(new byte[count])``."""
    state = (seed ^ 0x5DEECE66D) & (2**48 - 1)
    for _ in range(count // 4):
        state = (state * 0x5DEECE66D + 0xB) & (2**48 - 1)
        yield from ((state >> 16) & 0xFFFFFFFF).to_bytes(4, "little")

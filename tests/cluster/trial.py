"""A cluster under load, and at the end the question whether everything that must hold did.

    with Trial(cluster, seed) as trial:
        trial.begin()
        ... faults, and trial.await_progress() between them ...
        trial.finish()

``finish`` heals the cluster, lets producers see everything acknowledged, waits until every replica is in sync and
every reader has read to the end, and then holds against each other: what clients were told, what is in the logs, what
ZooKeeper said of leaders, and the replicas' files byte by byte. A failure names the directory that has the brokers'
logs and ``history.jsonl``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ottla.errors import ErrorCode
from ottla.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.records.codec import decode_batch
from tests.cluster.checker import Log, check_history, check_states
from tests.cluster.history import History
from tests.cluster.load import LibrdkafkaReader, OttlaReader, Reader, Watcher, producers
from tests.cluster.processes import ClusterProcesses
from tests.cluster.replica_files import check_replicas, read_replica
from tests.crash.checker import Found, Mark, Partition
from tests.crash.load import Load, RequestLoad
from tests.interop.raw import LATEST, RawClient
from tests.support.waiting import eventually

TOPIC = "load"
PARTITIONS = 4
PROGRESS_S = 60.0
"""How long clients may be without an acknowledgement from some partition."""
END_S = 90.0
UNPACKED_BYTES_MAX = 1 << 20
"""More than any batch of a producer here unpacks to."""


class Trial:
    """Producers, readers and what they were told, over one cluster."""

    def __init__(
        self,
        cluster: ClusterProcesses,
        seed: int,
        *,
        partitions: int = PARTITIONS,
        **topic_settings: object,
    ) -> None:
        self.cluster = cluster
        self.seed = seed
        self.random = random.Random(seed)
        self.history = History()
        self.places: list[Partition] = [(TOPIC, partition) for partition in range(partitions)]
        cluster.create_topic(TOPIC, partitions, **topic_settings)
        common = (cluster.bootstrap, seed, self.history, self.places)
        self.producers = producers(*common)
        self.readers: list[Reader] = [
            LibrdkafkaReader("reads-librdkafka", *common),
            OttlaReader("reads-ottla", *common),
        ]
        self.watcher = Watcher("watches", *common)
        self.loads: list[Load] = [*self.producers, *self.readers, self.watcher]
        self.done: list[str] = []
        """What was done to the cluster, for who reads a failure."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for load in self.loads:
            load.abandoned.set()
            load.stopped.set()
        if error is not None:
            self.history.write(self.cluster.directory / "history.jsonl")
            error.add_note(self.where())
            self._let_go()
        for load in self.loads:
            if load.is_alive():
                load.join(10)

    def _let_go(self) -> None:
        """After a failure nobody waits for brokers that are still paused or cut off."""
        for node in self.cluster.brokers:
            self.cluster.kill_broker(node)

    def where(self) -> str:
        """The words that let somebody else see it again."""
        lines = [f"seed {self.seed}, {self.cluster.directory}", *self.done[-20:]]
        return "\n".join(lines)

    # In between

    def begin(self) -> None:
        """Let the clients go, and wait until every partition has taken something."""
        for load in self.loads:
            load.start()
        self.await_progress()

    def note(self, what: str) -> None:
        """Write down what is done next."""
        self.done.append(f"{time.monotonic():.3f} {what}")

    def await_progress(self, deadline_s: float = PROGRESS_S) -> None:
        """Wait until every partition has acknowledged something from now on."""
        self.await_progress_of(self.places, deadline_s)

    def await_progress_without(self, victim: int) -> None:
        """As ``await_progress``, while a broker is away, but for what it alone may lead.

        A fault before, not yet over, may have left it alone in an ISR, and then only it has all that is committed:
        with ``unclean.leader.election.enable=false`` such a partition has no leader until it is back.
        """
        begun = time.monotonic()

        def goes_on() -> bool:
            others = [place for place in self.places if self.cluster.in_sync(*place) != {victim}]
            return self.history.acknowledged_since(begun, others) or bool(self.faults())

        self._await(goes_on, f"others go on without {victim}: {self.where()}", PROGRESS_S)

    def await_progress_of(self, places: list[Partition], deadline_s: float = PROGRESS_S) -> None:
        """Wait until each of these partitions has acknowledged something from now on."""
        begun = time.monotonic()

        def goes_on() -> bool:
            return self.history.acknowledged_since(begun, places) or bool(self.faults())

        self._await(goes_on, f"{places} take records again: {self.where()}", deadline_s)

    def _await(self, condition: Callable[[], object], what: str, deadline_s: float) -> None:
        """Wait until it holds, or clients meet what they should not, which fails."""
        eventually(condition, what, deadline_s)
        faults = self.faults()
        assert not faults, (faults, self.where())

    def let_pass(self, seconds: float) -> None:
        """Let a fault last so long, with an eye on the clients."""
        end = time.monotonic() + seconds
        self._await(lambda: time.monotonic() > end or self.faults(), "time passes", seconds + 30)

    def faults(self) -> list[str]:
        """What clients met that they should not have."""
        return [fault for load in self.loads for fault in load.faults]

    def repeat(self, times: int, *faults: Callable[[int], None]) -> None:
        """Do each ``fault(number)`` so often, in turn, with progress and a whole cluster after each."""
        for number in range(times):
            for fault in faults:
                fault(number)
                self.await_progress()
                self.cluster.wait_until_whole()

    # The end

    def finish(self, *, unclean_allowed: bool = False) -> None:
        """Heal, let everything come to its end, and check; fails with all violations."""
        self.cluster.heal()
        self._end_producers()
        self.cluster.wait_until_whole()
        logs = {place: self._read_log(place) for place in self.places}
        self._end_readers(logs)
        faults = self.faults()
        faults += check_history(self.history.events, self.history.orders, logs)
        faults += check_states(self.cluster.states_seen(), unclean_allowed=unclean_allowed)
        for place in self.places:
            faults += self.check_files(place, logs[place].end)
        faults += self.cluster.tracebacks()
        assert not faults, "\n".join([*faults, self.where()])
        print(self.summary())

    def summary(self) -> str:
        """What the trial was made of."""
        silence = max(self.history.longest_silence_s(place) for place in self.places)
        return (
            f"{len(self.done)} faults (seed {self.seed}), {self.history.acknowledged_count()} records"
            f" acknowledged, the longest silence of a partition {silence:.2f} s"
        )

    def _end_producers(self) -> None:
        for load in (*self.producers, self.watcher):
            load.stopped.set()
        for load in (*self.producers, self.watcher):
            load.join(END_S)
            assert not load.is_alive(), f"{load.name} does not end; {self.faults()}; {self.where()}"
            if isinstance(load, RequestLoad):
                load.disconnect()

    def _read_log(self, place: Partition) -> Log:
        """All that consumers can read of a partition, from its leader, whoever that is at last.

        The preferred replicas are elected at some moment, too, and a new leader is told of it a little after ZooKeeper.
        """
        refused: list[AssertionError] = []

        def read() -> tuple[Log] | None:
            try:
                return (self._read_from_leader(place),)
            except AssertionError as error:
                refused[:] = [error]
                return None

        try:
            return eventually(read, f"{place} is read")[0]
        except AssertionError as error:
            raise AssertionError(f"{error}: {refused}") from None

    def _read_from_leader(self, place: Partition) -> Log:
        leader = self.cluster.leader(*place)
        with RawClient(self.cluster.bootstrap_of(leader), "checker") as raw:
            (end,) = eventually(lambda: self._end_of(raw, place), f"{place} has an end")
            found: list[Found] = []
            epochs: dict[int, tuple[int, int]] = {}
            for header, batch in raw.log(*place):
                for record in decode_batch(batch, max_decompressed_bytes=UNPACKED_BYTES_MAX):
                    if record.offset < end:
                        found.append(Found(record.offset, Mark.decode(record.value or b"")))
                        epochs[record.offset] = header.producer_id, header.producer_epoch
        return Log(found, end, epochs)

    @staticmethod
    def _end_of(raw: RawClient, place: Partition) -> tuple[int] | None:
        """The latest offset; None while who has just become the leader says OFFSET_NOT_AVAILABLE (KIP-207)."""
        latest = ListOffsetsPartition(partition_index=place[1], timestamp=LATEST)
        wanted = ListOffsetsTopic(name=place[0], partitions=[latest])
        answer = raw.call(ListOffsetsRequest(replica_id=-1, topics=[wanted]), 7)
        found = answer.topics[0].partitions[0]
        if found.error_code == ErrorCode.OFFSET_NOT_AVAILABLE:
            return None
        assert found.error_code == ErrorCode.NONE, found
        return (found.offset,)

    def _replace_hung_reader(self) -> bool:
        """Whether librdkafka has locked itself up: then another one reads on in its place. See ``LibrdkafkaReader``."""
        hung = self.readers[0]
        if not (isinstance(hung, LibrdkafkaReader) and hung.hangs()):
            return False
        self.note(f"{hung.name} does not even close, another one reads on from {hung.next_offset}")
        self.readers[0] = successor = hung.successor()
        self.loads[self.loads.index(hung)] = successor
        successor.start()
        return True

    def _end_readers(self, logs: dict[Partition, Log]) -> None:
        def behind() -> list[str]:
            return [
                f"{reader.name} is at {reader.next_offset[place]} of {log.end} in {place}"
                for reader in self.readers
                for place, log in logs.items()
                if reader.next_offset[place] < log.end
            ]

        def wait() -> None:
            eventually(lambda: not behind() or self.faults(), "readers are at the end", END_S)

        try:
            try:
                wait()
            except AssertionError:
                if not self._replace_hung_reader():
                    raise
                wait()
        except AssertionError as error:
            raise AssertionError(f"{error}: {behind()}; {self.where()}") from None
        for reader in self.readers:
            reader.stopped.set()
        for reader in self.readers:
            reader.join(END_S)
            assert not reader.is_alive(), f"{reader.name} does not end; {self.where()}"

    def check_files(self, place: Partition, end: int) -> list[str]:
        """The replicas' files, which nobody writes any more."""
        state = self.cluster.zookeeper.state(place)
        assert state is not None
        replicas = [
            read_replica(node, self.cluster.log_directory(node, place)) for node in state.replicas
        ]
        return check_replicas(place, replicas, end)

"""The thread that polls a synchronous consumer reads for itself, and signals may come whenever they like."""

from __future__ import annotations

import contextlib
import linecache
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import ottla
from ottla.client.consumer import direct_reading, sync
from ottla.client.loop_thread import LoopThread
from ottla.network.channel import Channel
from tests.support.waiting import DEADLINE_S, eventually

pytestmark = pytest.mark.interop

COUNT = 4_000
STEPS = 300
"""About as many lines a visit takes in which an answer comes; the later ones are not reached by every one."""


def fill(bootstrap: str, topic: str) -> None:
    """``COUNT`` records in batches of 20."""
    with ottla.Admin(bootstrap) as admin:
        admin.create_topic(topic, 1, 1)
    with ottla.Producer(bootstrap, batch_size=20 * 110, linger_ms=1000) as producer:
        for _ in range(COUNT):
            producer.send(topic, bytes(100))


@pytest.fixture
def consumer(bootstrap: str, unused: str) -> Iterator[ottla.Consumer]:
    fill(bootstrap, unused)
    with ottla.Consumer(
        unused,
        bootstrap=bootstrap,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=2_000,
    ) as consumer:
        yield consumer


class Signal:
    """Calls ``handler`` once, before the line number ``step`` of what is run in visits."""

    def __init__(self, step: int, handler: Callable[[], None]) -> None:
        self._left = step
        self._handler = handler
        self.came = False

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._called)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, arg: Any) -> Any:
        above: FrameType | None = frame
        while above is not None:
            if above.f_code is LoopThread.visit.__code__:
                return self._stepped
            above = above.f_back
        return None

    def _stepped(self, frame: FrameType, event: str, arg: Any) -> Any:
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        # A ``with`` is gone through once more at its end, between whose parts no signal is handled.
        if event == "line" and not self.came and not line.lstrip().startswith("with "):
            self._left -= 1
            if self._left < 0:
                self.came = True
                self._handler()
        return self._stepped


def steps(seed: int, count: int) -> list[int]:
    return random.Random(seed).sample(range(STEPS), count)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_who_waits_for_records_reads_them_in_his_own_thread(
    consumer: ottla.Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not consumer._direct.is_possible:
        pytest.skip("the loop of this system lets nobody do its work")
    threads: list[int] = []
    taken = Channel._answered

    def answered(channel: Channel, frame: memoryview) -> None:
        threads.append(threading.get_ident())
        taken(channel, frame)

    offsets = [record.offset for record in consumer.poll(10.0)]
    with monkeypatch.context() as patch:
        patch.setattr(Channel, "_answered", answered)
        while len(offsets) < COUNT:
            offsets += [record.offset for record in consumer.poll(10.0)]
    assert offsets == list(range(COUNT))
    assert threads.count(threading.get_ident()) > len(threads) / 2


def test_a_signal_at_any_step_of_a_visit_loses_no_record(
    consumer: ottla.Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "VISIT_RECORDS", 0)  # every poll reads what has come first
    offsets: list[int] = []
    for step in steps(1, 20):
        signal = Signal(step, interrupt)
        try:
            with signal:
                offsets += [record.offset for record in consumer.poll(0.2, 50)]
        except KeyboardInterrupt:
            assert signal.came
    while len(offsets) < COUNT:
        offsets += [record.offset for record in consumer.poll(10.0)]
    assert offsets == list(range(COUNT))


def test_a_signal_s_handler_may_use_the_consumer_in_a_visit(
    consumer: ottla.Consumer, unused: str
) -> None:
    """It goes back, or forth; the poll that it interrupts still gives what lay before, or nothing."""
    partition = (unused, 0)
    consumer.poll(10.0, 1)
    for step in steps(2, 20):
        place = consumer.position(partition)
        aim = 37 * (step + 1) % (COUNT - 1000)
        signal = Signal(step, lambda aim=aim: consumer.seek(partition, aim))
        with signal:
            offsets = [record.offset for record in consumer.poll(0.2, 50)]
        if not signal.came:
            aim = place
            assert offsets == list(range(place, place + len(offsets)))
        elif offsets and offsets[0] == aim:
            assert offsets == list(range(aim, aim + len(offsets)))
        assert consumer.position(partition) == (offsets[-1] + 1 if offsets else aim)
        place = consumer.position(partition)
        more: list[int] = []
        while len(more) < 100:
            more += [record.offset for record in consumer.poll(10.0, 50)]
        assert more == list(range(place, place + len(more)))


def test_a_signal_s_handler_may_close_the_consumer_in_a_visit(bootstrap: str, unused: str) -> None:
    fill(bootstrap, unused)
    for step in steps(3, 5):
        options: Any = {"auto_offset_reset": "earliest", "max_partition_fetch_bytes": 2_000}
        with ottla.Consumer(unused, bootstrap=bootstrap, **options) as consumer:
            consumer.poll(10.0, 1)
            signal = Signal(step, consumer.close)
            with signal, pytest.raises(RuntimeError, match="closed"):
                list(iter(lambda: consumer.poll(10.0, 50), None))
            assert signal.came


def test_what_an_application_that_polls_no_more_has_borrowed_is_read_by_the_loop(
    consumer: ottla.Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_reading, "LOOK_S", 0.01)
    offsets = [record.offset for record in consumer.poll(10.0)]
    while len(offsets) < 1000:
        offsets += [record.offset for record in consumer.poll(10.0)]
    eventually(lambda: not consumer._direct._lent, "that the loop reads again")
    while len(offsets) < COUNT:
        offsets += [record.offset for record in consumer.poll(10.0)]
    assert offsets == list(range(COUNT))


def test_a_connection_that_ends_while_the_application_reads_it_is_made_anew(
    consumer: ottla.Consumer,
) -> None:
    if not consumer._direct.is_possible:
        pytest.skip("the loop of this system lets nobody do its work")
    offsets: list[int] = []
    ended = 0
    until = time.monotonic() + DEADLINE_S
    while len(offsets) < COUNT and time.monotonic() < until:
        offsets += [record.offset for record in consumer.poll(1.0)]
        lent = [channel.lent for channel in consumer._direct._lent]
        if ended < 3 and lent and None not in lent:
            for sock in lent:
                with contextlib.suppress(OSError):  # it has ended before, which has to be noticed
                    sock.shutdown(socket.SHUT_RDWR)
            ended += 1
    assert ended == 3
    assert offsets == list(range(COUNT))

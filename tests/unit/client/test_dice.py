"""A program's own chance is left alone."""

from __future__ import annotations

import random

from ottla import Consumer, Producer
from ottla.testing import Broker


def test_a_seeded_program_gets_the_same_numbers_beside_our_clients() -> None:
    state = random.Random(7).getstate()
    random.setstate(state)
    with Broker() as broker, Producer(broker.bootstrap) as producer:
        for _ in range(20):
            producer.send("t", value=b"v").result()
        with Consumer("t", bootstrap=broker.bootstrap, auto_offset_reset="earliest") as consumer:
            next(iter(consumer))
        assert random.getstate() == state

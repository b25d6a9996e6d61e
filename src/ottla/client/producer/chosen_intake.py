"""Which copy of the producer's intake runs: the compiled one, or ``intake`` as it is (``compiled_copies``)."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from ottla import compiled_copies
from ottla.compiled_copies import Choice

SOURCE = os.path.join(os.path.dirname(__file__), "intake.py")
COMPILED = "ottla.client.producer.intake_compiled"
INTERPRETED = "ottla.client.producer.intake"


def find_compiled() -> Choice:
    """Whether there is a compiled copy that is of our source."""
    return compiled_copies.find_compiled(COMPILED, SOURCE)


def choose() -> Choice:
    """Which copy is to run."""
    return compiled_copies.choose(COMPILED, SOURCE)


choice = choose()
"""Which copy this process runs."""

if TYPE_CHECKING:
    from ottla.client.producer.intake import (
        LET_LOOP_TURN,
        AsyncDelivery,
        Batch,
        Buffer,
        Delivery,
        Headers,
        Intake,
        OnDelivery,
        Sending,
        Topic,
    )
else:
    _copy = import_module(COMPILED if choice.compiled else INTERPRETED)
    LET_LOOP_TURN = _copy.LET_LOOP_TURN
    AsyncDelivery = _copy.AsyncDelivery
    Batch = _copy.Batch
    Buffer = _copy.Buffer
    Delivery = _copy.Delivery
    Headers = _copy.Headers
    Intake = _copy.Intake
    OnDelivery = _copy.OnDelivery
    Sending = _copy.Sending
    Topic = _copy.Topic

__all__ = [
    "LET_LOOP_TURN",
    "AsyncDelivery",
    "Batch",
    "Buffer",
    "Choice",
    "Delivery",
    "Headers",
    "Intake",
    "OnDelivery",
    "Sending",
    "Topic",
    "choice",
]

"""The broker of the interop tests: ours in this process, or the one that OTTLA_TEST_BOOTSTRAP names."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator

import pytest

from tests.interop.programs.program import stop_programs
from tests.interop.raw import RawClient

BOOTSTRAP = "OTTLA_TEST_BOOTSTRAP"

# Short sessions, so that a member that is lost without a word is missed soon.
SETTINGS = {"group.min.session.timeout.ms": 100}

_numbers = itertools.count()
_run = os.urandom(3).hex()


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    """``host:port`` of the broker, one for the tests of a module."""
    external = os.environ.get(BOOTSTRAP)
    if external:
        yield external
        stop_programs(external)
        return
    from ottla.testing import Broker

    with Broker(SETTINGS) as broker:
        yield broker.bootstrap
        stop_programs(broker.bootstrap)


@pytest.fixture
def raw(bootstrap: str) -> Iterator[RawClient]:
    """A plain connection to the broker."""
    with RawClient(bootstrap) as client:
        yield client


@pytest.fixture
def only_ottla() -> None:
    """For what Ottla does otherwise than Apache Kafka, on purpose."""
    if os.environ.get(BOOTSTRAP):
        pytest.skip("the broker under test is not Ottla")


@pytest.fixture
def unused(request: pytest.FixtureRequest) -> str:
    """A name that no topic and no group has yet."""
    test = re.sub(r"[^a-zA-Z0-9._-]", "-", request.node.name)[:150]
    return f"{test}.{_run}.{next(_numbers)}"

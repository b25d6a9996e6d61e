"""A disk that fails: nothing is acknowledged that is not on it, and nobody is left waiting."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.log.disk import Disk
from ottla.testing import Broker
from tests.support.requests import create_topic, fetch, fetch_request, produce
from tests.support.wire import Wire, batch


def failing(number: int) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_after_a_failed_sync_the_directory_is_offline_and_sync_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Broker({"durability": "disk"}) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        assert produce(wire, "t", batch(b"safe")).error_code == 0
        monkeypatch.setattr(Disk, "fdatasync", failing(errno.EIO))
        assert produce(wire, "t", batch(b"lost")).error_code == ErrorCode.KAFKA_STORAGE_ERROR
        monkeypatch.undo()
        assert produce(wire, "t", batch(b"late")).error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert fetch(wire, "t").error_code == ErrorCode.KAFKA_STORAGE_ERROR
        (old,) = wire.ask(fetch_request("t", 0), 5).responses[0].partitions
        assert old.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER  # its client knows no other


def test_a_full_disk_fails_the_append_and_goes_on_once_there_is_room(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(wire, "t")
    assert produce(wire, "t", batch(b"first")).base_offset == 0
    monkeypatch.setattr(Disk, "pwrite", failing(errno.ENOSPC))
    assert produce(wire, "t", batch(b"no room")).error_code == ErrorCode.KAFKA_STORAGE_ERROR
    monkeypatch.undo()
    assert produce(wire, "t", batch(b"second")).base_offset == 1
    records = bytes(fetch(wire, "t").records)
    assert b"no room" not in records
    assert b"second" in records

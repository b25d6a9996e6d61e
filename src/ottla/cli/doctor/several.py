"""What is wrong with the data directory of several brokers (``ottla serve --brokers N``).

Looked at are ``ottla-brokers.json`` and whether the brokers' directories agree with it, the store that the brokers
share, each one's data, and who runs: the command, and the brokers that it keeps.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ottla.cli.doctor.data import (
    ZOOKEEPER,
    DataDoctor,
    OtherStore,
    Surroundings,
    process_text,
    sound_store,
    tell_no_store,
)
from ottla.cli.log_verify import plural
from ottla.cli.serve_options import BROKERS_MAX
from ottla.cli.several_places import MARK, MEMBER_MARK, SOCKET, Mark, read_mark
from ottla.coordination.store_copy import FILE_NAME, StoreCopy, read_copy
from ottla.log import names
from ottla.log.disk import Disk, Holder
from ottla.log.verification.directories import DirectoryState
from ottla.settings.setting import SettingError

if TYPE_CHECKING:
    from ottla.cli.doctor.diagnosis import Diagnoses
    from ottla.settings.broker_config import BrokerConfig

_MEMBER = re.compile(r"broker-([1-9][0-9]{0,3})")
_ELSE = ("lost+found", os.path.dirname(SOCKET))
_EXPORTED_BYTES_MAX = 4096


def look_at_data(found: Diagnoses, config: BrokerConfig | None, directories: Sequence[str]) -> None:
    """Look at the directories of a broker, or of several, as the settings and the directories say.

    ``config`` is None where the settings can't be taken.
    """
    node_id = None if config is None else config.node_id
    given_id = None if config is None or config.wants_id else config.node_id
    in_cluster = config is not None and config.zookeeper_connect is not None
    if any(map(_has_mark, directories)):
        SeveralDoctor(found, first_id=given_id).look_at(directories)
    elif in_cluster:
        DataDoctor(found, node_id=given_id, store=ZOOKEEPER).look_at(directories)
    elif members := [one for one in directories if os.path.exists(f"{one}/{MEMBER_MARK}")]:
        _look_at_one(found, os.path.abspath(members[0]), directories)
    else:
        DataDoctor(found, node_id=node_id).look_at(directories)


def brokers_on(directories: Iterable[str]) -> int:
    """How many brokers have their data there, as far as the directories say; 1 where they say nothing."""
    return max((mark.brokers for path in directories if (mark := _mark_of(path))), default=1)


def _look_at_one(found: Diagnoses, member: str, directories: Sequence[str]) -> None:
    around = os.path.dirname(member)
    found.info(
        "one-of-several",
        member,
        "it has the data of one of several brokers",
        "What it shares with the others is in the directory around it; by itself it does not start.",
        f"Look at all of them: ottla doctor --data {around}",
    )
    content = read_copy(f"{around}/{FILE_NAME}")
    if content is not None and (content.problem or _exported_to(around)):
        content = None
    DataDoctor(found, store=OtherStore(around, content)).look_at(directories)


class SeveralDoctor:
    """Looks at the data directories of several brokers: each has ``broker-K`` in all of them."""

    def __init__(
        self,
        found: Diagnoses,
        *,
        first_id: int | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        """``first_id``: the first broker's, as the settings say; None where the directory says it."""
        self._found = found
        self._first_id = first_id
        self._around = surroundings
        self._disk = Disk()

    def look_at(self, paths: Iterable[str]) -> None:
        """Look at what they share, and at each of them."""
        here = DataDoctor(self._found, surroundings=self._around)
        given = list(dict.fromkeys(map(os.path.abspath, paths)))
        usable = [path for path in given if here.can_be_used(path)]
        if not usable:
            return
        for path in usable:
            here.look_at_the_disk(path)
            self._look_for_others(path)
        marks = {path: mark for path in usable if (mark := self._read_mark(path))}
        self._compare_marks(marks)
        count = max((mark.brokers for mark in marks.values()), default=0)
        numbers = self._numbers(usable, marks, count)
        gone_to = _exported_to(usable[0])
        store = ZOOKEEPER
        if gone_to is None:
            store = OtherStore(usable[0], self._store_in(usable, numbers))
            self._look_who_runs(usable[0], [one for one in numbers if one <= count or not marks])
        else:
            self._found.info(
                "exported",
                usable[0],
                f"the brokers' state has gone to the ZooKeeper {gone_to}",
                "They are started one by one since then.",
                f"ottla serve --zookeeper {gone_to} --data {usable[0]}/broker-K",
            )
        first_id = self._first_id
        if first_id is None and marks:
            first_id = next(iter(marks.values())).node_id
        devices = {os.stat(path).st_dev for path in usable}
        for number in numbers:
            self._look_at_a_broker(number, usable, first_id, store, devices)

    # What they share

    def _look_for_others(self, path: str) -> None:
        """Directories that are no broker's."""
        for entry in os.scandir(path):
            if entry.is_dir() and entry.name not in _ELSE and not _MEMBER.fullmatch(entry.name):
                self._found.info("unknown", entry.path, "not a broker's directory, left alone")

    def _read_mark(self, path: str) -> Mark | None:
        mark, problem = _mark_of(path), ""
        if mark is not None:
            return mark
        if not _has_mark(path):
            self._found.info(
                "new", path, "it is new to the brokers, who get their directories there"
            )
            return None
        try:
            problem = f"it says that there are {read_mark(path).brokers} brokers"
        except SettingError as error:
            problem = str(error)
        self._found.error(
            "brokers-mark",
            f"{path}/{MARK}",
            problem,
            "No broker starts in a directory of which it is not known whose it is.",
            'Put it back: {"version": 0, "brokers": N, "node_id": ID}, with how many they are and the '
            "first one's id, which is broker.id in broker-1/meta.properties.",
        )
        return None

    def _compare_marks(self, marks: dict[str, Mark]) -> None:
        if len(set(marks.values())) < 2:
            return
        listed = "; ".join(
            f"{path}: {plural(mark.brokers, 'broker')} from id {mark.node_id} on"
            for path, mark in marks.items()
        )
        self._found.warn(
            "brokers-marks",
            f"{next(iter(marks))}/{MARK}",
            f"the directories do not say the same ({listed})",
            "A start that was to add brokers was broken off, or a directory is other brokers'.",
            f"Start with --brokers {max(mark.brokers for mark in marks.values())}, or leave out of log.dirs "
            "what does not belong to it.",
        )

    def _numbers(self, paths: list[str], marks: dict[str, Mark], count: int) -> list[int]:
        """Whose directories are to be looked at; what is missing of them, or is too much, is told."""
        found = self._found
        present = {path: _members_in(path) for path in paths}
        numbers = sorted(set().union(*present.values()))
        for path, mark in marks.items():
            for number in sorted(set(range(1, mark.brokers + 1)) - present[path]):
                found.error(
                    "broker-missing",
                    f"{path}/broker-{number}",
                    f"it is not there, and {MARK} counts {plural(mark.brokers, 'broker')}",
                    "The next start makes it anew, empty: what no other broker has a replica of is gone.",
                    "Put it back from a backup before the brokers start.",
                )
        if not marks:
            return numbers
        beyond = [number for number in numbers if number > count]
        for number in beyond:
            subject, counted = f"{paths[0]}/broker-{number}", plural(count, "broker")
            if any(_has_data(f"{path}/broker-{number}") for path in paths):
                found.error(
                    "broker-beyond",
                    subject,
                    f"{MARK} counts {counted}, and there is data of this one",
                    "Nobody starts it: what only it has is served to nobody.",
                    f"Start with --brokers {number}.",
                )
            else:
                found.info(
                    "broker-beyond",
                    subject,
                    f"{MARK} counts {counted}; this one has no data",
                    "A start that was to add it was broken off.",
                )
                numbers.remove(number)
        return numbers

    def _store_in(self, paths: list[str], numbers: list[int]) -> StoreCopy | None:
        """The store that they share, if it can be read."""
        first, *others = paths
        store = read_copy(f"{first}/{FILE_NAME}")
        if store is None and any(
            _has_data(f"{path}/broker-{k}") for path in paths for k in numbers
        ):
            elsewhere = next((path for path in others if os.path.exists(f"{path}/{FILE_NAME}")), "")
            fix = f"Name {elsewhere}, which has it, before all others." if elsewhere else ""
            tell_no_store(self._found, first, fix)
        return sound_store(self._found, first, store)

    def _look_who_runs(self, path: str, numbers: list[int]) -> None:
        found, command = self._found, self._holder(path)
        if command is not None:
            found.info(
                "in-use", path, f"ottla serve --brokers is using it: {process_text(command.pid)}"
            )
        for number in numbers:
            member = f"{path}/broker-{number}"
            broker = self._holder(member)
            if command is not None and broker is None:
                found.warn(
                    "broker-down",
                    member,
                    "the broker does not run, and the command that keeps it does",
                    "It has ended and is started again, after 30 s at most where it has ended often.",
                    "Look at what ottla serve has logged: why it ends stands there.",
                )
            elif command is None and broker is not None:
                found.warn(
                    "left-over",
                    member,
                    f"the broker runs ({process_text(broker.pid)}), and the command that started it does not",
                    "It ends by itself, unless it hangs. A start waits for it, 30 s at most.",
                    "Where it stays, end that process.",
                )

    def _holder(self, path: str) -> Holder | None:
        try:
            return self._disk.lock_holder(f"{path}/{names.LOCK}")
        except OSError:  # that it can't be read is told of where its owners are looked at
            return None

    # One of them

    def _look_at_a_broker(
        self,
        number: int,
        paths: list[str],
        first_id: int | None,
        store: OtherStore,
        devices: set[int],
    ) -> None:
        members = [f"{path}/broker-{number}" for path in paths]
        there = [member for member in members if os.path.lexists(member)]
        looked_at = DataDoctor(
            self._found, store=store, devices=devices, surroundings=self._around
        ).look_at(there)
        for state in looked_at:
            if not os.path.exists(f"{state.path}/{MEMBER_MARK}"):
                self._found.warn(
                    "member-mark",
                    state.path,
                    f"there is no {MEMBER_MARK} in it",
                    "It keeps a broker by itself from starting there, with an empty store of its own.",
                    f"touch {state.path}/{MEMBER_MARK}",
                )
            if first_id is not None:
                self._compare_id(state, number, first_id)

    def _compare_id(self, state: DirectoryState, number: int, first_id: int) -> None:
        wanted = first_id + number - 1
        if state.meta is None or state.meta.broker_id == wanted:
            return
        self._found.error(
            "node-id",
            state.path,
            f"it belongs to broker {state.meta.broker_id}, and is started as broker {wanted}",
            "A broker refuses to start on another one's data.",
            f"Start with --node-id {state.meta.broker_id - number + 1}, if that is the first one's, or put "
            "each broker's directory back to its place.",
        )


def _has_mark(path: str) -> bool:
    return os.path.lexists(f"{path}/{MARK}")


def _mark_of(path: str) -> Mark | None:
    """What the directory says; None where it says nothing, or nothing that makes sense."""
    try:
        mark = read_mark(path)
    except SettingError:
        return None
    return mark if 1 <= mark.brokers <= BROKERS_MAX else None


def _members_in(path: str) -> set[int]:
    """The numbers of the brokers that have a directory there."""
    found = (_MEMBER.fullmatch(entry.name) for entry in os.scandir(path) if entry.is_dir())
    return {int(one[1]) for one in found if one is not None}


def _has_data(path: str) -> bool:
    return os.path.exists(f"{path}/{names.META_PROPERTIES}")


def _exported_to(path: str) -> str | None:
    """The ZooKeeper that has the state of the store there; None where it has not gone anywhere."""
    from ottla.broker.store_place import exported_mark

    try:
        content = Disk().read_file(exported_mark(f"{path}/{FILE_NAME}"), _EXPORTED_BYTES_MAX)
    except (OSError, ValueError):
        return None
    return content.decode("utf-8", "replace").strip()

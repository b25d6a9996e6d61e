"""What is wrong with a data directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from ottla.cli.doctor.diagnosis import Diagnoses
from ottla.cli.doctor.file_systems import (
    FREE_BYTES_MIN,
    FREE_SHARE_MIN,
    LAYER_TYPES,
    MEMORY_TYPES,
    NETWORK_TYPES,
    Mount,
    Room,
    descriptors_max,
    mount_of,
    room_of,
)
from ottla.cli.log_verify import plural, size_text
from ottla.cli.verification import topic_of
from ottla.coordination import znodes
from ottla.coordination.store_copy import FILE_NAME, StoreCopy, read_copy
from ottla.log import names
from ottla.log.checkpoints import CorruptCheckpoint, decode_partition_metadata
from ottla.log.disk import Disk
from ottla.log.verification.directories import DirectoryState, read_directory
from ottla.log.verification.findings import DAMAGE
from ottla.log.verification.segments import Standing
from ottla.topic_ids import ZERO_ID, to_text

_MARK_BYTES_MAX = 1 << 16
FILES_PER_PARTITION = 3


class Surroundings:
    """What the machine says; a test may say something else."""

    mount_of: Callable[[str], Mount | None] = staticmethod(mount_of)
    room_of: Callable[[str], Room] = staticmethod(room_of)
    descriptors_max: Callable[[], tuple[int, int]] = staticmethod(descriptors_max)


class OtherStore(NamedTuple):
    """A store that is in none of the broker's directories: that of several brokers, or a ZooKeeper.

    ``content`` is None where it can't be looked at; then nothing is said of it.
    """

    directory: str
    content: StoreCopy | None


ZOOKEEPER = OtherStore("", None)


class DataDoctor:
    """Looks at the data directories of one broker."""

    def __init__(
        self,
        found: Diagnoses,
        *,
        node_id: int | None = None,
        store: OtherStore | None = None,
        devices: Collection[int] = (),
        surroundings: Surroundings | None = None,
    ) -> None:
        """``node_id``: the broker that is to be started on them, None if that is not known.

        ``store``: where its store is, None where it is alone and has one of its own. ``devices``: the file
        systems (``st_dev``) that were looked at before.
        """
        self._found = found
        self._node_id = node_id
        self._store = store
        self._devices = devices
        self._around = surroundings if surroundings is not None else Surroundings()
        self._disk = Disk()

    def look_at(self, paths: Iterable[str]) -> list[DirectoryState]:
        """Look at the directories, alone and together; what they were found to be."""
        states: list[DirectoryState] = []
        for path in dict.fromkeys(map(os.path.abspath, paths)):
            if not self.can_be_used(path):
                continue
            if os.stat(path).st_dev not in self._devices:
                self.look_at_the_disk(path)
            try:
                states.append(read_directory(path, self._disk))
            except OSError as error:
                self._found.error(
                    "unreadable",
                    path,
                    f"it can't be looked at: {error.strerror}",
                    fix="Run ottla doctor as the user that the broker runs as.",
                )
        for state in states:
            self._look_at_the_state(state)
            self._look_for_leftovers(state)
            self._look_for_quarantine(state)
        self._look_at_the_store(states)
        self._count_descriptors(states)
        return states

    # One directory

    def can_be_used(self, path: str) -> bool:
        """Whether there is a directory that this user can look into; what is wrong with that is told."""
        found = self._found
        if not os.path.lexists(path):
            parent = os.path.dirname(path)
            while not os.path.exists(parent):
                parent = os.path.dirname(parent)
            if os.access(parent, os.W_OK | os.X_OK):
                found.info("new", path, "it is not there yet; the broker makes it when it starts")
            else:
                found.error(
                    "permissions",
                    path,
                    f"it is not there, and {parent} can't be written to",
                    "The broker makes its directory when it starts.",
                    f"Make {path} and give it to the user that the broker runs as.",
                )
            return False
        if not os.path.isdir(path):
            found.error(
                "not-a-directory",
                path,
                "it is no directory",
                fix="Choose another one: --data DIR, or log.dirs in the settings.",
            )
            return False
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            found.error(
                "permissions",
                path,
                "this user can't read and write it",
                "The broker keeps its lock, its checkpoints and its logs in it.",
                f"chown -R it to the user that the broker runs as (owner is {_owner(path)}).",
            )
            return os.access(path, os.R_OK | os.X_OK)
        self._check_owners(path)
        return True

    def _check_owners(self, path: str) -> None:
        """Files that another user's broker has left, as after a start as root."""
        closed = [
            entry.path
            for entry in os.scandir(path)
            if not os.access(entry.path, os.R_OK | os.W_OK)
            and not entry.name.startswith("lost+found")
        ]
        if closed:
            self._found.error(
                "permissions",
                path,
                f"{plural(len(closed), 'name')} in it can't be written by this user, as {closed[0]}",
                "A broker that was once started as another user leaves files that are not this one's.",
                f"chown -R {path} to the user that the broker runs as.",
            )

    def look_at_the_disk(self, path: str) -> None:
        """Look at the file system that it lies on."""
        found, mount = self._found, self._around.mount_of(path)
        if mount is not None:
            self._look_at_the_mount(path, mount)
        room = self._around.room_of(path)
        share = room.free_bytes / room.total_bytes if room.total_bytes else 1.0
        if room.free_bytes < FREE_BYTES_MIN or share < FREE_SHARE_MIN:
            found.warn(
                "room",
                path,
                f"{size_text(room.free_bytes)} are free, of {size_text(room.total_bytes)}",
                "On a full disk nothing is acknowledged any more; the broker goes on once there is room.",
                "Lower retention.ms or retention.bytes of large topics, or give it a larger disk.",
            )
        if 0 <= room.free_inodes < 1000:
            found.warn(
                "inodes",
                path,
                f"{room.free_inodes} more files can be made on its file system",
                "A partition has some five files, and three more for each segment.",
                "Remove files, or make the file system anew with more inodes.",
            )

    def _look_at_the_mount(self, path: str, mount: Mount) -> None:
        found, where = self._found, f"it lies on {mount.type} ({mount.point})"
        if mount.read_only:
            found.error(
                "read-only", path, f"{mount.point} is mounted read-only", fix="Mount it rw."
            )
        if mount.type in NETWORK_TYPES:
            found.warn(
                "file-system",
                path,
                where,
                "Locks and syncs of network file systems can't be relied on: two brokers may take the "
                "directory at once, and what was synced may be lost.",
                "Use a local disk with ext4 or xfs.",
            )
        elif mount.type in MEMORY_TYPES:
            found.warn(
                "file-system",
                path,
                where,
                "It is memory: everything is gone after a restart of the machine.",
                "Use a disk, unless that is what you want.",
            )
        elif mount.type in LAYER_TYPES:
            found.warn(
                "file-system",
                path,
                where,
                "It is a container's own layer: everything is gone with the container.",
                "Mount a volume there.",
            )

    def _look_at_the_state(self, state: DirectoryState) -> None:
        found, path = self._found, state.path
        for finding in state.findings:
            tell = found.error if finding.severity == DAMAGE else found.warn
            tell(
                "small-file",
                finding.path,
                finding.message,
                fix="Put it back from a backup; ottla log verify looks at everything else.",
            )
        if state.holder is not None:
            found.info("in-use", path, f"a broker is using it: {process_text(state.holder.pid)}")
        if state.meta is None and state.partitions and not _names(state.findings, "meta"):
            found.warn(
                "no-meta",
                path,
                f"it holds {plural(len(state.partitions), 'partition')}, but no meta.properties",
                "Nothing says which broker and cluster they belong to; a broker takes them for its own.",
                "Put meta.properties back, or start on an empty directory.",
            )
        if state.meta is not None and self._node_id not in (None, state.meta.broker_id):
            found.error(
                "node-id",
                path,
                f"it belongs to broker {state.meta.broker_id}, the settings say {self._node_id}",
                "A broker refuses to start on another one's data.",
                f"Start with --node-id {state.meta.broker_id}, or on another directory.",
            )
        if self._disk.exists(f"{path}/{names.SYNC_FAILED}"):
            found.error(
                "disk-failed",
                path,
                "its disk failed while the broker ran: a write or a sync was refused",
                "What was not synced then is not believed: the next start reads it all from the disk.",
                "Look at the disk (dmesg, SMART) before you start the broker on it again.",
            )
        if state.standing is Standing.UNCLEAN:
            count, size = self._to_recover(state)
            found.info(
                "unclean",
                path,
                "the broker was not stopped cleanly: "
                f"the next start reads {plural(count, 'segment')} ({size_text(size)}) behind the "
                "recovery points",
                "What was acknowledged with durability=disk is kept; a torn tail is cut off.",
            )

    def _to_recover(self, state: DirectoryState) -> tuple[int, int]:
        """How many segments, and bytes, the next start reads."""
        count = total = 0
        for name, parsed in state.partitions.items():
            if parsed.suffix:
                continue
            point = state.offset(names.RECOVERY_POINT_CHECKPOINT, parsed.topic, parsed.partition)
            segments = sorted(_segments(f"{state.path}/{name}"))
            for number, (_, size) in enumerate(segments):
                following = segments[number + 1][0] if number + 1 < len(segments) else None
                if following is None or following > (point or 0):
                    count += 1
                    total += size
        return count, total

    def _look_for_leftovers(self, state: DirectoryState) -> None:
        for name, parsed in state.partitions.items():
            path = f"{state.path}/{name}"
            if parsed.suffix == names.STRAY_DIRECTORY_SUFFIX:
                self._found.warn(
                    "stray",
                    path,
                    f"set aside, with {size_text(_size(path))}",
                    "It is the log of a topic that the cluster did not know when the broker started.",
                    "Remove it when nobody misses it.",
                )
            elif parsed.suffix == names.FUTURE_DIRECTORY_SUFFIX:
                self._found.warn(
                    "future",
                    path,
                    f"a move between log directories was not finished, {size_text(_size(path))}",
                    fix="Start the broker, which finishes or drops it, or remove the directory.",
                )
            elif parsed.suffix:
                self._found.info("deleted", path, "on its way out; the broker removes it")
        for entry in os.scandir(state.path):
            if entry.is_dir() and entry.name not in state.partitions and entry.name != "lost+found":
                self._found.info("unknown", entry.path, "not a partition's directory, left alone")

    def _look_for_quarantine(self, state: DirectoryState) -> None:
        for name in state.partitions:
            path = f"{state.path}/{name}"
            try:
                mark = self._disk.read_file(f"{path}/{names.QUARANTINE}", _MARK_BYTES_MAX)
            except (FileNotFoundError, ValueError):
                continue
            self._found.error(
                "quarantined",
                path,
                f"it is not served: {mark.decode(errors='replace').strip()}",
                "Damaged bytes were found in it, and are not given to anybody.",
                "Stop the broker; restore the files and remove the file 'quarantined', or keep what is "
                f"whole with ottla log salvage {path}.",
            )

    # All of them together

    def _look_at_the_store(self, states: list[DirectoryState]) -> None:
        found = self._found
        clusters = {state.meta.cluster_id: state.path for state in states if state.meta}
        if len(clusters) > 1:
            listed = ", ".join(f"{path}: {cluster}" for cluster, path in clusters.items())
            found.error(
                "cluster-id",
                states[0].path,
                f"the directories belong to several clusters ({listed})",
                "A broker is of one cluster.",
                "Leave out of log.dirs what belongs to another one.",
            )
        path, store = self._store if self._store is not None else self._own_store(states)
        if store is not None:
            self._compare_cluster(path, store, clusters)
            self._compare_topics(states, store)

    def _own_store(self, states: list[DirectoryState]) -> OtherStore:
        """The one that is in one of the directories, if it can be read."""
        stores = {state.path: read_copy(f"{state.path}/{FILE_NAME}") for state in states}
        path, store = next(((key, one) for key, one in stores.items() if one), ("", None))
        if store is None and any(state.meta for state in states):
            tell_no_store(self._found, states[0].path)
        return OtherStore(path, sound_store(self._found, path, store))

    def _compare_cluster(self, path: str, store: StoreCopy, clusters: dict[str, str]) -> None:
        try:
            cluster_id = znodes.decode_cluster_id(store.znodes[znodes.CLUSTER_ID])
        except (KeyError, znodes.MalformedZnode):
            return
        for other, directory in clusters.items():
            if other != cluster_id:
                self._found.error(
                    "cluster-id",
                    directory,
                    f"meta.properties says cluster {other}, {path}/{FILE_NAME} says {cluster_id}",
                    "The broker refuses to start: the logs may be another cluster's.",
                    "Put the store and meta.properties of one cluster together.",
                )

    def _compare_topics(self, states: list[DirectoryState], store: StoreCopy) -> None:
        topics = {name: topic_of(store, name) for name in store.children(znodes.TOPICS)}
        present: set[tuple[str, int]] = set()
        for state in states:
            for name, parsed in state.partitions.items():
                if parsed.suffix:
                    continue
                present.add((parsed.topic, parsed.partition))
                topic, path = topics.get(parsed.topic), f"{state.path}/{name}"
                if topic is None or parsed.partition not in topic.partitions:
                    self._found.warn(
                        "unknown-topic",
                        path,
                        f"the cluster has no partition {parsed.topic}-{parsed.partition}",
                        "Its records are served to nobody.",
                        "Remove the directory, or put the store of the same time back.",
                    )
                    continue
                held = self._topic_id(path)
                if held is not None and topic.topic_id not in (None, held):
                    self._found.warn(
                        "topic-id",
                        path,
                        f"it is of topic id {to_text(held)}, the topic of this name now has "
                        f"{to_text(topic.topic_id or ZERO_ID)}",
                        "The topic was deleted and made again; the broker sets this log aside.",
                        "Remove the directory when nobody misses its records.",
                    )
        for state in states:
            for key, point in state.offsets[names.RECOVERY_POINT_CHECKPOINT].items():
                known = topics.get(key[0])
                if point > 0 and key not in present and known and key[1] in known.partitions:
                    self._found.error(
                        "missing-log",
                        f"{state.path}/{names.directory_name(*key)}",
                        f"it is gone; it held offsets up to {point - 1}",
                        "The broker makes an empty log in its place.",
                        "Put the directory back from a backup before the broker starts.",
                    )

    def _topic_id(self, path: str) -> bytes | None:
        try:
            content = self._disk.read_file(f"{path}/{names.PARTITION_METADATA}", _MARK_BYTES_MAX)
            topic_id = decode_partition_metadata(content)
        except (FileNotFoundError, CorruptCheckpoint, ValueError):
            return None
        return topic_id if topic_id != ZERO_ID else None

    def _count_descriptors(self, states: list[DirectoryState]) -> None:
        partitions = sum(len(state.partitions) for state in states)
        soft, hard = self._around.descriptors_max()
        wanted = FILES_PER_PARTITION * partitions + 1024
        if states and 0 <= soft < wanted:
            self._found.warn(
                "descriptors",
                states[0].path,
                f"a process may open {soft} files (at most {hard}); {plural(partitions, 'partition')} "
                f"and a thousand connections want {wanted}",
                "The broker closes and opens files over and over then, and refuses connections when "
                "none is left.",
                f"Raise the limit (ulimit -n {wanted}, LimitNOFILE= in a systemd unit).",
            )


def tell_no_store(found: Diagnoses, path: str, fix: str = "") -> None:
    """There are logs, and no store."""
    found.error(
        "no-store",
        path,
        f"there is no {FILE_NAME}, which knows the topics",
        "The broker starts with an empty one, and serves none of the logs.",
        fix or "Put it back from a backup of the same time as the logs.",
    )


def sound_store(found: Diagnoses, path: str, store: StoreCopy | None) -> StoreCopy | None:
    """The store, if there is one that can be read."""
    if store is None or store.problem is None:
        return store
    found.error(
        "store",
        f"{path}/{FILE_NAME}",
        store.problem,
        "It knows the topics and their settings; no broker starts without it.",
        "Put it back from a backup.",
    )
    return None


def _segments(path: str) -> list[tuple[int, int]]:
    found = []
    for entry in os.scandir(path):
        offset = names.offset_of(entry.name)
        if offset is not None and entry.name.endswith(names.LOG_SUFFIX):
            found.append((offset, entry.stat().st_size))
    return found


def _size(path: str) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())


def _owner(path: str) -> str:
    uid = os.stat(path).st_uid
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):  # Windows; or a user of another system's
        return f"user {uid}"


def process_text(pid: int | None) -> str:
    """A process by its number and its command, where that can be seen."""
    if pid is None:
        return "a process of another container"
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            words = stream.read().split(b"\0")
    except OSError:
        return f"process {pid}"
    return f"process {pid} ({b' '.join(words).decode(errors='replace').strip()[:100]})"


def _names(findings: Iterable[object], word: str) -> bool:
    return any(str(getattr(finding, "kind", "")).startswith(word) for finding in findings)

"""What a session with ZooKeeper watches: each watch fires once, and outlives the connection it was set on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ottla.coordination.store import EventType, Watch, WatchEvent
from ottla.coordination.zookeeper_requests import Request, set_watches

_BYTES_IN_ONE = 128 * 1024
"""Of paths in one request that puts watches back."""

EVENT_TYPES = {
    1: EventType.CREATED,
    2: EventType.DELETED,
    3: EventType.DATA_CHANGED,
    4: EventType.CHILDREN_CHANGED,
}
"""By ZooKeeper's number."""

ByPath = dict[str, dict[Watch, None]]


class Watches:
    """The watches by path below the chroot, as the server has them: on data, on absence, on children."""

    def __init__(self) -> None:
        self.data: ByPath = {}
        self.absent: ByPath = {}
        self.children: ByPath = {}

    def fire(self, event: WatchEvent) -> None:
        """Tell whom it concerns, and forget them."""
        kinds = {
            EventType.CREATED: (self.absent, self.data),
            EventType.DATA_CHANGED: (self.data, self.absent),
            EventType.DELETED: (self.data, self.absent, self.children),
            EventType.CHILDREN_CHANGED: (self.children,),
        }[event.type]
        for watches in kinds:
            for watch in watches.pop(event.path, ()):
                watch(event)

    def put_back(self, zxid: int, full: Callable[[str], str]) -> Iterator[Request]:
        """The requests that set them on a new connection; what changed after ``zxid`` fires them there.

        ``full`` makes a path below the chroot a whole one.
        """
        batch: tuple[list[str], list[str], list[str]] = ([], [], [])
        weight = 0
        for paths, kind in zip(batch, (self.data, self.absent, self.children), strict=True):
            for path in kind:
                paths.append(full(path))
                weight += len(paths[-1].encode()) + 4
                if weight > _BYTES_IN_ONE:
                    yield set_watches(zxid, *batch)
                    for each in batch:
                        each.clear()
                    weight = 0
        if any(batch):
            yield set_watches(zxid, *batch)

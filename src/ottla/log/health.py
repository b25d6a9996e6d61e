"""Whether a log directory may still be used, as every log in it sees it.

After a failed fsync nobody knows what is on the disk: the kernel has dropped the dirty pages and the
next fsync says that all is well. So the first failure puts the whole directory offline, for good.
"""

from __future__ import annotations

from collections.abc import Callable

from ottla import capabilities
from ottla.errors import ErrorCode, KafkaError
from ottla.log.disk import NO_ROOM_ERRNOS
from ottla.logs import logger

log = logger(__name__)


class DirectoryHealth:
    """``failure`` is why the directory is offline, None while it is not.

    ``on_offline`` is called once, with the path and the error, on the thread that met it.
    """

    __slots__ = ("failure", "on_offline", "path")

    def __init__(self, path: str, on_offline: Callable[[str, OSError], None] | None = None) -> None:
        self.path = path
        self.failure: OSError | None = None
        self.on_offline = on_offline

    def fail(self, error: OSError) -> None:
        """Take the directory offline. Only the first failure counts."""
        if self.failure is None:
            self.failure = error
            log.error("log directory is offline", directory=self.path, reason=str(error))
            if self.on_offline is not None:
                self.on_offline(self.path, error)

    def check(self) -> None:
        """Raises ``KafkaError`` (KAFKA_STORAGE_ERROR) if the directory is offline."""
        if self.failure is not None:
            raise self.offline_error()

    def offline_error(self) -> KafkaError:
        """What an operation on a log of an offline directory is answered with."""
        return KafkaError(
            ErrorCode.KAFKA_STORAGE_ERROR, f"log directory {self.path} is offline: {self.failure}"
        )

    def failed_operation(self, what: str, error: OSError) -> KafkaError:
        """The answer to an operation that met ``error``; takes the directory offline where it must.

        Lack of room (or of descriptors) passes, and so does who holds a file on Windows: that fails the operation
        only.
        """
        if error.errno not in NO_ROOM_ERRNOS and not capabilities.is_held_by_another(error):
            self.fail(error)
        else:  # whoever looks after the broker has to hear of it; the logger bounds how often
            log.error(
                "log operation failed for now", directory=self.path, reason=f"{what}: {error}"
            )
        return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{what}: {error}")

"""A port of this machine that leads to another address, as a container's published port does."""

from __future__ import annotations

import socket
import threading
from types import TracebackType


class PortProxy:
    """Hands every connection on; ``target`` may be set after clients are told of ``port``."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.target = ("127.0.0.1", 0)
        self.accepted = 0
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> PortProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its peer was quicker
        self._thread.join()

    def _accept(self) -> None:
        pumps = []
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                break
            self.accepted += 1
            far = socket.create_connection(self.target)
            self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                pumps.append(threading.Thread(target=_pump, args=(source, sink), daemon=True))
                pumps[-1].start()
        for pump in pumps:
            pump.join()
        for sock in self._open:
            sock.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one side is gone; the other learns it from its own

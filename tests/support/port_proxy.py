"""A port of this machine that leads to another address, as a container's published port does.

``hold`` makes of it a network that loses what is sent, one way or both: nothing arrives, nobody is told, and what
was under way arrives after ``release``, as TCP sends it again.
"""

from __future__ import annotations

import socket
import threading
from types import TracebackType


class PortProxy:
    """Hands every connection on; ``target`` may be set after clients are told of ``port``."""

    def __init__(self) -> None:
        self._listening = self.listen()
        self.port: int = self._listening.getsockname()[1]
        self.target = ("127.0.0.1", 0)
        self.accepted = 0
        self._open: set[socket.socket] = set()
        self._forth = threading.Event()
        self._back = threading.Event()
        self._ended = False
        self.release()
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
        self._ended = True
        self.release()
        self.reset()
        self._thread.join()

    def listen(self) -> socket.socket:
        """The socket that clients connect to."""
        return socket.create_server(("127.0.0.1", 0))

    def connect(self) -> socket.socket:
        """A connection to the target."""
        return socket.create_connection(self.target)

    def hold(self, *, forth: bool = True, back: bool = True) -> None:
        """Let nothing more through to the target (``forth``), from it (``back``), or either."""
        if forth:
            self._forth.clear()
        if back:
            self._back.clear()

    def release(self) -> None:
        """Let everything through again."""
        self._forth.set()
        self._back.set()

    def reset(self) -> None:
        """End all connections that there are."""
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its peer was quicker

    def _accept(self) -> None:
        pumps = []
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                break
            self.accepted += 1
            self._open.add(near)
            pumps = [pump for pump in pumps if pump.is_alive()]
            pumps.append(threading.Thread(target=self._serve, args=(near,), daemon=True))
            pumps[-1].start()
        for pump in pumps:
            pump.join()

    def _serve(self, near: socket.socket) -> None:
        """One connection, from its first byte to its last."""
        self._forth.wait()
        try:
            far = self.connect()
            far.settimeout(None)
        except OSError:
            far = None  # nobody is there, and that is what the client is to see
        if far is not None:
            self._open.add(far)
        if far is not None and not self._ended:
            ways = ((near, far, self._forth), (far, near, self._back))
            pumps = [threading.Thread(target=_pump, args=way, daemon=True) for way in ways]
            for pump in pumps:
                pump.start()
            for pump in pumps:
                pump.join()
        for sock in (near, far):
            if sock is not None:
                self._open.discard(sock)
                sock.close()


def _pump(source: socket.socket, sink: socket.socket, flowing: threading.Event) -> None:
    try:
        while data := source.recv(65536):
            flowing.wait()
            sink.sendall(data)
        flowing.wait()
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # One side is gone; the other is to learn it, too.
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

"""A broker a network namespace, on one bridge, so that packets from one to another can be dropped, one way.

ZooKeeper and the clients stay in the tests' own namespace: each way in or out is a ``PortProxy`` with one foot in the
namespace of the bridge, so that a cut between two brokers is between these two only. Rules: names carry this
process's id; nothing is left behind when the ``with`` ends. Needs root, ip and nft.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from tests.crash.volume import run
from tests.interop.requirements import leave_out, require_program
from tests.support.port_proxy import PortProxy

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
BRIDGE_HOST = "10.77.0.254"
RULES = """
table bridge cuts {
  set cut { type ipv4_addr . ipv4_addr; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip saddr . ip daddr @cut drop
  }
}
"""


def require_namespaces() -> None:
    """Leave the test out where this user can make no network namespaces, or can't drop packets in them."""
    require_program("ip", "iproute2")
    require_program("nft", "nftables")
    if os.geteuid() != 0:
        leave_out("network namespaces need root")
    name = f"ottla-{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        leave_out(f"no network namespace can be made here: {made.stderr.strip()}")
    try:
        tried = subprocess.run(
            ["ip", "netns", "exec", name, "nft", "-f", "-"],
            input=RULES,
            capture_output=True,
            text=True,
        )
        if tried.returncode != 0:
            leave_out(f"nft can't drop packets of a bridge here: {tried.stderr.strip()}")
    finally:
        run("ip", "netns", "delete", name)


def host_of(node: int) -> str:
    """A broker's address on the bridge."""
    return f"10.77.0.{node}"


class Namespaces:
    """One namespace with a bridge, and one for each broker, as long as the context lasts."""

    def __init__(self, nodes: list[int]) -> None:
        self._prefix = f"ottla-{os.getpid()}"
        self.nodes = nodes
        self.hub = f"{self._prefix}-hub"
        self._made: list[str] = []
        self._exits = contextlib.ExitStack()

    def of(self, node: int) -> str:
        """The name of a broker's namespace."""
        return f"{self._prefix}-{node}"

    def __enter__(self) -> Self:
        try:
            self._lay_out()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exits.close()
        self._remove()

    def _lay_out(self) -> None:
        self._add(self.hub)
        inside = ("ip", "-n", self.hub)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "add", "br0", "type", "bridge")
        run(*inside, "link", "set", "br0", "up")
        run(*inside, "addr", "add", f"{BRIDGE_HOST}/24", "dev", "br0")
        for node in self.nodes:
            name = self.of(node)
            self._add(name)
            run(*inside, "link", "add", f"v{node}", "type", "veth", "peer", "eth0", "netns", name)
            run(*inside, "link", "set", f"v{node}", "master", "br0", "up")
            run("ip", "-n", name, "addr", "add", f"{host_of(node)}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        self._nft(RULES)

    def _add(self, name: str) -> None:
        run("ip", "netns", "add", name)
        self._made.append(name)

    def _remove(self) -> None:
        while self._made:
            run("ip", "netns", "delete", self._made.pop())

    def _nft(self, script: str) -> None:
        done = subprocess.run(
            ["ip", "netns", "exec", self.hub, "nft", "-f", "-"],
            input=script,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    def cut(self, source: int, target: int) -> None:
        """Drop all packets from one broker to another; those that go back still arrive."""
        pair = f"{host_of(source)} . {host_of(target)}"
        self._nft(f"add element bridge cuts cut {{ {pair} }}")

    def heal(self) -> None:
        """Drop nothing any more."""
        self._nft("flush set bridge cuts cut")

    def way_out(self, target: tuple[str, int]) -> tuple[str, int]:
        """An address on the bridge that leads to one of this machine's own."""
        proxy = _WayOut(self.hub)
        self._exits.enter_context(proxy)
        proxy.target = target
        return (BRIDGE_HOST, proxy.port)

    def way_in(self, target: tuple[str, int]) -> tuple[str, int]:
        """An address of this machine that leads to one on the bridge."""
        proxy = _WayIn(self.hub)
        self._exits.enter_context(proxy)
        proxy.target = target
        return ("127.0.0.1", proxy.port)


class _WayOut(PortProxy):
    """Listens on the bridge, and connects here."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        super().__init__()

    def listen(self) -> socket.socket:
        """A listening socket in the namespace."""
        return within(self._namespace, lambda: socket.create_server((BRIDGE_HOST, 0)))


class _WayIn(PortProxy):
    """Listens here, and connects on the bridge."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        super().__init__()

    def connect(self) -> socket.socket:
        """A socket in the namespace, connected to the target."""
        return within(self._namespace, lambda: socket.create_connection(self.target, 5.0))


def within(namespace: str, make: Callable[[], T]) -> T:
    """What ``make`` returns when it is called in a network namespace; a socket stays in it for good."""
    made: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        # A thread of its own: the namespace is a thread's, and this one's ends with it.
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
        try:
            if libc.setns(descriptor, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
            made.append(make())
        except BaseException as error:
            failed.append(error)
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]

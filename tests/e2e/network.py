"""A network of namespaces: the proxy and its clients here, a host far away, and a wire between the
two that loses, repeats and delays packets. Linux, as root or in `unshare -Urnm`.

Everything that the calling thread starts while it is inside is inside: sockets, threads, processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import select
import socket
import subprocess
import threading
from collections.abc import Iterator

from twisted.trial.unittest import SkipTest

NEAR, FAR = "10.77.0.1", "10.77.0.2"
_NEWNET = 0x40000000  # CLONE_NEWNET of unshare(2)
_PACKET_VNET_HDR = 15  # of packet(7): with what the network card would still have to do
_ALL = 0x0003  # ETH_P_ALL


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def ip(*words: str) -> None:
    """Run ip(8) in the calling thread's namespace."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Network:
    """Three namespaces: the proxy's, that of FAR, and the wire's between them."""

    def __init__(self) -> None:
        self._ending = contextlib.ExitStack()
        self._before = self._here()
        try:
            self._wire_space, self.far, self._near = (self._make() for _ in range(3))
            self._lay()
        except (OSError, AttributeError) as e:
            self.close()
            raise SkipTest(f"no network namespaces here: {e}") from None

    def _here(self) -> int:
        descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._ending.callback(os.close, descriptor)
        return descriptor

    def _make(self) -> int:
        _call("unshare", _NEWNET)
        made = self._here()
        ip("link", "set", "lo", "up")
        return made

    def _lay(self) -> None:
        """The cables."""
        ends = []
        for space, name, address in ((self._near, "near", NEAR), (self.far, "far", FAR)):
            with self.within(space):
                wire = f"/proc/{os.getpid()}/fd/{self._wire_space}"
                ip("link", "add", name, "type", "veth", "peer", "name", f"wire-{name}",
                    "netns", wire)  # fmt: skip
                ip("address", "add", f"{address}/24", "dev", name)
                ip("link", "set", name, "up")
            with self.within(self._wire_space):
                ip("link", "set", f"wire-{name}", "up")
                end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
                end.setsockopt(263, _PACKET_VNET_HDR, 1)  # SOL_PACKET
                end.bind((f"wire-{name}", _ALL))
                ends.append(end)
        self.wire = Wire(*ends)
        self._ending.callback(self.wire.close)

    @contextlib.contextmanager
    def within(self, space: int) -> Iterator[None]:
        """The calling thread is there."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _call("setns", space, _NEWNET)
        try:
            yield
        finally:
            _call("setns", before, _NEWNET)
            os.close(before)

    def restart_far(self) -> None:
        """The far host is started anew: it has its address, and knows of no connection."""
        before, here = self.far, self._here()
        self.far = self._make()
        _call("setns", here, _NEWNET)
        with self.within(before):
            ip("link", "set", "far", "netns", f"/proc/{os.getpid()}/fd/{self.far}")
        with self.within(self.far):
            ip("address", "add", f"{FAR}/24", "dev", "far")
            ip("link", "set", "far", "up")

    def close(self) -> None:
        """Back to where the thread was."""
        _call("setns", self._before, _NEWNET)
        self._ending.close()


class Wire:
    """Carries frames between two sockets. `loses` and `repeats` are shares of them, `delays` of
    those that arrive after the next one; `dead` carries nothing."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.loses = self.repeats = self.delays = 0.0
        self.dead = False
        self.lost = 0
        self._other = {near: far, far: near}
        self._late: dict[socket.socket, bytes] = {}
        self._random = random.Random(7)
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over:
            for end in select.select(list(self._other), [], [], 0.05)[0]:
                with contextlib.suppress(OSError):  # a host that is being started anew
                    frame, where = end.recvfrom(1 << 17)
                    if where[2] != socket.PACKET_OUTGOING:
                        self._carry(frame, self._other[end])

    def _carry(self, frame: bytes, to: socket.socket) -> None:
        if self.dead or self._random.random() < self.loses:
            self.lost += 1
            return
        frames = [frame] * (2 if self._random.random() < self.repeats else 1)
        late = self._late.pop(to, None)
        if late is not None:
            frames.append(late)
        elif self._random.random() < self.delays:
            self._late[to] = frame
            return
        for each in frames:
            to.send(each)

    def close(self) -> None:
        """End it."""
        self._over = True
        self._thread.join()
        for end in self._other:
            end.close()

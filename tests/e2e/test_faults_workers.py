"""A worker that is killed under load; see test_faults.py. What else there is of workers is
test_workers.py's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from .faulty import BODY, FAULTY, FaultTests
from .processes import PATIENCE, read_all, read_exactly, read_head, request, response, until
from .test_websockets import UPGRADE, switching
from .test_workers import workers_of

EACH = 8  # connections of each kind: that all are one worker's happens once in 2 ** 23 runs
PIECES = 40  # of BODY, in each direction


class Moving:
    """An upstream server that waits in the middle, until `goes_on`. `whole` are the uploads that
    came whole, by target."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.begun: set[str] = set()
        self.whole: list[str] = []
        self.cut: list[str] = []

    def __call__(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # whatever a test that failed leaves
            head = read_head(sock)
            target = head.split(b" ")[1].decode()
            kind = target.split("/")[1]
            if kind == "ws":
                sock.sendall(switching(head))
                while piece := sock.recv(65536):
                    sock.sendall(piece)
            elif kind == "download":
                sock.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (PIECES * len(BODY))
                )
                sock.sendall(BODY * (PIECES // 2))
                self.begun.add(target)
                self.goes_on.wait(PATIENCE)
                sock.sendall(BODY * (PIECES // 2))
            elif kind == "upload":
                self._take(sock, target)

    def _take(self, sock: socket.socket, target: str) -> None:
        taken, digest = 0, hashlib.sha256()
        while taken < PIECES * len(BODY):
            try:
                piece = sock.recv(65536)
            except ConnectionError:
                piece = b""
            if not piece:
                self.cut.append(target)
                return
            taken += len(piece)
            digest.update(piece)
            self.begun.add(target)
        self.whole.append(target)
        answer = digest.hexdigest().encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))


class Killed(FaultTests):
    def test_under_load(self) -> None:
        """Its own connections are lost, visibly; those of the other are right to the octet. The
        log says who it was and how it ended, and one takes its place."""
        moving = Moving()
        proxy = self.start(self.script(moving).url, workers=2)
        before = workers_of(proxy)
        sockets = {
            target: self._begin(target)
            for number in range(EACH)
            for target in (f"/ws/{number}", f"/upload/{number}", f"/download/{number}")
        }
        until(lambda: len(moving.begun) == 2 * EACH, "all are in the middle")
        owners = {target: self.owner(sock.getsockname()[1]) for target, sock in sockets.items()}
        assert self.neighbour is not None
        spared = self.owner(self.neighbour.port)
        [victim] = set(before) - {spared}
        self.assertEqual(set(owners.values()), set(before))
        os.kill(victim, signal.SIGKILL)
        proxy.says(rf"this machine: Worker \d \(pid {victim}\) was ended by SIGKILL\.")
        moving.goes_on.set()
        for target, sock in sockets.items():
            if owners[target] == victim:
                self._is_lost(target, sock)
            else:
                self._is_whole(target, sock)
        uploads = [target for target in sockets if target.startswith("/upload/")]
        until(lambda: len(moving.whole) + len(moving.cut) == EACH, "upstream knows of all uploads")
        self.assertEqual(sorted(moving.whole), sorted(t for t in uploads if owners[t] == spared))
        self._one_other(before, victim)
        for target in sockets:  # a request that ended has its one line, and no other has
            if owners[target] == spared and not target.startswith("/ws/"):
                proxy.says(rf" {target} \S+\" 200 ", "stdout")
            self.assertLessEqual(proxy.stdout.count(f" {target} "), 1)

    def _begin(self, target: str) -> Any:
        sock = self.stage.connect(self.proxy, FAULTY)
        self.addCleanup(sock.close)
        if target.startswith("/ws/"):
            sock.sendall(request(target, *UPGRADE, host=FAULTY))
            self.assertTrue(read_head(sock).startswith(b"HTTP/1.1 101 "))
        elif target.startswith("/upload/"):
            length = f"Content-Length: {PIECES * len(BODY)}"
            sock.sendall(request(target, length, method="PUT", host=FAULTY))
            sock.sendall(BODY * (PIECES // 2))
        else:
            sock.sendall(request(target, host=FAULTY))
            self.assertIn(b" 200 ", read_head(sock))
        return sock

    def owner(self, port: int) -> int:
        """The process that has the other end of a client's connection. Linux."""
        line = re.compile(
            rf":{self.proxy.https:04X} \w+:{port:04X} 01 (?:\S+ +){{3}}\d+ +\d+ (\d+) "
        )
        # Connections of others that come and go while it is read make it leave some out.
        found = until(
            lambda: line.search(Path("/proc/net/tcp").read_text()), f"{port} in the table"
        )
        wanted = f"socket:[{found[1]}]"
        for pid in workers_of(self.proxy):
            directory = Path(f"/proc/{pid}/fd")
            for descriptor in directory.iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) == wanted:
                        return pid
        raise AssertionError("nobody has it")

    def _is_lost(self, target: str, sock: Any) -> None:
        """It ends, and not as if it were whole."""
        with contextlib.suppress(OSError):
            sock.sendall(b"more")
        came = read_all(sock)
        self.assertTrue((BODY * PIECES).startswith(came))
        self.assertLess(len(came), PIECES * len(BODY), target)

    def _is_whole(self, target: str, sock: Any) -> None:
        if target.startswith("/ws/"):
            sock.sendall(BODY)
            self.assertEqual(read_exactly(sock, len(BODY)), BODY)
        elif target.startswith("/upload/"):
            sock.sendall(BODY * (PIECES // 2))
            wanted = hashlib.sha256(BODY * PIECES).hexdigest()
            self.assertEqual(response(sock).content.decode(), wanted)
        else:
            self.assertEqual(read_exactly(sock, PIECES * len(BODY)), BODY * PIECES)

    def _one_other(self, before: list[int], victim: int) -> None:
        def look() -> list[int] | None:
            now = workers_of(self.proxy)
            return now if len(now) == 2 and victim not in now else None

        now = until(look, "another worker")
        [fresh] = set(now) - set(before)
        self.proxy.says(rf"Worker \d \(pid {fresh}\) serves\.")
        self.assertEqual(workers_of(self.proxy), now)
        self.assertEqual(self.proxy.stderr.count("was ended by"), 1)
        self.assertEqual(self.proxy.stderr.count(") serves."), 1)


if not Path("/proc/net/tcp").exists():
    raise SkipTest("no /proc here")

"""Nobody takes what the proxy says: of its operations on stderr, of requests on stdout; see
test_faults.py.

Requests are served all the same, it ends in time, and what is written later is whole and in order.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import threading
from pathlib import Path

from .clients import Asked
from .faulty import FAULTY, FaultTests
from .processes import (
    COMMAND,
    LOOPBACK,
    PATIENCE,
    Proxy,
    connect,
    free_port,
    request,
    response,
    until,
)

DEAD = f"http://{LOOPBACK}:1"
# Runs what follows with standard output or error elsewhere.
_ELSEWHERE = "import os, sys; os.dup2(int(sys.argv[1]), int(sys.argv[2])); os.execvp(sys.argv[3], sys.argv[3:])"
REFUSED = rf" error (?:\[worker \d\] )?upstream: Site {FAULTY}, 503 .*nothing listens at "
_LINE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (?:info|warn|error) \S.*"


class Reader:
    """Of a pipe that a proxy has as its stream 1 or 2. What comes goes where the proxy's harness
    looks for it, until it sleeps or is gone."""

    def __init__(self, stream: int) -> None:
        self._reading, self._writing = os.pipe()
        before = [sys.executable, "-c", _ELSEWHERE, str(self._writing), str(stream)]
        self.options = {"before": before, "pass_fds": [self._writing]}
        self._stream = stream
        self._awake = threading.Event()
        self._awake.set()
        self._gone = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._file: Path | None = None

    def ready(self, proxy: Proxy) -> None:
        """The proxy has been started."""
        os.close(self._writing)
        self._file = proxy._said[self._stream - 1]
        self._thread.start()
        proxy.ready()

    def _run(self) -> None:
        assert self._file is not None
        os.set_blocking(self._reading, False)
        with self._file.open("ab", buffering=0) as file:
            while not self._gone:
                self._awake.wait(PATIENCE)
                try:
                    piece = os.read(self._reading, 1000)
                except BlockingIOError:
                    threading.Event().wait(0.001)
                    continue
                if not piece:
                    break
                file.write(piece)
        os.close(self._reading)

    def goes(self) -> None:
        """Nobody has the other end any more."""
        self._gone = True
        self._awake.set()
        self._thread.join(PATIENCE)

    def sleeps(self) -> None:
        """It reads no more, and the pipe is full."""
        self._awake.clear()
        pipe = os.open(f"/proc/self/fd/{self._reading}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(pipe, b"filled\n" * 9)
        except BlockingIOError:
            pass
        finally:
            os.close(pipe)

    def wakes(self) -> None:
        """It reads on."""
        self._awake.set()


class LogTests(FaultTests):
    def faults(self, *sites: str) -> None:
        """Requests whose fault is to be said."""
        for version in ("http/1.1", "h2"):
            for target in sites or ("/",):
                self.assertEqual(self.ask(Asked(target=target, host=FAULTY), version).status, 503)

    def lines(self) -> list[str]:
        """Of stderr, without what filled the pipe; each is whole."""
        lines = [line for line in self.proxy.stderr.splitlines() if line != "filled"]
        for line in lines:
            self.assertRegex(line, f"^{_LINE}$")
        return lines

    def said_once(self, words: str, workers: int) -> None:
        """By each of them at most."""
        self.proxy.says(words)
        self.assertLessEqual(len(re.findall(words, "\n".join(self.lines()))), workers)


class StandardError(LogTests):
    def test_no_reader(self) -> None:
        for workers in (1, 2):
            reader = Reader(2)
            self.start(DEAD, workers=workers, options=reader.options, ready=reader.ready)
            reader.goes()
            self.faults()
            self.ends()

    def test_disk_full_from_the_start(self) -> None:
        for workers in (1, 2):
            port = free_port()
            with open("/dev/full", "wb") as full:
                before = [sys.executable, "-c", _ELSEWHERE, str(full.fileno()), "2"]
                options = {"before": before, "pass_fds": [full.fileno()]}
                listen = {"https": [f"{LOOPBACK}:{port}"]}
                self.start(
                    DEAD,
                    workers=workers,
                    options=options,
                    listen=listen,
                    ready=lambda proxy, port=port: accepts(proxy, port),
                )
            self.faults()
            self.ends()

    def test_reader_that_sleeps(self) -> None:
        """A pager, a terminal after Ctrl-S, a collector that hangs."""
        for workers in (1, 2):
            reader = Reader(2)
            self.start(DEAD, workers=workers, options=reader.options, ready=reader.ready)
            reader.sleeps()
            self.faults()
            reader.wakes()
            self.said_once(REFUSED, workers)
            reader.sleeps()
            self.ends()

    def test_disk_full_for_a_while(self) -> None:
        """A limit of the file's size stands for the disk's: it takes half of a line."""
        for workers in (1, 2):
            proxy = self.start(DEAD, workers=workers, log={"access": ""})
            _, most = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE)
            said = proxy._said[1]
            limit = said.stat().st_size + 40
            resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (limit, most))
            self.faults()
            until(lambda said=said, limit=limit: said.stat().st_size == limit, "it is full")
            resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, most))
            self.said_once(REFUSED, workers)
            self.ends()
            self.assertIn("Draining: ", self.lines()[-2] + self.lines()[-1])


class Closed(LogTests):
    def test_streams_that_are_not_open(self) -> None:
        """Their numbers are no socket's: what is written there would go to whoever has it."""
        for closed in ("2>&-", ">&-", "<&- >&- 2>&-"):
            port = free_port()
            listen = {"https": [f"{LOOPBACK}:{port}"]}
            path = self.stage.config(self.stage.configuration(DEAD, listen=listen))
            shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh"]
            proxy = self.stage.run([*shell, *COMMAND, "run", "--config", str(path)])
            accepts(proxy, port)
            for descriptor in range(3):
                where = os.readlink(f"/proc/{proxy.pid}/fd/{descriptor}")
                self.assertTrue(where.startswith("/"), where)
            with self.stage.connect(proxy) as sock:
                sock.sendall(request("/"))
                self.assertEqual(response(sock).status, 503)
            proxy.signal(signal.SIGTERM)
            self.assertIn(proxy.wait(), (0, 143, -signal.SIGTERM))


def accepts(proxy: Proxy, port: int) -> None:
    """Wait until it does: of one that cannot say so."""
    proxy.https = port

    def try_it() -> bool:
        try:
            connect(port).close()
        except ConnectionRefusedError:
            return False
        return True

    until(try_it, "it accepts")


class StandardOutput(LogTests):
    def served(self, *targets: str) -> None:
        for target in targets:
            asked = Asked(target=target, host=FAULTY)
            self.assertEqual(self.ask(asked).status, 200)

    def start_with(self, reader: Reader, workers: int) -> None:
        self.start(self.good_url, workers=workers, options=reader.options, ready=reader.ready)

    def test_no_reader(self) -> None:
        """A broken pipe ends nothing (SIGPIPE), and is said once."""
        for workers in (1, 2):
            reader = Reader(1)
            self.start_with(reader, workers)
            reader.goes()
            self.served("/a", "/b", "/c")
            self.proxy.says(r"The access log \(stdout\) cannot be written: Broken pipe\.")
            self.served("/d")
            self.ends()
            self.assertEqual(self.proxy.stderr.count("cannot be written"), 1)

    def test_reader_that_sleeps(self) -> None:
        """All lines are there in the end, in order, whole and once."""
        for workers in (1, 2):
            reader = Reader(1)
            self.start_with(reader, workers)
            reader.sleeps()
            targets = [f"/{number}/{'x' * 3000}" for number in range(30)]
            self.served(*targets)
            self.proxy.says(r"The access log \(stdout\) cannot be written: its reader does not")
            reader.wakes()
            self.proxy.says("is written again; 0 lines were lost")
            self.served("/last")
            self.proxy.says("GET /last ", "stdout")
            # Of two workers the other one may write later.
            for target in targets:
                self.proxy.says(f"GET {target} ", "stdout")
            found = re.findall(r"GET (/\d+/x+) HTTP/1\.1\" 200 ", self.proxy.stdout)
            self.assertEqual(sorted(found), sorted(targets))
            for line in self.proxy.stdout.splitlines():
                self.assertRegex(line, r"^(filled|127\.0\.0\.1 - - \[.* HTTP/1\.1\" 200 .* -)$")
            self.ends()

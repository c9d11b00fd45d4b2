"""Attacks by load on a proxy of our own, beside a client that behaves: script/siege.

Each scenario is bounded and on loopback. It prints a row: what was opened, what it costs the proxy
(memory of all its processes, for each connection), what the client that behaves saw meanwhile (its
latency, its failures), and what is left after everything was closed. --rounds repeats it, and
*growth* is what the proxy has at the end of each further round more than at the end of the first.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from . import hostile_few
from .children import Child, family
from .hostile_few import frame
from .machine import free_port
from .sockets import TIMEOUT, client_context, connect

MIB = 1 << 20
SPARE = 512  # descriptors that are not spent
PACE = 0.02  # seconds between two requests of the client that behaves
SETTLE = 60.0  # seconds at most, until the proxy has closed everything
_PAGE = os.sysconf("SC_PAGE_SIZE")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
# :method GET, :scheme https, :path /, and :authority localhost as a literal that is not indexed.
FIELDS = b"\x82\x87\x84\x01\x09localhost"
UPGRADE = (
    b"GET /ws/client/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SLOW = {  # slowhttptest's four modes
    "slowloris": ["-H", "-i", "1", "-x", "24"],
    "slow body": ["-B", "-i", "1", "-s", "8192", "-x", "10"],
    "range": ["-R", "-a", "10", "-b", "3000"],
    "slow read": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"],
}


@dataclass
class Siege:
    """A proxy, its origin, and how much of each is asked for."""

    http: int
    https: int
    pid: int
    count: int
    seconds: float
    notes: list[str] = field(default_factory=list)

    def memory(self) -> int:
        """Octets resident, of all processes of the proxy."""
        total = 0
        for pid in family(self.pid):
            with suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        return total

    def descriptors(self) -> int:
        """Open in all processes of the proxy."""
        total = 0
        for pid in family(self.pid):
            with suppress(OSError):
                total += len(os.listdir(f"/proc/{pid}/fd"))
        return total


class Well:
    """The client that behaves: a new TLS connection or an old one, one request after the other.

    It comes from another address than the attackers, as other people do."""

    def __init__(self, siege: Siege) -> None:
        self.latencies: list[float] = []
        self.failed = 0
        self._siege = siege
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        context = client_context()
        number = 0
        sock: ssl.SSLSocket | None = None
        while not self._over.wait(PACE):
            begin = time.monotonic()
            try:
                if sock is None or number % 10 == 0:
                    if sock is not None:
                        sock.close()
                    raw = socket.create_connection(
                        ("127.0.0.1", self._siege.https), TIMEOUT, ("127.0.0.3", 0)
                    )
                    sock = context.wrap_socket(raw, server_hostname="localhost")
                sock.sendall(b"GET /well HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head = sock.recv(65536)
                if not head.startswith(b"HTTP/1.1 200 "):
                    raise OSError(head[:40])
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
                left = length - len(head.partition(b"\r\n\r\n")[2])
                while left > 0:
                    left -= len(sock.recv(65536)) or left + 1
                self.latencies.append(time.monotonic() - begin)
            except (OSError, ValueError) as e:
                self.failed += 1
                self._siege.notes.append(f"the client that behaves: {e!r}")
                sock = None
            number += 1
        if sock is not None:
            sock.close()

    def end(self) -> tuple[float, float]:
        """No more. Returns the median and the 99th percentile, in milliseconds."""
        self._over.set()
        self._thread.join()
        if len(self.latencies) < 2:
            return 0.0, 0.0
        cuts = statistics.quantiles(self.latencies, n=100)
        return cuts[49] * 1000, cuts[98] * 1000


Opened = tuple[list[socket.socket], str]


def _many(siege: Siege, count: int, secure: bool, greet: bytes, source: str = "") -> Opened:
    """So many connections, from several addresses, that stay; those that say `greet` and get an
    answer are counted."""
    context = client_context() if secure else None
    kept: list[socket.socket] = []
    refused = 0
    for number in range(count):
        address = source or f"127.0.{1 + number // 200}.1"
        port = siege.https if secure else siege.http
        try:
            sock: socket.socket = socket.create_connection(
                ("127.0.0.1", port), TIMEOUT, (address, 0)
            )
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname="localhost")
            if greet:
                sock.sendall(greet)
                if not sock.recv(4096):
                    raise OSError("closed")
            kept.append(sock)
        except OSError:
            refused += 1
    closed, before = sum(map(_closed, kept)), -1
    while closed != before:  # those that wait in the queue are open until they are looked at
        time.sleep(1)
        closed, before = sum(map(_closed, kept)), closed
    return kept, f"{len(kept) - closed} open, {refused + closed} refused"


def _closed(sock: socket.socket) -> bool:
    """Whether the proxy has closed it."""
    sock.setblocking(False)
    try:
        while sock.recv(4096):
            pass
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        pass
    return True


def idle_tls(siege: Siege) -> Opened:
    """Handshakes, one request each, then silence."""
    ask = b"GET /idle HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return _many(siege, siege.count, True, ask)


def websockets(siege: Siege) -> Opened:
    """Upgraded, then silent."""
    return _many(siege, siege.count // 2, True, UPGRADE)


def flood(siege: Siege) -> Opened:
    """Connections of one address that say nothing: limits.unproven_per_address is its bound."""
    return _many(siege, min(siege.count, 2000), False, b"", "127.0.9.9")


def _http2(siege: Siege, attack: Callable[[int], bytes]) -> Opened:
    context = client_context()
    context.set_alpn_protocols(["h2"])
    end = time.monotonic() + siege.seconds
    frames = connections = 0
    while time.monotonic() < end:
        connections += 1
        with suppress(OSError), connect(siege.https, context) as sock:
            sock.sendall(PREFACE)
            sock.settimeout(5)
            for number in range(1, 100_000):
                sock.sendall(attack(number))
                frames += 1
                if time.monotonic() > end:
                    break
    return [], f"{frames} attacks on {connections} connections"


def rapid_reset(siege: Siege) -> Opened:
    """HEADERS and RST_STREAM, again and again (CVE-2023-44487)."""

    def attack(number: int) -> bytes:
        stream = 2 * number - 1
        return frame(1, 5, stream, FIELDS) + frame(3, 0, stream, b"\0\0\0\x08")

    return _http2(siege, attack)


def continuation(siege: Siege) -> Opened:
    """A header block without an end (CVE-2024-27316 and others)."""
    piece = b"\0\x01x\x7f\x81\x7f" + b"y" * 256

    def attack(number: int) -> bytes:
        return frame(1, 1, 1, FIELDS) if number == 1 else frame(9, 0, 1, piece)

    return _http2(siege, attack)


def _slow(mode: str) -> Callable[[Siege], Opened]:
    def run(siege: Siege) -> Opened:
        program = shutil.which("slowhttptest")
        if program is None:
            return [], "slowhttptest is not installed"
        count = str(min(siege.count, 1000))
        url = f"http://127.0.0.1:{siege.http}/"
        done = subprocess.run(
            [program, *SLOW[mode], "-c", count, "-r", "200", "-l", str(int(siege.seconds)),
             "-p", "3", "-u", url], capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)  # it is fond of colours
        served = re.findall(r"service available:\s+(\w+)", plain)
        said = served[-1] if served else "?"
        return [], f"{count} connections; its probe was served at the end: {said}"

    return run


SCENARIOS: dict[str, Callable[[Siege], Opened]] = {
    "idle TLS": idle_tls,
    "WebSockets": websockets,
    "flood of one address": flood,
    "HTTP/2 rapid reset": rapid_reset,
    "HTTP/2 CONTINUATION": continuation,
    "HTTP/2 settings": hostile_few.settings,
    "HTTP/2 tiny content": hostile_few.tiny_content,
    "HTTP/2 uploads that stop": hostile_few.uploads_that_stop,
    "HTTP/2 closed windows": hostile_few.closed_windows,
    "TLS key updates": hostile_few.key_updates,
} | {mode: _slow(mode) for mode in SLOW}


@contextmanager
def proxy(workers: int, count: int, seconds: float) -> Iterator[Siege]:
    """A proxy, with its origin behind."""
    with tempfile.TemporaryDirectory(prefix="authproxy-siege-") as directory:
        root = Path(directory)
        ports = [free_port() for _ in range(3)]
        config = root / "authproxy.toml"
        config.write_text(
            f'workers = {workers}\n[listen]\nhttp = ["127.0.0.1:{ports[0]}"]\n'
            f'https = ["127.0.0.1:{ports[1]}"]\nadmin = ""\nplain_http = "serve"\n'
            f'control = "{root}/control.sock"\n[log]\naccess = "{root}/access.log"\n'
            # Idle ones stay until all are open, which takes minutes.
            f'[timeouts]\nkeepalive = 600\n[health]\npath = ""\n'
            f'[[site]]\nhosts = ["localhost", "127.0.0.1"]\n'
            f'upstream = "http://127.0.0.1:{ports[2]}"\n'
        )
        environ = {"XDG_STATE_HOME": directory, "HOME": directory}
        cores = sorted(os.sched_getaffinity(0))
        origin = Child(
            [sys.executable, "-m", "tests.e2e.origin", f"--port={ports[2]}"],
            core=cores[-1], said=root / "origin.log", environ=environ,
        )  # fmt: skip
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        command += ["--nodaemon", "--pidfile=", "authproxy", "--config", str(config)]
        front = Child(command, core=cores[0], said=root / "proxy.log", environ=environ)
        try:
            origin.wait_for(ports[2])
            front.wait_for(ports[1], client_context())
            yield Siege(ports[0], ports[1], front.pid, count, seconds)
        finally:
            front.stop()
            origin.stop()


def attack(siege: Siege, name: str, rounds: int) -> str:
    """One scenario. Returns its row of the table."""
    before, base = siege.memory(), siege.descriptors()
    after: list[int] = []
    peak = opened = 0
    said = ""
    well = Well(siege)
    for _ in range(rounds):
        kept, said = SCENARIOS[name](siege)
        peak, opened = max(peak, siege.memory()), len(kept)
        for sock in kept:
            sock.close()
        end = time.monotonic() + SETTLE
        while siege.descriptors() > base + 40 and time.monotonic() < end:
            time.sleep(0.2)
        after.append(siege.memory())
    median, worst = well.end()
    each = f"{(peak - before) / opened / 1024:.1f} kB" if opened else "-"
    cells = (
        name,
        said,
        f"{before / MIB:.0f}",
        f"{peak / MIB:.0f}",
        each,
        f"{after[-1] / MIB:.0f}",
        " ".join(f"{(now - after[0]) / MIB:+.1f}" for now in after[1:]) or "-",
        f"{median:.1f}",
        f"{worst:.1f}",
        str(len(well.latencies)),
        str(well.failed),
        f"{siege.descriptors() - base:+d}",
    )
    return f"| {' | '.join(cells)} |"


COLUMNS = (
    "scenario", "seen", "MiB before", "at most", "a connection", "after", "growth", "median ms",
    "p99 ms", "answers", "failed", "descriptors left",
)  # fmt: skip
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def main() -> int:
    """Run what is asked for, print the table. Exits 1 if the client that behaves had a failure."""
    parser = argparse.ArgumentParser(prog="script/siege", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="connections, where they are many")
    parser.add_argument("--seconds", type=float, default=20.0, help="of floods and slow clients")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    chosen = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(chosen.count, most - SPARE)
    print(HEAD, flush=True)
    notes: list[str] = []
    for name in chosen.scenario or SCENARIOS:
        # Each has a proxy of its own: memory that one has left would be used by the next.
        with proxy(chosen.workers, count, chosen.seconds) as siege:
            print(attack(siege, name, chosen.rounds), flush=True)
            notes += siege.notes
    print("\n".join(sorted(set(notes))[:10]))
    return 1 if notes else 0


if __name__ == "__main__":
    sys.exit(main())

"""A proxy that was busy for a while, without a proxy: counters as a function of time.

`python -m tests.admin.busy [PORT]` serves its pages, to look at them in a browser; SIGUSR1 takes
upstreams down and up again.
"""

from __future__ import annotations

import math
import signal
import sys
import tempfile
import time
from functools import cache
from typing import Any

import attrs

from authproxy.admin.history import EVERY, KEEP
from authproxy.admin.listener import Admin, Sources
from authproxy.counters import Snapshot
from authproxy.identity import Identity
from authproxy.self_signed import self_signed
from authproxy.settings import Listen, ListenAddress, Settings, SiteSettings, Trust, Upstream

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SITES = ("sso.example.com", "login.example.org")
UPSTREAMS = tuple(Upstream("https", "tcp", f"10.0.0.{n}", 9443) for n in (5, 6, 7))
HOSTILE = '</script><script>document.title="hurt"</script><img src=x onerror=alert(1)>"\'&\x1b[31m'


def settings() -> Settings:
    sites = (
        SiteSettings(hosts=(SITES[0], "*.apps.example.com"), upstreams=UPSTREAMS[:2]),
        SiteSettings(hosts=(SITES[1],), upstreams=UPSTREAMS[2:]),
    )
    listen = Listen(admin=ListenAddress("tcp", "127.0.0.1", 0), admin_explicit=True)
    trust = Trust(proxies=("10.0.0.0/8",))
    return Settings(sites=sites, listen=listen, trust=trust, path="/etc/authproxy/authproxy.toml")


@cache
def identity() -> Identity:
    """Self-signed pairs of the sites."""
    made = Identity([], {1})
    with tempfile.TemporaryDirectory() as directory:
        for site in settings().sites:
            names = [host for host in site.hosts if "*" not in host]
            made.pairs.append(self_signed(directory, names)[0])
    return made


def counters(t: float, up: tuple[int, int, int] = (2, 1, 2)) -> Snapshot:
    """After so many seconds. `up` are the workers for which the upstreams are up."""
    wave = t + 30 * math.sin(t / 60) + 8 * math.sin(t / 11)
    requests, seconds = {}, {}
    for site, rate in zip(SITES, (42.0, 3.5), strict=True):
        for method, version, status, part in (
            ("GET", "2", "2xx", 0.8), ("GET", "1.1", "3xx", 0.1), ("POST", "2", "4xx", 0.07),
            ("GET", "1.1", "5xx", 0.004), ("GET", "1.1", "1xx", 0.01),
        ):  # fmt: skip
            requests[f"{site}\t{method}\t{status}\t{version}"] = float(round(wave * rate * part))
        for n, bound in enumerate((*map(str, BOUNDS), "+Inf")):
            part = math.exp(-((n - 3 - math.sin(t / 170)) ** 2) / 2)
            seconds[f"{site}\t{bound}"] = float(round(wave * rate * part / 2.5))
        seconds[f"{site}\tsum"] = wave
    websockets = {"/ws/client/": 38.0 + round(6 * math.sin(t / 90)), "/ws/outpost/": 6.0}
    return {
        "requests": requests,
        "request_seconds": seconds,
        "upstream_first_byte_seconds": seconds,
        "content_received_bytes": {SITES[0]: wave * 3000},
        "content_sent_bytes": {SITES[0]: wave * 400_000},
        "retries": {SITES[0]: 3.0},
        "refused": {"unknown host": 412.0, "head too large": 7.0, HOSTILE: 1.0},
        "failed_openings": {"no shared cipher": 19.0, "timeout": 4.0},
        "upstream_dials": {SITES[0]: 311.0},
        "upstream_reuses": {SITES[0]: float(round(wave * 42))},
        "worker_restarts": {"": 0.0},
        "workers": {"": 2.0},
        "client_connections": {"1": 61.0, "2": 120.0 + round(20 * math.sin(t / 50))},
        "http2_streams": {"": 12.0},
        "exchanges": {"": sum(websockets.values()) + 5},
        "websockets": websockets,
        "upstream_connections": {"a\tidle": 21.0, "a\tleased": 49.0, "a\tdialling": 0.0},
        "upstream_waiting": {"a": 0.0},
        "upstream_up": {
            f"{SITES[0]}\t{UPSTREAMS[0]}": float(up[0]),
            f"{SITES[0]}\t{UPSTREAMS[1]}": float(up[1]),
            f"{SITES[1]}\t{UPSTREAMS[2]}": float(up[2]),
        },
    }


class Busy:
    """The admin side of such a proxy; time passes as `steady` says."""

    def __init__(self, reactor: Any, steady: Any = time.monotonic) -> None:
        self.settings = settings()
        self.identity = identity()
        self.draining = False
        self.last_reload: tuple[str, float] | None = None
        self.up = (2, 1, 2)
        self._steady, self._began = steady, steady()
        sources = Sources(
            read=self.read,
            settings=lambda: self.settings,
            identity=lambda: self.identity,
            draining=lambda: self.draining,
            last_reload=lambda: self.last_reload,
            steady=steady,
            wall=time.time,
        )
        self.admin = Admin(sources, reactor)

    def read(self) -> Snapshot:
        return counters(self._steady() - self._began + EVERY * KEEP, self.up)

    def fill(self) -> None:
        """A quarter of an hour has passed."""
        now = self._steady()
        for n in range(KEEP, 0, -1):
            self.admin.history.add(now - n * EVERY, counters(EVERY * (KEEP - n), self.up))

    def fault(self, text: str, level: Any, **parts: Any) -> None:
        """Something was logged."""
        self.admin.recent({"log_format": text, "log_level": level, **parts})


def main() -> None:
    from twisted.internet import reactor  # noqa: PLC0415
    from twisted.logger import LogLevel  # noqa: PLC0415

    loop: Any = reactor
    busy = Busy(loop)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9930
    listen = attrs.evolve(busy.settings.listen, admin=ListenAddress("tcp", "127.0.0.1", port))
    busy.settings = attrs.evolve(busy.settings, listen=listen)
    busy.fill()
    for n in range(3):
        busy.fault(
            "[worker 2] Site sso.example.com, 503 (request 0123456789abcde{n}): nothing listens at"
            " https://10.0.0.6:9443. Is authentik running?", LogLevel.error, n=n,
        )  # fmt: skip
    busy.fault(
        "10.0.3.7 sends X-Forwarded-Proto, and what it says is ignored. If it is a proxy of yours,"
        ' write [trust] proxies = ["10.0.3.7"].', LogLevel.warn,
    )  # fmt: skip
    busy.fault("431 for 192.0.2.4: {hurt}. The limit is limits.head_bytes in the configuration.",
               LogLevel.error, hurt=HOSTILE)  # fmt: skip

    def turn() -> None:
        busy.up = (0, 0, 2) if busy.up[0] else (2, 1, 2)

    loop.callWhenRunning(signal.signal, signal.SIGUSR1, lambda *_: loop.callFromThread(turn))
    busy.admin.privilegedStartService()
    busy.admin.startService()
    print(f"http://127.0.0.1:{busy.admin.port.getHost().port}/", flush=True)
    loop.run()


if __name__ == "__main__":
    main()

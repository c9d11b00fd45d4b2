"""Owns the proxies: what each is called, how it is started, what it cannot do."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import configurations, machine
from .children import Child
from .sockets import TIMEOUT, client_context
from .stage import ROOT, Ports, Stage

PLAIN_ONLY = "speaks plain HTTP only to its upstream, and knows no WebSockets"


@dataclass(frozen=True)
class Place:
    """Where a proxy is to be put: in front of which port, with TLS on both sides or on none."""

    stage: Stage
    port: int
    upstream: int
    tls: bool
    log: Path

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def write(self, name: str, template: str, **values: object) -> str:
        """The file of a configuration."""
        text = template.format(
            dir=self.stage.directory, log=self.log, port=self.port, upstream=self.upstream,
            scheme=self.scheme, **values,
        )  # fmt: skip
        return str(self.stage.file(name, text))

    def with_tls(self, text: str, otherwise: str = "") -> str:
        """What a configuration has only with TLS."""
        return text.format(dir=self.stage.directory) if self.tls else otherwise


@dataclass(frozen=True)
class Running:
    """A proxy that runs."""

    child: Child
    port: int
    tls: bool
    log: Path

    def speaks_http2(self) -> bool:
        """Whether it agrees to HTTP/2 by ALPN (RFC 9113 3.2)."""
        context = client_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as wrapped,
        ):
            return wrapped.selected_alpn_protocol() == "h2"


@dataclass(frozen=True)
class Proxy:
    """One kind of proxy. `program` must be installed. `cannot` is why it has no TLS on both sides,
    and no part in what is measured with it."""

    name: str
    title: str
    command: Callable[[Place], list[str]]
    program: str = ""
    cannot: str = ""
    logs_to_stdout: bool = False

    def start(self, stage: Stage, origin: Ports, *, tls: bool) -> Running:
        """Start it in front of this origin, with TLS on both sides or on none."""
        log = stage.file(f"{self.name}.log", "")
        upstream = origin.tls if tls else origin.plain
        place = Place(stage, machine.free_port(), upstream, tls, log)
        child = stage.start(
            self.command(place),
            stage.proxy_core,
            place.port,
            said=log if self.logs_to_stdout else None,
            HOME=str(stage.directory),
            XDG_CONFIG_HOME=str(stage.directory),
            XDG_DATA_HOME=str(stage.directory),
            XDG_STATE_HOME=str(stage.directory),
            GOMAXPROCS="1",
            PYTHONPATH=str(ROOT),
        )
        return Running(child, place.port, tls, log)


def _nginx(place: Place) -> list[str]:
    config = place.write(
        "nginx.conf",
        configurations.NGINX,
        ssl=place.with_tls("ssl http2"),
        certificate=place.with_tls(configurations.NGINX_TLS),
    )
    return [shutil.which("nginx") or "nginx", "-p", str(place.stage.directory), "-c", config]


def _haproxy(place: Place) -> list[str]:
    config = place.write(
        "haproxy.cfg",
        configurations.HAPROXY,
        ssl=place.with_tls("ssl crt {dir}/both.pem ssl-min-ver TLSv1.3 alpn h2,http/1.1"),
        upstream_ssl=place.with_tls("ssl verify none"),
    )
    return [shutil.which("haproxy") or "haproxy", "-db", "-f", config]


def _caddy(place: Place) -> list[str]:
    config = place.write(
        "Caddyfile",
        configurations.CADDY,
        certificate=place.with_tls(configurations.CADDY_TLS),
        upstream_tls=place.with_tls("tls_insecure_skip_verify"),
    )
    command = [shutil.which("caddy") or "caddy", "run", "--config", config]
    return [*command, "--adapter", "caddyfile"]


def _twisted_web(place: Place) -> list[str]:
    program = [sys.executable, "-m", "benchmarks.twisted_web"]
    return [*program, str(place.port), str(place.upstream), str(place.log)]


def _authproxy(place: Place) -> list[str]:
    return authproxy_command(place, configurations.AUTHPROXY, workers=1)


def authproxy_command(place: Place, template: str, workers: int) -> list[str]:
    """authproxy, in so many processes."""
    where = f'["127.0.0.1:{place.port}"]'
    config = place.write(
        "authproxy.toml",
        template,
        workers=workers,
        listen=place.with_tls(f"http = []\nhttps = {where}", f"http = {where}\nhttps = []"),
        certificate=place.with_tls(configurations.AUTHPROXY_TLS),
    )
    twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    return [*twistd, "--nodaemon", "--pidfile=", "authproxy", "--config", config]


PROXIES = {
    proxy.name: proxy
    for proxy in (
        Proxy("nginx", "nginx", _nginx, program="nginx"),
        Proxy("haproxy", "HAProxy", _haproxy, program="haproxy", logs_to_stdout=True),
        Proxy("caddy", "Caddy", _caddy, program="caddy"),
        Proxy("twisted", "twisted.web", _twisted_web, cannot=PLAIN_ONLY),
        Proxy("authproxy", "authproxy", _authproxy),
    )
}

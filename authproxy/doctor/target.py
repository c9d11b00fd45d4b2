"""Owns which proxy is examined: by which name, at which address, with which configuration."""

from __future__ import annotations

import time
from functools import cached_property
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from ..certificate_names import is_address, normal_host
from ..settings import Settings, SiteSettings
from ..upstream_tls import UpstreamTLS
from .requests import Answer, ask
from .stream import Stream, dial

HTTPS, HTTP = 443, 80
SLOW_REQUESTS = 3  # so many that take all of their time end a check


class TargetError(Exception):
    """The command line makes no sense; str() says why."""


@frozen(slots=False)
class Target:
    """What to examine.

    `path` is authentik's sub-path without final slash, "" for none. `address` is where to connect,
    "" where the name is to be resolved; `port` is the port of the URL, `connect_port` the one to
    connect to. `http_port` 0: plain HTTP is not looked at, and `no_http` says why. `ca` is a PEM
    file; `insecure`: who issued the certificate does not matter. `timeout` is in seconds, of each
    request; `until` is when the check that runs must end, by time.monotonic, 0 for never.
    `settings` and `site` are there where the configuration has this host.
    """

    host: str
    port: int = HTTPS
    path: str = ""
    address: str = ""
    connect_port: int = HTTPS
    http_port: int = HTTP
    no_http: str = ""
    ca: str = ""
    insecure: bool = False
    timeout: float = 10.0
    until: float = 0.0
    settings: Settings | None = None
    site: SiteSettings | None = field(default=None)

    @property
    def authority(self) -> str:
        """Host as a browser sends it: with the port where that is not 443."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS else f"{host}:{self.port}"

    @property
    def plain_authority(self) -> str:
        """The same on the plain port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.http_port == HTTP else f"{host}:{self.http_port}"

    @property
    def url(self) -> str:
        """Where a browser would go."""
        return f"https://{self.authority}{self.path}/"

    @cached_property
    def tls(self) -> UpstreamTLS:
        """The client side of TLS. Raises CertificateError where `ca` cannot be used."""
        return self.offering(b"http/1.1")

    def offering(self, *protocols: bytes) -> UpstreamTLS:
        """The same with other protocols for ALPN."""
        return UpstreamTLS("ca" if self.ca else "system", self.ca, self.host, protocols)

    def at(self, address: str) -> Target:
        """The same, with the address to connect to."""
        return evolve(self, address=address)

    def begun(self) -> Target:
        """The same, for a check that begins now: it has time for a few slow requests."""
        return evolve(self, until=time.monotonic() + SLOW_REQUESTS * self.timeout)

    @property
    def end(self) -> float:
        """The deadline of a request that begins now."""
        end = time.monotonic() + self.timeout
        return min(end, self.until) if self.until else end

    def connect(self, tls: UpstreamTLS | None = None) -> Stream:
        """A TLS connection to `address`. Raises FAULTS."""
        stream = dial(self.address, self.connect_port, self.end)
        try:
            stream.secure(tls or self.tls)
        except BaseException:
            stream.close()
            raise
        return stream

    def get(self, target: str, *fields: tuple[str, str]) -> Answer:
        """One GET on a connection of its own. Raises FAULTS."""
        with self.connect() as stream:
            return ask(stream, self.authority, target, *fields)

    def get_plain(self, target: str) -> Answer:
        """One GET on the plain port. Raises FAULTS."""
        with dial(self.address, self.http_port, self.end) as stream:
            return ask(stream, self.plain_authority, target)


def of_url(url: str) -> Target:
    """A target from "https://sso.example.com/", or the host alone. Raises TargetError."""
    if "://" not in url:
        url = f"https://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port or HTTPS
    except ValueError as e:
        raise TargetError(f"{url!r} is no URL: {e}.") from None
    if parts.scheme != "https":
        raise TargetError(
            f"{url}: give the https:// URL that people use. How plain HTTP is answered is looked at"
            " as well."
        )
    host = normal_host(parts.hostname or "")
    if not host or not host.isascii() or any(c.isspace() for c in host):
        raise TargetError(f"{url!r} names no host. Write it like https://sso.example.com/")
    target = Target(host, port, parts.path.rstrip("/"), connect_port=port)
    if is_address(host):
        target = target.at(host)
    if port != HTTPS:
        why = f"with port {port} in the URL the plain port is not known; name it: --http-port PORT"
        target = evolve(target, http_port=0, no_http=why)
    return target


def configured(target: Target, settings: Settings, site: SiteSettings) -> Target:
    """The same, with what the configuration says of it. `target.port` 0 takes that from there."""
    listen = settings.listen
    https = next((a.port for a in listen.https if a.kind == "tcp"), HTTPS)
    public = listen.public_https_port or https
    port = target.port or public
    http, why = target.http_port, target.no_http
    plain = next((a.port for a in listen.http if a.kind == "tcp"), HTTP)
    if not listen.http:
        http, why = 0, "listen.http is empty"
    elif port == public:  # else something forwards ports, and nobody here knows which
        http, why = (HTTP if public == HTTPS else plain), ""
    return evolve(
        target, port=port, connect_port=port, http_port=http, no_http=why, settings=settings,
        site=site,
    )  # fmt: skip

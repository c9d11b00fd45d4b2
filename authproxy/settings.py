"""The settings as frozen data, with the defaults that work on one machine.

Owns names, defaults and ranges; every name is one of etc/authproxy.toml, which says when to change
it. How a file becomes settings, and what is said of a wrong one, is config.py's.

Sizes are octets, times seconds.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from attrs import Factory, frozen


@frozen
class Range:
    """The numbers that a setting may have, both ends included, and how to call them."""

    least: float
    most: float
    words: str


@frozen
class Form:
    """What a text must be: "host", "cidr", ...; FORMS in values.py knows what that means."""

    name: str


Host = Annotated[str, Form("host")]
ServerName = Annotated[str, Form("server_name")]
CIDR = Annotated[str, Form("cidr")]
Path = Annotated[str, Form("path")]
GuardPath = Annotated[str, Form("guard_path")]
AddressField = Literal[
    "", "CF-Connecting-IP", "True-Client-IP", "Fastly-Client-IP", "Fly-Client-IP",
    "X-Azure-ClientIP", "X-Client-IP", "X-Cluster-Client-IP", "X-Real-IP",
]  # fmt: skip
Seconds = Annotated[float, Range(0.1, 7 * 86400, "seconds")]
Octets = Annotated[int, Range(0, 1 << 40, "octets")]
Size = Annotated[int, Range(1024, 1 << 24, "octets")]
Count = Annotated[int, Range(1, 1_000_000_000, "")]
CountOrNone = Annotated[int, Range(0, 1_000_000_000, "")]
Port = Annotated[int, Range(0, 65535, "")]
# What a client may send before it hears of us (RFC 9113 6.9.2), and more.
Window = Annotated[int, Range(65535, 1 << 24, "octets")]
MaxAge = Annotated[int, Range(0, 10 * 365 * 86400, "seconds")]


@frozen
class ListenAddress:
    """Where to listen: "host:port", "[v6]:port", "unix:/path" or "systemd:NAME".

    kind is "tcp", "unix" or "systemd"; the parts that a kind does not have are empty.
    """

    kind: str
    host: str = ""
    port: int = 0
    path: str = ""
    name: str = ""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "systemd":
            return f"systemd:{self.name}"
        return _with_port(self.host, self.port)


@frozen
class Upstream:
    """One authentik server: "https://host:port", "http://host:port" or "unix:/path".

    scheme is "https" or "http" (what is spoken), kind "tcp" or "unix".
    """

    scheme: str
    kind: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"{self.scheme}://{_with_port(self.host, self.port)}"

    @property
    def is_address(self) -> bool:
        """Whether `host` is an IP address, not a name."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def loopback_or_unix(self) -> bool:
        """Whether what is sent there never leaves this machine."""
        if self.kind == "unix":
            return True
        if self.host == "localhost":
            return True
        return self.is_address and ipaddress.ip_address(self.host).is_loopback


@frozen
class Verify:
    """How upstream's certificate is verified.

    mode is "system", "off", "ca" (value: a path) or "pin" (value: "sha256/BASE64").
    """

    mode: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.mode}:{self.value}" if self.value else self.mode


@frozen
class Listen:
    """[listen]. The last three say whether the addresses were written down, or are the defaults."""

    http: tuple[ListenAddress, ...] = (ListenAddress("tcp", "::", 80),)
    https: tuple[ListenAddress, ...] = (ListenAddress("tcp", "::", 443),)
    admin: ListenAddress | None = ListenAddress("tcp", "127.0.0.1", 9930)
    control: Path = ""
    public_https_port: Port = 0
    acme_webroot: Path = ""
    plain_http: Literal["redirect", "serve"] = "redirect"
    proxy_protocol_from: tuple[CIDR, ...] = ()
    http2: bool = True
    http2_websockets: bool = True
    http_explicit: bool = False
    https_explicit: bool = False
    admin_explicit: bool = False


@frozen
class Trust:
    """[trust]. CIDRs, and "unix:" for peers on unix sockets."""

    proxies: tuple[CIDR, ...] = ()
    address_field: AddressField = ""
    presets: tuple[Literal["cloudflare"], ...] = ()
    preset_networks: tuple[CIDR, ...] = ()


@frozen
class Log:
    """[log]. access is a path, "-" for stdout, "" for none; level is of the log of operations."""

    access: str = "-"
    format: Literal["combined", "json"] = "combined"
    level: Literal["debug", "info", "warn", "error"] = "info"


@frozen
class TLS:
    """[tls], towards clients."""

    minimum_version: Literal["1.3", "1.2"] = "1.3"
    unknown_sni: Literal["first", "refuse"] = "first"


@frozen
class Timeouts:
    """[timeouts]."""

    tls_handshake: Seconds = 10
    proxy_header: Seconds = 3
    head: Seconds = 15
    keepalive: Seconds = 75
    connection_age: Seconds = 3600
    body_idle: Seconds = 30
    write_stall: Seconds = 60
    linger: Seconds = 2
    connect: Seconds = 5
    upstream_tls: Seconds = 5
    first_byte: Seconds = 60
    upstream_idle: Seconds = 60
    relay_idle: Seconds = 3600
    relay_flush: Seconds = 10
    drain: Seconds = 30


@frozen
class Limits:
    """[limits]. 0 is no limit for body_bytes, and what the system allows for connections."""

    head_bytes: Size = 65536
    line_bytes: Size = 32768
    fields: Count = 100
    body_bytes: Octets = 0
    body_rate: Octets = 500
    body_rate_after: Seconds = 20
    body_collect: Size = 131072
    pipelined_bytes: Size = 65536
    linger_bytes: Size = 262144
    buffer: Size = 65536
    requests_per_connection: Count = 1000
    connections: CountOrNone = 0
    unproven_per_address: Count = 256
    upstream_head_bytes: Size = 131072
    upstream_fields: Count = 200
    http2_streams: Annotated[int, Range(1, 10_000, "")] = 100
    http2_stream_window: Window = 65536
    http2_connection_window: Window = 1 << 20


@frozen
class PoolSettings:
    """[pool], of each site."""

    idle: CountOrNone = 32
    connections: Count = 256
    waiting: CountOrNone = 1024
    wait: Seconds = 5
    idle_timeout: Seconds = 25
    max_age: Seconds = 3600
    retries: Annotated[int, Range(0, 5, "")] = 1


@frozen
class HealthSettings:
    """[health], of every upstream server. Without a target (key: path) nothing is checked."""

    target: Path = "/-/health/ready/"
    interval: Seconds = 10
    interval_down: Seconds = 2
    timeout: Seconds = 3
    failures: Annotated[int, Range(1, 100, "")] = 2
    successes: Annotated[int, Range(1, 100, "")] = 1


@frozen
class GuardSettings:
    """One [[site.guard]]: a path, with all below it, that is open to some clients only.

    `below` is the path. With a preset it is what authentik has before its own paths, and an empty
    allow is the preset's.
    """

    below: GuardPath = ""
    preset: Literal["", "inside"] = ""
    allow: tuple[CIDR, ...] = ()
    deny: tuple[CIDR, ...] = ()


@frozen
class SiteSettings:
    """One [[site]]. Without hosts it serves every host.

    upstreams are all of one scheme. upstream_server_name "" means: see `server_name`.
    """

    hosts: tuple[Host, ...] = ()
    upstreams: tuple[Upstream, ...] = (Upstream("https", "tcp", "127.0.0.1", 9443),)
    upstream_verify: Verify = Verify("off")
    upstream_server_name: ServerName = ""
    x_forwarded_for: Literal["client", "append"] = "client"
    hsts: MaxAge = 63072000
    certificate: Path = ""
    private_key: Path = ""
    guards: tuple[GuardSettings, ...] = ()

    @property
    def first_name(self) -> str:
        """The first host without a wildcard, or ""."""
        return next((host for host in self.hosts if "*" not in host), "")

    def server_name(self, upstream: Upstream) -> str:
        """SNI, and the name to verify.

        Where upstream is an address it is the site's own name: authentik then serves its brand's
        certificate.
        """
        if self.upstream_server_name:
            return self.upstream_server_name
        if upstream.is_address:
            return self.first_name or upstream.host
        return upstream.host


@frozen
class Settings:
    """Everything. `path` is the file that it came from, "" for the built-in defaults."""

    workers: int | str = "auto"
    listen: Listen = Listen()
    trust: Trust = Trust()
    log: Log = Log()
    tls: TLS = TLS()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    pool: PoolSettings = PoolSettings()
    health: HealthSettings = HealthSettings()
    sites: tuple[SiteSettings, ...] = Factory(lambda: (SiteSettings(),))
    path: str = ""


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

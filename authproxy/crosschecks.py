"""Owns what must be right between settings: each alone was right when this looks at them.

Pure: no file is opened here (files.py does that).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from .settings import GuardSettings, Settings, SiteSettings, Trust
from .trust import UNIX_PEER
from .wire.grammar import TARGET


def problems(settings: Settings) -> list[tuple[str, str]]:
    """(key, what is wrong and the cure), in the order of the file."""
    return [
        *_listeners(settings),
        *_trust(settings.trust),
        *_limits(settings),
        *_health(settings),
        *_sites(settings),
    ]


def warnings(settings: Settings) -> list[tuple[str, str]]:
    """What is allowed but seldom meant: (key, what it means)."""
    found = []
    for key, cidrs in (
        ("trust.proxies", settings.trust.proxies),
        ("trust.preset_networks", settings.trust.preset_networks),
        ("listen.proxy_protocol_from", settings.listen.proxy_protocol_from),
    ):
        if any(cidr.endswith("/0") for cidr in cidrs):
            found.append(
                (
                    key,
                    "everybody is believed: any client can choose its own address. Name the"
                    " networks of your proxies alone.",
                )
            )
    for number, site in enumerate(settings.sites, 1):
        verify = site.upstream_verify.mode
        far = [upstream for upstream in site.upstreams if not upstream.loopback_or_unix]
        if verify == "off" and any(upstream.scheme == "https" for upstream in far):
            found.append(
                (
                    f"site[{number}].upstream_verify",
                    f"the certificate of {far[0]} is not verified: whoever is in between can read"
                    ' and change everything. Write "ca:/path.pem" or a pin.',
                )
            )
        elif far and far[0].scheme == "http":
            found.append(
                (
                    f"site[{number}].upstream",
                    f"{far[0]} is plain HTTP to another machine: passwords and cookies can be read"
                    " on the way. Use https:// (authentik's port 9443).",
                )
            )
        found += [(f"site[{number}].{key}", message) for key, message in _swapped_ports(site)]
        found += [(f"site[{number}].{key}", message) for key, message in _twice_guarded(site)]
    found += _passed_by(settings)
    in_front = settings.trust.proxies or settings.trust.presets
    if settings.listen.plain_http == "serve" and not in_front:
        found.append(
            (
                "trust.proxies",
                'empty, with plain_http = "serve": authentik is told http and the address of the'
                " proxy in front. Name that proxy here.",
            )
        )
    return found


def _listeners(settings: Settings) -> Iterator[tuple[str, str]]:
    listen = settings.listen
    if not listen.http and not listen.https:
        yield (
            "listen",
            "nothing to listen on: http and https are both empty lists. Leave one out, or name"
            " addresses.",
        )
    known: dict[str, str] = {}
    admin = (listen.admin,) if listen.admin else ()
    for key, addresses in (("http", listen.http), ("https", listen.https), ("admin", admin)):
        for number, address in enumerate(addresses, 1):
            place = f"listen.{key}" if key == "admin" else f"listen.{key}[{number}]"
            if address.port == 0 and address.kind == "tcp":
                continue  # any free port: tests
            if str(address) in known:
                yield place, f"{address} is also {known[str(address)]}. Each needs its own."
            known[str(address)] = place
    nowhere = not listen.https and not listen.public_https_port
    if listen.plain_http == "redirect" and listen.http and nowhere:
        yield (
            "listen.plain_http",
            'http redirects to https, but listen.https is empty. Write plain_http = "serve"'
            " behind another TLS terminator, or public_https_port where https is elsewhere.",
        )


def _trust(trust: Trust) -> Iterator[tuple[str, str]]:
    if trust.preset_networks and not trust.presets:
        yield (
            "trust.preset_networks",
            'these belong to a preset, and there is none. Write presets = ["cloudflare"], or name'
            " proxies of your own in trust.proxies.",
        )
    if trust.address_field and not trust.proxies:
        yield (
            "trust.address_field",
            "nobody is there to write it: trust.proxies is empty. Name your proxies there.",
        )


def _limits(settings: Settings) -> Iterator[tuple[str, str]]:
    limits = settings.limits
    if limits.line_bytes > limits.head_bytes:
        yield (
            "limits.line_bytes",
            "one line cannot be larger than limits.head_bytes allows. Lower it, or raise that.",
        )
    if settings.pool.idle > settings.pool.connections:
        yield (
            "pool.idle",
            "more idle connections than pool.connections allows in all. Lower it, or raise that.",
        )


def _health(settings: Settings) -> Iterator[tuple[str, str]]:
    path = settings.health.target
    if path and not (path.isascii() and TARGET.fullmatch(path.encode())):
        yield (
            "health.path",
            "must be as it stands in a request: visible ASCII characters without #. authentik's is"
            ' "/-/health/ready/".',
        )


def _sites(settings: Settings) -> Iterator[tuple[str, str]]:
    if not settings.sites:
        yield "site", "there is no site. Leave site out for the default, or write a [[site]]."
    owners: dict[str, int] = {}
    without_hosts = 0
    for number, site in enumerate(settings.sites, 1):
        yield from ((f"site[{number}].{key}", message) for key, message in _site(site))
        for host in site.hosts:
            owner = owners.setdefault(host, number)
            if owner != number:
                yield (
                    f"site[{number}].hosts",
                    (f'"{host}" is already a host of site[{owner}]. Leave it to one of them.'),
                )
        if not site.hosts:
            if without_hosts:
                yield (
                    f"site[{number}].hosts",
                    f"site[{without_hosts}] has no hosts either; only one can serve all"
                    " others. Name the hosts of one of them.",
                )
            without_hosts = without_hosts or number


def _site(site: SiteSettings) -> Iterator[tuple[str, str]]:
    if not site.upstreams:
        yield "upstream", 'the list is empty. Write upstream = "https://10.0.0.5:9443".'
    elif len({upstream.scheme for upstream in site.upstreams}) > 1:
        yield (
            "upstream",
            "the servers of one site are all https:// or all plain (http://, unix:). Write one"
            " kind.",
        )
    if bool(site.certificate) != bool(site.private_key):
        missing = "private_key" if site.certificate else "certificate"
        yield missing, "certificate and private_key belong together: this one is missing. Add it."
    for number, guard in enumerate(site.guards, 1):
        yield from ((f"guard[{number}].{key}", message) for key, message in _guard(guard))


def _guard(guard: GuardSettings) -> Iterator[tuple[str, str]]:
    if not guard.below and not guard.preset:
        yield "path", 'which path? Write path = "/if/admin/", or preset = "inside".'
    if not guard.allow and not guard.deny and not guard.preset:
        yield "allow", 'nobody is named. Write allow = ["10.0.0.0/8"] for those who may, or deny.'
    for number, allowed in enumerate(guard.allow, 1):
        for denied in guard.deny:
            if _within(allowed, denied):
                yield f"allow[{number}]", f"is never let in: {denied} in deny counts first."


def _within(inner: str, outer: str) -> bool:
    """Whether all of one network is in another; UNIX_PEER is in itself alone."""
    if UNIX_PEER in (inner, outer):
        return inner == outer
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]


def _swapped_ports(site: SiteSettings) -> Iterator[tuple[str, str]]:
    """Ports of authentik with the scheme of the other one."""
    for upstream in site.upstreams:
        if (upstream.scheme, upstream.port) in (("http", 9443), ("https", 9000)):
            yield (
                "upstream",
                f"{upstream}: authentik speaks TLS on port 9443 and plain HTTP on port 9000. Write"
                " https:// with 9443, or http:// with 9000, unless yours is set up otherwise.",
            )


def _twice_guarded(site: SiteSettings) -> Iterator[tuple[str, str]]:
    first: dict[tuple[str, str], int] = {}
    for number, guard in enumerate(site.guards, 1):
        place = guard.below.rstrip("/").lower(), guard.preset
        known = first.setdefault(place, number)
        if known != number:
            yield (
                f"guard[{number}].path",
                f"guard[{known}] has it too, and a client must be let in by both. Put the networks"
                " of both into one allow, if either is meant.",
            )


def _passed_by(settings: Settings) -> Iterator[tuple[str, str]]:
    """Guards are of a site; authentik does not care by which one a request comes."""
    for number, site in enumerate(settings.sites, 1):
        for other, guarded in enumerate(settings.sites, 1):
            if guarded.guards and not site.guards and set(site.upstreams) & set(guarded.upstreams):
                yield (
                    f"site[{number}].guard",
                    f"there is none, but site[{other}] has guards, and the same upstream: whoever"
                    " asks for a host of this site gets past them. Write them here, too.",
                )
                break

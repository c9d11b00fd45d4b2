"""Owns the way from proxy_pass, upstream blocks and proxy_ssl_* to the upstream of a site."""

from __future__ import annotations

import os
import re

from attrs import frozen

from ..settings import Upstream
from . import checked
from .blocks import Http, Scope, has_variable
from .draft import Draft, Kind, Section, short
from .reading import Directive

_PASS = re.compile(
    r"(https?)://(unix:[^:]+|\[[^\]]*\](?::[^/]*)?|[^/$]*)(:?.*)", re.IGNORECASE | re.DOTALL
)
_PATHS_THAT_STAY = ("", "$request_uri", "$uri$is_args$args", "$uri")
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
)  # fmt: skip

_OFF = (
    "ATTENTION: nginx did not verify the certificate of upstream (proxy_ssl_verify is off unless it"
    " is written), and authentik's own is self-signed and new at every start. So it is not verified"
    " here either: who sits between the two machines can read and change everything. Better: give"
    " authentik a certificate that stays (docs/operations.md, Port 9443 and its certificate), and"
    " write \"system\" or \"ca:/path.pem\", or the line that authproxy pin HOST:PORT prints."
)  # fmt: skip
_LABEL = re.compile(r"(?!localhost)[A-Za-z0-9-]+")
_ELSEWHERE = (
    "This looks like the name of an upstream block, which is in none of these files. If it is,"
    " import nginx.conf, which includes them all; else see that the port is right."
)
_PLAIN = (
    "ATTENTION: plain HTTP to another machine (or container), as in nginx: passwords and cookies"
    " can be read on the way. Better, as authentik listens there too:"
)


@frozen
class Pass:
    """A proxy_pass: scheme, what stands for the host (perhaps an upstream block), the path."""

    directive: Directive
    scheme: str
    target: str
    path: str

    def same_as(self, other: Pass) -> bool:
        """Whether both lead to the same upstream."""
        return (self.scheme, self.target) == (other.scheme, other.target)


def passed(scope: Scope, directive: Directive) -> Pass | None:
    """A proxy_pass with what `set` made filled in; None: a variable decides."""
    match = _PASS.fullmatch(scope.known(directive.args[0]))
    if match is None or has_variable(match[2]) or not match[2]:
        return None
    path = match[3].removeprefix(":") if match[2].startswith("unix:") else match[3]
    if path.startswith("$") and path not in _PATHS_THAT_STAY:
        return None
    return Pass(directive, match[1].lower(), match[2], path)


def same_path(location: str, path: str) -> bool:
    """Whether a proxy_pass with this path leaves that of requests alone."""
    return path in _PATHS_THAT_STAY or path == location or (location, path) == ("/", "/")


def servers_of(http: Http, to: Pass) -> list[tuple[str, Directive]]:
    """(host:port or unix:/path, its directive) of each server behind a proxy_pass.

    Servers that are down are left out, and backups where there are others.
    """
    block = http.upstreams.get(to.target)
    if block is None or block.block is None:
        return [(to.target, to.directive)]
    servers = [d for d in block.block if d.name == "server" and d.args and "down" not in d.args]
    first = [server for server in servers if "backup" not in server.args]
    return [(_with_port(server.args[0]), server) for server in first or servers]


def _with_port(address: str) -> str:
    """A server of an upstream block; without a port it is 80, whatever is spoken there."""
    bare = address.rpartition("]")[2] if address.startswith("[") else address
    return address if ":" in bare or address.startswith("unix:") else f"{address}:80"


def addresses(
    http: Http, to: Pass
) -> tuple[list[str], list[Directive], list[tuple[Directive, str]]]:
    """Upstreams as settings write them, their directives, and (those that cannot be, why)."""
    found: list[str] = []
    sources: list[Directive] = []
    refused: list[tuple[Directive, str]] = []
    for address, directive in servers_of(http, to):
        unix = address.startswith("unix:")
        if unix and to.scheme == "https":
            refused.append((directive, "unix sockets are spoken to without TLS here."))
            continue
        try:
            text = str(checked.upstream(address if unix else f"{to.scheme}://{address}"))
        except ValueError as e:
            refused.append((directive, str(e)))
            continue
        sources.append(directive)
        if text not in found:
            found.append(text)
    return found, sources, refused


def put(draft: Draft, section: Section, http: Http, to: Pass) -> list[Upstream]:
    """The upstream of a site, of which at least one address can be written. Returns them."""
    found, sources, refused = addresses(http, to)
    for directive, why in refused:
        draft.say(section, Kind.ATTENTION, f"A server cannot be taken: {why}", directive)
    upstreams = [checked.upstream(text) for text in found]
    far = [upstream for upstream in upstreams if not upstream.loopback_or_unix]
    above: tuple[str, ...] = ()
    if far and to.scheme == "http":
        better = ", ".join(f'"https://{_host(upstream)}:9443"' for upstream in far)
        above = (_PLAIN, f"upstream = {better if len(far) == 1 else '[' + better + ']'}")
    value = found[0] if len(found) == 1 else found
    draft.put(section, "upstream", value, [to.directive, *sources], *above)
    _upstream_block(draft, section, http, to)
    if to.target not in http.upstreams and _LABEL.fullmatch(to.target):
        draft.say(section, Kind.ATTENTION, _ELSEWHERE, to.directive)
    return upstreams


def _host(upstream: Upstream) -> str:
    return f"[{upstream.host}]" if ":" in upstream.host else upstream.host


def _upstream_block(draft: Draft, section: Section, http: Http, to: Pass) -> None:
    """What else stands in an upstream block."""
    block = http.upstreams.get(to.target)
    if block is None or block.block is None:
        return
    draft.account(block)
    servers = [directive for directive in block.block if directive.name == "server"]
    used = {id(directive) for _, directive in servers_of(http, to)}
    for server in servers:
        options = [option.partition("=")[0] for option in server.args[1:]]
        if id(server) not in used:
            word = "down" if "down" in options else "backup"
            words = {
                "down": "A server that is down is left out. Add it to upstream when it is up.",
                "backup": "A backup would share the load here. It is left out: add it to upstream"
                " if it may serve at any time.",
            }[word]
            draft.say(section, Kind.DIFFERENT if word == "backup" else Kind.UNNEEDED, words, server)
        elif {"weight", "max_conns", "slow_start", "route"} & set(options):
            words = "Servers have no weights or limits of their own: the one with the fewest"
            draft.say(section, Kind.DIFFERENT, f"{words} running requests is taken.", server)
        elif options:
            words = "How often a server may fail, and where its name points, is looked after here."
            draft.say(section, Kind.UNNEEDED, words, server)


def put_verify(
    draft: Draft, section: Section, scope: Scope, to: Pass, upstreams: list[Upstream], prefix: str,
    hosts: list[str],
) -> None:  # fmt: skip
    """upstream_verify and upstream_server_name of a site."""
    if to.scheme != "https":
        return
    _verify(draft, section, scope, upstreams, prefix)
    _server_name(draft, section, scope, to, upstreams, hosts)


def _verify(
    draft: Draft, section: Section, scope: Scope, upstreams: list[Upstream], prefix: str
) -> None:
    verify, ca = scope.first("proxy_ssl_verify"), scope.first("proxy_ssl_trusted_certificate")
    if scope.word("proxy_ssl_verify") != "on":
        for directive in filter(None, (verify, ca)):
            words = "nginx did not use it: proxy_ssl_verify is off."
            draft.say(section, Kind.UNNEEDED, words, directive)
        if not all(upstream.loopback_or_unix for upstream in upstreams):
            draft.put(section, "upstream_verify", "off", [verify] if verify else (), _OFF)
        return
    sources = [directive for directive in (verify, ca) if directive is not None]
    path = ca.args[0] if ca is not None else ""
    if has_variable(path):
        path = ""
    if path and path not in _BUNDLES:
        path = os.path.normpath(os.path.join(prefix, path))
        draft.put(section, "upstream_verify", f"ca:{path}", sources)
    else:
        draft.put(section, "upstream_verify", "system", sources)


def _server_name(
    draft: Draft, section: Section, scope: Scope, to: Pass, upstreams: list[Upstream],
    hosts: list[str],
) -> None:  # fmt: skip
    name, asked = scope.first("proxy_ssl_name"), scope.first("proxy_ssl_server_name")
    if asked is not None:
        words = "Upstream is always told the name (SNI): see upstream_server_name."
        kind = Kind.UNNEEDED if scope.word("proxy_ssl_server_name") == "on" else Kind.DIFFERENT
        draft.say(section, kind, words, asked)
    if name is not None:
        given = scope.known(name.args[0])
    elif scope.word("proxy_ssl_verify") == "on":
        given = to.target.partition(":")[0]  # $proxy_host: what stands in proxy_pass
    else:
        return
    source = [name] if name is not None else [to.directive]
    if has_variable(given):  # the client's host, mostly
        own = next((host for host in hosts if not host.startswith("*")), "")
        words = f"{short(given)} varies with the request; here it is one name for the site."
        draft.say(section, Kind.DIFFERENT, words, *source)
        given = own
    try:
        given = checked.server_name(given)
    except ValueError as e:
        draft.say(section, Kind.LOST, f"upstream_server_name: {e}", *source)
        return
    if given and any(upstream.host != given for upstream in upstreams):
        draft.put(section, "upstream_server_name", given, source)
    else:
        draft.account(*source)

"""Owns [listen] as a whole: https, http, what plain HTTP gets, and the challenges of ACME."""

from __future__ import annotations

from . import listens, sites
from .blocks import Server
from .draft import Draft, Kind, Section
from .listens import Listener
from .reading import Directive

_SERVE = (
    "As nginx did: no TLS here. Name the proxy that terminates it in trust.proxies, so that its"
    " X-Forwarded-* are believed. Without such a proxy passwords travel in the clear."
)
_CERTBOT = "/etc/letsencrypt/"
_RENEWAL = (
    "certbot's nginx plugin needs nginx. Without it: enable this line and renew by certbot certonly"
    " --webroot -w /var/www/letsencrypt (docs/migrating-from-nginx.md)."
)
_NO_REDIRECT = (
    'Beside plain_http = "serve" nothing is redirected: this address is left out. Leave the'
    " redirect with whoever terminates TLS."
)
_NOW_REDIRECTED = "nginx answered plain HTTP there too; here it is redirected to https."
_NEVER_TLS = (
    "nginx served this host without TLS; here its plain HTTP is redirected to https, with a"
    " self-signed certificate unless you name one."
)


def put(
    draft: Draft, servers: list[Server], redirecting: list[tuple[Server, Directive]]
) -> list[Listener]:
    """Put the table; returns all listeners.

    `servers` are those of the sites, `redirecting` those that send to one of them, and how.
    """
    table = draft.table("listen")
    by_server = [(server, listens.listeners(draft, server)) for server in servers]
    found = [listener for _, theirs in by_server for listener in theirs]
    others = [server for server, _ in redirecting if server not in servers]
    theirs = [entry for server in others for entry in listens.listeners(draft, server)]
    tls = [listener for listener in found if listener.tls]
    served = [listener for listener in found if not listener.tls]
    _put_webroot(draft, [*servers, *others])
    if not tls and any(map(sites.secure, servers)):
        words = "None of nginx's https addresses can be written: the default is [::]:443."
        draft.say(table, Kind.ATTENTION, words)
    elif not tls and served:
        listens.put(draft, [], served)
        draft.put(table, "plain_http", "serve", [entry.directive for entry in served], _SERVE)
        if theirs:
            draft.say(table, Kind.ATTENTION, _NO_REDIRECT, *(entry.directive for entry in theirs))
    elif tls:
        listens.put(draft, tls, served + [entry for entry in theirs if not entry.tls])
        _say_redirected(draft, by_server, redirecting)
        _put_port(draft, table, tls, [directive for _, directive in redirecting])
    return found + theirs


def _say_redirected(
    draft: Draft, by_server: list[tuple[Server, list[Listener]]],
    redirecting: list[tuple[Server, Directive]],
) -> None:  # fmt: skip
    """Where nginx served plain HTTP, and none is served now."""
    known = [server for server, _ in redirecting]
    secure = {name for server, _ in by_server if sites.secure(server) for name in server.names}
    for server, found in by_server:
        plain = [listener.directive for listener in found if not listener.tls]
        if plain and server not in known:
            with_tls = sites.secure(server) or set(server.names) <= secure
            kind, words = (
                (Kind.DIFFERENT, _NOW_REDIRECTED) if with_tls else (Kind.ATTENTION, _NEVER_TLS)
            )
            draft.say(draft.table("listen"), kind, words, *plain)


def _put_port(
    draft: Draft, table: Section, tls: list[Listener], redirects: list[Directive]
) -> None:
    """public_https_port: where nginx redirected to, unless that is our own port."""
    if not tls or not redirects:
        return
    own = next((listener.port for listener in tls if listener.port), 443)
    target = redirects[0].args[-1] if redirects[0].args else ""
    host = target.partition("://")[2].partition("/")[0].partition("$request_uri")[0]
    digits = host.rpartition(":")[2]
    port = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 6 else 443
    if port != own and 0 < port < 65536:
        draft.put(table, "public_https_port", port, redirects[:1])


def say_renewal(draft: Draft) -> None:
    """What certbot needs where nginx answered its challenges by itself. After the sites."""
    lines = [line for section in draft.sites for line in section.lines]
    ours = any(line.key == "certificate" and str(line.value).startswith(_CERTBOT) for line in lines)
    table = draft.table("listen")
    if ours and not any(line.key == "acme_webroot" for line in table.lines):
        draft.put(table, "acme_webroot", "/var/www/letsencrypt", (), _RENEWAL, off=True)


def _put_webroot(draft: Draft, servers: list[Server]) -> None:
    """acme_webroot, from the locations for challenges."""
    table = draft.table("listen")
    known = ""
    for server in servers:
        for location in sites.challenges_of(server):
            root, alias = location.scope.first("root"), location.scope.first("alias")
            draft.account_all(location.directive)
            source = [d for d in (location.directive, root if alias is None else alias) if d]
            path = (alias or root).args[0] if alias or root else ""  # type: ignore[union-attr]
            if alias is not None:
                below = location.path.strip("/")
                path = path.rstrip("/")
                path = path[: -len(below)] if below and path.endswith("/" + below) else ""
            path = path.rstrip("/") or ""
            if not path.startswith("/") or "$" in path or location.proxied is not None:
                words = (
                    "Challenges are answered from files of acme_webroot only (certbot certonly"
                    " --webroot -w DIRECTORY); these were elsewhere."
                )
                draft.say(table, Kind.LOST, words, *source)
            elif not known:
                known = path
                draft.put(table, "acme_webroot", path, source)
            elif path != known:
                words = f"There is one webroot for all hosts: {known}. Use it for these too."
                draft.say(table, Kind.DIFFERENT, words, *source)

"""Owns what is said of the servers and files that become no site: redirects, others, logs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .blocks import Scope, Server
from .draft import Draft, Kind, short
from .reading import Configuration, Directive
from .sites import asks_authentik, secure

_CODES = ("301", "302", "303", "307", "308")
_PATH = re.compile(r"\$(?:request_uri|uri|1)\b.*")
_HARMLESS = ("mime.types", "fastcgi_params", "fastcgi.conf", "proxy_params", "uwsgi_params")
_OWN_HOST = ("$host", "$http_host", "$server_name", "${host}")


def say_missing(draft: Draft, read: Configuration) -> None:
    """Includes that could not be read."""
    for directive, why in read.missing:
        if directive.args[0].rpartition("/")[2] in _HARMLESS:
            draft.account(directive)
            continue
        draft.say(
            draft.table(""), Kind.ATTENTION,
            f"This was not read ({why}): what it sets is missing here. Run the command where nginx"
            " runs, as root.", directive,
        )  # fmt: skip


def say_servers(
    draft: Draft, rest: list[Server], taken: list[Server]
) -> list[tuple[Server, Directive]]:
    """Account for the servers that are no sites. Returns those that redirect to one, and how."""
    hosts = {name for server in taken for name in server.names}
    found = []
    # Of servers without TLS such a return speaks of somebody else's: X-Forwarded-Proto, mostly.
    redirectable = taken if any(map(secure, taken)) else []
    for server in [*redirectable, *rest]:
        redirect = next(redirects_of(server, hosts), None)
        if redirect is None:
            continue
        _account(draft, server, redirect, whole=server in rest)
        draft.say(
            draft.table("listen"), Kind.UNNEEDED,
            "Plain HTTP is redirected to https with host and path kept (301, and 308 for what is no"
            " GET or HEAD).", redirect,
        )  # fmt: skip
        if not _common(server, hosts) and server in rest:
            words = "Requests for other hosts than the sites' get a 421, not a redirect."
            draft.say(draft.table("listen"), Kind.DIFFERENT, words, redirect)
        found.append((server, redirect))
    redirecting = [server for server, _ in found]
    for server in rest:
        if server not in redirecting:
            _say_other(draft, server)
    return found


def _account(draft: Draft, server: Server, redirect: Directive, whole: bool) -> None:
    """A redirect and what certbot writes around it; `whole`: the server does nothing else."""
    draft.account(redirect)
    for directive in server.own("if"):
        if whole or any(inner is redirect for inner in directive.block or ()):
            draft.account_all(directive)
    if whole:
        draft.account(server.directive, *server.own("server_name"), *server.own("listen"))
        draft.account(*server.own("return"))
        for location in server.locations:
            if location.path == "/":
                draft.account_all(location.directive)


def _common(server: Server, hosts: set[str]) -> bool:
    return bool(set(server.names) & hosts)


def redirects_of(server: Server, hosts: set[str]) -> Iterator[Directive]:
    """The directives of a server that send plain HTTP to https of the same host."""
    blocks = [server.scope.own]
    blocks += [d.block for d in server.scope.own if d.name == "if" and d.block is not None]
    blocks += [location.scope.own for location in server.locations if location.path == "/"]
    if any("ssl" in listen.args for listen in server.own("listen")) and not any(
        "ssl" not in listen.args for listen in server.own("listen")
    ):
        return
    for block in blocks:
        for directive in block:
            if directive.name == "return" and directive.args[0] in _CODES:
                target = directive.args[-1]
            elif directive.name == "return" and len(directive.args) == 1:
                target = directive.args[0]
            elif directive.name == "rewrite" and len(directive.args) > 1:
                target = directive.args[1]
            else:
                continue
            if _same_host(target, hosts):
                yield directive


def _same_host(target: str, hosts: set[str]) -> bool:
    scheme, _, rest = target.partition("://")
    if scheme.lower() != "https":
        return False
    host = _PATH.sub("", rest.partition("/")[0]).partition(":")[0]
    return host in _OWN_HOST or host in hosts


def _say_other(draft: Draft, server: Server) -> None:
    draft.account_all(server.directive)
    names = short(" ".join(server.names)) or "no name"
    table = draft.table("")
    if asks_authentik(server):
        draft.say(
            table, Kind.LOST,
            f"{names}: an application that asks authentik (auth_request). It stays with nginx,"
            " which cannot have the ports that authproxy has: give one of them others.",
            server.directive,
        )  # fmt: skip
        return
    if server.scope.word("ssl_reject_handshake") == "on":
        own = [d for d in server.scope.own if d.name == "ssl_reject_handshake"]
        if not any(line.key == "unknown_sni" for line in draft.table("tls").lines):
            draft.put(draft.table("tls"), "unknown_sni", "refuse", own)
        return
    if any(d.args[:1][0] in ("444", "404", "403", "421", "400") for d in server.own("return")):
        words = "Hosts that no site has get a 421."
        draft.say(table, Kind.UNNEEDED, words, server.directive)
        return
    if any(d.args[0] in _CODES for d in server.own("return")):
        draft.say(
            table, Kind.LOST,
            f"{names}: redirects to another host cannot be made here. Leave them with nginx, or add"
            " the name to hosts, so that authentik answers there too.", server.directive,
        )  # fmt: skip
        return
    draft.say(
        table, Kind.LOST,
        f"{names}: not taken, as it does not look like authentik. authproxy cannot have its ports"
        " beside nginx: give one of them others, or move authentik to an address or machine of its"
        " own. (If it is authentik, write a [[site]] for it.)", server.directive,
    )  # fmt: skip


def say_log(draft: Draft, scopes: list[Scope]) -> None:
    """log.access: off stays off; files are for the service's own user to write."""
    table = draft.table("log")
    found = list({d: None for scope in scopes for d in scope.all("access_log")})
    if not found:
        return
    on = [d for d in found if d.args[0] != "off"]
    if not on:
        draft.put(table, "access", "", found)
        return
    if any("json" in arg.lower() for d in on for arg in d.args[1:]):
        draft.put(table, "format", "json", on)
    draft.say(
        table, Kind.DIFFERENT,
        "The access log goes to stdout, the journal under systemd: nginx's files are not the"
        " service's to write. access names a file, in a directory that it may write, if you want"
        " one; its lines have four columns more.", *found,
    )  # fmt: skip

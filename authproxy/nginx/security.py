"""Owns the way from certificates, protocols, HSTS and real_ip directives to their settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ..presets import PRESETS
from ..trust import ADDRESS_FIELDS
from . import checked
from .blocks import Scope, Server, has_variable
from .draft import Draft, Kind, Section, short
from .listens import Listener
from .reading import Directive

_MAX_AGE = re.compile(r"max-age\s*=\s*\"?(\d{1,12})", re.IGNORECASE)
_MOST = 10 * 365 * 86400
_OLD = ("sslv2", "sslv3", "tlsv1", "tlsv1.1")


def put_certificate(draft: Draft, section: Section, servers: list[Server], prefix: str) -> None:
    """Put certificate and private_key of a site."""
    for server in servers:
        chains, keys = server.scope.all("ssl_certificate"), server.scope.all("ssl_certificate_key")
        if chains and keys:
            break
    else:
        return
    for chain, key in zip(chains, keys, strict=False):
        paths = [server.scope.known(directive.args[0]) for directive in (chain, key)]
        if any(has_variable(path) or path.startswith(("data:", "engine:")) for path in paths):
            words = "A certificate must be a file. Until you name one, a self-signed one is used."
            draft.say(section, Kind.ATTENTION, words, chain, key)
            continue
        for name, path, directive in zip(
            ("certificate", "private_key"), paths, (chain, key), strict=True
        ):
            draft.put(section, name, os.path.normpath(os.path.join(prefix, path)), [directive])
        more = [d for d in (*chains, *keys) if d not in (chain, key)]
        if more:
            words = "A site has one certificate: this second one is left out."
            draft.say(section, Kind.DIFFERENT, words, *more)
        break
    password = server.scope.first("ssl_password_file")
    if password is not None:
        words = "A key with a password cannot be read: store it without one, for root alone."
        draft.say(section, Kind.ATTENTION, words, password)


def put_hsts(draft: Draft, section: Section, scope: Scope, always_plain: bool) -> None:
    """Put hsts of a site, as nginx sent it."""
    found = next((d for block in scope.blocks for d in block.directives if _is_hsts(d)), None)
    if found is None:
        if not always_plain:
            draft.put(
                section, "hsts", 0, (),
                "nginx sent no Strict-Transport-Security. Better: delete this line; the default is"
                " two years, which is what authentik's page advises. Browsers then never use plain"
                " HTTP for these hosts.",
            )  # fmt: skip
        return
    value = found.args[1]
    match = _MAX_AGE.search(value)
    age = int(match[1]) if match is not None else 0
    if age == 0:
        words = "max-age=0 takes the promise back, which cannot be sent from here; none is made."
        if match is None:
            words = "What nginx sent cannot be told from its files: none is sent from here."
        draft.put(section, "hsts", 0, [found], words)
        return
    if age > _MOST:
        draft.say(section, Kind.DIFFERENT, "hsts is ten years at most.", found)
    draft.put(section, "hsts", min(age, _MOST), [found])
    if "includesubdomains" in value.lower():
        draft.say(
            section, Kind.LOST,
            "Strict-Transport-Security is sent with max-age alone, for the hosts of the site:"
            " without includeSubDomains and preload.", found,
        )  # fmt: skip
    if found not in scope.all("add_header"):
        words = "nginx did not send it: an add_header further inside replaces those outside."
        draft.say(section, Kind.DIFFERENT, words, found)


def _is_hsts(directive: Directive) -> bool:
    name, args = directive.name, directive.args
    return name == "add_header" and len(args) > 1 and args[0].lower() == "strict-transport-security"


def put_protocols(draft: Draft, scopes: Iterable[Scope]) -> None:
    """tls.minimum_version."""
    table = draft.table("tls")
    found = {d for scope in scopes for d in scope.all("ssl_protocols")}
    sources = sorted(found, key=lambda directive: directive.line)
    words = {arg.lower() for directive in found for arg in directive.args}
    if not found:
        draft.say(
            table, Kind.DIFFERENT,
            "Clients need TLS 1.3, as authentik's page advises; nginx takes 1.2 too where"
            ' ssl_protocols is not written. For such clients: minimum_version = "1.2".',
        )  # fmt: skip
    elif words == {"tlsv1.3"}:
        draft.put(table, "minimum_version", "1.3", sources)
    else:
        draft.put(
            table, "minimum_version", "1.2", sources,
            'As in nginx. Better, if no old client needs it: "1.3", as authentik\'s page advises.',
        )  # fmt: skip
    if words & set(_OLD):
        draft.say(table, Kind.DIFFERENT, "There is nothing older than TLS 1.2 here.", *sources)


def put_http2(draft: Draft, servers: list[Server], found: list[Listener]) -> None:
    """listen.http2: on by default, as the reference has it."""
    table = draft.table("listen")
    switches = [d for server in servers for d in server.scope.all("http2")]
    off = [d for d in switches if d.args[:1] == ("off",)]
    on = any(listener.http2 for listener in found) or len(switches) > len(off)
    if off and not on:
        draft.put(table, "http2", False, off)
    elif switches:
        draft.say(table, Kind.UNNEEDED, "HTTP/2 is on by default.", *switches)
    elif not on and found:
        draft.say(
            table, Kind.DIFFERENT,
            "HTTP/2 is on here, which nginx was not told to offer: clients choose. http2 = false"
            " leaves HTTP/1.1 alone.",
        )  # fmt: skip


def put_trust(draft: Draft, scopes: list[Scope], found: list[Listener]) -> None:
    """trust.proxies and listen.proxy_protocol_from."""
    table, listen = draft.table("trust"), draft.table("listen")
    sources = list({d: None for scope in scopes for d in scope.all("set_real_ip_from")})
    headers = list({d: None for scope in scopes for d in scope.all("real_ip_header")})
    cidrs = _networks(draft, sources)
    header = headers[0].args[0].lower() if headers and headers[0].args else "x-real-ip"
    speaking = [listener.directive for listener in found if listener.proxy_protocol]
    if header == "proxy_protocol" and cidrs and speaking:
        draft.put(
            listen, "proxy_protocol_from", cidrs, [*speaking, *sources, *headers],
            "Connections from there must begin with a PROXY header, on every listener, and nobody"
            " else's may.",
        )  # fmt: skip
        return
    if speaking:
        draft.put(
            listen, "proxy_protocol_from", ["192.0.2.10/32"], speaking,
            "ATTENTION: nginx took a PROXY header from everybody on this port. Name your balancers,"
            " or their connections are refused:", off=True,
        )  # fmt: skip
        draft.say(listen, Kind.ATTENTION, "See proxy_protocol_from above.", *speaking)
    if not cidrs:
        draft.account(*headers)
        _say_unnamed(draft, scopes, found)
        return
    if header == "cf-connecting-ip":
        _put_cloudflare(draft, cidrs, [*sources, *headers])
    elif header == "x-forwarded-for":
        draft.put(
            table, "proxies", cidrs, [*sources, *headers],
            "Their X-Forwarded-For, -Proto and -Host are believed; they must replace or remove what"
            " clients sent of the last two, and append to or replace the first.",
        )  # fmt: skip
    else:
        _put_uncertain(draft, header, cidrs, [*sources, *headers])


def _put_cloudflare(draft: Draft, cidrs: list[str], source: list[Directive]) -> None:
    """As proxies these would be believed in what Cloudflare passes on of its clients, too."""
    table = draft.table("trust")
    draft.put(
        table, "presets", ["cloudflare"], source,
        "Its networks are built in. CF-Connecting-IP and X-Forwarded-Proto are believed, and"
        " nothing else that Cloudflare passes on (docs/fleets.md).",
    )  # fmt: skip
    known = PRESETS["cloudflare"].networks
    if more := [cidr for cidr in cidrs if cidr not in known]:
        words = (
            "nginx believed these, too. Delete what is none of Cloudflare's, or of cloudflared's:"
        )
        draft.put(table, "preset_networks", more, (), words)


def _put_uncertain(draft: Draft, header: str, cidrs: list[str], source: list[Directive]) -> None:
    """Proxies that nginx believed in one field, which says nothing of what they do with others."""
    table = draft.table("trust")
    words = "No proxy is believed before you enable what is above."
    draft.say(table, Kind.ATTENTION, words, *source)
    if header.encode() in ADDRESS_FIELDS:
        above = (
            f"nginx took the client's address from {short(header)}. Do the proxies in front write"
            " it into every request, and replace or remove what their clients sent of"
            " X-Forwarded-For, -Proto and -Host? Then:"
        )
        draft.put(table, "proxies", cidrs, source, above, off=True)
        draft.put(table, "address_field", header, source, off=True)
        return
    above = (
        f"nginx took the client's address from {short(header)}, which is not read here:"
        " X-Forwarded-For is. Does the proxy in front append to it, or replace it, and set"
        " X-Forwarded-Proto? Then:"
    )
    draft.put(table, "proxies", cidrs, source, above, off=True)


def _say_unnamed(draft: Draft, scopes: list[Scope], found: list[Listener]) -> None:
    """A proxy in front that nginx believed without knowing its address."""
    fields = [d for scope in scopes for d in scope.all("proxy_set_header") if len(d.args) == 2]
    protos = [d for d in fields if d.args[0].lower() == "x-forwarded-proto"]
    others = [d for d in fields if d.args[0].lower() == "x-forwarded-for"]
    passed = [d for d in (*protos, *others) if "$http_" in d.args[1]]
    if not any(listener.tls for listener in found):  # it is https to authentik, by nginx's word
        passed += [d for d in protos if d.args[1].lower() == "https"]
    if passed:
        table = draft.table("trust")
        draft.put(
            table, "proxies", ["192.0.2.10/32"], passed,
            "ATTENTION: nginx told authentik what the proxy in front said, whoever that was. Name"
            " it here, or authentik is told the scheme and address of the connection itself:",
            off=True,
        )  # fmt: skip


def _networks(draft: Draft, sources: list[Directive]) -> list[str]:
    """CIDRs as settings write them."""
    found: list[str] = []
    for directive in sources:
        given = directive.args[0]
        try:
            cidr = checked.cidr(given)
        except ValueError as e:
            draft.say(draft.table("trust"), Kind.LOST, str(e), directive)
            continue
        if cidr.endswith("/0"):
            words = "Everybody would be believed, so that every client chooses its address. Name"
            draft.say(draft.table("trust"), Kind.ATTENTION, f"{words} your proxies.", directive)
        elif cidr not in found:
            found.append(cidr)
    return found

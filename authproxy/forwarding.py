"""Owns what of a head reaches the other side: where fields are removed, set and replaced.

Every path uses these functions: plain requests, upgrades, trailers, 1xx. What is sent to authentik
about the client is set after everything that a client could have written is gone.

Pure: heads in, new heads out. RFC 9110 7.6 (hop-by-hop, Via), RFC 6455 4 (upgrades).
"""

from __future__ import annotations

import re

from .trust import ADDRESS_FIELDS, UNIX_PEER, Client
from .wire.framing import options
from .wire.heads import CHUNKED, Fields, RequestHead, ResponseHead

# Fields of one connection; whoever forwards a message writes its own (RFC 9110 7.6.1).
HOP_BY_HOP = {
    b"connection": "names the others",
    b"keep-alive": "parameters of this connection",
    b"te": "what this neighbour takes as transfer coding",
    b"trailer": "announces trailers of a framing that is made anew",
    b"transfer-encoding": "the framing itself",
    b"upgrade": "of this connection; set again where a WebSocket is asked for",
}  # and every Proxy-*: between a client and its own proxy
# What authentik, or something behind it, could take for the word of its proxy.
IDENTITY = {
    **ADDRESS_FIELDS,
    b"cf-connecting-ipv6": "Cloudflare's, beside an IPv4 address that it made up",
    b"forwarded": "RFC 7239's form of X-Forwarded-*",
}  # and every X-Forwarded-*
# Identity too, but nothing of ours replaces it: kept when the peer is a trusted proxy.
CLIENT_CERTIFICATE = {
    b"client-cert": "RFC 9440",
    b"client-cert-chain": "RFC 9440",
    b"ssl-client-cert": "ingress-nginx",
    b"ssl-client-issuer-dn": "ingress-nginx, beside it",
    b"ssl-client-subject-dn": "ingress-nginx, beside it",
    b"ssl-client-verify": "ingress-nginx, beside it: SUCCESS",
    b"x-forwarded-client-cert": "Envoy",
    b"x-forwarded-tls-client-cert": "Traefik",
}
# Set here from what the head means, not copied.
REWRITTEN = {b"host", b"content-length"}

_REMOVED = frozenset({*HOP_BY_HOP, *IDENTITY, *CLIENT_CERTIFICATE, *REWRITTEN})
# Of Proxy-* upstream may use what is registered: a list is quicker than a look at each beginning.
_REMOVED_BY_UPSTREAM = frozenset(
    {*HOP_BY_HOP, *b"proxy-authenticate proxy-authentication-info proxy-authorization"
     b" proxy-connection proxy-features proxy-instruction proxy-status".split()}
)  # fmt: skip
_REMOVED_WITH_HSTS = _REMOVED_BY_UPSTREAM | {b"strict-transport-security"}
_REMOVED_FROM_TRAILERS = _REMOVED | _REMOVED_WITH_HSTS
_NOT_FORGED = frozenset({*HOP_BY_HOP, *REWRITTEN})
_FORGED = frozenset(
    {*IDENTITY, *CLIENT_CERTIFICATE, b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
)
ODD_NAME = "odd name"  # the form of it, in what was dropped
_REMOVED_PREFIXES = (b"x-forwarded-", b"proxy-")
# WSGI and CGI fold "-", "_" and "." into one character: X_Forwarded_For would become what we set.
_PLAIN_NAME = re.compile(rb"[a-z0-9-]++")
# Most fields of most requests, which need no further look.
_ORDINARY = frozenset(
    b"accept accept-encoding accept-language authorization cache-control content-type cookie"
    b" if-modified-since if-none-match origin pragma priority referer sec-ch-ua sec-ch-ua-mobile"
    b" sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user"
    b" sec-websocket-extensions sec-websocket-key sec-websocket-protocol sec-websocket-version"
    b" upgrade-insecure-requests user-agent x-authentik-csrf".split()
)
# What Connection says on almost every request: nothing that names a field.
_USUAL_OPTIONS = (b"keep-alive", b"close", b"upgrade", b"keep-alive, upgrade")
_VIA = {10: b"1.0 authproxy", 11: b"1.1 authproxy", 20: b"2.0 authproxy"}


def request(head: RequestHead, client: Client, append: bool) -> RequestHead:
    """The head that upstream gets.

    `append` sends the believed addresses from the client to our peer in X-Forwarded-For instead of
    the client's alone. `dropped` of the result has a word for each field that this client may not
    say, and for each that was left out for the form of its name. (What comes through a CDN, which
    is believed in part, is not counted.)
    """
    fields: Fields = [(b"host", client.host)]
    dropped: list[str] = []
    connection = b""
    for field in head.fields:
        name = field[0]
        if name in _ORDINARY:
            fields.append(field)
        elif name in _REMOVED or name.startswith(_REMOVED_PREFIXES):
            if name == b"connection":
                connection = connection + b"," + field[1] if connection else field[1]
            elif client.trusted and name in CLIENT_CERTIFICATE:
                fields.append(field)
            elif not client.trusted and not client.chain and name not in _NOT_FORGED:
                dropped += _forged(name)
        elif _PLAIN_NAME.fullmatch(name):
            fields.append(field)
        else:
            dropped.append(ODD_NAME)
    if connection and connection.lower() not in _USUAL_OPTIONS:
        named = options(connection)
        fields[1:] = [field for field in fields[1:] if field[0] not in named]
    _frame(head, fields)
    if head.upgrade:
        fields += [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    fields += [
        (b"x-forwarded-for", _forwarded_for(client, append)),
        (b"x-forwarded-host", client.host),
        (b"x-forwarded-proto", client.scheme),
        (b"via", _VIA[head.version]),
    ]
    return RequestHead(
        head.method, head.target, 11, fields, client.host, head.length, head.expects_continue,
        True, head.upgrade, tuple(dropped), head.named,
    )  # fmt: skip


def _forged(name: bytes) -> tuple[str, ...]:
    """What a field is counted as that only a proxy may send: a word that no client chooses."""
    if name in _FORGED:
        return (name.decode(),)
    return ("x-forwarded-*",) if name.startswith(b"x-forwarded-") else ()


def _frame(head: RequestHead, fields: Fields) -> None:
    """The fields of our own framing: Content-Length kept, chunked made anew."""
    if head.length == CHUNKED:
        fields.append((b"transfer-encoding", b"chunked"))
    elif head.length or b"content-length" in head.named:
        fields.append((b"content-length", b"%d" % head.length))


def _forwarded_for(client: Client, append: bool) -> bytes:
    if append and client.chain:
        return ", ".join(client.chain).encode()
    if client.address == UNIX_PEER:
        return b"127.0.0.1"  # on this machine; authentik must never be without an address
    return client.address.encode()


def response(head: ResponseHead, hsts: bytes | None) -> ResponseHead:
    """The head that the client gets.

    `hsts` is our Strict-Transport-Security instead of upstream's; b"" for none at all, None where
    upstream's own passes. The framing of content of unknown length is the carrier's to add.
    """
    if head.forwarded is not None and head.hsts == hsts:
        return head.forwarded
    removed = _REMOVED_BY_UPSTREAM if hsts is None else _REMOVED_WITH_HSTS
    fields = [field for field in head.fields if field[0] not in removed]
    if len(fields) != len(head.fields):
        connection = b",".join([value for name, value in head.fields if name == b"connection"])
        if connection and connection.lower() not in _USUAL_OPTIONS:
            named = options(connection) - REWRITTEN  # the framing is not upstream's to take away
            fields = [field for field in fields if field[0] not in named]
    status = head.status
    if status < 200 and status != 101:
        hsts = None  # the final response says it
        fields = [field for field in fields if field[0] != b"strict-transport-security"]
    if status < 200 or status == 204:
        # RFC 9110 8.6: none in these, and some clients would wait for that many octets.
        fields = [field for field in fields if field[0] != b"content-length"]
    if status == 101:
        fields += [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    if hsts:
        fields.append((b"strict-transport-security", hsts))
    made = ResponseHead(status, head.reason, 11, fields, head.length, head.keep_alive)
    if head.octets:  # it may be met again
        head.forwarded = made
        head.hsts = hsts
    return made


def trailers(fields: Fields) -> Fields:
    """Trailers, either way: some recipients merge them into the head, so the same names go."""
    return [
        field
        for field in fields
        if field[0] not in _REMOVED_FROM_TRAILERS
        and not field[0].startswith(_REMOVED_PREFIXES)
        and _PLAIN_NAME.fullmatch(field[0])
    ]

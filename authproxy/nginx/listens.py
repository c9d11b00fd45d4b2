"""Owns the way from listen directives to [listen]."""

from __future__ import annotations

import ipaddress

from attrs import frozen

from ..settings import Listen
from . import checked
from .blocks import Server
from .draft import Draft, Kind, short
from .reading import Directive

_EVERY = ("0.0.0.0", "::")  # noqa: S104 - what nginx was told, and in files only


@frozen
class Listener:
    """One address: host and port, or path."""

    directive: Directive
    host: str
    port: int
    path: str
    tls: bool
    http2: bool
    proxy_protocol: bool
    v4_too: bool

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listeners(draft: Draft, server: Server) -> list[Listener]:
    """Where a server listens; what cannot be is said."""
    found: list[Listener] = []
    legacy = any(directive.args[:1] == ("on",) for directive in server.own("ssl"))
    draft.account(*server.own("ssl"))
    directives = server.own("listen")
    if not directives:
        return [Listener(server.directive, "0.0.0.0", 80, "", legacy, False, False, False)]  # noqa: S104
    for directive in directives:
        options = directive.args[1:]
        if "quic" in options or "http3" in options:
            words = "There is no HTTP/3 here: browsers use HTTP/2."
            draft.say(draft.table("listen"), Kind.LOST, words, directive)
            continue
        for host, port, path in _addresses(draft, directive):
            found.append(
                Listener(
                    directive,
                    host,
                    port,
                    path,
                    legacy or "ssl" in options,
                    "http2" in options,
                    "proxy_protocol" in options,
                    "ipv6only=off" in options,
                )
            )
        draft.account(directive)
    return found


def _addresses(draft: Draft, directive: Directive) -> list[tuple[str, int, str]]:
    given = directive.args[0]
    if given.startswith("unix:"):
        if given.startswith("unix:/"):
            return [("", 0, given[5:])]
        return _refused(draft, directive)
    if given.isdecimal() and given.isascii():
        host, digits = "*", given
    elif given.startswith("[") and "]" in given:
        host, _, digits = given[1:].partition("]")
        digits = digits.removeprefix(":")
    else:
        host, _, digits = given.partition(":")
    if digits and not (digits.isascii() and digits.isdecimal() and 0 < int(digits[:6]) < 65536):
        return _refused(draft, directive)
    port = int(digits or 80)
    if host == "*":
        return [(_EVERY[0], port, "")]
    if host == "localhost":
        return [("127.0.0.1", port, ""), ("::1", port, "")]
    try:
        return [(str(ipaddress.ip_address(host)), port, "")]
    except ValueError:
        return _refused(draft, directive)


def _refused(draft: Draft, directive: Directive) -> list[tuple[str, int, str]]:
    given = short(directive.args[0])
    words = f"{given} is no address of a machine, and authproxy listens on nothing else. Write one."
    draft.say(draft.table("listen"), Kind.LOST, words, directive)
    return []


def put(draft: Draft, tls: list[Listener], plain: list[Listener]) -> None:
    """Put http and https of [listen]; what is empty as such."""
    table = draft.table("listen")
    secure = _merged(draft, tls)
    # One ssl makes it TLS for every server of an address.
    both = [listener for listener in plain if str(listener) in map(str, tls)]
    if both:
        words = "Another server has ssl at this address: it is https."
        draft.say(table, Kind.UNNEEDED, words, *(listener.directive for listener in both))
    rest = [address for address in _merged(draft, plain) if address not in secure]
    draft.put(table, "http", rest, [entry.directive for entry in plain if entry not in both])
    draft.put(table, "https", secure, [listener.directive for listener in tls])
    if str(Listen().admin) in (*rest, *secure):
        words = "nginx has the address where /metrics are by default: choose another, or none."
        draft.put(table, "admin", "", (), words)


def _merged(draft: Draft, found: list[Listener]) -> list[str]:
    """Addresses without those that another one holds already."""
    kept: list[str] = []
    every = {listener.port for listener in found if listener.host in _EVERY}
    for listener in found:
        text = str(listener)
        if listener.host == _EVERY[0]:
            if any(other.host == _EVERY[1] and other.port == listener.port for other in found):
                text = f"[::]:{listener.port}"
        elif listener.host == _EVERY[1]:
            _say_wider(draft, listener, found)
        elif listener.port in every and not listener.path:
            words = "Another address of this port is every address of this machine."
            draft.say(draft.table("listen"), Kind.UNNEEDED, words, listener.directive)
            continue
        try:
            checked.listen_address(text)
        except ValueError as e:
            draft.say(draft.table("listen"), Kind.LOST, str(e), listener.directive)
            continue
        if text not in kept:
            kept.append(text)
    return kept


def _say_wider(draft: Draft, listener: Listener, found: list[Listener]) -> None:
    """[::] is IPv6 alone to nginx, and both here."""
    port = listener.port
    both = any(other.host == _EVERY[0] and other.port == port for other in found)
    if not both and not listener.v4_too:
        words = f"[::]:{port} listens for IPv4 too; nginx had IPv6 alone there."
        draft.say(draft.table("listen"), Kind.DIFFERENT, words, listener.directive)

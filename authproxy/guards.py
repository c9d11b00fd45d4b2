"""Owns which paths are open to which clients: the guards of a site, and their verdicts.

A path counts as guarded by what it may mean to a server (spellings.py). Where all readings agree
the answer is plain; where some are guarded and others are not, nobody may have that spelling.
Letters are compared without case.

Who the client is, is trust.py's. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from .spellings import PLAIN, readings, unpacked
from .trust import ADDRESS_FIELDS, UNIX_PEER, Client, TrustedNetworks
from .wire.heads import RequestHead

# What `preset = "inside"` guards, and whom it lets in: loopback, RFC 1918, RFC 4193, link-local.
INSIDE_PATHS = ("/-/metrics", "/if/admin/")
INSIDE = (
    "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
    "fe80::/10",
)  # fmt: skip

# Of a path with an odd spelling; OF_DOUBT where the names of a guarded one are somewhere in it.
# Nobody means more, and to look at them must stay cheap: 5 ms for the worst that a random search
# found (13 ms with 1024).
MOST_OCTETS = 4096
MOST_OCTETS_OF_DOUBT = 512
MOST_READINGS = 32

# What only proxies say: of somebody else's address, and of themselves.
_OF_SOMEBODY = frozenset({*ADDRESS_FIELDS, b"x-forwarded-for", b"forwarded"})
_OF_PROXIES = _OF_SOMEBODY | {b"x-forwarded-proto", b"x-forwarded-host", b"via"}


class Refusal(NamedTuple):
    """Why a request does not pass. `reason` is counted, `words` are for the log, of which one line
    each `kind` is enough; `detail` is for the page."""

    status: int
    reason: str
    words: str
    kind: str
    detail: str = ""


AMBIGUOUS = Refusal(
    400,
    "ambiguous path",
    "a path that may mean a guarded one, or another. Nobody gets such a spelling; the access line"
    " shows it.",
    "ambiguous path",
    "the path can be read in several ways",
)


class Rule(Protocol):
    """What is written down of a guard."""

    @property
    def below(self) -> str:
        """What is guarded with all below it; with a preset, what stands before its paths."""

    @property
    def preset(self) -> str:
        """The word "inside", or an empty one."""

    @property
    def allow(self) -> tuple[str, ...]:
        """CIDRs; () for everybody, or the preset's."""

    @property
    def deny(self) -> tuple[str, ...]:
        """CIDRs that are refused even if they are allowed."""


class Guard:
    """One path and everything below it. `allow` and `deny` are CIDRs, and perhaps UNIX_PEER."""

    __slots__ = ("_allow", "_below", "_deny", "allow", "deny", "names", "path", "prefix")

    def __init__(self, path: str, allow: Sequence[str], deny: Sequence[str]) -> None:
        self.path = path
        self.allow = tuple(allow)
        self.deny = tuple(deny)
        self.prefix = path.rstrip("/").lower().encode()
        self.names = [name for name in self.prefix.split(b"/") if name]
        self._below = self.prefix + b"/"
        self._allow = TrustedNetworks(allow)
        self._deny = TrustedNetworks(deny)

    def covers(self, reading: bytes) -> bool:
        """Whether a path in lower case is the guarded one, or below it."""
        return reading.startswith(self._below) or reading == self.prefix

    def denies(self, address: str) -> bool:
        """Whether it refuses this address by name."""
        return self._deny.contains(address)

    def admits(self, address: str, hidden: bool) -> bool:
        """Whether it lets this address in. `hidden`: it may be that of a proxy, whose clients could
        be anybody; then only a guard that is open to everybody does."""
        if not self.allow:
            return True
        return not hidden and self._allow.contains(address)

    def cure(self, address: str, hidden: bool) -> str:
        """What to say of an address that is not let in."""
        if self.denies(address):
            return "The address is in its deny."
        if hidden:
            return (
                "The address speaks like a proxy, and its words cannot be believed: everybody could"
                f' be behind it. If it is yours, write [trust] proxies = ["{address}"]; if it sends'
                " PROXY headers, let them name the client."
            )
        return (
            f"It allows {', '.join(self.allow)}. If this is a client of yours, add it; if it is a"
            " proxy of yours, name it in trust.proxies, so that its clients are seen."
        )

    def __str__(self) -> str:
        parts = [f"for {', '.join(self.allow)}"] if self.allow else ["for everybody"]
        if self.deny:
            parts.append(f"not for {', '.join(self.deny)}")
        return f"{self.path} {', '.join(parts)}"


class Guards:
    """The guards of one site."""

    __slots__ = ("_all", "_everywhere", "_prefixes")

    def __init__(self, guards: Iterable[Guard]) -> None:
        self._all = tuple(guards)
        self._prefixes = tuple(guard.prefix for guard in self._all)
        self._everywhere = not any(self._prefixes)  # each is of "/"

    def of(self, target: bytes) -> tuple[Guard, ...] | None:
        """Those that a request target (in origin-form) has to pass; None: it is ambiguous."""
        plain = PLAIN.match(target)
        if plain is not None:
            path = plain[1].lower()
            if not path.startswith(self._prefixes):
                return ()
            return tuple(guard for guard in self._all if guard.covers(path))
        if self._everywhere:
            return self._all
        path = target.partition(b"?")[0].lower()
        return self._of_odd(path) if len(path) <= MOST_OCTETS else None

    def refusal(self, head: RequestHead, client: Client) -> Refusal | None:
        """Why this request of this client does not pass; None: it does."""
        asked = self.of(head.target)
        if asked is None:
            return AMBIGUOUS
        for guard in asked:
            hidden = may_hide_others(head, client)
            if guard.denies(client.address) or not guard.admits(client.address, hidden):
                cure = guard.cure(client.address, hidden)
                # What strangers can cause must not keep the word of a forgotten proxy back.
                kind = f"{guard.path}{' hidden' if hidden else ''}"
                return Refusal(403, "guard", f"{guard.path} is guarded. {cure}", kind)
        return None

    def _of_odd(self, path: bytes) -> tuple[Guard, ...] | None:
        text = unpacked(path)
        if text is None:
            return None
        # No reading has a name that is in none of these: most odd paths need no further look.
        possible = [guard for guard in self._all if all(name in text for name in guard.names)]
        if not any(guard.names for guard in possible):
            return tuple(possible)
        if len(path) > MOST_OCTETS_OF_DOUBT:
            return None
        found = None
        for number, reading in enumerate(readings(path)):
            covering = tuple(guard for guard in possible if guard.covers(reading))
            if number >= MOST_READINGS or (found is not None and covering != found):
                return None
            found = covering
        return found


def prepared(rules: Sequence[Rule]) -> Guards | None:
    """The guards of a site as settings have them; None: it has none."""
    found = expanded(rules)
    return Guards(found) if found else None


def expanded(rules: Sequence[Rule]) -> list[Guard]:
    """One guard for each path."""
    guards: list[Guard] = []
    for rule in rules:
        if not rule.preset:
            guards.append(Guard(rule.below, rule.allow, rule.deny))
            continue
        # authentik below a sub-path answers some things at the root as well.
        before = dict.fromkeys(("", rule.below.rstrip("/")))
        allow = rule.allow or INSIDE
        guards += [
            Guard(prefix + path, allow, rule.deny) for prefix in before for path in INSIDE_PATHS
        ]
    return guards


def checked_path(given: str) -> str:
    """A guard's path as it may be written, "" for none. Raises ValueError."""
    if not given:
        return given
    if not given.startswith("/"):
        raise ValueError(f'must be a path that begins with "/", such as "/{given}".')
    if given.rstrip("/").endswith("*"):
        raise ValueError(f'is guarded with all below it. Write "{given.rstrip("*/")}/".')
    plain = PLAIN.match(given.encode())
    if plain is None or plain[1] != given.encode():
        raise ValueError(
            "must be a path in plain ASCII, decoded: without %, ?, ;, \\, //, and without dots at"
            " the beginning or end of a name. Every other spelling is recognised by itself."
        )
    return given


def near(address: str) -> bool:
    """Whether who has this address could be a proxy of ours."""
    # Not is_private, which 100.64.0.0/10 is not: that of carriers, and of overlay networks.
    return address == UNIX_PEER or not ipaddress.ip_address(address).is_global


def may_hide_others(head: RequestHead, client: Client) -> bool:
    """Whether the client's address may be that of a proxy rather than of a client.

    It speaks like one without being trusted, or it is trusted and what it says of its client cannot
    be read. Everybody behind it would have its address, which most often is an inner one.
    """
    if client.chain or client.obscured:
        return client.obscured  # else somebody who is believed has said who it is: a proxy, a CDN
    if client.trusted:
        return not _OF_SOMEBODY.isdisjoint(head.named)
    return near(client.address) and not _OF_PROXIES.isdisjoint(head.named)

"""Owns the way from allow, deny and refusing locations to guards, where the meaning is the same.

nginx takes the first rule that matches, of the one location that a path belongs to. A guard is of a
path and all below it, refuses whom `deny` names, then those whom `allow` does not; a path in
several guards has to pass all of them. What does not fit is said, loudly.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_left
from itertools import islice

from attrs import frozen

from . import checked
from .blocks import Block, Location
from .draft import Draft, Kind, Section
from .reading import Directive

_LITERAL = re.compile(r"\^(/[A-Za-z0-9/_-]*)(?:\.\*)?")
# What a guard's path may be, and every server reads alike.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*)*/?")
_REFUSAL = re.compile(r"[45][0-9]{2}")
_EVERYBODY = ("0.0.0.0/0", "::/0", "unix:")
_LOST = (
    "These rules of addresses cannot be written as a guard with the same meaning: whom they kept"
    " out now reaches authentik. Write a [[site.guard]] that does what you mean (docs/guards.md)."
)
_PATTERNS = (
    "A location with a pattern, or a single path, had other rules than the guard that covers it: it"
    " is guarded now. If it must not be, change the guard."
)
_WHOLE_NAMES = (
    "A guard is of whole names: nginx's location matched longer ones as well (/if/adm is /if/admin"
    " too), which are open now. If you meant them, write a guard of their full name."
)
_STRICTER = "This covers more than nginx's location did: those inside it had other rules."


@frozen
class Rules:
    """Whom nginx let in: CIDRs. Both empty: everybody."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


def rules(location: Location) -> tuple[Rules | None, list[Directive]]:
    """What is in force in a location, None where no guard can say it; and the directives."""
    refusal = refuses(location)
    if refusal is not None:
        return Rules(deny=_EVERYBODY), [refusal]
    block: Block | None = next(
        (b for b in location.scope.blocks if "allow" in b.named or "deny" in b.named), None
    )
    if block is None:
        return Rules(), []
    found = [d for d in block.directives if d.name in ("allow", "deny") and d.args]
    return _ordered(found), found


def _ordered(found: list[Directive]) -> Rules | None:
    """Rules in their order, as an allow and a deny."""
    allow: list[str] = []
    deny: list[str] = []
    after: list[str] = []  # refused only where no allow before them matched
    for directive in found:
        if directive.args[0] == "all":
            if directive.name == "allow":
                break
            return _closed(allow, deny)
        try:
            cidr = checked.cidr(directive.args[0])
        except ValueError:
            return None
        if directive.name == "deny":
            (after if allow else deny).append(cidr)
        elif after:
            return None
        else:
            allow.append(cidr)
    # Whoever matches nothing may: an allow before a deny would be an exception from it.
    return None if allow and after else Rules(deny=tuple(deny))


def _closed(allow: list[str], deny: list[str]) -> Rules | None:
    """Rules that end with `deny all`."""
    if not allow:
        return Rules(deny=_EVERYBODY)
    if any(_within(one, other) for one in allow for other in deny):
        return None
    return Rules(tuple(allow), tuple(deny))


def _within(inner: str, outer: str) -> bool:
    if inner == outer:
        return True
    if "unix:" in (inner, outer):
        return False
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]


def refuses(location: Location) -> Directive | None:
    """The `return` of a location that refuses everything, or the `internal` of one that nobody can
    ask for."""
    return next(
        (
            d
            for d in location.scope.own
            if d.name == "internal"
            or (d.name == "return" and d.args[:1] and _REFUSAL.fullmatch(d.args[0]))
        ),
        None,
    )


def closes(location: Location, main: Location) -> bool:
    """Whether a location that leads to no upstream has rules of its own: what it kept from some, or
    all (`deny all`), now leads to the site's."""
    wanted, _ = rules(location)
    return wanted not in (Rules(), rules(main)[0])


def path_of(location: Location) -> str:
    """The prefix that a location matches, or "": it is no prefix."""
    if location.modifier in ("", "^~"):
        return location.path
    match = _LITERAL.fullmatch(location.path) if location.modifier == "~" else None
    return match[1] if match else ""


class _Known:
    """The rules of all locations of a site, by path."""

    def __init__(self, locations: list[Location]) -> None:
        self.all = [(location, *rules(location)) for location in locations]
        by_path = [(path_of(location), wanted) for location, wanted, _ in self.all]
        self._prefixes = sorted((entry for entry in by_path if entry[0]), key=lambda e: e[0])
        self._odd = [entry[:2] for entry in self.all if not path_of(entry[0])]

    def others_below(self, path: str, wanted: Rules) -> bool:
        """Whether a location at this path or below it has other rules."""
        start = bisect_left(self._prefixes, path, key=lambda entry: entry[0])
        for other, theirs in islice(self._prefixes, start, None):
            if not other.startswith(path):
                return False
            if theirs != wanted:
                return True
        return False

    def odd_below(self, path: str, wanted: Rules) -> list[Directive]:
        """The patterns, and single paths, with other rules that may lead below a path."""
        return [
            location.directive
            for location, theirs in self._odd
            if theirs != wanted and _may_be_below(location, path)
        ]


def put(draft: Draft, section: Section, passing: list[Location], refusing: list[Location]) -> None:
    """The guards of a site. `passing` go to its upstream, `refusing` nowhere."""
    known = _Known([*passing, *refusing])
    for location in refusing:
        draft.account_all(location.directive)
    guarded: set[str] = set()
    for location, wanted, directives in known.all:
        path = path_of(location)
        if wanted == Rules():
            if directives:
                draft.say(section, Kind.UNNEEDED, "Everybody may.", *directives)
            continue
        draft.account(*directives)
        plain = path and _PLAIN.fullmatch(path) and location.scope.word("satisfy") != "any"
        if wanted is None or not plain:
            draft.say(section, Kind.ATTENTION, _LOST, location.directive, *directives)
            continue
        off = known.others_below(path, wanted)
        if off:
            draft.say(section, Kind.ATTENTION, _LOST, location.directive, *directives)
        else:
            odd = known.odd_below(path, wanted)
            if odd:
                draft.say(section, Kind.DIFFERENT, _PATTERNS, *odd)
            if not path.endswith("/"):
                draft.say(section, Kind.DIFFERENT, _WHOLE_NAMES, location.directive)
        if path not in guarded:
            guarded.add(path)
            _guard(draft, section, path, wanted, [location.directive], directives, off)


def _may_be_below(location: Location, path: str) -> bool:
    return location.modifier != "=" or location.path.startswith(path)


def _guard(
    draft: Draft, section: Section, path: str, wanted: Rules, place: list[Directive],
    directives: list[Directive], off: bool,
) -> None:  # fmt: skip
    """One guard. `off`: a comment, as it would do more than nginx did."""
    guard = Section("#[[site.guard]]" if off else "[[site.guard]]")
    section.inner.append(guard)
    above = [_STRICTER] if off else []
    draft.put(guard, "path", path, place, *above, off=off)
    if wanted.allow:
        draft.put(guard, "allow", list(wanted.allow), directives, off=off)
    if wanted.deny:
        draft.put(guard, "deny", list(wanted.deny), directives, off=off)

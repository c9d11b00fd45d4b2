"""Owns the way from allow, deny and refusing locations to guards: only where the meaning is equal.

nginx takes the first rule that matches; a guard lets in whoever is in `allow`, or keeps out
whoever is in `deny`. Everything else is said, loudly.
"""

from __future__ import annotations

import re

from .. import values
from .blocks import Location, Scope
from .draft import Draft, Kind, Section
from .reading import Directive

_LITERAL = re.compile(r"\^(/[A-Za-z0-9/_-]*)(?:\.\*)?")
_REFUSALS = ("403", "404", "444", "410", "401")
_EVERYBODY = ["0.0.0.0/0", "::/0"]
_LOST = (
    "These rules of addresses cannot be written as a guard with the same meaning: whom they kept"
    " out now reaches authentik. Write a [[site.guard]] yourself."
)


def rules(scope: Scope) -> tuple[list[Directive], list[str], list[str]] | None:
    """(directives, allow, deny) of what is in force, one list of the two empty; None: no such."""
    block = next((b for b in scope.blocks if any(d.name in ("allow", "deny") for d in b)), ())
    found = [directive for directive in block if directive.name in ("allow", "deny")]
    allow: list[str] = []
    deny: list[str] = []
    closed = False
    for directive in found:
        if closed:
            continue  # nginx never comes so far
        if directive.args == ("all",):
            closed = True
            if directive.name == "deny":
                return _closed(found, allow, deny)
            continue
        (allow if directive.name == "allow" else deny).extend(_network(directive.args))
    if "" in (*allow, *deny) or (allow and deny):
        return None
    # Without a final "deny all" an allow lets in whom nothing keeps out anyway.
    return found, [], deny


def _closed(
    found: list[Directive], allow: list[str], deny: list[str]
) -> tuple[list[Directive], list[str], list[str]] | None:
    """Rules that end with `deny all`."""
    if not allow:
        return found, [], list(_EVERYBODY)
    return None if deny or "" in allow else (found, allow, [])


def _network(args: tuple[str, ...]) -> list[str]:
    try:
        return [values.cidr(args[0])]
    except (ValueError, IndexError):
        return [""]


def refuses(location: Location) -> Directive | None:
    """The `return` of a location that refuses everything."""
    return next(
        (d for d in location.scope.own if d.name == "return" and d.args[:1][0] in _REFUSALS), None
    )


def path_of(location: Location) -> str:
    """The prefix that a location matches, or "": it is no prefix."""
    if location.modifier in ("", "^~"):
        return location.path
    match = _LITERAL.fullmatch(location.path) if location.modifier == "~" else None
    return match[1] if match else ""


def put(
    draft: Draft, section: Section, base: Scope, locations: list[Location],
    refusing: list[Location],
) -> None:  # fmt: skip
    """The guards of a site. `locations` go to upstream; `base` is the server's scope."""
    for location in refusing:
        found = refuses(location)
        directives = [location.directive, *([found] if found else [])]
        draft.account_all(location.directive)
        _put(draft, section, location, [*locations, *refusing], directives, [], list(_EVERYBODY))
    for location in locations:
        everything = any(
            d.name in ("allow", "deny") for block in location.scope.blocks for d in block
        )
        if not everything:
            continue
        here = rules(location.scope)
        if here is None:
            draft.say(section, Kind.ATTENTION, _LOST, *_written(location.scope))
            continue
        directives, allow, deny = here
        if allow or deny:
            _put(draft, section, location, locations, directives, allow, deny)
        else:
            draft.say(section, Kind.UNNEEDED, "Everybody may.", *directives)


def _written(scope: Scope) -> list[Directive]:
    return scope.all("allow") + scope.all("deny")


def _put(
    draft: Draft, section: Section, location: Location, locations: list[Location],
    directives: list[Directive], allow: list[str], deny: list[str],
) -> None:  # fmt: skip
    """One guard, unless a location below it, or a pattern, has other rules."""
    path = path_of(location)
    below = [
        other
        for other in locations
        if other is not location
        and (not path_of(other) or path_of(other).startswith(path))
        and (refuses(other) is None and rules(other.scope) != (directives, allow, deny))
    ]
    if not path or below or location.scope.first("satisfy") is not None:
        draft.say(section, Kind.ATTENTION, _LOST, location.directive, *directives)
        return
    guard = Section("[[site.guard]]")
    if any(line.value == path for inner in section.inner for line in inner.lines):
        draft.account(*directives)
        return
    section.inner.append(guard)
    draft.put(guard, "path", path, [location.directive])
    draft.put(guard, "allow" if allow else "deny", allow or deny, directives)

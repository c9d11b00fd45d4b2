"""Owns the shape of an nginx configuration: servers, locations, upstreams, and what is in force in
them.

Must not know what becomes of a directive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from attrs import field, frozen

from .reading import Directive

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")
_PASSES = ("proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass")


class Block:
    """What stands between two braces, and the same by name."""

    __slots__ = ("directives", "named")

    def __init__(self, directives: Iterable[Directive]) -> None:
        self.directives = tuple(directives)
        self.named: dict[str, list[Directive]] = {}
        for directive in self.directives:
            self.named.setdefault(directive.name, []).append(directive)


@frozen(eq=False)
class Scope:
    """A block and those around it, the innermost first."""

    blocks: tuple[Block, ...]

    @property
    def own(self) -> tuple[Directive, ...]:
        """What stands in the block itself."""
        return self.blocks[0].directives

    def inside(self, block: Iterable[Directive]) -> Scope:
        """The scope of a block in this one."""
        return Scope((Block(block), *self.blocks))

    def all(self, name: str) -> list[Directive]:
        """The directives of this name that are in force: those of the nearest block with any."""
        return next((block.named[name] for block in self.blocks if name in block.named), [])

    def first(self, name: str) -> Directive | None:
        """The first of them, or None."""
        return next(iter(self.all(name)), None)

    def word(self, name: str) -> str:
        """The first argument of it in lower case, or ""."""
        found = self.first(name)
        return found.args[0].lower() if found is not None and found.args else ""

    def constants(self) -> dict[str, str]:
        """What `set` gives names to, if no condition does."""
        found: dict[str, str] = {}
        conditions = [d for block in self.blocks for d in block.named.get("if", ())]
        varying = {
            inner.args[0].removeprefix("$")
            for condition in conditions
            for inner in condition.block or ()
            if inner.name == "set" and inner.args
        }
        for block in reversed(self.blocks):
            for directive in block.named.get("set", ()):
                if len(directive.args) == 2:
                    found[directive.args[0].removeprefix("$")] = self._known(
                        directive.args[1], found
                    )
        return {name: value for name, value in found.items() if name not in varying}

    def known(self, text: str) -> str:
        """A text with the variables that `set` made replaced; others stay."""
        return self._known(text, self.constants())

    def _known(self, text: str, constants: dict[str, str]) -> str:
        return _VARIABLE.sub(lambda m: constants.get(m[1] or m[2], m[0]), text)


def has_variable(text: str) -> bool:
    """Whether nginx would fill something in."""
    return _VARIABLE.search(text) is not None


@frozen(eq=False)
class Location:
    """A location. modifier is "", "=", "^~", "~", "~*" or "@"."""

    directive: Directive
    modifier: str
    path: str
    scope: Scope

    @property
    def passed_to(self) -> Directive | None:
        """Its own proxy_pass or the like."""
        return next((d for d in self.scope.own if d.name in _PASSES), None)

    @property
    def proxied(self) -> Directive | None:
        """Its own proxy_pass."""
        return next((d for d in self.scope.own if d.name == "proxy_pass" and d.args), None)


@frozen(eq=False)
class Server:
    """A server block of http."""

    directive: Directive
    scope: Scope
    locations: tuple[Location, ...]

    def own(self, name: str) -> list[Directive]:
        """Its own directives of this name."""
        return self.scope.blocks[0].named.get(name, [])

    @property
    def names(self) -> list[str]:
        """What its server_name directives say."""
        return [arg for directive in self.own("server_name") for arg in directive.args]


@frozen(eq=False)
class Http:
    """What there is for HTTP, wherever it stands. A file of sites-enabled has no http block."""

    servers: tuple[Server, ...]
    upstreams: dict[str, Directive]
    others: tuple[Directive, ...] = field(factory=tuple)  # stream, mail


def http_of(directives: tuple[Directive, ...]) -> Http:
    """The servers and upstreams of a configuration."""
    servers: list[Server] = []
    upstreams: dict[str, Directive] = {}
    scopes = [Scope((Block(directives),))]
    scopes += [
        scopes[0].inside(directive.block)
        for directive in directives
        if directive.name == "http" and directive.block is not None
    ]
    for scope in scopes:
        for directive in scope.own:
            if directive.name == "server" and directive.block is not None:
                servers.append(_server(directive, scope.inside(directive.block)))
            elif directive.name == "upstream" and directive.block is not None and directive.args:
                upstreams.setdefault(directive.args[0], directive)
    others = tuple(d for d in directives if d.name in ("stream", "mail") and d.block is not None)
    return Http(tuple(servers), upstreams, others)


def _server(directive: Directive, scope: Scope) -> Server:
    return Server(directive, scope, tuple(_locations(scope)))


def _locations(scope: Scope) -> Iterator[Location]:
    """The locations of a server, those inside others too."""
    for directive in scope.own:
        if directive.name == "location" and directive.block is not None and directive.args:
            inner = scope.inside(directive.block)
            yield Location(directive, *_matched(directive.args), inner)
            yield from _locations(inner)


def _matched(args: tuple[str, ...]) -> tuple[str, str]:
    if len(args) > 1:
        return args[0], args[1]
    for modifier in ("~*", "^~", "~", "=", "@"):
        if args[0].startswith(modifier):
            return modifier, args[0].removeprefix(modifier)
    return "", args[0]

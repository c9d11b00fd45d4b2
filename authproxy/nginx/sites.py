"""Owns which servers and locations are authentik's, and what becomes of each: the sites."""

from __future__ import annotations

import re

from attrs import define, field

from . import access, names, origins
from .blocks import Http, Location, Server, has_variable
from .draft import Draft, Kind, Section, short
from .origins import Pass
from .reading import Directive

_AUTHENTIK_PORTS = re.compile(r":(9000|9443)\b")
_AUTHENTIK_PATHS = ("/ws/", "/ws/client", "/outpost.goauthentik.io", "/if/", "/-/", "/api/v3")
CHALLENGES = "/.well-known/acme-challenge/"


@define(eq=False)
class Taken:
    """What becomes a site: the servers of one set of names that pass to one upstream.

    main: the location whose settings count; all: every location that passes to the same upstream.
    """

    servers: list[Server]
    main: Location
    to: Pass
    locations: list[Location] = field(factory=list)
    section: Section | None = None


def passes_of(server: Server) -> list[tuple[Location, Pass]]:
    """The locations with a proxy_pass that can be understood."""
    found = []
    for location in server.locations:
        directive = location.proxied
        to = origins.passed(location.scope, directive) if directive is not None else None
        if to is not None and not _challenges(location):
            found.append((location, to))
    return found


def asks_authentik(server: Server) -> bool:
    """Whether this is an application that asks authentik who somebody is (forward auth)."""
    asking = (location.scope.first("auth_request") for location in server.locations)
    return any(directive is not None and directive.args != ("off",) for directive in asking)


def looks_like_authentik(http: Http, server: Server, to: Pass, paths: list[str]) -> bool:
    """By names, ports and the paths that go there: nothing else tells."""
    addresses = " ".join(address for address, _ in origins.servers_of(http, to))
    words = " ".join((to.target, addresses, *server.names)).lower()
    return (
        "authentik" in words
        or _AUTHENTIK_PORTS.search(addresses) is not None
        or any(path.startswith(_AUTHENTIK_PATHS) for path in paths)
    )


def choose(http: Http) -> tuple[list[Taken], list[Server]]:
    """(the sites to be, the servers that are none). Those of TLS come first."""
    candidates: list[tuple[bool, Taken]] = []
    rest: list[Server] = []
    for server in http.servers:
        ways: dict[tuple[str, str], list[tuple[Location, Pass]]] = {}
        if not asks_authentik(server):
            for location, to in passes_of(server):
                ways.setdefault((to.scheme, to.target), []).append((location, to))
        if not ways:
            rest.append(server)
            continue
        likely, taken = max(
            (_candidate(http, server, way) for way in ways.values()),
            key=lambda entry: (entry[0], entry[1].main.path == "/"),
        )
        candidates.append((likely, taken))
    if any(likely for likely, _ in candidates):
        rest += [taken.servers[0] for likely, taken in candidates if not likely]
        candidates = [entry for entry in candidates if entry[0]]
    return _together([taken for _, taken in candidates]), rest


def _candidate(http: Http, server: Server, way: list[tuple[Location, Pass]]) -> tuple[bool, Taken]:
    """What a server is as the front of one of its upstreams, and whether that is authentik."""
    main, to = next((entry for entry in way if entry[0].path == "/"), way[0])
    locations = [location for location, _ in way]
    likely = looks_like_authentik(http, server, to, [location.path for location in locations])
    return likely, Taken([server], main, to, locations)


def _together(found: list[Taken]) -> list[Taken]:
    """One site for a port 80 server and a port 443 server of the same names."""
    found.sort(key=lambda taken: not secure(taken.servers[0]))
    kept: list[Taken] = []
    for taken in found:
        wanted = set(taken.servers[0].names)
        for other in kept:
            if other.to.same_as(taken.to) and wanted == set(other.servers[0].names):
                other.servers += taken.servers
                other.locations += taken.locations
                break
        else:
            kept.append(taken)
    return kept


def secure(server: Server) -> bool:
    """Whether a server has a certificate to show, or says that it speaks TLS."""
    if any("ssl" in listen.args[1:] for listen in server.own("listen")):
        return True
    return any(directive.args[:1] == ("on",) for directive in server.own("ssl"))


def put(draft: Draft, http: Http, found: list[Taken], prefix: str) -> list[Taken]:
    """The [[site]] tables. Returns those that could be made."""
    made: list[Taken] = []
    hosts_taken: set[str] = set()
    everything = False
    for taken in found:
        section = draft.site()
        usable, _, refused = origins.addresses(http, taken.to)
        if not usable:
            reasons = " ".join(why for _, why in refused)
            _give_up(draft, taken, reasons or "every server behind it is down.")
            continue
        hosts = names.hosts(draft, section, taken.servers, hosts_taken)
        if hosts is None or (not hosts and everything):
            _give_up(draft, taken, "the sites above have its hosts.")
            continue
        upstreams = origins.put(draft, section, http, taken.to)
        everything = everything or not hosts
        taken.section = section
        origins.put_verify(
            draft, section, taken.main.scope, taken.to, upstreams, prefix, hosts
        )  # fmt: skip
        _put_path(draft, section, taken)
        _put_others(draft, section, taken)
        made.append(taken)
    return made


def _give_up(draft: Draft, taken: Taken, why: str) -> None:
    """A site that cannot be: one remark instead of it."""
    draft.sites.pop()
    for server in taken.servers:
        draft.account_all(server.directive)
        words = f"This server is not taken: {why}"
        draft.say(draft.table(""), Kind.ATTENTION, words, server.directive, taken.to.directive)


def _put_path(draft: Draft, section: Section, taken: Taken) -> None:
    """What proxy_pass does to paths."""
    for location in taken.locations:
        directive = location.proxied
        to = origins.passed(location.scope, directive) if directive is not None else None
        if directive is None or to is None:
            continue
        draft.account(location.directive, directive, *location.scope.all("set"))
        prefix = location.path if location.modifier == "=" else access.path_of(location)
        if not origins.same_path(prefix, to.path):
            draft.say(
                section, Kind.ATTENTION,
                f"{short(location.path)} became {short(to.path)} on the way to upstream;"
                " here paths stay. Serve authentik below the same path:"
                f" AUTHENTIK_WEB__PATH={short(location.path)}", location.directive, directive,
            )  # fmt: skip
        if location is taken.main and location.modifier == "@":
            continue  # what try_files ends with: everything
        if location is taken.main and location.path != "/":
            draft.say(
                section, Kind.DIFFERENT,
                "Every path of these hosts goes to upstream, not this one alone; authentik answers"
                " 404 for what is not below AUTHENTIK_WEB__PATH.", location.directive,
            )  # fmt: skip
        elif location is not taken.main:
            words = "This goes to the same upstream as everything else."
            draft.say(section, Kind.UNNEEDED, words, location.directive)


def _put_others(draft: Draft, section: Section, taken: Taken) -> None:
    """The locations that go elsewhere, and the guards."""
    refusing = []
    for server in taken.servers:
        for location in server.locations:
            if location in taken.locations or _challenges(location):
                continue
            if access.refuses(location) is not None and location.passed_to is None:
                refusing.append(location)
            elif location.passed_to is not None:
                _elsewhere(draft, section, location, location.passed_to)
            elif not _redirects(location):
                draft.account_all(location.directive)
                if access.closes(location, taken.main):
                    refusing.append(location)
                words = (
                    "Not taken: authproxy serves no files and no answers of its own; requests for"
                    " this reach authentik."
                )
                draft.say(section, Kind.DIFFERENT, words, location.directive)
    access.put(draft, section, taken.locations, refusing)


def _elsewhere(draft: Draft, section: Section, location: Location, directive: Directive) -> None:
    draft.account_all(location.directive)
    target = short(directive.args[0]) if directive.args else ""
    if directive.name == "proxy_pass" and has_variable(location.scope.known(target)):
        words = f"Not taken: {target} varies with the request, which cannot be here."
    else:
        words = f"Not taken: {target} is not the site's upstream."
    draft.say(
        section, Kind.ATTENTION,
        f"{words} One host has one upstream here, so that requests for this reach authentik. Give"
        " what is behind it a host of its own, with nginx.", location.directive, directive,
    )  # fmt: skip


def _challenges(location: Location) -> bool:
    """Whether a location is there for ACME."""
    return "well-known" in location.path and (
        "acme" in location.path or CHALLENGES.startswith(access.path_of(location) or "//")
    )


def challenges_of(server: Server) -> list[Location]:
    """The locations of a server for ACME challenges."""
    return [location for location in server.locations if _challenges(location)]


def _redirects(location: Location) -> bool:
    return any(
        directive.name == "return" and directive.args[-1].startswith(("https://", "$scheme"))
        for directive in location.scope.own
    )

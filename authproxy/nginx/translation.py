"""Owns the whole way: what was read of nginx -> the text of a configuration.

Pure: reading.py has opened the files. The text is read by config.py before anybody sees it.
"""

from __future__ import annotations

from attrs import frozen

from .. import config
from . import limits, listen_table, names, origins, security, sites, words
from .blocks import Http, Server, http_of
from .draft import Draft, Kind, Section, short, toml
from .reading import Configuration, Directive, NginxError
from .rest import say_log, say_missing, say_servers
from .sites import Taken

_HEAD = (
    "Behind each setting stands the line of nginx that it came from; below each table, what became"
    " of the directives that have no setting. Look for ATTENTION, then test it: authproxy check"
    " --config FILE."
)
_CONTAINERS = ("http", "server", "location", "upstream")


@frozen
class Translation:
    """text: the configuration. counts: remarks by kind. sites: how many were made."""

    text: str
    counts: dict[Kind, int]
    sites: int


def translate(read: Configuration) -> Translation:
    """The configuration that does the same. Raises NginxError where nothing can be made."""
    http = http_of(read.directives)
    draft = Draft()
    found, rest = sites.choose(http)
    if not found:
        raise NginxError(_nothing(read, http))
    made = sites.put(draft, http, found, read.prefix)
    if not made:
        raise NginxError(_unmade(draft))
    say_missing(draft, read)
    _put_sites(draft, made, read.prefix)
    servers = [server for taken in made for server in taken.servers]
    if all(server.names and "_" not in server.names for server in servers):
        names.say_others(draft, list(http.servers))
    redirecting = say_servers(draft, rest, servers)
    _put_whole(draft, http, made, servers, redirecting)
    sections = {id(s.directive): t.section for t in made for s in t.servers if t.section}
    _leftovers(draft, read.directives, sections, draft.table(""), "")
    text = toml(draft, f"Made by `authproxy import-nginx {read.file}`.", _HEAD)
    problems = config.loads(text, "authproxy.toml")[1]
    if problems:  # a fault of ours: better nothing than what does not start
        said = "; ".join(map(str, problems[:3]))
        raise NginxError(f"{read.file}: the translation is not valid, which is a fault"
                         f" of authproxy: please report it, with this: {said}")  # fmt: skip
    return Translation(text, draft.counts(), len(made))


def _put_sites(draft: Draft, made: list[Taken], prefix: str) -> None:
    for taken in made:
        assert taken.section is not None
        draft.account(*(server.directive for server in taken.servers))
        plain = not any(map(sites.secure, taken.servers))
        security.put_certificate(draft, taken.section, taken.servers, prefix)
        security.put_hsts(draft, taken.section, taken.main.scope, always_plain=plain)


def _put_whole(
    draft: Draft, http: Http, made: list[Taken], servers: list[Server],
    redirecting: list[tuple[Server, Directive]],
) -> None:  # fmt: skip
    """What is one setting for all sites."""
    found = listen_table.put(draft, servers, redirecting)
    listen_table.say_renewal(draft)
    scopes = [location.scope for taken in made for location in taken.locations]
    secure = [server for server in servers if sites.secure(server)]
    if secure:
        security.put_protocols(draft, [server.scope for server in secure])
        security.put_http2(draft, secure, [listener for listener in found if listener.tls])
    security.put_trust(draft, scopes, found)
    limits.put(draft, http, scopes, [taken.to for taken in made])
    say_log(draft, scopes)


def _leftovers(
    draft: Draft, directives: tuple[Directive, ...], sections: dict[int, Section],
    section: Section, parent: str,
) -> None:  # fmt: skip
    """Say something of every directive that nothing was said of.

    `sections` are the sites, by the id of their servers' directives.
    """
    for directive in directives:
        here = sections.get(id(directive), section)
        if draft.is_open(directive):
            if directive.name == "upstream":
                words_ = words.Words(Kind.UNNEEDED, "", "No site here passes to it.")
            else:
                words_ = words.said_of(directive, parent)
            home = draft.table(words_.home) if words_.home else here
            if directive.name in ("http", "events"):
                draft.account(directive)
            else:
                draft.say(home, words_.kind, words_.words, directive)
            if directive.name not in _CONTAINERS or directive.name == "upstream":
                draft.account_all(directive)
        if directive.block is not None and directive.name in _CONTAINERS:
            _leftovers(draft, directive.block, sections, here, directive.name)


def _nothing(read: Configuration, http: Http) -> str:
    """Why there is no site."""
    file = read.file
    for directive, why in read.missing:
        return (
            f"{directive.place}: {short(directive.args[0])} cannot be read ({why}), and without"
            " it there is no server with a proxy_pass. Run this where nginx runs."
        )
    passing = [
        (location, proxied)
        for server in http.servers
        for location in server.locations
        if (proxied := location.proxied) is not None
    ]
    for location, proxied in passing:
        if location.passed_to is proxied and origins.passed(location.scope, proxied) is None:
            return (
                f"{proxied.place}: where proxy_pass {short(proxied.args[0])} leads is decided by"
                " a variable. Write the host and port of authentik there, and try again."
            )
    for location, _ in passing:
        return (
            f"{location.directive.place}: this is an application that asks authentik"
            " (auth_request): it stays with nginx. Name the file of authentik's own host."
        )
    if not http.servers:
        return (
            f"{file}: there is no server block. Name the file that has authentik's, or nginx.conf,"
            " which includes it."
        )
    return (
        f"{http.servers[0].directive.place}: no server here has a location with proxy_pass. Name"
        " the file of the site that passes to authentik."
    )


def _unmade(draft: Draft) -> str:
    """Why no site could be made: the remarks are all that was said so far."""
    (_, words_), directives = next(iter(draft.table("").remarks.items()))
    return f"{directives[-1].place}: {words_}"

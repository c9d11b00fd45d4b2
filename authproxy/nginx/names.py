"""Owns the way from server_name to the hosts of a site."""

from __future__ import annotations

from . import checked
from .blocks import Server, has_variable
from .draft import Draft, Kind, Section, short

_LABELS = (
    "nginx's * stands for any number of labels, here for one: name the deeper hosts one by one."
)


def hosts(
    draft: Draft, section: Section, servers: list[Server], taken: set[str]
) -> list[str] | None:
    """The hosts of these servers; [] for every host, None where all are another site's.

    `taken` are those of other sites; the found ones are added to it.
    """
    found: list[str] = []
    catches_all = not any(server.names for server in servers)
    for server in servers:
        for directive in server.own("server_name"):
            draft.account(directive)
            for name in directive.args:
                names, kind, words = _of(server.scope.known(name))
                if words:
                    draft.say(
                        section, kind, f"{short(name) or 'The empty name'}: {words}", directive
                    )
                catches_all = catches_all or name == "_"
                found += [host for host in names if host not in found]
    for host in [host for host in found if host in taken]:
        words = f"{short(host)} is a host of a site above: nginx took that one, too."
        draft.say(section, Kind.UNNEEDED, words)
        found.remove(host)
        if not found:
            return None
    taken.update(found)
    sources = [directive for server in servers for directive in server.own("server_name")]
    if found:
        draft.put(section, "hosts", found, sources)
    elif not catches_all:
        draft.put(
            section, "hosts", ["sso.example.com"], sources,
            "None of nginx's names can be written here, so that this site serves every host. Name"
            " yours:", off=True,
        )  # fmt: skip
    return found


def say_others(draft: Draft, servers: list[Server]) -> None:
    """What hosts get that no site has, where every site names its own."""
    defaults = [
        listen
        for server in servers
        for listen in server.own("listen")
        if {"default_server", "default"} & set(listen.args[1:])
    ]
    words = (
        "Hosts that no site has get a 421; nginx took its default server for them, or the first. A"
        " site without hosts serves them all."
    )
    draft.say(draft.table(""), Kind.DIFFERENT, words, *defaults)


def _of(name: str) -> tuple[list[str], Kind, str]:
    """The hosts of one name, and what is to be said of it."""
    if name == "_":
        return [], Kind.UNNEEDED, ""
    if not name:
        return [], Kind.DIFFERENT, "a request without a host is refused, as HTTP/1.1 asks."
    if name.startswith("~"):
        return [], Kind.LOST, "hosts are no patterns here. Name each, or *.example.com."
    if has_variable(name) or name.endswith(".*"):
        return [], Kind.LOST, "this cannot be written as a host. Name each host."
    bare = name.removeprefix("*").removeprefix(".") if name[:1] in "*." else name
    try:
        host = checked.host(bare)
        if name.startswith("*."):
            return [f"*.{host}"], Kind.DIFFERENT, _LABELS
        if name.startswith("."):
            return [host, f"*.{host}"], Kind.DIFFERENT, _LABELS
        return [host], Kind.UNNEEDED, ""
    except ValueError as e:
        return [], Kind.LOST, str(e)

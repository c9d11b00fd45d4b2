"""Owns which site a host belongs to: exact before wildcard before the site without hosts.

Pure. Hosts are compared without case, port and final dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

_REMEMBERED = 1024
_PORT = re.compile(rb":[0-9]+\Z")
_ADDRESS = re.compile(r"[0-9.]+|\[.*\]|.*:.*")


class HasHosts(Protocol):
    """What a table holds."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names, "*.name" for every name with one label more, or () for every host."""


S = TypeVar("S", bound=HasHosts)


def normal_host(host: bytes) -> str:
    """A Host (RFC 9110 7.2) as names are compared: lower case, no port, no final dot."""
    return _PORT.sub(b"", host).decode("latin-1").lower().removesuffix(".")


def name_of(hosts: Sequence[str]) -> str:
    """How a site with these hosts is called in logs and counts."""
    return hosts[0] if hosts else "default"


def hsts_applies(host: bytes) -> bool:
    """Whether Strict-Transport-Security means anything: not for addresses (RFC 6797 8.1.1), and for
    localhost it would lock other programs of the same machine out."""
    name = normal_host(host)
    return not (
        not name
        or name == "localhost"
        or name.endswith(".localhost")
        or _ADDRESS.fullmatch(name) is not None
    )


class SiteTable(Generic[S]):
    """Host -> site."""

    def __init__(self, sites: Iterable[S]) -> None:
        self._exact: dict[str, S] = {}
        self._wildcard: dict[str, S] = {}
        self._default: S | None = None
        self._known: dict[bytes, S | None] = {}
        for site in sites:
            if not site.hosts:
                self._default = site
            for host in site.hosts:
                name = host.lower().removesuffix(".")
                if name.startswith("*."):
                    self._wildcard[name[2:]] = site
                else:
                    self._exact[name] = site

    def find(self, host: bytes) -> S | None:
        """The site of this Host, or None. b"" (HTTP/1.0) belongs to the default or only site."""
        try:
            return self._known[host]
        except KeyError:
            pass
        site = self._look_up(host)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[host] = site
        return site

    def _look_up(self, host: bytes) -> S | None:
        if not host:
            return self._default or self._only()
        name = normal_host(host)
        return self._exact.get(name) or self._wildcard.get(name.partition(".")[2]) or self._default

    def _only(self) -> S | None:
        sites = {id(s): s for s in (*self._exact.values(), *self._wildcard.values())}
        return next(iter(sites.values())) if len(sites) == 1 else None

"""Owns what a text of nginx's is as a value of the settings: as values.py takes it, or ValueError.

One place for that, so that what is written is what a configuration may have.
"""

from __future__ import annotations

from functools import cache

from cattrs import Converter

from .. import values
from ..settings import ListenAddress, Upstream


@cache
def _converter() -> Converter:
    return values.converter()


def host(text: str) -> str:
    """A host of a site in its normal form."""
    return values.FORMS["host"](text)


def server_name(text: str) -> str:
    """A name to ask upstream for, or ""."""
    return values.FORMS["server_name"](text)


def cidr(text: str) -> str:
    """A network, or the word for peers on unix sockets."""
    return values.FORMS["cidr"](text)


def upstream(text: str) -> Upstream:
    """A server of a site."""
    found: Upstream = _converter().structure(text, Upstream)
    return found


def listen_address(text: str) -> ListenAddress:
    """Where to listen."""
    found: ListenAddress = _converter().structure(text, ListenAddress)
    return found

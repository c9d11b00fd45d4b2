"""Owns how the configuration writes places in a network: hosts, networks, listeners, servers.

Each function takes what a file has and returns what settings have, or raises ValueError with a
sentence that says what is wrong and what to write instead.
"""

from __future__ import annotations

import ipaddress
import re
import reprlib
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from .settings import ListenAddress, Upstream, Verify
from .trust import UNIX_PEER

_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}")
_PIN = re.compile(r"sha256/[A-Za-z0-9+/]{43}=")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxlist = 3


def shown(value: Any) -> str:
    """A value as a message shows it: TOML's way, short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 100:
        return "so large a number"
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else _SHORT.repr(value)
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def text(value: Any) -> str:
    """Any text."""
    if not isinstance(value, str):
        cure = "" if isinstance(value, (dict, list)) else f' Write "{shown(value)}".'
        raise ValueError(f"must be a text in quotes, not {shown(value)}.{cure}")
    if "\0" in value:
        raise ValueError("may not hold a NUL character. Remove it.")
    return value


def host(value: Any) -> str:
    """A host name, perhaps with "*." before it; or an address, as clients write it in Host."""
    given = text(value).lower().removesuffix(".")
    if "://" in given or "/" in given:
        raise ValueError(f'must be a host name alone. Write "{_name_in(given)}".')
    if given.startswith("["):
        address = _address(given[1:-1]) if given.endswith("]") else None
        if address is None or ":" not in address:
            raise ValueError('an IPv6 address is written "[2001:db8::1]", without a port or zone.')
        return f"[{address}]"
    address = _address(given)
    if address is not None:
        return f"[{address}]" if ":" in address else address
    if ":" in given:
        raise ValueError(
            f'must be a host name without a port. Write "{given.partition(":")[0]}", which is'
            " right for every port."
        )
    if not given.isascii():
        try:
            given = given.encode("idna").decode()
        except UnicodeError:
            raise ValueError(f"{shown(value)} is not a host name.") from None
    if given == "*":
        raise ValueError("every host is served where hosts is left out.")
    if len(given) > 253 or not _HOST.fullmatch(given):
        raise ValueError(
            f'{shown(value)} is not a host name. Write "sso.example.com", or "*.example.com" for'
            " all names one label below it."
        )
    return given


def server_name(value: Any) -> str:
    """One host name or address, for SNI and verification, or "" for the default."""
    if value == "":
        return ""
    given = host(value)
    if given.startswith("*."):
        raise ValueError('must be one name, without a wildcard, such as "sso.example.com".')
    return given


def _name_in(url: str) -> str:
    with suppress(ValueError):
        return urlsplit(url if "//" in url else f"//{url}").hostname or "sso.example.com"
    return "sso.example.com"


def cidr(value: Any) -> str:
    """A network in its canonical form, or UNIX_PEER."""
    given = text(value)
    if given == UNIX_PEER:
        return given
    if "%" in given:
        raise ValueError(f'zones cannot be used here. Write "{given.partition("%")[0]}".')
    try:
        network = ipaddress.ip_network(given)
    except ValueError:
        try:
            network = ipaddress.ip_network(given, strict=False)
        except ValueError:
            raise ValueError(
                f'{shown(value)} is not a network. Write "10.0.0.0/8", "2001:db8::/32", one'
                f' address, or "{UNIX_PEER}" for unix sockets.'
            ) from None
        raise ValueError(
            f'{shown(value)} has bits beyond its length. Write "{network}" for the network or'
            f' "{given.partition("/")[0]}" for the one address.'
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise ValueError(
            "IPv4 addresses are IPv4 here on every listener. Write the IPv4 network, such as"
            ' "10.0.0.0/8".'
        )
    return str(network)


def listen_address(value: Any) -> ListenAddress:
    """An address to listen on."""
    given = text(value)
    if given.startswith("unix:"):
        if not given.startswith("unix:/"):
            raise ValueError('a unix socket is written "unix:/run/authproxy/http.sock".')
        return ListenAddress("unix", path=given[5:])
    if given.startswith("systemd:"):
        name = given[8:]
        if not _NAME.fullmatch(name):
            raise ValueError('an inherited socket is written "systemd:NAME".')
        return ListenAddress("systemd", name=name)
    address, colon, digits = given.rpartition(":")
    if not colon or not digits.isdecimal() or len(digits) > 5 or not 0 <= int(digits) <= 65535:
        raise ValueError(
            f'{shown(value)} is not an address to listen on. Write "[::]:443" for all addresses of'
            ' this machine, "192.0.2.1:443", "unix:/path" or "systemd:NAME".'
        )
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if (":" in bare) != address.startswith("[") or not _is_address(bare):
        raise ValueError(
            f"{shown(value)} does not begin with an address of this machine. Write"
            f' "[::]:{digits}" for all of them.'
        )
    return ListenAddress("tcp", bare, int(digits))


def admin_address(value: Any) -> ListenAddress | None:
    """As listen_address; "" for none."""
    return listen_address(value) if value != "" else None


def upstream(value: Any) -> Upstream:
    """Where an authentik server is."""
    given = text(value)
    example = 'Write "https://10.0.0.5:9443" or "http://127.0.0.1:9000".'
    if given.startswith("unix:"):
        if not given.startswith("unix:/"):
            raise ValueError('a unix socket is written "unix:/run/authentik/http.sock".')
        return Upstream("http", "unix", path=given[5:])
    if "://" not in given:
        raise ValueError(f"{shown(value)} does not say https:// or http://. {example}")
    try:
        parts = urlsplit(given)
    except ValueError:
        raise ValueError(f"{shown(value)} is not a URL. {example}") from None
    try:
        name, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"{shown(value)} has no valid port (1 to 65535). {example}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{shown(value)} is neither https:// nor http://. {example}")
    if parts.username is not None or port == 0:
        raise ValueError(f"{shown(value)} may have a host and a port only. {example}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(
            "may not have a path: requests keep theirs, a sub-path such as /auth/ included. Write"
            f' "{parts.scheme}://{parts.netloc}".'
        )
    if not _is_address(name) and (name.startswith("*") or not _HOST.fullmatch(name)):
        raise ValueError(f"{shown(value)} has no valid host. {example}")
    if "_" in name:
        raise ValueError(
            f'a host name with "_" cannot be resolved ("{name}"). Give it an alias without one, or'
            " write its address."
        )
    return Upstream(parts.scheme, "tcp", name, port or (443 if parts.scheme == "https" else 80))


def verify(value: Any) -> Verify:
    """How to verify upstream's certificate."""
    given = text(value) if isinstance(value, str) else ""  # false, say: the words follow below
    if given in ("system", "off"):
        return Verify(given)
    if given.startswith("ca:/"):
        return Verify("ca", given[3:])
    if given.startswith("pin:"):
        if not _PIN.fullmatch(given[4:]):
            raise ValueError('a pin is written "pin:sha256/" and 44 characters of base64.')
        return Verify("pin", given[4:])
    raise ValueError(
        f'must be "system", "off", "ca:/path.pem" or "pin:sha256/BASE64", not {shown(value)}.'
    )


def _address(given: str) -> str | None:
    """The canonical form of an address without zone, or None."""
    if "%" in given:
        return None
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        return None


def _is_address(given: str) -> bool:
    """Whether it is one, for use on this machine: with a zone or without."""
    try:
        ipaddress.ip_address(given)
    except ValueError:
        return False
    return True

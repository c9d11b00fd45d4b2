"""Owns what one value of the configuration may be: TOML values -> the types of settings.py.

Each check raises ValueError with a sentence that says what is wrong and what to write instead.
"""

from __future__ import annotations

import ipaddress
import re
import reprlib
import types
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import attrs
from cattrs import BaseValidationError, Converter
from cattrs.gen import make_dict_structure_fn, override

from . import guards
from .settings import (
    Form,
    GuardSettings,
    Listen,
    ListenAddress,
    Range,
    Settings,
    SiteSettings,
    Upstream,
    Verify,
)  # fmt: skip
from .trust import UNIX_PEER

# Where the name of an attribute is not that of the key.
KEYS = {
    "sites": "site", "upstreams": "upstream", "guards": "guard", "below": "path", "target": "path",
}  # fmt: skip
_TABLES = {SiteSettings: "site", GuardSettings: "site.guard"}  # of which there may be several
_NOT_IN_FILES = ("path", "http_explicit", "https_explicit", "admin_explicit")

_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}")
_PIN = re.compile(r"sha256/[A-Za-z0-9+/]{43}=")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxlist = 3


def keys_of(shape: type[Any]) -> list[str]:
    """The keys that a table of this class may have."""
    return [
        KEYS.get(field.name, field.name)
        for field in attrs.fields(shape)
        if field.name not in _NOT_IN_FILES
    ]


def converter() -> Converter:
    """What turns a document into Settings, and collects every problem on the way."""
    made = Converter(forbid_extra_keys=True, detailed_validation=True)
    made.register_structure_hook(str, lambda value, _: text(value))
    made.register_structure_hook(int | str, lambda value, _: workers(value))
    made.register_structure_hook(ListenAddress | None, lambda value, _: admin_address(value))
    made.register_structure_hook_factory(attrs.has, lambda shape: _table(made, shape))
    made.register_structure_hook_factory(_is(tuple), lambda shape: _list(made, shape))
    made.register_structure_hook_func(
        _is(Literal), lambda value, shape: choice(value, get_args(shape))
    )
    made.register_structure_hook_func(_is(Annotated), _annotated)
    made.register_structure_hook(ListenAddress, lambda value, _: listen_address(value))
    made.register_structure_hook(Upstream, lambda value, _: upstream(value))
    made.register_structure_hook(Verify, lambda value, _: verify(value))
    return made


def understood(document: dict[str, Any]) -> Settings:
    """What is right of a document in which something is wrong; the rest has its default."""
    made = converter()
    settings: Settings = _understood(made, Settings, document)
    return settings


def _understood(made: Converter, shape: type[Any], table: Any) -> Any:
    attrs.resolve_types(shape)
    right: dict[str, Any] = {}
    for field in attrs.fields(shape):
        key = KEYS.get(field.name, field.name)
        if not isinstance(table, dict) or key not in table or field.name in _NOT_IN_FILES:
            continue
        value = table[key]
        if shape is Settings and attrs.has(field.type) and isinstance(value, dict):
            right[field.name] = _understood(made, field.type, value)
        elif key == "site" and isinstance(value, list):
            right[field.name] = tuple(_understood(made, SiteSettings, site) for site in value)
        else:
            with suppress(BaseValidationError, ValueError):
                right[field.name] = made.structure(value, field.type)
    return shape(**right)


def _is(origin: Any) -> Callable[[Any], bool]:
    return lambda shape: get_origin(shape) is origin


def _table(made: Converter, shape: type[Any]) -> Callable[[Any, Any], Any]:
    present = [field.name for field in attrs.fields(shape)]
    special: dict[str, Any] = {
        name: override(rename=key) for name, key in KEYS.items() if name in present
    }
    special |= {name: override(omit=True) for name in _NOT_IN_FILES if name in present}
    structure = make_dict_structure_fn(shape, made, **special)

    def table(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"must be a table, not {_shown(value)}.")
        result = structure(value, shape)
        if shape is Listen:
            return attrs.evolve(
                result,
                http_explicit="http" in value,
                https_explicit="https" in value,
                admin_explicit="admin" in value,
            )
        if shape is SiteSettings and "upstream_verify" not in value:
            near = all(upstream.loopback_or_unix for upstream in result.upstreams)
            return attrs.evolve(result, upstream_verify=Verify("off" if near else "system"))
        return result

    return table


def _list(made: Converter, shape: Any) -> Callable[[Any, Any], Any]:
    item = get_args(shape)[0]
    several: Any = types.GenericAlias(list, (item,))

    def structure(value: Any, _: Any) -> Any:
        if item in _TABLES and not isinstance(value, list):
            raise ValueError(f"is written with two brackets: [[{_TABLES[item]}]].")
        if item is Upstream and not isinstance(value, list):
            value = [text(value)]
        if not isinstance(value, list):
            cure = f" Write [{_shown(value)}]." if isinstance(value, str) else ""
            raise ValueError(f"must be a list in brackets, not {_shown(value)}.{cure}")
        return tuple(made.structure(value, several))

    return structure


def _annotated(value: Any, shape: Any) -> Any:
    kind, mark = get_args(shape)
    if isinstance(mark, Range):
        return number(value, mark, whole=kind is int)
    assert isinstance(mark, Form)
    return FORMS[mark.name](value)


def _shown(value: Any) -> str:
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
        cure = "" if isinstance(value, (dict, list)) else f' Write "{_shown(value)}".'
        raise ValueError(f"must be a text in quotes, not {_shown(value)}.{cure}")
    if "\0" in value:
        raise ValueError("may not hold a NUL character.")
    return value


def number(value: Any, limits: Range, whole: bool) -> float:
    """A number in a range."""
    unit = f" of {limits.words}" if limits.words else ""
    kind = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"must be {kind}{unit}, without quotes or unit, not {_shown(value)}.")
    if not limits.least <= value <= limits.most:
        raise ValueError(
            f"must be {kind}{unit} from {limits.least:g} to {limits.most:.0f}, not {_shown(value)}."
        )
    return float(value) if not whole else value


def choice(value: Any, allowed: tuple[str, ...]) -> str:
    """One of a few words."""
    if value not in allowed:
        words = " or ".join(f'"{word}"' for word in allowed)
        close = get_close_matches(str(value).lower(), allowed, 1, 0.5)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        raise ValueError(f"must be {words}, not {_shown(value)}.{hint}")
    return str(value)


def workers(value: Any) -> int | str:
    """A number of processes, or "auto"."""
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1024:
        raise ValueError(f'must be a whole number from 1 to 1024 or "auto", not {_shown(value)}.')
    return value


def path(value: Any) -> str:
    """An absolute path, or "" for none."""
    given = text(value)
    if given and not given.startswith("/"):
        raise ValueError(f"must be an absolute path, not {_shown(value)}.")
    return given


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
            raise ValueError(f"{_shown(value)} is not a host name.") from None
    if given == "*":
        raise ValueError("every host is served where hosts is left out.")
    if len(given) > 253 or not _HOST.fullmatch(given):
        raise ValueError(
            f'{_shown(value)} is not a host name. Write "sso.example.com", or "*.example.com" for'
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
                f'{_shown(value)} is not a network. Write "10.0.0.0/8", "2001:db8::/32", one'
                f' address, or "{UNIX_PEER}" for unix sockets.'
            ) from None
        raise ValueError(
            f'{_shown(value)} has bits beyond its length. Write "{network}" for the network or'
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
            f'{_shown(value)} is not an address to listen on. Write "[::]:443" for all addresses of'
            ' this machine, "192.0.2.1:443", "unix:/path" or "systemd:NAME".'
        )
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if (":" in bare) != address.startswith("[") or not _is_address(bare):
        raise ValueError(
            f"{_shown(value)} does not begin with an address of this machine. Write"
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
        raise ValueError(f"{_shown(value)} does not say https:// or http://. {example}")
    try:
        parts = urlsplit(given)
        name, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"{_shown(value)} is not a URL. {example}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{_shown(value)} is neither https:// nor http://. {example}")
    if parts.username is not None or port == 0:
        raise ValueError(f"{_shown(value)} may have a host and a port only. {example}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(
            "may not have a path: requests keep theirs, a sub-path such as /auth/ included. Write"
            f' "{parts.scheme}://{parts.netloc}".'
        )
    if not _is_address(name) and (name.startswith("*") or not _HOST.fullmatch(name)):
        raise ValueError(f"{_shown(value)} has no valid host. {example}")
    if "_" in name:
        raise ValueError(
            f'a host name with "_" cannot be resolved ("{name}"). Give it an alias without one, or'
            " write its address."
        )
    return Upstream(parts.scheme, "tcp", name, port or (443 if parts.scheme == "https" else 80))


def verify(value: Any) -> Verify:
    """How to verify upstream's certificate."""
    given = text(value)
    if given in ("system", "off"):
        return Verify(given)
    if given.startswith("ca:/"):
        return Verify("ca", given[3:])
    if given.startswith("pin:"):
        if not _PIN.fullmatch(given[4:]):
            raise ValueError('a pin is written "pin:sha256/" and 44 characters of base64.')
        return Verify("pin", given[4:])
    raise ValueError(
        f'must be "system", "off", "ca:/path.pem" or "pin:sha256/BASE64", not {_shown(value)}.'
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


FORMS = {"host": host, "server_name": server_name, "cidr": cidr, "path": path}
FORMS["guard_path"] = lambda value: guards.checked_path(text(value))

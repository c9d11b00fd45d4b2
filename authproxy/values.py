"""Owns what one value of the configuration may be: TOML values -> the types of settings.py.

Places in a network are places.py's.

Each check raises ValueError with a sentence that says what is wrong and what to write instead.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

import attrs
from cattrs import BaseValidationError, Converter
from cattrs.gen import make_dict_structure_fn, override

from . import guards, places
from .places import shown, text
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
)

# Where the name of an attribute is not that of the key.
KEYS = {
    "sites": "site", "upstreams": "upstream", "guards": "guard", "below": "path", "target": "path",
}  # fmt: skip
_TABLES = {SiteSettings: "site", GuardSettings: "site.guard"}  # of which there may be several
NOT_IN_FILES = ("path", "http_explicit", "https_explicit", "admin_explicit")


def keys_of(shape: type[Any]) -> list[str]:
    """The keys that a table of this class may have."""
    return [
        KEYS.get(field.name, field.name)
        for field in attrs.fields(shape)
        if field.name not in NOT_IN_FILES
    ]


@cache
def converter() -> Converter:
    """What turns a document into Settings, and collects every problem on the way.

    Made once: what it is made of are the classes, and it keeps nothing of a document.
    """
    made = Converter(forbid_extra_keys=True, detailed_validation=True)
    made.register_structure_hook(str, lambda value, _: text(value))
    made.register_structure_hook(int | str, lambda value, _: workers(value))
    made.register_structure_hook(ListenAddress | None, lambda value, _: places.admin_address(value))
    made.register_structure_hook_factory(attrs.has, lambda shape: _table(made, shape))
    made.register_structure_hook_factory(_is(tuple), lambda shape: _list(made, shape))
    made.register_structure_hook_func(
        _is(Literal), lambda value, shape: choice(value, get_args(shape))
    )
    made.register_structure_hook_func(_is(Annotated), _annotated)
    made.register_structure_hook(ListenAddress, lambda value, _: places.listen_address(value))
    made.register_structure_hook(Upstream, lambda value, _: places.upstream(value))
    made.register_structure_hook(Verify, lambda value, _: places.verify(value))
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
        if not isinstance(table, dict) or key not in table or field.name in NOT_IN_FILES:
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
    special |= {name: override(omit=True) for name in NOT_IN_FILES if name in present}
    structure = make_dict_structure_fn(shape, made, **special)

    def table(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"must be a table, not {shown(value)}.")
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
            name = _TABLES[item]
            raise ValueError(f"{name.split('.')[-1]}s are written with two brackets: [[{name}]].")
        if item is Upstream and not isinstance(value, list):
            value = [text(value)]
        if not isinstance(value, list):
            cure = f" Write [{shown(value)}]." if isinstance(value, str) else ""
            port = re.fullmatch('"?:?([1-9][0-9]{0,4})"?', shown(value))
            if item is ListenAddress and port is not None and int(port[1]) < 1 << 16:
                cure = f' Write ["[::]:{port[1]}"].'
            raise ValueError(f"must be a list in brackets, not {shown(value)}.{cure}")
        return tuple(made.structure(value, several))

    return structure


def _annotated(value: Any, shape: Any) -> Any:
    kind, mark = get_args(shape)
    if isinstance(mark, Range):
        return number(value, mark, whole=kind is int)
    assert isinstance(mark, Form)
    return FORMS[mark.name](value)


def number(value: Any, limits: Range, whole: bool) -> float:
    """A number in a range."""
    unit = f" of {limits.words}" if limits.words else ""
    kind = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"must be {kind}{unit}, without quotes or unit, not {shown(value)}.")
    if not limits.least <= value <= limits.most:
        raise ValueError(
            f"must be {kind}{unit} from {limits.least:g} to {limits.most:.0f}, not {shown(value)}."
        )
    return float(value) if not whole else value


def choice(value: Any, allowed: tuple[str, ...]) -> str:
    """One of a few words."""
    if value not in allowed:
        words = " or ".join(f'"{word}"' for word in allowed)
        given = str(value).lower()  # a number with another digit is no slip
        close = get_close_matches(given, allowed, 1, 0.6 if re.search("[a-z]", given) else 1.0)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        raise ValueError(f"must be {words}, not {shown(value)}.{hint}")
    return str(value)


def workers(value: Any) -> int | str:
    """A number of processes, or "auto"."""
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1024:
        raise ValueError(f'must be a whole number from 1 to 1024 or "auto", not {shown(value)}.')
    return value


def path(value: Any) -> str:
    """An absolute path, or "" for none."""
    given = text(value)
    if given and not given.startswith("/"):
        raise ValueError(f"must be an absolute path, not {shown(value)}.")
    return given


def guard_path(value: Any) -> str:
    """The path of a guard, or "" for none."""
    return guards.checked_path(text(value))


FORMS = {
    "host": places.host,
    "server_name": places.server_name,
    "cidr": places.cidr,
    "path": path,
    "guard_path": guard_path,
}

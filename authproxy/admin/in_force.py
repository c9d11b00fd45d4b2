"""Owns how settings are shown: section by section, what differs from the default, secrets masked.

Pure.
"""

from __future__ import annotations

import re
from typing import Any

import attrs
from attrs import frozen

from ..settings import Settings, SiteSettings
from ..values import KEYS

MASK = "\u2022\u2022\u2022\u2022\u2022\u2022"
# Of the name of a setting whose value nobody must see; of paths to secrets the path may be seen.
_SECRET = re.compile(r"password|passphrase|secret|token|credential|cookie")
_USER = re.compile(r"(?<=://)[^/@\s]*@")
_OURS = ("path", "http_explicit", "https_explicit", "admin_explicit")


@frozen
class Setting:
    """One setting as text; `changed` where it is not the default."""

    name: str
    value: str
    changed: bool


@frozen
class Section:
    """A table of the configuration, "" for what is in none."""

    name: str
    settings: tuple[Setting, ...]


def sections(settings: Settings) -> list[Section]:
    """All of them, the sites before the other tables."""
    top, tables = [], []
    for field in attrs.fields(Settings):
        value = getattr(settings, field.name)
        if field.name == "sites":
            continue
        if attrs.has(type(value)):
            tables.append(Section(f"[{field.name}]", _table(value, type(value)())))
        elif field.name not in _OURS:
            top.append(_setting(field.name, value, field.default))
    sites = [Section("[[site]]", _table(site, SiteSettings())) for site in settings.sites]
    return [Section("", tuple(top)), *sites, *tables]


def _table(table: Any, default: Any) -> tuple[Setting, ...]:
    return tuple(
        _setting(KEYS.get(name, name), getattr(table, name), getattr(default, name))
        for name in (field.name for field in attrs.fields(type(table)))
        if name not in _OURS
    )


def _setting(name: str, value: Any, default: Any) -> Setting:
    text = _text(value)
    if value and _SECRET.search(name) and not text.startswith('"/'):
        text = MASK
    return Setting(name, _USER.sub(f"{MASK}@", text), value != default)


def _text(value: Any) -> str:
    """About as it would be written in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_text(entry) for entry in value) + "]"
    if attrs.has(type(value)) and "__str__" not in vars(type(value)):
        parts = [getattr(value, field.name) for field in attrs.fields(type(value))]
        if all(isinstance(part, str) for part in parts):  # Verify: "ca:/path", "off"
            return '"' + ":".join(filter(None, parts)) + '"'
        shown = (
            f"{field.name} = {_text(part)}"
            for field, part in zip(attrs.fields(type(value)), parts, strict=True)
        )
        return "{ " + ", ".join(shown) + " }"
    return '""' if value is None else f'"{value}"'

"""Owns the way back: settings -> the TOML that means the same, defaults marked.

Pure. What comes out is read by config.loads as equal settings (a test holds that), so nothing of a
configuration is left out, but for values of SECRETS.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import attrs

from .settings import ListenAddress, Settings, SiteSettings, Upstream, Verify
from .values import KEYS, NOT_IN_FILES

# Names of settings whose values nobody is to see. There are none: keys and passwords stay in files,
# and a setting has their paths. One that is added here is masked wherever settings are shown.
SECRETS: frozenset[str] = frozenset()
MASK = "********"
_VALUES = (ListenAddress, Upstream, Verify)  # one text each; every other class is a table


@attrs.frozen
class Entry:
    """One setting: its key and value as plain data (texts, numbers, lists of them).

    `default`: it has the value that it has where it is not written. `implied`: to write it down
    would mean more (the ports of [listen], which may be others if they are not asked for).
    """

    key: str
    value: Any
    default: bool
    implied: bool


@attrs.frozen
class Table:
    """One table: `name` is "" for the top, "site.guard"; `several`: it is written [[name]]."""

    name: str
    several: bool
    entries: tuple[Entry, ...]
    tables: tuple[Table, ...]


def dumps(settings: Settings) -> str:
    """A configuration file that means these settings."""
    return "\n".join(_lines(table_of(settings))).strip() + "\n"


def document(settings: Settings) -> dict[str, Any]:
    """The settings as plain data, by the keys of a file."""
    return _plain(table_of(settings))


def changed(settings: Settings) -> list[str]:
    """The keys of what is not the default, such as "site[1].hosts"."""
    return list(_changed(table_of(settings), ""))


def table_of(settings: Settings) -> Table:
    """All of it."""
    return _table(settings, "", several=False)


def _table(table: Any, name: str, *, several: bool) -> Table:
    shape = type(table)
    attrs.resolve_types(shape)
    entries, tables = [], []
    for field in attrs.fields(shape):
        if field.name in NOT_IN_FILES:
            continue
        key = KEYS.get(field.name, field.name)
        below = f"{name}.{key}" if name else key
        value = getattr(table, field.name)
        if _is_table(field.type):
            tables.append(_table(value, below, several=False))
        elif isinstance(value, tuple) and _is_table(get_args(field.type)[0]):
            tables += [_table(each, below, several=True) for each in value]
        else:
            explicit = getattr(table, f"{field.name}_explicit", True)
            default = value == _default(table, field)
            entries.append(Entry(key, _data(key, value), default, not explicit))
    return Table(name, several, tuple(entries), tuple(tables))


def _is_table(shape: Any) -> bool:
    return attrs.has(shape) and shape not in _VALUES


def _default(table: Any, field: Any) -> Any:
    if isinstance(table, SiteSettings) and field.name == "upstream_verify":
        near = all(upstream.loopback_or_unix for upstream in table.upstreams)
        return Verify("off" if near else "system")
    return field.default


def _data(key: str, value: Any) -> Any:
    if key in SECRETS and value:
        return MASK
    if isinstance(value, tuple):
        several = [_data(key, each) for each in value]
        return several[0] if key == "upstream" and len(several) == 1 else several
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (bool, int, float)):
        return value
    return "" if value is None else str(value)


def _lines(table: Table) -> Iterator[str]:
    if table.name:
        yield ""
        yield f"[[{table.name}]]" if table.several else f"[{table.name}]"
    for entry in table.entries:
        mark = "  # default" if entry.default else ""
        if entry.implied:
            mark = "  # default, where it can be had"
        yield f"{'#' if entry.implied else ''}{entry.key} = {_written(entry.value)}{mark}"
    # Sites first, as in the shipped file: they are what is looked for.
    for below in sorted(table.tables, key=lambda below: not below.several):
        yield from _lines(below)


def _written(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    # TOML's texts and numbers are JSON's, but for DEL, which JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(table: Table) -> dict[str, Any]:
    found = {entry.key: entry.value for entry in table.entries}
    for below in table.tables:
        key = below.name.rpartition(".")[2]
        if below.several:
            found.setdefault(key, []).append(_plain(below))
        else:
            found[key] = _plain(below)
    return found


def _changed(table: Table, path: str) -> Iterator[str]:
    for entry in table.entries:
        if not entry.default:
            yield f"{path}{entry.key}"
    numbers: dict[str, int] = {}
    for below in table.tables:
        key = below.name.rpartition(".")[2]
        numbers[key] = numbers.get(key, 0) + 1
        where = f"{key}[{numbers[key]}]" if below.several else key
        yield from _changed(below, f"{path}{where}.")

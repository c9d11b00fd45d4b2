"""Owns the way from a TOML file to settings, and what is said of a wrong one.

All problems are found at once; each names the file, the key and the cure. Shapes and ranges are
those of settings.py, checked by cattrs, whose detailed errors become `Problem`s here; what concerns
several settings at once is `crosschecks.py`'s.

`loads` is pure; `load`, `examine` and `read` read the file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import attrs
from cattrs import BaseValidationError, ClassValidationError, IterableValidationError
from cattrs.errors import ForbiddenExtraKeysError

from . import crosschecks, values
from .settings import Settings, SiteSettings

DEFAULT_PATH = "/etc/authproxy/authproxy.toml"

# The options of the command line that override a setting: where it is in the document.
OVERRIDES = {
    "http": ("listen", "http"),
    "https": ("listen", "https"),
    "access_log": ("log", "access"),
    "host": ("site", "hosts"),
    "upstream": ("site", "upstream"),
    "certificate": ("site", "certificate"),
    "private_key": ("site", "private_key"),
}
_OF_NGINX = {
    "server_name": "hosts in [[site]]",
    "proxy_pass": "upstream in [[site]]",
    "ssl_certificate": "certificate in [[site]]",
    "ssl_certificate_key": "private_key in [[site]]",
    "ssl_protocols": "minimum_version in [tls]",
    "set_real_ip_from": "proxies in [trust]",
    "access_log": "access in [log]",
    "client_max_body_size": "body_bytes in [limits]",
}
# What the parser's words begin with, and what mostly was meant.
_CURES_OF_TOML = {
    "Invalid value (at end": "At its end a value is missing, or the bracket that closes a list.",
    "Invalid value": 'Texts stand in straight quotes: hosts = ["sso.example.com"].',
    "Illegal character": "A text ends with a quote, in the line in which it begins.",
    "Unterminated string": "A text ends with a quote.",
    "Unclosed array": "Before that a comma or the closing bracket of a list is missing.",
    "Expected '=' after a key": "A setting is written name = value, and a comment begins with #.",
    "Invalid statement": "A setting is written name = value, and a comment begins with #.",
    "Expected ']": "A site begins with [[site]], any other table with [name].",
    "Expected newline": "Each setting has a line of its own, and texts stand in quotes.",
    "Cannot overwrite": "It is there twice: remove one of them.",
    "Cannot declare": "It is there twice: put the settings of both below one of them.",
    "Invalid hex value": "Write \\\\ for a backslash, or the text in single quotes.",
    "Unescaped": "Write \\\\ for it, or the text in single quotes.",
}
_LISTS = ("http", "https", "host")


@attrs.frozen
class Problem:
    """One thing that is wrong: where, and what to do. str() is one line, whatever is in a file."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.file, self.key, self.message) if part)
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class ConfigError(Exception):
    """The settings cannot be used; str() is one line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def path_or_default(path: str | None) -> str | None:
    """The file that a command reads: the one it was told, DEFAULT_PATH if it exists, or none."""
    if path is None and os.path.exists(DEFAULT_PATH):
        return DEFAULT_PATH
    return path


def load(path: str | None, overrides: Mapping[str, str] | None = None) -> Settings:
    """The settings of this file, or the built-in ones for None. Raises ConfigError.

    `overrides`: values of command-line options by name, see OVERRIDES.
    """
    settings, problems = examine(path, overrides)
    if problems:
        raise ConfigError(problems)
    return settings


def examine(
    path: str | None, overrides: Mapping[str, str] | None = None
) -> tuple[Settings, list[Problem]]:
    """As `load`, with the problems as a value.

    Where there are any, the settings are what could be understood: good for looking for more
    problems, and for nothing else.
    """
    text, problem = read(path)
    if problem is not None:
        return Settings(path=path or ""), [problem]
    return loads(text, path or "", overrides)


def read(path: str | None) -> tuple[str, Problem | None]:
    """The text of a configuration file, "" for none; or why it cannot be read."""
    if path is None:
        return "", None
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8-sig"), None
    except FileNotFoundError:
        message = "there is no such file. Name the configuration with --config FILE."
    except UnicodeDecodeError:
        message = "this is not UTF-8 text. Save it as UTF-8."
    except IsADirectoryError:
        message = "this is a directory. Name a file in it."
    except OSError as e:
        message = f"cannot be read: {e.strerror}. The user who runs authproxy must be allowed to."
    return "", Problem(path, "", message)


def loads(
    text: str, file: str, overrides: Mapping[str, str] | None = None
) -> tuple[Settings, list[Problem]]:
    """Settings of a document and its problems, see `examine`. `file` is how problems call it."""
    try:
        document = tomllib.loads(text)
    except ValueError as e:  # a TOMLDecodeError, or a number of thousands of digits
        return Settings(path=file), [Problem(file, "", _not_toml(str(e)))]
    except RecursionError:
        return Settings(path=file), [
            Problem(file, "", "brackets are nested too deeply. Write fewer of them.")
        ]
    overridden = {name: value for name, value in (overrides or {}).items() if value is not None}
    problems = _override(document, overridden)
    found = []
    try:
        settings = values.converter().structure(document, Settings)
    except BaseValidationError as e:
        settings = values.understood(document)
        found = _problems(e, "")
    # A table in which something is wrong has defaults where it should not: what its settings mean
    # together is not known.
    broken = {_section(key) for key, _ in found}
    found += [
        (key, message)
        for key, message in crosschecks.problems(settings)
        if _section(key) not in broken
    ]
    problems += [named(file, key, message, overridden) for key, message in found]
    return attrs.evolve(settings, path=file), problems


def _not_toml(words: str) -> str:
    cures = (cure for start, cure in _CURES_OF_TOML.items() if words.startswith(start))
    return f"this is not TOML: {words}. {next(cures, '')}".rstrip()


def _section(key: str) -> str:
    return re.split(r"[.\[]", key, maxsplit=1)[0]


def _override(document: dict[str, Any], overrides: Mapping[str, str]) -> list[Problem]:
    """Put the command line's values into the document, or say why not."""
    problems = []
    for name, value in overrides.items():
        section, key = OVERRIDES[name]
        given: Any = [value] if name in _LISTS else value
        target = document.setdefault(section, [{}] if section == "site" else {})
        if section == "site" and isinstance(target, list):
            if len(target) > 1:
                message = "the configuration has several sites. Set it there, in the one you mean."
                problems.append(Problem("", _option(name), message))
                continue
            if not target:
                target.append({})
            target = target[0]
        if isinstance(target, dict):  # anything else is a problem that is found later
            target[key] = given
    return problems


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def named(file: str, key: str, message: str, overrides: Mapping[str, str]) -> Problem:
    """A problem; with the option's name where the value came from the command line."""
    for name in overrides:
        section, wanted = OVERRIDES[name]
        place = f"site[1].{wanted}" if section == "site" else f"{section}.{wanted}"
        if key == place or key.startswith(place + "["):
            return Problem("", _option(name), message)
    return Problem(file, key, message)


def _problems(error: BaseException, path: str) -> list[tuple[str, str]]:
    """(key, message) of everything in an error of cattrs."""
    if isinstance(error, ClassValidationError):
        found = []
        for inner, note in error.group_exceptions()[0]:
            key = values.KEYS.get(note.name, note.name)
            found += _problems(inner, f"{path}.{key}" if path else key)
        for other in error.group_exceptions()[1]:
            found += _problems(other, path)
        return found
    if isinstance(error, IterableValidationError):
        found = []
        for inner, item in error.group_exceptions()[0]:
            # Counted from 1, as people count the [[site]] tables of a file.
            found += _problems(inner, f"{path}[{int(item.index) + 1}]")
        return found
    if isinstance(error, ForbiddenExtraKeysError):
        return [
            (f"{path}.{name}" if path else name, _unknown(name, error.cl))
            for name in sorted(error.extra_fields)
        ]
    return [(path, str(error))]


def _unknown(name: str, shape: type[Any]) -> str:
    """What to say of a key that does not exist."""
    names = values.keys_of(shape)
    if name in _OF_NGINX:
        return f"there is no such setting. What nginx calls so is {_OF_NGINX[name]} here."
    close = get_close_matches(name, names, 1, 0.6)
    if close:
        return f"there is no such setting. Did you mean {close[0]}?"
    sections: dict[str, Any] = {field.name: field.type for field in attrs.fields(Settings)}
    homes = [
        f"[{key}]"
        for key, section in sections.items()
        if attrs.has(section) and section is not shape and name in values.keys_of(section)
    ]
    if shape is not SiteSettings and name in values.keys_of(SiteSettings):
        homes.append("[[site]]")
    if homes:
        return f"there is no such setting here. It belongs in {' or '.join(homes)}."
    return f"there is no such setting. There are: {', '.join(names)}."

"""Owns the way from nginx's files to directives: the parser, and includes as nginx follows them.

Must not know what a directive means. What is read may be of any size and shape: everything here has
a bound.
"""

from __future__ import annotations

import glob
import os
import stat
from contextlib import suppress
from typing import Any

import crossplane
from attrs import define, field, frozen
from crossplane.analyzer import analyze
from crossplane.errors import NgxParserDirectiveError, NgxParserSyntaxError

# A configuration of a hundred sites has a tenth of these.
MOST_OCTETS = 1 << 20  # of all files; the parser needs about a second for them
MOST_DIRECTIVES = 20_000  # after includes: one file may be included many times
MOST_FILES = 500
DEEPEST = 24  # blocks and includes inside each other

# What is inside these is data, not directives.
_OPAQUE = ("map", "geo", "types", "split_clients", "charset_map", "match")
_OUT_OF_SITES = 3  # how far above a file nginx.conf is looked for: sites-enabled/group/file.conf


class NginxError(Exception):
    """Nothing can be made of this. str() is one line: file, line, what is wrong, the cure."""


@frozen(eq=False)
class Directive:
    """One directive. file is as people should see it; block is None where it has none.

    Compared by identity: the same line of a file that is included twice is two directives.
    """

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    block: tuple[Directive, ...] | None = None

    @property
    def place(self) -> str:
        """FILE:LINE."""
        return f"{self.file}:{self.line}"


@frozen
class Configuration:
    """What was read. prefix is the directory that nginx takes relative paths from.

    missing: the includes that could not be read, and why.
    """

    file: str
    prefix: str
    directives: tuple[Directive, ...]
    missing: tuple[tuple[Directive, str], ...]


def read(path: str) -> Configuration:
    """Read a configuration with everything that it includes. Raises NginxError."""
    reader = _Reader(path, prefix_of(path))
    directives = reader.file(path, 0)
    return Configuration(path, reader.prefix, directives, tuple(reader.missing))


def prefix_of(path: str) -> str:
    """The directory of nginx: the nearest one at or above the file that has an nginx.conf, else the
    file's own. A file of sites-enabled means paths beside nginx.conf."""
    own = directory = os.path.dirname(os.path.abspath(path))
    for _ in range(_OUT_OF_SITES):
        if os.path.isfile(os.path.join(directory, "nginx.conf")):
            return directory
        directory = os.path.dirname(directory)
    return own


@define
class _Reader:
    main: str
    prefix: str
    missing: list[tuple[Directive, str]] = field(factory=list)
    _parsed: dict[str, list[dict[str, Any]]] = field(factory=dict)
    _open: list[str] = field(factory=list)
    _octets: int = 0
    _directives: int = 0

    def file(self, path: str, depth: int) -> tuple[Directive, ...]:
        """The directives of one file. Raises NginxError, or OSError where it cannot be read."""
        real = os.path.realpath(path)
        if real not in self._parsed:
            self._parsed[real] = self._parse(path)
        self._open.append(real)
        try:
            return self._directives_of(self._parsed[real], self._shown(path), depth)
        finally:
            self._open.pop()

    def _parse(self, path: str) -> list[dict[str, Any]]:
        shown = self._shown(path)
        typed = path if path == self.main else shown  # a slip may be anywhere in it
        try:
            status = os.stat(path)
        except OSError as e:
            raise NginxError(f"{typed}: cannot be read: {e.strerror}. {_cure(e)}") from None
        if not stat.S_ISREG(status.st_mode):
            raise NginxError(f"{typed}: this is not a file. Name nginx's configuration file.")
        self._octets += status.st_size
        if self._octets > MOST_OCTETS or len(self._parsed) >= MOST_FILES:
            raise NginxError(
                f"{shown}: too large: at most {MOST_FILES} files of {MOST_OCTETS} octets in all are"
                " read. Name the file of authentik's site alone."
            )
        if not os.access(path, os.R_OK):
            raise NginxError(f"{typed}: cannot be read: Permission denied. Run this as root.")
        with suppress(NgxParserSyntaxError):  # which the parser finds as well
            _look_for_ends(path, shown)
        # Only the syntax: crossplane does not know the site files that nginx.conf includes.
        payload = crossplane.parse(path, single=True, check_ctx=False, check_args=False)
        for error in payload["errors"]:
            raise NginxError(_syntax(shown, path, error))
        parsed: list[dict[str, Any]] = payload["config"][0]["parsed"]
        return parsed

    def _directives_of(
        self, statements: list[dict[str, Any]], file: str, depth: int, opaque: bool = False
    ) -> tuple[Directive, ...]:
        found: list[Directive] = []
        for statement in statements:
            name, line = statement["directive"].removeprefix("\ufeff"), statement["line"]
            self._count(file, line, depth)
            if not opaque:
                _check(statement, name, file)
            block = None
            if "block" in statement:
                block = self._directives_of(
                    statement["block"], file, depth + 1, opaque or is_opaque(name)
                )
            directive = Directive(name, tuple(statement["args"]), file, line, block)
            if name == "include" and not opaque and directive.args:
                found += self._include(directive, depth + 1)
            else:
                found.append(directive)
        return tuple(found)

    def _count(self, file: str, line: int, depth: int) -> None:
        self._directives += 1
        if self._directives > MOST_DIRECTIVES:
            cure = "Name the file of authentik's site alone."
            raise NginxError(f"{file}:{line}: more than {MOST_DIRECTIVES} directives. {cure}")
        if depth > DEEPEST:
            raise NginxError(
                f"{file}:{line}: blocks or includes are more than {DEEPEST} deep. Does a file"
                " include itself?"
            )

    def _include(self, directive: Directive, depth: int) -> list[Directive]:
        found: list[Directive] = []
        self._count(directive.file, directive.line, depth)
        if "\0" in directive.args[0]:  # no file has such a name, and functions of paths raise
            self.missing.append((directive, "there is no such file"))
            return [directive]
        for path in self._paths(directive.args[0]):
            if os.path.realpath(path) in self._open:
                raise NginxError(
                    f"{directive.place}: {path} includes itself. nginx would not start with that:"
                    " remove one of the includes."
                )
            if os.path.isfile(path) and os.access(path, os.R_OK):
                found += self.file(path, depth)
            else:
                self.missing.append((directive, _why_not(path)))
                found.append(directive)
        return found

    def _paths(self, pattern: str) -> list[str]:
        """The files of an include: relative ones beside nginx.conf, else beside the main file."""
        beside = os.path.dirname(os.path.abspath(self.main))
        places = [os.path.join(place, pattern) for place in (self.prefix, beside)]
        if glob.has_magic(pattern):
            return next((found for place in places if (found := sorted(glob.glob(place)))), [])
        return [next((place for place in places if os.path.lexists(place)), places[0])]

    def _shown(self, path: str) -> str:
        """A path as remarks name it: short where it is below the main file's directory."""
        if path == self.main:
            return os.path.basename(path)
        own = os.path.dirname(os.path.abspath(self.main))
        inside = os.path.abspath(path).startswith(own + os.sep)
        return os.path.relpath(path, own) if inside else os.path.abspath(path)


def is_opaque(name: str) -> bool:
    """Whether the block of this directive is data or code."""
    return name in _OPAQUE or name.endswith("_by_lua_block")


def _look_for_ends(path: str, shown: str) -> None:
    """Raise NginxError for a last directive of a block without its semicolon, and for one too many.

    The parser takes the brace as the directive's end, and what comes after the block as inside it.
    """
    before, place = ";", 1
    for word, line, quoted in crossplane.lex(path):
        if quoted or not word.startswith("#"):
            if word == "}" and not quoted and before not in ("{", "}", ";"):
                raise NginxError(f"{shown}:{place}: a semicolon is missing at the end of the line.")
            if word in (";", "{") and not quoted and before in ("{", "}", ";"):
                raise NginxError(f'{shown}:{line}: unexpected "{word}". Remove it, as nginx asks.')
            before, place = ("quoted" if quoted else word), line


def _check(statement: dict[str, Any], name: str, file: str) -> None:
    """Arguments as nginx counts them: what has too many lacks a semicolon."""
    try:
        analyze(
            file, statement | {"directive": name}, "{" if "block" in statement else ";",
            check_ctx=False,
        )  # fmt: skip
    except NgxParserDirectiveError as e:
        raise NginxError(
            f"{file}:{statement['line']}: {e.strerror}. nginx would not start with that: is a"
            " semicolon or brace missing there?"
        ) from None


def _syntax(shown: str, path: str, error: dict[str, Any]) -> str:
    """One line for an error of the parser."""
    text = str(error["error"]).partition(" in ")[0]
    line = error["line"]
    if "recursion" in text:
        return f"{shown}: blocks are nested too deeply. nginx would not start with that."
    if line is None:  # the tokens were over before the directive was
        with open(path, "rb") as file:
            line = file.read().count(b"\n") + 1
        text = "the file ends inside a directive or a quotation"
    cure = "Look for the missing semicolon, quote or brace; nginx -t names it too."
    return f"{shown}:{line}: {text}. {cure}"


def _cure(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "Name nginx's configuration file, such as /etc/nginx/sites-enabled/authentik.conf."
    return "Run this as root."


def _why_not(path: str) -> str:
    if not os.path.lexists(path):
        return "there is no such file"
    return "it may not be read by this user" if os.path.isfile(path) else "it is not a file"

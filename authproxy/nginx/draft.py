"""Owns what is collected on the way, settings and remarks, and their TOML.

What comes from nginx's files is put into values and comments here and nowhere else: nothing of it
can begin a line of its own.
"""

from __future__ import annotations

import enum
import textwrap
from collections.abc import Iterable, Iterator

from attrs import define, field, frozen

from .reading import Directive

WIDTH = 100
LOUD = "ATTENTION: "  # how a comment above a line begins that is to be read
_MOST_SHOWN = 90  # characters of a directive in a remark
_MOST_SAID = 2000  # of a whole remark
_MOST_PLACES = 4  # at which a setting came from

Value = str | int | float | bool | list[str]


class Kind(enum.Enum):
    """What became of a directive. The value is the heading above such remarks."""

    ATTENTION = "ATTENTION: this protects less than nginx did, or needs you to act"
    LOST = "Cannot be honoured"
    DIFFERENT = "Done differently"
    UNNEEDED = "Not needed"


@frozen
class Line:
    """One setting. above: comments that belong to it alone; off: shown as a comment only."""

    key: str
    value: Value
    source: tuple[Directive, ...] = ()
    above: tuple[str, ...] = ()
    off: bool = False


@define(eq=False)
class Section:
    """A table of the configuration: heading is "[listen]", "[[site]]" or "" for the top."""

    heading: str
    lines: list[Line] = field(factory=list)
    # Why directives have no line of their own, or what is to be known: (kind, words) -> which.
    remarks: dict[tuple[Kind, str], list[Directive]] = field(factory=dict)
    inner: list[Section] = field(factory=list)  # [[site.guard]]


# In the order of etc/authproxy.toml, but for the sites, which have the last word.
TABLES = ("", "listen", "trust", "log", "tls", "timeouts", "limits", "pool")


class Draft:
    """The configuration that is being made, and which directives are accounted for.

    Every directive that was read ends in `put` or `say`, or is left for the last to speak of.
    """

    def __init__(self) -> None:
        self.tables = {name: Section(f"[{name}]" if name else "") for name in TABLES}
        self.sites: list[Section] = []
        self._accounted: set[int] = set()

    def table(self, name: str) -> Section:
        """One of TABLES."""
        return self.tables[name]

    def site(self) -> Section:
        """A new [[site]]."""
        self.sites.append(Section("[[site]]"))
        return self.sites[-1]

    def put(
        self, section: Section, key: str, value: Value, source: Iterable[Directive] = (),
        *above: str, off: bool = False,
    ) -> None:  # fmt: skip
        """A setting, made from these directives."""
        source = tuple(source)
        section.lines.append(Line(key, value, source, above, off))
        self.account(*source)

    def say(self, section: Section, kind: Kind, words: str, *directives: Directive) -> None:
        """A remark on these directives. Equal words become one remark."""
        self.account(*directives)
        section.remarks.setdefault((kind, words), []).extend(directives)

    def account(self, *directives: Directive) -> None:
        """These need no more words; what is inside them still does."""
        self._accounted.update(map(id, directives))

    def account_all(self, directive: Directive) -> None:
        """This, and all that is inside, needs no more words."""
        self.account(directive)
        for inner in directive.block or ():
            self.account_all(inner)

    def is_open(self, directive: Directive) -> bool:
        """Whether nothing was said of it yet."""
        return id(directive) not in self._accounted

    def counts(self) -> dict[Kind, int]:
        """How many remarks there are of each kind, by directive; one without any counts as one, and
        so does an ATTENTION above a line."""
        counted = dict.fromkeys(Kind, 0)
        for section in (*self.tables.values(), *self.sites):
            for (kind, _), directives in section.remarks.items():
                counted[kind] += max(1, len(places(directives)))
            for line in section.lines:
                counted[Kind.ATTENTION] += any(said.startswith(LOUD) for said in line.above)
        return counted


def toml(draft: Draft, title: str, head: str = "") -> str:
    """The configuration as text. `title` is its first line, `head` a comment below it."""
    out = [f"# {printable(title)}", *_comment(head, "# ")]
    for section in (*draft.tables.values(), *draft.sites):
        if section.lines or section.remarks or section.heading == "[[site]]":
            out += ["", *_section(section)]
    return "\n".join(out) + "\n"


def _section(section: Section) -> Iterator[str]:
    if section.heading:
        yield section.heading
    for line in section.lines:
        for words in line.above:
            yield from _comment(words, "# ")
        text = f"{line.key} = {_value(line.value)}"
        if line.source:
            text += f"  # {_places(line.source)}"
        yield f"#{text}" if line.off else text
    parted = not section.lines
    for kind in Kind:
        remarks = [words for known, words in section.remarks if known is kind]
        if remarks:
            yield from (() if parted else ("#",))
            yield f"# {kind.value}:"
            parted = False
        for words in remarks:
            yield from _comment(f"- {words}", "#   ", "#     ")
            for place, what in places(section.remarks[kind, words]):
                yield f"#       {place}  {what}".rstrip()
    for inner in section.inner:
        yield ""
        yield from _section(inner)


def places(directives: Iterable[Directive]) -> list[tuple[str, str]]:
    """(FILE:LINE, the directive as written), each once, short and printable."""
    return list(dict.fromkeys((printable(d.place), shown(d)) for d in directives))


def shown(directive: Directive) -> str:
    """A directive on one line, whatever is in it."""
    text = short(" ".join((directive.name, *(arg or "''" for arg in directive.args))))
    return text if directive.block is None else text + " { ... }"


def short(text: str) -> str:
    """A text from a file, to be quoted in a remark: printable, and not too long."""
    text = printable(text[:_MOST_SHOWN])
    return text if len(text) < _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def _places(directives: tuple[Directive, ...]) -> str:
    """FILE:LINE, LINE, OTHERFILE:LINE, the first few."""
    found = list(dict.fromkeys((directive.file, directive.line) for directive in directives))
    text, before = "", None
    for file, line in found[:_MOST_PLACES]:
        text += f", {line}" if file == before else f"{', ' if text else ''}{printable(file)}:{line}"
        before = file
    return text + (f" and {len(found) - _MOST_PLACES} more" if len(found) > _MOST_PLACES else "")


def _comment(words: str, first: str, rest: str = "") -> list[str]:
    """A text as comment lines."""
    return textwrap.wrap(
        printable(words[:_MOST_SAID]), WIDTH, initial_indent=first, subsequent_indent=rest or first,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def printable(text: str) -> str:
    """A text on one line, with everything that is not seen spelled out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(quoted, value)) + "]"
    return quoted(value)


def quoted(text: str) -> str:
    """A basic string of TOML 1.0: quotes, backslashes and all that is not printable escaped."""
    return '"' + "".join(map(_character, text)) + '"'


def _character(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    if c.isprintable():
        return c
    if 0xD800 <= ord(c) <= 0xDFFF:  # an octet of a file name that is not UTF-8: TOML has no way
        return "\ufffd"
    return f"\\u{ord(c):04X}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}"

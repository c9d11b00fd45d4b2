"""Write what is made from the commands' parsers and the commented configuration.

    script/generate.py        etc/completion/*, etc/man/authproxy.1, etc/man/authproxy.toml.5

To be run with .venv/bin/python after a command, an option or a setting has changed: a test
compares.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from authproxy import __version__
from authproxy.commands.completion import completion
from authproxy.commands.outline import Command, outline

ETC = Path(__file__).resolve().parent.parent / "etc"
DATE = "2026-11-26"  # of the manual's words; for those who print it
SHELLS = {"bash": "authproxy", "zsh": "_authproxy", "fish": "authproxy.fish"}

DESCRIPTION = """
authproxy is the front door of an authentik server. It ends TLS, redirects plain HTTP, keeps
connections to authentik open, sends it exactly the fields that it trusts and none that a client
forged, and relays WebSockets. One file configures it, see authproxy.toml(5); without one it serves
an authentik on the same machine.
"""
SIGNALS = (
    ("SIGHUP", "Read the configuration again, as authproxy reload does."),
    (
        "SIGTERM, SIGINT",
        "Finish what runs (timeouts.drain), then stop. A second one stops at once.",
    ),
)
FILES = (
    ("/etc/authproxy/authproxy.toml", "The configuration, where no other is named."),
    (
        "$STATE_DIRECTORY, $XDG_STATE_HOME/authproxy, ~/.local/state/authproxy",
        "The first of them that is set has the self-signed certificate that is used where none is"
        " configured.",
    ),
)
STATUSES = (
    ("0", "All is well."),
    ("1", "A problem was found, or nothing could be done; it was said on stderr."),
    ("2", "The command line makes no sense."),
)
EXAMPLES = (
    ("Try it out, with a stand-in for authentik:", "authproxy demo"),
    ("Look for mistakes before a start or a reload:", "authproxy check"),
    ("Run it in the foreground:", "authproxy run --config /etc/authproxy/authproxy.toml"),
)


def plain(text: str) -> str:
    """Text as roff shows it: as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    for mark, name in (("`", "ga"), ("^", "ha"), ("~", "ti"), ("'", "aq")):
        text = text.replace(mark, f"\\({name}")
    return f"\\&{text}" if text.startswith(".") else text


def bold(text: str) -> str:
    """A line of bold text."""
    quoted = plain(text).replace('"', "\\(dq")
    return f'.B "{quoted}"' if " " in quoted else f".B {quoted}"


def prose(text: str) -> list[str]:
    """A paragraph: a line for each sentence, or more."""
    lines = []
    for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z0-9])", " ".join(text.split())):
        lines += [plain(line) for line in textwrap.wrap(sentence, 74, break_on_hyphens=False)]
    return lines


def tagged(tags: list[str], text: str) -> Iterator[str]:
    """What is tagged, and what is said of it."""
    for number, tag in enumerate(tags):
        yield ".TQ" if number else ".TP"
        yield bold(tag)
    yield from prose(text)


def page(title: str, section: int, name: str) -> Iterator[str]:
    """The beginning of a page."""
    yield '.\\" Made by script/generate.py'
    yield f'.TH {title} {section} {DATE} "authproxy {__version__}"'
    yield ".SH NAME"
    yield plain(name)


# authproxy(1)


def synopsis(command: Command, path: tuple[str, ...]) -> str:
    """A command line."""
    words = list(path)
    for option in command.options:
        if "--help" not in option.flags:
            takes = f" {option.takes}" if option.takes else ""
            words.append(f"[{option.flags[-1]}{takes}]")
    for argument in command.arguments:
        name = "|".join(argument.choices) or argument.name
        words.append(f"[{name}]" if argument.optional else name)
    return " ".join(words)


def described(command: Command, path: tuple[str, ...]) -> Iterator[str]:
    """A command and those below it."""
    if not command.commands:
        yield f".SS {' '.join(path[1:])}"
        yield bold(synopsis(command, path))
        yield ".PP"
        yield from prose(command.words or f"{command.summary}.")
        for option in command.options:
            if "--help" not in option.flags:
                takes = f" {option.takes}" if option.takes else ""
                flags = ", ".join(flag + takes for flag in option.flags)
                yield from tagged([flags], _sentence(option.words))
        for argument in command.arguments:
            yield from tagged(
                ["|".join(argument.choices) or argument.name], _sentence(argument.words)
            )
    for below in command.commands:
        yield from described(below, (*path, below.name))


def _sentence(words: str) -> str:
    words = words or "see above"
    return words[0].upper() + words[1:] + ("" if words.endswith(".") else ".")


def authproxy_1() -> Iterator[str]:
    """The manual of the command."""
    top = outline()
    yield from page("AUTHPROXY", 1, "authproxy - the front door of an authentik server")
    yield ".SH SYNOPSIS"
    yield bold("authproxy COMMAND [options]")
    yield ".SH DESCRIPTION"
    yield from prose(DESCRIPTION)
    yield ".SH COMMANDS"
    yield from prose(
        "authproxy COMMAND --help says the same. authproxy --version prints the version."
    )
    for command in top.commands:
        yield from described(command, ("authproxy", command.name))
    for title, entries in (("SIGNALS", SIGNALS), ("FILES", FILES), ("EXIT STATUS", STATUSES)):
        yield f".SH {title}"
        for tag, words in entries:
            yield from tagged([tag], words)
    yield ".SH EXAMPLES"
    for number, (words, line) in enumerate(EXAMPLES):
        if number:
            yield ".PP"
        yield from prose(words)
        yield from (".PP", ".RS 4", ".nf", plain(line), ".fi", ".RE")
    yield ".SH SEE ALSO"
    yield ".BR authproxy.toml (5),"
    yield ".BR twistd (1)"


# authproxy.toml(5), from etc/authproxy.toml


@dataclass
class Setting:
    """Some settings that are explained together: lines to write, and words."""

    lines: list[str]
    words: list[str]


@dataclass
class Section:
    """A table of the file."""

    name: str
    intro: list[str] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)


def sections(text: str) -> list[Section]:
    """What the commented configuration says."""
    found = [Section("")]
    pending: list[str] = []
    explained = False  # the setting before may share its words with this one
    for line in text.splitlines():
        header = re.fullmatch(r"#?(\[+[a-z.]+\]+)", line)
        setting = re.fullmatch(r"#?([a-z_0-9]+ = .*?)(?:\s{2,}# (.*))?", line)
        if header and header[1] != found[-1].name:
            found.append(Section(header[1], pending))
            pending, explained = [], False
        elif setting and not line.startswith("# "):
            said = setting[2] or ""
            example = said.startswith('"')
            words = [*pending, f"For example {said}." if example else said]
            settings = found[-1].settings
            if explained and not pending and (example or not said):
                settings[-1].lines.append(setting[1])
                settings[-1].words += words
            elif explained and not pending and _key(settings[-1].lines[-1]) == _key(setting[1]):
                settings[-1].words.append(f"For example {setting[1]}: {said}.")
            else:
                settings.append(Setting([setting[1]], words))
            pending, explained = [], True
        elif line.startswith("# "):
            pending.append(line[2:])
        elif not line:
            found[-1].intro += pending
            pending, explained = [], False
    return found


def _key(line: str) -> str:
    return line.partition(" ")[0]


def authproxy_toml_5() -> Iterator[str]:
    """The manual of the configuration."""
    top, *tables = sections((ETC / "authproxy.toml").read_text())
    yield from page("AUTHPROXY.TOML", 5, "authproxy.toml - the configuration of authproxy")
    yield ".SH SYNOPSIS"
    yield bold("/etc/authproxy/authproxy.toml")
    yield ".SH DESCRIPTION"
    yield from prose(
        "Settings in TOML. Everything has a default that works on one machine; most files have five"
        " lines (see EXAMPLES). authproxy check finds every mistake, authproxy config show prints"
        " what is in force. Below, each setting stands with its default or, in [[site]], with an"
        " example."
    )
    yield from described_settings(top)
    for table in tables:
        yield f".SH {table.name}"
        if table.intro:
            yield from prose(" ".join(table.intro))
        yield from described_settings(table)
    yield ".SH EXAMPLES"
    yield from (".nf", "[[site]]", 'hosts = ["sso.example.com"]')
    yield from (plain(line) for line in (
        'upstream = "https://10.0.0.5:9443"',
        'certificate = "/etc/letsencrypt/live/sso.example.com/fullchain.pem"',
        'private_key = "/etc/letsencrypt/live/sso.example.com/privkey.pem"',
    ))  # fmt: skip
    yield ".fi"
    yield ".SH SEE ALSO"
    yield ".BR authproxy (1)"


def described_settings(table: Section) -> Iterator[str]:
    """The settings of one table."""
    for setting in table.settings:
        yield from tagged(setting.lines, _sentence(" ".join(setting.words)))


def generated() -> dict[Path, str]:
    """Every file that is made, and its text."""
    made = {
        ETC / "man" / "authproxy.1": "\n".join(authproxy_1()) + "\n",
        ETC / "man" / "authproxy.toml.5": "\n".join(authproxy_toml_5()) + "\n",
    }
    for shell, name in SHELLS.items():
        made[ETC / "completion" / name] = completion(shell)
    return made


if __name__ == "__main__":
    for path, text in generated().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ETC.parent))

"""Owns what there is to type: the commands, their options and arguments, as plain data.

Taken from the commands' own parsers: a module of COMMANDS that has `parser()` is complete in the
completions and in the manual without another word.
"""

from __future__ import annotations

import argparse
from importlib import import_module

from attrs import frozen

from . import COMMANDS, module_of

# Of what an option takes, by its metavar: what a shell can complete.
FILES = ("FILE", "PATH", "PATH.toml", "DIRECTORY")


@frozen
class Option:
    """An option. `flags` are ("-c", "--config"), `takes` its metavar or "", `choices` the words
    that it may take where they are few."""

    flags: tuple[str, ...]
    takes: str
    choices: tuple[str, ...]
    words: str

    @property
    def files(self) -> bool:
        """Whether it takes the name of a file."""
        return self.takes in FILES


@frozen
class Argument:
    """An argument without a flag."""

    name: str
    choices: tuple[str, ...]
    words: str
    optional: bool

    @property
    def files(self) -> bool:
        """Whether it is the name of a file."""
        return self.name in FILES


@frozen
class Command:
    """A command, or one below it. `summary` is a line, `words` a paragraph."""

    name: str
    summary: str
    words: str
    options: tuple[Option, ...] = ()
    arguments: tuple[Argument, ...] = ()
    commands: tuple[Command, ...] = ()


def outline() -> Command:
    """All of `authproxy`."""
    found = []
    for name, summary in COMMANDS.items():
        module = import_module(module_of(name))
        made = module.parser() if hasattr(module, "parser") else argparse.ArgumentParser(name)
        found.append(_command(name, summary, made))
    options = (
        Option(("-h", "--help"), "", (), "show help and exit"),
        Option(("-V", "--version"), "", (), "print the version and exit"),
    )
    return Command("authproxy", "", "", options, (), tuple(found))


def _command(name: str, summary: str, parser: argparse.ArgumentParser) -> Command:
    options: list[Option] = []
    arguments: list[Argument] = []
    commands: list[Command] = []
    for action in parser._actions:  # the only way to ask a parser what it has
        if action.help == argparse.SUPPRESS:
            continue
        words = parser._get_formatter()._expand_help(action) if action.help else ""
        choices = tuple(map(str, action.choices or ()))
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        if isinstance(action, argparse._SubParsersAction):
            summaries = {each.dest: each.help or "" for each in action._choices_actions}
            commands += [
                _command(below, summaries.get(below, ""), each)
                for below, each in action.choices.items()
            ]
        elif action.option_strings:
            takes = "" if action.nargs == 0 else metavar or action.dest.upper()
            options.append(Option(tuple(action.option_strings), takes, choices, words))
        else:
            optional = action.nargs in ("?", "*")
            arguments.append(Argument(metavar or action.dest, choices, words, optional))
    return Command(
        name, summary, parser.description or "", tuple(options), tuple(arguments), tuple(commands)
    )

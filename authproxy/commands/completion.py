"""Owns `authproxy completion SHELL`: what bash, zsh and fish need to complete a command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from .outline import Command, Option, outline

DESCRIPTION = (
    'Print the completion of a shell. bash: eval "$(authproxy completion bash)" in ~/.bashrc. zsh:'
    " to a file named _authproxy in a directory of $fpath. fish: to"
    " ~/.config/fish/completions/authproxy.fish. A package installs them by itself."
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="authproxy completion", description=DESCRIPTION)
    made.add_argument("shell", choices=tuple(SHELLS), help="for which shell")
    return made


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the command."""
    print(completion(parser().parse_args(arguments).shell), end="")
    return 0


def completion(shell: str) -> str:
    """The completion of "bash", "zsh" or "fish"."""
    return "\n".join(SHELLS[shell](outline())) + "\n"


def _all(command: Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    """A command and all below it, with the words that lead there."""
    yield path, command
    for below in command.commands:
        yield from _all(below, (*path, below.name))


def _short(words: str) -> str:
    """What fits beside a word: up to the first clause."""
    for end in (", e.g.", ". ", "; ", ": ", " ("):
        words = words.partition(end)[0]
    return words.removesuffix(".")


def _quoted(words: str) -> str:
    """For a shell."""
    return "'" + words.replace("'", "'\\''") + "'"


# bash: one function; where in the command line we are is the words so far.


def _bash(top: Command) -> Iterator[str]:
    everything = list(_all(top))
    yield "# authproxy(1) completion for bash. Made by: authproxy completion bash"
    yield "_authproxy() {"
    yield "    local at='' i"
    yield "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}"
    yield "    # --option=value comes as three words."
    yield "    if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then"
    yield "        prev=${COMP_WORDS[COMP_CWORD - 2]}"
    yield "    fi"
    yield "    COMPREPLY=()"
    yield "    for ((i = 1; i < COMP_CWORD; i++)); do"
    yield '        case "$at ${COMP_WORDS[i]}" in'
    for path, command in everything[1:]:
        before = " ".join(path[:-1])
        yield f'            "{before} {command.name}") at="{" ".join(path)}" ;;'
    yield "        esac"
    yield "    done"
    yield '    case "$at $prev" in'
    for path, command in everything:
        for option in command.options:
            if option.takes:
                yield from _bash_value(" ".join(path), option)
    yield "    esac"
    yield "    local words='' files="
    yield '    case "$at" in'
    for path, command in everything:
        words = [flag for option in command.options for flag in option.flags]
        words += [below.name for below in command.commands]
        words += [word for argument in command.arguments for word in argument.choices]
        files = " files=1" if any(each.files for each in command.arguments) else ""
        yield f'        "{" ".join(path)}") words="{" ".join(words)}"{files} ;;'
    yield "    esac"
    yield '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")'
    yield "    if [[ $files && $cur != -* ]]; then"
    yield "        compopt -o filenames 2>/dev/null"
    yield '        mapfile -t COMPREPLY < <(compgen -f -- "$cur")'
    yield "    fi"
    yield "}"
    yield "complete -F _authproxy authproxy"


def _bash_value(at: str, option: Option) -> Iterator[str]:
    patterns = "|".join(f'"{at} {flag}"' for flag in option.flags)
    if option.files:
        yield f"        {patterns})"
        yield "            compopt -o filenames 2>/dev/null"
        yield '            mapfile -t COMPREPLY < <(compgen -f -- "$cur")'
        yield "            return ;;"
    elif option.choices:
        words = " ".join(option.choices)
        yield f"        {patterns})"
        yield f'            mapfile -t COMPREPLY < <(compgen -W "{words}" -- "$cur")'
        yield "            return ;;"
    else:
        yield f"        {patterns}) return ;;"


# zsh: a function for each command.


def _zsh(top: Command) -> Iterator[str]:
    yield "#compdef authproxy"
    yield "# authproxy(1) completion for zsh. Made by: authproxy completion zsh"
    for path, command in _all(top):
        yield ""
        yield f"_{'_'.join(('authproxy', *path)).replace('-', '_')}() {{"
        yield "    local curcontext=$curcontext state line"
        yield "    typeset -A opt_args"
        yield "    _arguments -C \\"
        specs = [spec for option in command.options for spec in _zsh_option(option)]
        if command.commands:
            specs += ["'1: :->command'", "'*:: :->rest'"]
        for argument in command.arguments:
            words = argument.name.replace(":", "\\:")
            colon = "::" if argument.optional else ":"
            specs.append(_quoted(f"{colon}{words}:{_zsh_action(argument.choices, argument.files)}"))
        yield " \\\n".join(f"        {spec}" for spec in specs)
        if command.commands:
            yield from _zsh_commands(path, command)
        yield "}"
    yield ""
    yield '_authproxy "$@"'


def _zsh_commands(path: tuple[str, ...], command: Command) -> Iterator[str]:
    yield "    case $state in"
    yield "        command)"
    yield "            local -a commands=("
    for below in command.commands:
        name = below.name.replace(":", "\\:")
        yield f"                {_quoted(f'{name}:{_short(below.summary)}')}"
    yield "            )"
    yield "            _describe -t commands command commands ;;"
    yield "        rest)"
    yield "            case $words[1] in"
    for below in command.commands:
        function = f"_{'_'.join(('authproxy', *path, below.name)).replace('-', '_')}"
        yield f"                {below.name}) {function} ;;"
    yield "            esac ;;"
    yield "    esac"


def _zsh_option(option: Option) -> Iterator[str]:
    others = " ".join(option.flags)
    words = _short(option.words)
    for old, new in (("\\", "\\\\"), ("[", "\\["), ("]", "\\]"), (":", "\\:")):
        words = words.replace(old, new)
    for flag in option.flags:
        equals = "=" if option.takes and flag.startswith("--") else ""
        takes = option.takes.replace(":", "\\:")
        value = f":{takes}:{_zsh_action(option.choices, option.files)}" if option.takes else ""
        yield _quoted(f"({others}){flag}{equals}[{words}]{value}")


def _zsh_action(choices: tuple[str, ...], files: bool) -> str:
    if choices:
        return f"({' '.join(choices)})"
    return "_files" if files else " "


# fish: a line for each word.


def _fish(top: Command) -> Iterator[str]:
    yield "# authproxy(1) completion for fish. Made by: authproxy completion fish"
    yield "complete -c authproxy -f"
    for path, command in _all(top):
        where = _fish_condition(path, command)
        for below in command.commands:
            yield f"{where} -a {below.name} -d {_fish_quoted(_short(below.summary))}"
        for option in command.options:
            names = " ".join(
                f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                for flag in option.flags
            )
            takes = ""
            if option.takes:
                takes = " -r -F" if option.files else " -x"
            if option.choices:
                takes += f" -a {_fish_quoted(' '.join(option.choices))}"
            yield f"{where} {names}{takes} -d {_fish_quoted(_short(option.words))}"
        for argument in command.arguments:
            if argument.choices:
                yield f"{where} -a {_fish_quoted(' '.join(argument.choices))}"
            elif argument.files:
                yield f"{where} -F"


def _fish_condition(path: tuple[str, ...], command: Command) -> str:
    parts = [f"__fish_seen_subcommand_from {word}" for word in path]
    if command.commands:
        names = " ".join(below.name for below in command.commands)
        parts.append(f"not __fish_seen_subcommand_from {names}")
    return f"complete -c authproxy -n {_fish_quoted('; and '.join(parts))}"


def _fish_quoted(words: str) -> str:
    escaped = words.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}

"""Completions: what the shells themselves make of them."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pathlib
import pty
import select
import shutil
import subprocess

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from authproxy import commands
from authproxy.commands import completion
from authproxy.commands.outline import outline

# Words before the cursor, and what must be among what is offered, and what must not.
CASES = (
    (["authproxy", ""], {"run", "check", "config", "copy-keys"}, {"show", "bash"}),
    (["authproxy", "ch"], {"check"}, {"run"}),
    (["authproxy", "--v"], {"--version"}, {"--help"}),
    (["authproxy", "config", ""], {"show"}, {"run", "check"}),
    (["authproxy", "config", "show", "--"], {"--json", "--config"}, {"--version"}),
    (["authproxy", "completion", ""], {"bash", "zsh", "fish"}, {"run"}),
    (["authproxy", "check", "--c"], {"--config"}, {"--json"}),
    (["authproxy", "pin", "--s"], {"--server-name"}, {"--config"}),
    (["authproxy", "check", "--config", "here"], {"here.toml"}, {"--config"}),
)
BASH = r"""
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_authproxy
printf '%s\n' "${COMPREPLY[@]}"
"""


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SkipTest(f"{name} is not installed")
    return path


def written(shell: str, flag: str) -> str:
    """A flag as a completion has it."""
    if shell != "fish":
        return flag
    return f" -l {flag[2:]} " if flag.startswith("--") else f" -s {flag[1:]} "


class CompletionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = pathlib.Path(self.mktemp()).absolute()
        self.directory.mkdir()
        (self.directory / "here.toml").write_text("")

    def script(self, name: str) -> str:
        path = self.directory / f"completion.{name}"
        path.write_text(completion.completion(name))
        return str(path)

    def ask(self, *command: str) -> set[str]:
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, check=True, timeout=60
        )
        self.assertEqual(done.stderr, "")
        return {line.partition("\t")[0].rstrip(" ") for line in done.stdout.splitlines()}

    def test_bash(self) -> None:
        bash, script = shell("bash"), self.script("bash")
        for words, wanted, unwanted in CASES:
            # compopt works only while bash itself completes, and says so otherwise.
            found = self.ask(bash, "-c", BASH, "test", script, *words)
            self.assertLessEqual(wanted, found, words)
            self.assertFalse(unwanted & found, words)

    def test_bash_with_an_equals_sign(self) -> None:
        """--config=FILE comes as three words."""
        bash, script = shell("bash"), self.script("bash")
        for words in (["--config", "=", "here"], ["--config", "="]):
            found = self.ask(bash, "-c", BASH, "test", script, "authproxy", "check", *words)
            self.assertIn("here.toml", found)

    def test_fish(self) -> None:
        fish, script = shell("fish"), self.script("fish")
        for words, wanted, unwanted in CASES:
            line = " ".join(words)
            found = self.ask(fish, "--no-config", "-c", f"source {script}; complete -C '{line}'")
            self.assertLessEqual(wanted, found, words)
            self.assertFalse(unwanted & found, words)

    def test_zsh(self) -> None:
        """It is read without a word; and the functions are there."""
        zsh, script = shell("zsh"), self.script("zsh")
        self.assertEqual(self.ask(zsh, "-f", "-n", script), set())
        found = self.ask(
            zsh, "-f", "-c", f"_arguments() {{ print -rl -- $@ }}; state=x; source {script}"
        )
        self.assertIn("1: :->command", found)
        self.assertIn("(-V --version)--version[print the version and exit]", found)
        text = completion.completion("zsh")
        for name in commands.COMMANDS:
            self.assertIn(f"_authproxy_{name.replace('-', '_')}() {{", text)

    def test_zsh_in_a_terminal(self) -> None:
        """Tab, as a person types it."""
        zsh = shell("zsh")
        (self.directory / "_authproxy").write_text(completion.completion("zsh"))
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [zsh, "-f", "-i"], cwd=self.directory, stdin=theirs, stdout=theirs, stderr=theirs,
            env={**os.environ, "TERM": "dumb"}, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.addCleanup(os.close, ours)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        seen = b""
        for line, answer in (
            ("print -r '<a'b'>'", b"<ab>"),
            (f"fpath=({self.directory} $fpath); autoload -Uz compinit; compinit -u -D", b""),
            ("authproxy() { print -r -- \"<$*>\" }; print -r '<c'd'>'", b"<cd>"),
            ("authproxy conf\tsh\t--js\t; authproxy check --config he\t", b"<check --config here"),
            ("authproxy compl\tfi\t", b"<completion fish>"),
        ):
            os.write(ours, f"{line}\n".encode())
            while answer not in seen:
                ready, _, _ = select.select([ours], [], [], 60)
                self.assertTrue(ready, seen)
                seen += os.read(ours, 4096)
        self.assertIn(b"<config show --json>", seen)
        self.assertIn(b"<check --config here.toml>", seen)

    def test_every_command_and_option(self) -> None:
        """Of every module that has a parser, in every shell."""
        for name in completion.SHELLS:
            text = completion.completion(name)
            for command in outline().commands:
                self.assertIn(command.name, text)
                for option in command.options:
                    for flag in option.flags:
                        self.assertIn(written(name, flag), text, (name, command.name))

    def test_run(self) -> None:
        for name in completion.SHELLS:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                self.assertEqual(completion.run([name], {}), 0)
            self.assertEqual(out.getvalue(), completion.completion(name))
        with contextlib.redirect_stderr(io.StringIO()) as err:
            self.assertRaises(SystemExit, completion.run, ["tcsh"], {})
        self.assertIn("usage: authproxy completion", err.getvalue())


class OutlineTests(SynchronousTestCase):
    def test_ours(self) -> None:
        top = outline()
        self.assertEqual([command.name for command in top.commands], list(commands.COMMANDS))
        [config] = [command for command in top.commands if command.name == "config"]
        [show] = config.commands
        self.assertEqual(show.summary, "print the settings in force")
        self.assertEqual(show.options[1].flags, ("-c", "--config"))
        self.assertTrue(show.options[1].files)
        self.assertEqual(show.options[2].takes, "")
        [run] = [command for command in top.commands if command.name == "run"]
        self.assertIn("--private-key", [option.flags[-1] for option in run.options])

    def test_a_new_command_needs_a_parser_only(self) -> None:
        parser = argparse.ArgumentParser(description="New.")
        parser.add_argument("--colour", choices=("red", "blue"), help="which; 100%% by choice")
        parser.add_argument("file", metavar="FILE", nargs="?", help="it's read: here")
        parser.add_argument("--hush", help=argparse.SUPPRESS)

        class Module:
            @staticmethod
            def parser() -> argparse.ArgumentParser:
                return parser

        self.patch(commands, "COMMANDS", {"new-one": "something [new]: it's here"})
        from authproxy.commands import outline as module  # noqa: PLC0415

        self.patch(module, "COMMANDS", commands.COMMANDS)
        self.patch(module, "import_module", lambda name: Module)
        [command] = outline().commands
        self.assertEqual(command.options[1].choices, ("red", "blue"))
        self.assertEqual(command.options[1].words, "which; 100% by choice")
        self.assertEqual([option.flags for option in command.options][1:], [("--colour",)])
        [argument] = command.arguments
        self.assertEqual((argument.name, argument.optional, argument.files), ("FILE", True, True))
        directory = pathlib.Path(self.mktemp())
        directory.mkdir()
        for name, check in (("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")):
            script = directory / name
            script.write_text(completion.completion(name))
            self.assertIn("new-one", script.read_text())
            if shutil.which(name):
                subprocess.run([name, check, str(script)], check=True, timeout=60)

"""The `authproxy` command itself: which subcommand, which exit status."""

from __future__ import annotations

import contextlib
import io
from importlib import import_module

from twisted.trial.unittest import SynchronousTestCase

from authproxy import __version__, commands
from authproxy.commands import asking


class MainTests(SynchronousTestCase):
    def main(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = commands.main(list(arguments), {})
        return status, out.getvalue(), err.getvalue()

    def test_help(self) -> None:
        for option in ("--help", "-h", "help"):
            status, out, err = self.main(option)
            self.assertEqual((status, err), (0, ""))
            for name in commands.COMMANDS:
                self.assertIn(f"  {name} ", out)

    def test_help_of_every_command(self) -> None:
        for name in commands.COMMANDS:
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
                self.assertEqual(commands.main([name, "--help"], {}), 0)
            self.assertTrue(out.getvalue().startswith(f"usage: authproxy {name} "), name)

    def test_options_that_no_command_has(self) -> None:
        for name in commands.COMMANDS:
            err = io.StringIO()
            with contextlib.redirect_stderr(err), self.assertRaises(SystemExit) as caught:
                commands.main([name, "--frobnicate"], {})
            self.assertEqual(caught.exception.code, 2, name)
            self.assertIn(f"usage: authproxy {name} ", err.getvalue())

    def test_a_running_proxy_with_another_file(self) -> None:
        """A slip must not reload another one, and report that all is well."""
        asked = []
        running = ""

        def ask(path: str, command: str, timeout: float) -> dict[str, str]:
            asked.append(command)
            return {"configuration": running, "problem": ""}

        self.patch(asking, "ask", ask)
        for running in ("/nowhere/b.toml", "built-in defaults"):
            status, out, err = self.main("reload", "--config", "/nowhere/a.toml")
            self.assertEqual((status, out), (1, ""))
            self.assertIn(f"runs with {running}, not with /nowhere/a.toml.", err)
        self.assertNotIn("reload", asked)
        for running in ("/nowhere/./a.toml", "a.toml"):  # noqa: B007
            self.assertEqual(self.main("reload", "--config", "/nowhere/a.toml")[0], 0)
        self.assertEqual(asked[-2:], ["status", "reload"])

    def test_version(self) -> None:
        for option in ("--version", "-V"):
            self.assertEqual(self.main(option), (0, f"authproxy {__version__}\n", ""))

    def test_nothing(self) -> None:
        status, out, err = self.main()
        self.assertEqual((status, out), (2, ""))
        self.assertIn("usage: authproxy COMMAND", err)

    def test_an_unknown_command(self) -> None:
        for name in ("chek", "--config", "", "__init__", "../check", "copy_keys"):
            status, out, err = self.main(name)
            self.assertEqual((status, out), (2, ""), name)
            self.assertIn(f"there is no command {name!r}", err)
            self.assertIn("check", err)

    def test_a_slip(self) -> None:
        for name, meant in (
            ("chek", "check"),
            ("import_nginx", "import-nginx"),
            ("stauts", "status"),
        ):
            _, _, err = self.main(name)
            self.assertIn(f"there is no command {name!r}. Did you mean {meant}?", err)
        self.assertNotIn("Did you mean", self.main("start")[2].partition("\n")[0])

    def test_options_before_the_command(self) -> None:
        status, out, err = self.main("--config", "/etc/a b.toml", "run")
        self.assertEqual((status, out), (2, ""))
        self.assertIn(
            "authproxy: options stand behind the command: authproxy run --config '/etc/a b.toml'\n",
            err,
        )

    def test_every_command_is_there(self) -> None:
        for name in commands.COMMANDS:
            module = import_module(f"authproxy.commands.{name.replace('-', '_')}")
            self.assertTrue(callable(module.run), name)

    def test_the_rest_goes_to_the_command(self) -> None:
        status, _, err = self.main("check", "--config", "/nowhere/a.toml")
        self.assertEqual(status, 1)
        self.assertIn("/nowhere/a.toml: there is no such file.", err)

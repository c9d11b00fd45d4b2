"""`authproxy import-nginx`: the configuration on stdout, figures or the reason on stderr."""

from __future__ import annotations

import contextlib
import io
import pathlib

from twisted.trial.unittest import SynchronousTestCase

from authproxy.commands import check, import_nginx, main

from ..handshakes import chain_pem, issue, key_pem

REFERENCE = pathlib.Path(__file__).parent.parent / "nginx/configurations/authentik.conf"


class ImportNginxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = pathlib.Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def run_it(self, *arguments: str) -> tuple[int, str, list[str]]:
        """Exit status, stdout, lines on stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = import_nginx.run(list(arguments), {})
        return status, out.getvalue(), err.getvalue().splitlines()

    def file(self, text: str, name: str = "authentik.conf") -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def test_the_reference(self) -> None:
        status, out, err = self.run_it(str(REFERENCE))
        self.assertEqual(status, 0)
        self.assertEqual(
            err,
            [
                "authproxy import-nginx: 1 site. Directives and defaults of nginx: 8 not needed, 4 done"
                " differently, 0 cannot be honoured, 1 needs your attention."
            ],
        )
        self.assertTrue(out.startswith("# Made by `authproxy import-nginx "))
        self.assertIn('\nhosts = ["sso.example.com"]  # authentik.conf:', out)

    def test_check_accepts_it(self) -> None:
        """As an administrator would go on, the certificates being there."""
        pair = issue("sso.example.com")
        chain, key = self.directory / "chain.pem", self.directory / "key.pem"
        chain.write_bytes(chain_pem(pair.certificate))
        key.write_bytes(key_pem(pair.key))
        text = REFERENCE.read_text()
        text = text.replace("/etc/letsencrypt/live/example.com/fullchain.pem", str(chain))
        text = text.replace("/etc/letsencrypt/live/example.com/privkey.pem", str(key))
        _, out, _ = self.run_it(self.file(text))
        made = self.file(out, "authproxy.toml")
        said, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(err):
            status = check.run(["--config", made], {"STATE_DIRECTORY": str(self.directory)})
        self.assertEqual(status, 0, err.getvalue())
        self.assertIn("sso.example.com -> https://authentik.example.com:9443", said.getvalue())

    def test_nothing_can_be_made(self) -> None:
        for text, words in (
            ("server {\n listen 80\n}\n", "authentik.conf:2: a semicolon is missing"),
            ("server { listen 80; }", "authentik.conf:1: no server here"),
            ("", "there is no server block"),
        ):
            status, out, err = self.run_it(self.file(text))
            self.assertEqual((status, out, len(err)), (1, "", 1), text)
            self.assertTrue(err[0].startswith("authproxy import-nginx: "))
            self.assertIn(words, err[0])

    def test_no_such_file(self) -> None:
        status, out, err = self.run_it("/nowhere/authentik.conf")
        self.assertEqual((status, out, len(err)), (1, "", 1))
        self.assertIn("No such file", err[0])

    def test_names_that_are_no_text(self) -> None:
        """Of the file, and on a terminal: one line, printable."""
        status, _, err = self.run_it("/nowhere/a\n\x1b[31m\udcff.conf")
        self.assertEqual((status, len(err)), (1, 1))
        self.assertTrue(err[0].isprintable())
        path = self.directory / "a\n[listen]\nb = 1\x1b.conf"
        path.write_text(REFERENCE.read_text())
        status, out, err = self.run_it(str(path))
        self.assertEqual((status, len(err)), (0, 1))
        self.assertNotIn("\x1b", out)
        self.assertEqual(out.count("\n[listen]\n"), 1)

    def test_wrong_arguments(self) -> None:
        for arguments in ([], ["a", "b"], ["--nonsense", "a"]):
            with contextlib.redirect_stderr(io.StringIO()) as err:
                found = self.assertRaises(SystemExit, import_nginx.run, arguments, {})
            self.assertEqual(found.code, 2)
            self.assertIn("usage: authproxy import-nginx", err.getvalue())

    def test_the_command_finds_it(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            found = self.assertRaises(SystemExit, main, ["import-nginx", "--help"], {})
        self.assertEqual(found.code, 0)
        self.assertIn("FILE", out.getvalue())

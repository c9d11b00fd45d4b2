"""`authproxy check`: every problem at once on stderr, the summary on stdout, exit 0 or 1."""

from __future__ import annotations

import contextlib
import io
import pathlib

from twisted.trial.unittest import SynchronousTestCase

from authproxy import config
from authproxy.commands import check

from ..handshakes import chain_pem, issue, key_pem


class CheckTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = pathlib.Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "authproxy.toml"
        self.environ = {"STATE_DIRECTORY": str(self.directory)}

    def check(self, text: str | None, *arguments: str) -> tuple[int, list[str], list[str]]:
        """Exit status, lines on stdout, lines on stderr."""
        if text is not None:
            self.path.write_text(text)
            arguments = ("--config", str(self.path))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = check.run(list(arguments), self.environ)
        return status, out.getvalue().splitlines(), err.getvalue().splitlines()

    def test_right(self) -> None:
        status, out, err = self.check('[[site]]\nhosts = ["sso.example.com"]\n')
        self.assertEqual((status, err), (0, []))
        self.assertEqual(out[0], f"{self.path}: no problem found.")
        said = "\n".join(out)
        for words in ("https on [::]:443", "http  on [::]:80: redirects to https", "self-signed",
                      "sso.example.com -> https://127.0.0.1:9443",
                      "verification: off"):  # fmt: skip
            self.assertIn(words, said)

    def test_guards(self) -> None:
        """The paths of a preset as well: who set it wonders which they are."""
        status, out, err = self.check(
            '[[site]]\n[[site.guard]]\npreset = "inside"\n[[site.guard]]\npath = "/a"\n'
            'deny = ["10.0.0.0/8"]\n'
        )
        self.assertEqual((status, err), (0, []))
        self.assertIn("    /if/admin/ for 127.0.0.0/8, ::1/128, 10.0.0.0/8,", "\n".join(out))
        self.assertIn("    /-/metrics for 127.0.0.0/8,", "\n".join(out))
        self.assertEqual(out[-1], "    /a for everybody, not for 10.0.0.0/8")

    def test_no_file(self) -> None:
        self.patch(config, "DEFAULT_PATH", str(self.directory / "missing.toml"))
        status, out, err = self.check(None)
        self.assertEqual((status, err), (0, []))
        self.assertEqual(out[0], "The built-in defaults: no problem found.")

    def test_the_default_path(self) -> None:
        self.patch(config, "DEFAULT_PATH", str(self.path))
        self.path.write_text("workers = 0\n")
        status, _, err = self.check(None)
        self.assertEqual(status, 1)
        self.assertTrue(err[0].startswith(f"{self.path}: workers: "))

    def test_a_file_that_is_not_there(self) -> None:
        status, out, err = self.check(None, "-c", "/nowhere/a.toml")
        self.assertEqual((status, out, len(err)), (1, [], 2))
        self.assertTrue(err[0].startswith("/nowhere/a.toml: there is no such file."))

    def test_problems_of_every_kind_at_once(self) -> None:
        """A misspelt key must not hide that a certificate is missing, or the other way round."""
        status, out, err = self.check(
            "workers = 0\n"
            '[listen]\nacme_webroot = "/nowhere/www"\nhttps = ["x"]\n'
            '[log]\naccess = "/nowhere/access.log"\n'
            "[timeout]\nhead = 3\n"
            "[pool]\nidle = 900\n"
            '[[site]]\nhosts = ["a.example"]\ncertificate = "/nowhere/c"\n'
            'private_key = "/nowhere/k"\n'
            "hts = 5\n"
            '[[site]]\nupstream = "https://10.0.0.5"\nupstream_verify = "ca:/nowhere/ca"\n'
        )
        self.assertEqual((status, out), (1, []))
        self.assertEqual(err[-1], "10 problems.")
        self.assertTrue(all(line.startswith(f"{self.path}: ") for line in err[:-1]))
        self.assertEqual(
            sorted(line.split(": ")[1] for line in err[:-1]),
            sorted([
                "workers", "listen.https[1]", "timeout", "pool.idle", "site[1].hts", "site[1].private_key",
                "listen.acme_webroot", "log.access", "site[1].certificate",
                "site[2].upstream_verify",
            ]),
        )  # fmt: skip

    def test_one_problem(self) -> None:
        status, out, err = self.check("[timeouts]\nhead = 'x'\n")
        self.assertEqual((status, out, err[-1]), (1, [], "1 problem."))

    def test_not_toml(self) -> None:
        status, _, err = self.check("= 1")
        self.assertEqual((status, len(err)), (1, 2))
        self.assertIn("this is not TOML", err[0])

    def test_warnings_are_no_problems(self) -> None:
        pair = issue("other.example.com")
        certificate, key = self.directory / "c.pem", self.directory / "k.pem"
        certificate.write_bytes(chain_pem(pair.certificate))
        key.write_bytes(key_pem(pair.key))
        status, out, err = self.check(
            f'[[site]]\nhosts = ["a.example"]\nupstream = "http://10.0.0.5"\n'
            f'certificate = "{certificate}"\nprivate_key = "{key}"\n'
            '[trust]\nproxies = ["0.0.0.0/0"]\n'
        )
        self.assertEqual((status, len(err)), (0, 3))
        self.assertTrue(all(line.startswith(f"warning: {self.path}: ") for line in err), err)
        self.assertEqual(out[0], f"{self.path}: no problem found, but 3 warnings.")
        self.assertIn(str(certificate), "\n".join(out))

    def test_wrong_arguments(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            found = self.assertRaises(SystemExit, check.run, ["--nonsense"], {})
        self.assertEqual(found.code, 2)
        self.assertIn("usage: authproxy check", err.getvalue())

    def test_help(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            found = self.assertRaises(SystemExit, check.run, ["--help"], {})
        self.assertEqual(found.code, 0)
        self.assertIn("--config FILE", out.getvalue())

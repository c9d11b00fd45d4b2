"""What is wrong with the files that the settings name."""

from __future__ import annotations

import os
import pathlib

from twisted.trial.unittest import SynchronousTestCase

from authproxy import config, files
from authproxy.settings import Settings

from .handshakes import chain_pem, issue, key_pem

PAIR = issue("sso.example.com")
OTHER = issue("other.example.com")


class FilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = pathlib.Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.certificate = self.file("cert.pem", chain_pem(PAIR.certificate))
        self.key = self.file("key.pem", key_pem(PAIR.key))

    def file(self, name: str, content: bytes) -> str:
        path = self.directory / name
        path.write_bytes(content)
        return str(path)

    def settings(self, text: str) -> Settings:
        found, wrong = config.loads(text, "f.toml")
        self.assertEqual(wrong, [])
        return found

    def site(self, certificate: str = "", key: str = "", hosts: str = "sso.example.com") -> str:
        return (
            f'[[site]]\nhosts = ["{hosts}"]\ncertificate = "{certificate or self.certificate}"\n'
            f'private_key = "{key or self.key}"\n'
        )

    def problems(self, text: str) -> list[tuple[str, str]]:
        return files.problems(self.settings(text), {})

    def problem(self, text: str) -> tuple[str, str]:
        [found] = self.problems(text)
        return found

    def test_nothing_wrong(self) -> None:
        self.assertEqual(files.problems(Settings(), {}), [])
        self.assertEqual(self.problems(self.site()), [])

    def test_certificates(self) -> None:
        missing = str(self.directory / "missing.pem")
        for certificate, key, setting, words in (
            (missing, "", "certificate", "there is no such file"),
            ("", missing, "private_key", "there is no such file"),
            (self.file("o.key", key_pem(OTHER.key)), "", "certificate", "no certificate"),
            ("", self.file("o.key", key_pem(OTHER.key)), "private_key", "does not belong"),
            (self.file("empty", b""), "", "certificate", "no certificate in the file"),
            (str(self.directory), "", "certificate", "cannot be read"),
        ):
            found, message = self.problem(self.site(certificate, key))
            self.assertEqual(found, f"site[1].{setting}", message)
            self.assertIn(words, message)
            named = {"certificate": certificate, "private_key": key}[setting]
            self.assertTrue(message.startswith(named), message)

    def test_both_files_at_once(self) -> None:
        missing = str(self.directory / "missing.pem")
        for certificate, key in ((missing, missing), (self.key, self.certificate)):
            found = self.problems(self.site(certificate, key))
            self.assertEqual(
                [setting for setting, _ in found], ["site[1].certificate", "site[1].private_key"]
            )

    def test_ca(self) -> None:
        for content, ok in ((chain_pem(issue(ca=True).certificate), True), (b"x", False)):
            path = self.file("ca.pem", content)
            found = self.problems(
                f'[[site]]\nupstream = "https://10.0.0.5"\nupstream_verify = "ca:{path}"\n'
            )
            self.assertEqual([key for key, _ in found], [] if ok else ["site[1].upstream_verify"])
        key, message = self.problem(
            '[[site]]\nupstream = "https://10.0.0.5"\nupstream_verify = "ca:/nowhere/ca.pem"\n'
        )
        self.assertEqual(key, "site[1].upstream_verify")
        self.assertIn("/nowhere/ca.pem", message)

    def test_system_cas(self) -> None:
        """The start would fail because of an environment variable: so does the check."""
        text = '[[site]]\nupstream = "https://10.0.0.5"\n'
        self.assertEqual(self.problems(text), [])
        self.patch(os, "environ", {**os.environ, "SSL_CERT_FILE": "/nowhere/ca.pem"})
        key, message = self.problem(text)
        self.assertEqual(key, "site[1].upstream_verify")
        self.assertIn("SSL_CERT_FILE /nowhere/ca.pem: there is no such file", message)
        self.assertEqual(self.problems('[[site]]\nupstream = "https://127.0.0.1"\n'), [])

    def test_webroot(self) -> None:
        self.assertEqual(self.problems(f'[listen]\nacme_webroot = "{self.directory}"\n'), [])
        for path in (self.directory / "missing", self.certificate):
            key, message = self.problem(f'[listen]\nacme_webroot = "{path}"\n')
            self.assertEqual(key, "listen.acme_webroot")
            self.assertIn(str(path), message)

    def test_access_log(self) -> None:
        for path in ("-", "", str(self.directory / "new.log"), self.certificate):
            self.assertEqual(self.problems(f'[log]\naccess = "{path}"\n'), [], path)
        for path, words in (
            (f"{self.directory}/missing/access.log", f"{self.directory}/missing does not exist"),
            (str(self.directory), "is a directory. Name a file in it."),
            (f"{self.certificate}/access.log", "does not exist"),
            ("access.log", "not an absolute path"),
            ("logs/access.log", "not an absolute path"),
        ):
            key, message = self.problem(f'[log]\naccess = "{path}"\n')
            self.assertEqual(key, "log.access")
            self.assertIn(words, message)

    def test_access_log_without_permission(self) -> None:
        if os.geteuid() == 0:
            self.patch(files.os, "access", lambda _path, _mode: False)
        path = self.directory / "locked"
        path.mkdir(mode=0o500)
        key, message = self.problem(f'[log]\naccess = "{path}/access.log"\n')
        self.assertEqual(key, "log.access")
        self.assertIn("may not be written by this user", message)

    def test_everything_at_once(self) -> None:
        found = self.problems(
            '[log]\naccess = "/nowhere/a"\n[listen]\nacme_webroot = "/nowhere"\n'
            + self.site("/nowhere/c", hosts="a")
            + self.site("", "/nowhere/k", hosts="b")
        )
        self.assertEqual(
            sorted(key for key, _ in found),
            ["listen.acme_webroot", "log.access", "site[1].certificate", "site[2].private_key"],
        )

    def test_remarks(self) -> None:
        self.assertEqual(files.remarks(self.settings(self.site()), {}), [])
        [(key, message)] = files.remarks(self.settings(self.site(hosts="a.example")), {})
        self.assertEqual(key, "site[1].certificate")
        self.assertIn("not for a.example", message)
        old = issue("sso.example.com", days=(-9, -1))
        site = self.site(
            self.file("old.pem", chain_pem(old.certificate)), self.file("old.key", key_pem(old.key))
        )
        [(_, message)] = files.remarks(self.settings(site), {})
        self.assertIn("expired", message)
        self.assertEqual(self.problems(site), [])  # it starts: the site may be the way to renew

"""`authproxy copy-keys` as the unit runs it, except that the service's user is the test's."""

from __future__ import annotations

import contextlib
import io
import pathlib

from twisted.trial.unittest import SynchronousTestCase

from authproxy.certificate_copies import copy_name, readable_copy
from authproxy.commands import copy_keys

SITE = """
[[site]]
hosts = ["{host}"]
upstream = "http://127.0.0.1:9000"
certificate = "{directory}/{host}.crt"
private_key = "{directory}/{host}.key"
"""


class CopyKeysTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = pathlib.Path(self.mktemp()).absolute()
        self.runtime = self.base / "run"
        self.runtime.mkdir(parents=True)
        self.environ = {"RUNTIME_DIRECTORY": str(self.runtime)}
        self.config = self.base / "authproxy.toml"

    def configure(self, *hosts: str) -> list[str]:
        """Sites with these hosts. Returns the paths of their files, which are not made."""
        self.config.write_text("".join(SITE.format(host=h, directory=self.base) for h in hosts))
        return [str(self.base / f"{host}.{end}") for host in hosts for end in ("crt", "key")]

    def run_command(self) -> tuple[int, list[str]]:
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr):
            status = copy_keys.run(["--config", str(self.config)], self.environ)
        return status, stderr.getvalue().splitlines()

    def copies(self) -> set[str]:
        return {path.name for path in (self.runtime / "certificates").iterdir()}

    def test_copies_all(self) -> None:
        paths = self.configure("a.example", "b.example")
        for path in paths:
            pathlib.Path(path).write_text(path)
        self.assertEqual(self.run_command(), (0, []))
        self.assertEqual(self.copies(), set(map(copy_name, paths)))
        for path in paths:
            pathlib.Path(path).unlink()
            found = readable_copy(path, self.environ)
            self.assertNotEqual(found, path)
            self.assertEqual(pathlib.Path(found).read_text(), path)

    def test_no_certificates(self) -> None:
        self.config.write_text('[[site]]\nupstream = "http://127.0.0.1:9000"\n')
        self.assertEqual(self.run_command(), (0, []))
        self.assertEqual(self.copies(), set())

    def test_missing_files(self) -> None:
        certificate, key = self.configure("a.example")
        pathlib.Path(certificate).write_text("C")
        status, lines = self.run_command()
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), 1)
        self.assertIn(f"{key}: No such file or directory. Correct certificate or", lines[0])
        self.assertEqual(self.copies(), {copy_name(certificate)})

    def test_directory_in_the_way(self) -> None:
        self.configure("a.example")
        (self.runtime / "certificates").symlink_to(self.base)
        status, lines = self.run_command()
        self.assertEqual((status, len(lines)), (1, 1))
        self.assertIn("cannot be used", lines[0])

    def test_wrong_configuration(self) -> None:
        self.config.write_text("[[site]]\nupstreem = 1\n")
        status, lines = self.run_command()
        self.assertEqual(status, 1)
        self.assertIn("upstreem", "\n".join(lines))

    def test_not_under_systemd(self) -> None:
        self.configure("a.example")
        self.environ = {}
        status, lines = self.run_command()
        self.assertEqual((status, len(lines)), (1, 1))
        self.assertIn("RuntimeDirectory=", lines[0])

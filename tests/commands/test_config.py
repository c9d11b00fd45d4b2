"""`authproxy config show`: the settings in force on stdout."""

from __future__ import annotations

import contextlib
import io
import json
import pathlib

from twisted.trial.unittest import SynchronousTestCase

from authproxy import config
from authproxy.commands import config as command


class ShowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = pathlib.Path(self.mktemp()).absolute()
        self.path.write_text("[timeouts]\nhead = 3\n")

    def show(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = command.run(["show", *arguments], {})
        return status, out.getvalue(), err.getvalue()

    def test_file(self) -> None:
        status, out, err = self.show("--config", str(self.path))
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(out.startswith(f"# The settings in force ({self.path}).\n"))
        self.assertIn("\nhead = 3\nkeepalive = 75  # default\n", out)
        found, wrong = config.loads(out, str(self.path))
        self.assertEqual((wrong, found), ([], config.load(str(self.path))))

    def test_no_file(self) -> None:
        self.patch(config, "DEFAULT_PATH", "/nowhere/authproxy.toml")
        status, out, _ = self.show()
        self.assertEqual(status, 0)
        self.assertIn("# The settings in force (no file: the built-in defaults).", out)

    def test_json(self) -> None:
        status, out, _ = self.show("-c", str(self.path), "--json")
        found = json.loads(out)
        self.assertEqual((status, list(found)), (0, ["file", "settings", "changed"]))
        self.assertEqual((found["file"], found["changed"]), (str(self.path), ["timeouts.head"]))
        self.assertEqual(found["settings"]["timeouts"]["head"], 3)

    def test_problems(self) -> None:
        """Nothing is shown of what cannot be in force."""
        self.path.write_text("[timeouts]\nhead = 0\nhed = 3\n")
        status, out, err = self.show("-c", str(self.path))
        self.assertEqual((status, out, len(err.splitlines())), (1, "", 2))
        self.assertIn(f"{self.path}: timeouts.head: must be", err)

    def test_wrong_arguments(self) -> None:
        for arguments in ([], ["shwo"], ["show", "x"]):
            with contextlib.redirect_stderr(io.StringIO()) as err:
                found = self.assertRaises(SystemExit, command.run, arguments, {})
            self.assertEqual(found.code, 2)
            self.assertIn("usage: authproxy config", err.getvalue())

"""`authproxy demo`: its command line. What it does is tests/e2e/test_process.py's."""

from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from authproxy.commands import demo


class ArgumentTests(SynchronousTestCase):
    def refused(self, *arguments: str) -> str:
        err = io.StringIO()
        with contextlib.redirect_stderr(err), self.assertRaises(SystemExit) as caught:
            demo.parser().parse_args(list(arguments))
        self.assertEqual(caught.exception.code, 2, arguments)
        return err.getvalue()

    def test_ports(self) -> None:
        for port in (0, 1, 65535):
            self.assertEqual(demo.parser().parse_args(["--https", str(port)]).https, port)
        for port in (-1, 65536, 99999):
            self.assertIn("a port is 0 to 65535, not", self.refused("--https", str(port)))
        self.assertIn("--admin", self.refused("--admin", "any"))

    def test_seconds(self) -> None:
        self.assertEqual(demo.parser().parse_args(["--starting", "2.5"]).starting, 2.5)
        for seconds in ("nan", "inf", "-1", "soon"):
            self.assertIn("--starting", self.refused("--starting", seconds))

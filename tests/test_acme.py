"""ACME challenges: what is served, and that nothing else is."""

from __future__ import annotations

import os
import pathlib

from twisted.trial.unittest import SynchronousTestCase

from authproxy import acme

NAME = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"  # RFC 8555 8.3
PREFIX = b"/.well-known/acme-challenge/"


class ChallengeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = pathlib.Path(self.mktemp()).absolute()
        self.directory = self.root / ".well-known" / "acme-challenge"
        self.directory.mkdir(parents=True)
        (self.directory / NAME).write_bytes(b"authorization")
        (self.directory / "a.txt").write_bytes(b"dotted")
        (self.directory / "sub").mkdir()
        (self.root / "secret").write_bytes(b"secret")

    def get(self, rest: bytes) -> bytes | None:
        return acme.challenge(str(self.root), PREFIX + rest)

    def test_the_file_of_certbot(self) -> None:
        self.assertEqual(self.get(NAME.encode()), b"authorization")

    def test_nothing_else(self) -> None:
        for rest in (
            b"", b"missing", b"a.txt", b"sub", b"sub/", b".", b"..", b"../secret", b"../../secret",
            b"..%2f..%2fsecret", b"/secret", b"/" + bytes(self.root / "secret"),
            NAME.encode() + b"/",
            NAME.encode() + b"?a=b", NAME.encode() + b"%00", b"x\0y", b"\xff", b"a" * 257,
            b"a" * 30000,
            b"..\\secret", NAME.encode() + b"\n",
        ):  # fmt: skip
            self.assertIsNone(self.get(rest), rest[:40])

    def test_no_webroot_any_more(self) -> None:
        self.assertIsNone(acme.challenge(str(self.root / "gone"), PREFIX + NAME.encode()))

    def test_size_is_bounded(self) -> None:
        (self.directory / "big").write_bytes(b"x" * 100000)
        self.assertLessEqual(len(self.get(b"big") or b""), acme.MOST)

    def test_what_is_no_file_stops_nothing(self) -> None:
        """Opening a pipe waits for its other end; the reactor must not."""
        os.mkfifo(self.directory / "pipe")
        self.assertIsNone(self.get(b"pipe"))

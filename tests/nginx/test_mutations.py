"""Configurations with mistakes of every kind: a valid translation or one line, never anything else.

A longer run: python -m tests.nginx.test_mutations SECONDS [SEED]
"""

from __future__ import annotations

import pathlib
import random
import re
import sys
import tempfile
import time

from twisted.trial.unittest import SynchronousTestCase

from authproxy.nginx.reading import NginxError

from .test_configurations import sources
from .translated import of_text

CASES = 120
ODD = (
    "''", '"\n[listen]"', "all", "off", "on", "0", "-1", "9" * 30, "unix:", "unix:/x", "[", "[::]",
    "[::1]:x", "$x", "${y}", "~", "~*", "=", "https://", "http://[::1", "https://a_b", "https://:1",
    "http://unix:/a:/b", "*", ".", "_", "*.", ".*", "::/0", "0.0.0.0/0", "::ffff:1.2.3.4", "1m", "1y",
    "99999999y", "proxy_protocol", "default_server", '"a b"', "%%", "a" * 300, "{", "}", ";",
    "\x1b[31m", "\u202e", "include", "if",
)  # fmt: skip
_ARGUMENT = re.compile(r"(?<=\s)[^\s;{}]+(?=[\s;])")


class Mutations:
    """Broken configurations, always the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.texts = [path.read_text(errors="replace") for path in sources()]
        self.lines = [line for text in self.texts for line in text.splitlines() if line.strip()]

    def one(self) -> str:
        lines = self.random.choice(self.texts).splitlines()
        for _ in range(self.random.randint(1, 6)):
            self._change(lines, self.random.randrange(len(lines)))
        return "\n".join(lines)

    def _change(self, lines: list[str], at: int) -> None:
        way = self.random.choice(("replace", "insert", "delete", "less", "more", "swap"))
        if way == "replace":
            lines[at] = _ARGUMENT.sub(self._perhaps_odd, lines[at])
        elif way == "insert":
            lines.insert(at, self.random.choice(self.lines))
        elif way == "delete" and len(lines) > 2:
            del lines[at]
        elif way == "less":
            lines[at] = re.sub(r"\s[^\s;{}]+(?=;)", "", lines[at], count=1)
        elif way == "more":
            odd = self.random.choice(ODD)
            lines[at] = re.sub("(?=;)", lambda _: f" {odd}", lines[at], count=1)
        else:
            other = self.random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]

    def _perhaps_odd(self, match: re.Match[str]) -> str:
        return self.random.choice(ODD) if self.random.random() < 0.5 else match[0]


def translates(text: str, directory: str) -> bool:
    """Whether it could be translated; whatever is wrong with that raises."""
    try:
        of_text(text, directory)
    except NginxError as e:
        said = str(e)
        assert "fault of authproxy" not in said, said
        assert "\n" not in said, said
        return False
    return True


class MutationTests(SynchronousTestCase):
    def test_many(self) -> None:
        mutations = Mutations(5)
        translated = 0
        for number in range(CASES):
            text = mutations.one()
            try:
                translated += translates(text, self.mktemp())
            except Exception:
                pathlib.Path("mutation.conf").write_text(text)
                print(f"mutation {number} is in mutation.conf")
                raise
        self.assertGreater(translated, CASES // 5)


def run_long(seconds: float, seed: int) -> None:
    """Try new ones for so long."""
    mutations = Mutations(seed)
    end = time.monotonic() + seconds
    count = translated = 0
    with tempfile.TemporaryDirectory() as directory:
        while time.monotonic() < end:
            text = mutations.one()
            count += 1
            try:
                translated += translates(text, directory)
            except Exception:
                print(text)
                raise
    print(f"{count} configurations, {translated} of them translated")


if __name__ == "__main__":
    run_long(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)

"""docs/commands.md has every command, with a transcript."""

from __future__ import annotations

import pathlib
import re

from twisted.trial.unittest import SynchronousTestCase

import authproxy
from authproxy import commands

PAGE = pathlib.Path(authproxy.__file__).parent.parent / "docs" / "commands.md"


class TranscriptTests(SynchronousTestCase):
    def test_every_command_has_one(self) -> None:
        titles = re.findall(r"^## (\S+)", PAGE.read_text(), re.MULTILINE)
        for name in commands.COMMANDS:
            self.assertIn(name, titles)
        for section in PAGE.read_text().split("\n## ")[1:]:
            self.assertRegex(section, r"(?m)^    \$ (\w+=\S+ )?authproxy ", section[:20])

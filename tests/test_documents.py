"""What the documents name is there: files, sections of other pages, settings."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

import authproxy
from authproxy import toml
from authproxy.settings import Settings

ROOT = pathlib.Path(authproxy.__file__).parent.parent
PAGES = (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_MODULE = re.compile(r"`((?:[\w-]+/)+[\w.-]+\.py)`")
_SETTING = re.compile(r"`(limits|timeouts|pool|listen|trust|log|tls|health)\.(?!py`)([a-z_0-9]+)`")


def anchors(page: pathlib.Path) -> set[str]:
    """What its headings can be linked by."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


class DocumentTests(SynchronousTestCase):
    def found(self, pattern: re.Pattern[str]) -> Iterator[tuple[pathlib.Path, re.Match[str]]]:
        found = [(page, match) for page in PAGES for match in pattern.finditer(page.read_text())]
        self.assertGreater(len(found), 10, "the search works")
        yield from found

    def test_links(self) -> None:
        for page, match in self.found(_LINK):
            target = page.parent / match[1] if match[1] else page
            self.assertTrue(os.path.exists(target), (page.name, match[0]))
            if match[2]:
                self.assertIn(match[2], anchors(target), page.name)

    def test_modules(self) -> None:
        for page, match in self.found(_MODULE):
            places = (ROOT / match[1], ROOT / "authproxy" / match[1])
            self.assertTrue(any(place.exists() for place in places), (page.name, match[1]))

    def test_settings(self) -> None:
        tables = toml.document(Settings())
        for page, match in self.found(_SETTING):
            self.assertIn(match[2], tables[match[1]], (page.name, match[0]))

"""docs/messages.md has every message, and every fault says which side it is on."""

from __future__ import annotations

import ast
import pathlib
import re

from twisted.trial.unittest import SynchronousTestCase

from authproxy.operations_log import LEVELS

from .messages import calls, fragments, is_log, is_said, name_of, plain, text_of, texts

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "messages.md"
SIDES = ("this machine: ", "client: ", "upstream: ")
# What a level of warning or more may begin with instead of a side.
WITHOUT_SIDE = (
    "[worker {number}] ",  # as the worker said it
    "This kernel has no IPv6",  # no fault
)
KEY = re.compile(r"(\{key\}|[a-z_]+(\.[a-z_{}]+)+): ")  # a setting is of this machine


class PageTests(SynchronousTestCase):
    def test_every_message_is_there(self) -> None:
        page = plain(PAGE.read_text())
        missing = sorted(
            {
                (module, part)
                for module, text in texts()
                for part in fragments(text)
                if part not in page
            }
        )
        self.assertEqual(missing, [], "add them to docs/messages.md, with their cure")

    def test_the_collection_works(self) -> None:
        """Where it found nothing, everything would be there."""
        found = {part for _, text in texts() for part in fragments(text)}
        self.assertGreater(len(found), 250)
        for one in (
            "nothing listens at", "Accepting pauses:", "An event of a connection failed",
            "both Transfer-Encoding and Content-Length", "must be a host name alone. Write",
            "this key does not belong to the certificate in", "more than one",
        ):  # fmt: skip
            self.assertTrue(any(one in text for text in found), one)

    def test_levels(self) -> None:
        page = PAGE.read_text()
        for level in LEVELS:
            self.assertIn(f'| `"{level}"` |', page)


class SideTests(SynchronousTestCase):
    def test_what_is_said_names_a_side(self) -> None:
        for module, call in calls():
            if is_said(call) and module != "saying":
                self.assertIn(
                    "side", [keyword.arg for keyword in call.keywords], f"{module}:{call.lineno}"
                )

    def test_what_is_logged_names_a_side(self) -> None:
        """Tracebacks get theirs in operations_log.py."""
        for module, call in calls():
            if is_log(call) and name_of(call) in ("warn", "error", "critical"):
                text = text_of(call.args[0]) or ast.unparse(call.args[0])
                sided = text.startswith((*SIDES, *WITHOUT_SIDE)) or KEY.match(text)
                self.assertTrue(sided, f"{module}: {text}")

"""The answers that are made here."""

from __future__ import annotations

import json
import re
from email.utils import parsedate_to_datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy import pages

from .examples import EXAMPLES

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def media_type(accept: bytes | None) -> str:
    """The media type of a page for this Accept."""
    head, _ = pages.answer(503, accept, request_id="0")
    return (head.get(b"content-type") or b"").decode().partition(";")[0]


class AcceptTests(SynchronousTestCase):
    def test_table(self) -> None:
        html, js, text = "text/html", "application/json", "text/plain"
        for accept, expected in (
            (None, text),
            (b"", text),
            (b"*/*", text),
            (BROWSER, html),
            (b"application/json", js),
            (b"APPLICATION/JSON", js),
            (b"application/json, text/plain, */*", js),  # what the JavaScript of a page sends
            (b"text/plain", text),
            (b"text/html;q=0.5, application/json;q=0.9", js),
            (b"text/html;q=0.9;x=y, application/json;q=0.5", html),
            (b"text/html; charset=utf-8", html),
            (b"text/html;q=0", text),
            (b"text/html;q=0, application/json;q=0.001", js),
            (b"application/json;q=1.000,text/html;q=1", js),
            (b"text/html;q=nan, application/json;q=0.1", js),
            (b"text/html;q=\xb2", text),
            (b"text/html;q=1e9", text),
            (b"text/html;q=-1", text),
            (b"text/html;q=", text),
            (b"image/png", text),
            (b",,;;,=", text),
            (b"\xff" * 5000, text),
        ):
            self.assertEqual(media_type(accept), expected, accept)

    @EXAMPLES
    @given(st.binary(max_size=200) | st.text("ahtmljsonplicx/;q=,.0123 *").map(str.encode))
    def test_any(self, accept: bytes) -> None:
        self.assertIn(media_type(accept), {"text/html", "application/json", "text/plain"})


class AnswerTests(SynchronousTestCase):
    def test_every_form_says_the_same(self) -> None:
        for accept in (BROWSER, b"application/json", b"text/plain"):
            head, content = pages.answer(
                503, accept, request_id="0123456789abcdef", detail="why", retry_after=5
            )
            self.assertEqual((head.status, head.reason), (503, b"Service Unavailable"))
            self.assertEqual(head.length, len(content))
            self.assertEqual(head.get(b"content-length"), b"%d" % len(content))
            self.assertEqual(head.get(b"retry-after"), b"5")
            self.assertEqual(head.get(b"cache-control"), b"no-store")
            self.assertEqual(head.get(b"x-content-type-options"), b"nosniff")
            parsedate_to_datetime((head.get(b"date") or b"").decode())
            for words in (b"503", b"why", b"0123456789abcdef"):
                self.assertIn(words, content)

    def test_as_authentik_while_it_starts(self) -> None:
        """JSON with `error` and Retry-After; a page that tries again by itself."""
        head, content = pages.answer(503, b"application/json", request_id="a", retry_after=5)
        self.assertEqual(head.get(b"content-type"), b"application/json")
        said = json.loads(content)
        self.assertEqual((said["status"], said["request_id"]), (503, "a"))
        self.assertIn("cannot be reached", said["error"])
        _, page = pages.answer(503, BROWSER, request_id="a", retry_after=5)
        self.assertIn(b'http-equiv="refresh" content="5"', page)

    def test_without_retry_after(self) -> None:
        head, page = pages.answer(502, BROWSER, request_id="a")
        self.assertIsNone(head.get(b"retry-after"))
        self.assertNotIn(b"http-equiv", page)

    def test_allow(self) -> None:
        """RFC 9110 15.5.6: a 405 must say what is allowed."""
        head, _ = pages.answer(405, None, request_id="a")
        self.assertIn(b"GET", head.get(b"allow") or b"")
        self.assertNotIn(b"TRACE", head.get(b"allow") or b"")

    def test_every_status_has_its_words(self) -> None:
        for status in (
            400,
            404,
            405,
            408,
            413,
            414,
            417,
            421,
            431,
            500,
            501,
            502,
            503,
            504,
            505,
            599,
        ):
            for accept in (BROWSER, b"application/json", None):
                head, content = pages.answer(status, accept, request_id="a")
                self.assertTrue(head.reason, "an empty phrase breaks some clients")
                self.assertIn(str(status).encode(), content)
                self.assertNotIn(b"{", content if accept is None else b"")

    def test_phrases_are_those_of_the_rfc(self) -> None:
        """RFC 9110 15.5.14 and 15.5.15, whichever Python this is."""
        for status, phrase in ((413, b"Content Too Large"), (414, b"URI Too Long")):
            head, content = pages.answer(status, BROWSER, request_id="a")
            self.assertEqual(head.reason, phrase)
            self.assertIn(phrase, content)

    def test_details_are_escaped(self) -> None:
        detail = "<script>&\"'{0}"
        _, page = pages.answer(400, BROWSER, request_id="a", detail=detail)
        self.assertNotIn(b"<script>", page)
        self.assertIn(b"&lt;script&gt;&amp;", page)
        _, content = pages.answer(400, b"application/json", request_id="a", detail=detail)
        self.assertEqual(json.loads(content)["error"], detail)

    def test_a_page_loads_nothing(self) -> None:
        _, page = pages.answer(502, BROWSER, request_id="a")
        self.assertIsNone(re.search(rb"(src|href|url)\s*[=(]", page))


class OtherTests(SynchronousTestCase):
    def test_redirect(self) -> None:
        for status in (301, 308):
            head, content = pages.redirect(b"https://sso.example.com/?a=b", status)
            self.assertEqual((head.status, content, head.length), (status, b"", 0))
            self.assertEqual(head.get(b"location"), b"https://sso.example.com/?a=b")
            self.assertEqual(head.get(b"content-length"), b"0")

    def test_request_ids(self) -> None:
        ids = {pages.new_request_id() for _ in range(1000)}
        self.assertEqual(len(ids), 1000)
        self.assertTrue(all(re.fullmatch("[0-9a-f]{16}", each) for each in ids))

"""The page without a browser: forms of numbers, charts, and that text stays text."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from authproxy.admin.charts import HEIGHT, WIDTH, area, line, top_of
from authproxy.admin.formats import shown
from authproxy.admin.history import KEEP
from authproxy.admin.page import POLICY, document
from authproxy.admin.report import Named, Report

from .busy import HOSTILE, Busy

VOID = {"meta", "link", "br", "img"}


class FormatTests(SynchronousTestCase):
    def test_forms(self) -> None:
        for form, value, text in (
            ("count", 1234567.0, "1,234,567"), ("count", 0, "0"),
            ("rate", 0.04, "0.0"), ("rate", 9.94, "9.9"), ("rate", 1234.4, "1,234"),
            ("duration", 0.0004, "0.4 ms"), ("duration", 0.005, "5 ms"),
            ("duration", 0.042, "42 ms"), ("duration", 1.25, "1.25 s"), ("duration", 2.0, "2 s"),
            ("duration", 75.0, "75 s"),
            ("share", 0, "0 %"), ("share", 0.0004, "< 0.1 %"), ("share", 0.012, "1.2 %"),
            ("share", 1, "100 %"),
            ("octets", 12, "12 B/s"), ("octets", 3400.0, "3.4 kB/s"), ("octets", 4.2e7, "42 MB/s"),
            ("octets", 2.1e9, "2.1 GB/s"),
            ("age", 59.9, "59 s"), ("age", 3599, "59 min"), ("age", 7260, "2 h 1 min"),
            ("age", 90000, "1 d 1 h"), ("moment", 0.9, "1970-01-01 00:00:00"),
        ):  # fmt: skip
            self.assertEqual(shown(form, value), text)
            self.assertEqual(shown(form, None), "\u2013")


class ChartTests(SynchronousTestCase):
    def test_scale(self) -> None:
        for values, top in (
            ((), 0.001), ((None, 0), 0.001), ((0.003,), 0.005), ((1.0,), 1), ((1.1,), 2),
            ((300, None, 2), 500), ((99_999,), 100_000),
        ):  # fmt: skip
            self.assertAlmostEqual(top_of(values), top)

    def test_line_ends_at_the_right_edge(self) -> None:
        self.assertTrue(line((0, 5), 10).endswith(f"L{WIDTH} {HEIGHT // 2}"))
        self.assertTrue(line((0.0,) * KEEP, 10).startswith(f"M0 {HEIGHT}h0L6 {HEIGHT}L"))

    def test_gaps(self) -> None:
        """A value between two that are not known is a dot."""
        self.assertEqual(line((1, None, 1), 1), f"M{989} 0h0M{WIDTH} 0h0")

    def test_area(self) -> None:
        self.assertEqual(area((), 1), "")
        self.assertEqual(
            area((1, None), 1), f"M994 {HEIGHT}L994 0L{WIDTH} {HEIGHT}L{WIDTH} {HEIGHT}Z"
        )

    def test_above_the_scale(self) -> None:
        self.assertEqual(line((7,), 5), f"M{WIDTH} 0h0")


class Balanced(HTMLParser):
    """Fails where tags do not match, and keeps what there is."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        last = self.open.pop()
        if last != tag:
            raise AssertionError(f"<{last}> ended by </{tag}>")

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(report: Report) -> Balanced:
    page = Balanced()
    page.feed(document(report).decode())
    page.close()
    assert not page.open, page.open
    return page


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Clock()
        self.busy = Busy(clock, clock.seconds)
        self.busy.fill()

    def report(self) -> Report:
        return self.busy.admin.report()

    def test_what_it_shows(self) -> None:
        self.busy.fault("nothing listens at x. Is authentik running?", LogLevel.error)
        page = parsed(self.report())
        for words in (
            "ready", "sso.example.com, *.apps.example.com", "https://10.0.0.6:9443", "partly up",
            "seen by 1 of 2 workers", "/ws/outpost/", "HTTP/1.1", "days left", "10.0.0.0/8",
            "Is authentik running?", "unknown host",
        ):  # fmt: skip
            self.assertIn(words, page.text)
        self.assertEqual(page.text.count("15 min ago"), 3)

    def test_settings_to_paste(self) -> None:
        """Each in a line of its own, and whole."""
        lines = ('upstream_verify = "pin:sha256/x"  # <b>', 'upstream_verify = "off"')
        said = "not accepted. One of these:" + "".join(f"\n    {line}" for line in lines)
        self.busy.fault("{said}", LogLevel.error, said=said)
        html = document(self.report()).decode()
        self.assertIn(
            '<p class="soft">One of these:</p>'
            '<p class="code">upstream_verify = &quot;pin:sha256/x&quot;  # &lt;b&gt;</p>'
            '<p class="code">upstream_verify = &quot;off&quot;</p>',
            html,
        )

    def test_not_ready(self) -> None:
        self.busy.up = (0, 0, 2)
        page = parsed(self.report())
        self.assertIn("site sso.example.com: no upstream is up", page.text)
        self.assertTrue(page.text.startswith("not ready: authproxy on "))

    def test_draining(self) -> None:
        self.busy.draining = True
        self.assertIn("Draining: what is open is finished", parsed(self.report()).text)

    def test_a_refused_reload(self) -> None:
        self.busy.last_reload = (f"a.toml: limits.head: {HOSTILE}\nb.toml: wrong", 1e9)
        page = parsed(self.report())
        self.assertIn("The reload of 2001-09-09 01:46:40 UTC was refused", page.text)
        self.assertIn("a.toml: limits.head: </script>", page.text)
        self.busy.last_reload = ("", 1e9)
        text = parsed(self.report()).text
        self.assertNotIn("refused:", text)
        self.assertIn("reloaded 2001-09-09 01:46:40 UTC", text)

    def test_before_anything_is_known(self) -> None:
        empty = Busy(Clock(), Clock().seconds)
        empty.read = dict  # type: ignore[method-assign]
        sources = attrs.evolve(empty.admin._sources, read=dict)
        empty.admin._sources = sources
        text = parsed(empty.admin.report()).text
        self.assertIn("not checked", text)
        self.assertIn("No warning and no error since the start.", text)

    def test_text_stays_text(self) -> None:
        """Whatever is said of what clients sent."""
        quiet = [tag for tag, _ in parsed(self.report()).tags]
        self.busy.fault("{said}. {said}", LogLevel.error, said=HOSTILE)
        changed = attrs.evolve(
            self.report(), host=HOSTILE, reasons=(HOSTILE,), refused=(Named(HOSTILE, 1),),
            websockets_by_path=(Named(HOSTILE, 1),), requests_by_method=(Named(HOSTILE, 1),),
            requests_by_version=(Named(HOSTILE, 1),), requests_by_status=(Named(HOSTILE, 1),),
            settings_file=HOSTILE,
        )  # fmt: skip
        site = attrs.evolve(changed.sites[0], name=HOSTILE, hosts=(HOSTILE,), state=HOSTILE)
        certificate = attrs.evolve(
            changed.certificates[0], names=(HOSTILE,), issuer=HOSTILE, notes=(HOSTILE,),
        )  # fmt: skip
        page = parsed(attrs.evolve(changed, sites=(site,), certificates=(certificate,)))
        self.assertIn("onerror=alert(1)>\"'&\ufffd[31m", page.text)
        tags = [tag for tag, _ in page.tags]
        self.assertEqual(tags.count("script"), 1)
        self.assertEqual(set(tags) - set(quiet), {"ul", "ol", "li"})  # reasons and errors
        self.assertFalse([name for _, held in page.tags for name in held if name.startswith("on")])

    def test_the_policy_allows_what_is_there(self) -> None:
        html = document(self.report()).decode()
        for kind in ("script", "style"):
            [inner] = re.findall(rf"<{kind}[^>]*>(.*?)</{kind}>", html, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
            self.assertIn(f"{kind}-src 'sha256-{digest}';", POLICY)
        self.assertNotIn("unsafe", POLICY)

    def test_nothing_from_elsewhere(self) -> None:
        page = parsed(self.report())
        links = [value for _, held in page.tags for name, value in held.items()
                 if name in ("href", "src")]  # fmt: skip
        self.assertEqual([link for link in links if not link.startswith("data:")],
                         ["/status.json", "/metrics"])  # fmt: skip
        self.assertNotIn("style", {name for _, held in page.tags for name in held})

    def test_live_numbers_are_where_the_script_looks(self) -> None:
        plain = self.report().plain()
        found = [held["data-v"] for _, held in parsed(self.report()).tags if "data-v" in held]
        self.assertGreater(len(found), 40)
        for path in found:
            value: Any = plain
            for name in path.split("."):
                value = value[int(name)] if isinstance(value, (list, tuple)) else value[name]
            self.assertIsInstance(value, (int, float, type(None)), path)

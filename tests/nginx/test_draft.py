"""The TOML that is written: nothing that stands in nginx's files can begin a line of it."""

from __future__ import annotations

import tomllib

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy.nginx.draft import Draft, Kind, quoted, shown, toml
from authproxy.nginx.reading import Directive, NginxError

from ..examples import EXAMPLES
from .translated import of_text, site

SETTINGS = settings(EXAMPLES, max_examples=150, phases=(Phase.generate, Phase.shrink))
TEXTS = st.text(
    st.one_of(
        st.sampled_from("\"\\'\n\r\t\0\x0b\x1b\x7f\x85\u2028\u202e\ufeff[]{}=#;$ a"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)


def draft_with(text: str) -> Draft:
    """A draft with a text wherever one can come."""
    draft = Draft()
    directive = Directive(text, (text, ""), text, 3)
    draft.put(draft.table("log"), "access", text, [directive], text, text)
    draft.put(draft.table("log"), "off", text, [directive], off=True)
    draft.say(draft.table("listen"), Kind.LOST, text, directive)
    site = draft.site()
    draft.put(site, "hosts", [text, text])
    draft.say(site, Kind.ATTENTION, text, directive, directive)
    return draft


class TomlTests(SynchronousTestCase):
    @SETTINGS
    @given(TEXTS)
    def test_values_come_back(self, text: str) -> None:
        self.assertEqual(tomllib.loads(f"a = {quoted(text)}"), {"a": text})

    @SETTINGS
    @given(TEXTS)
    def test_nothing_escapes(self, text: str) -> None:
        document = toml(draft_with(text), text)
        self.assertEqual(
            tomllib.loads(document),
            {"listen": {}, "log": {"access": text}, "site": [{"hosts": [text, text]}]},
        )
        for line in document.splitlines():
            self.assertTrue(line.isprintable(), line)

    def test_an_octet_that_is_no_text(self) -> None:
        """TOML has no way to write it, and no file can be named so."""
        self.assertEqual(quoted("a\udcffb"), '"a\ufffdb"')

    def test_values(self) -> None:
        draft = Draft()
        table = draft.table("limits")
        for key, value in (("a", True), ("b", 5), ("c", 0.5), ("d", ["x", 'y"'])):
            draft.put(table, key, value)  # type: ignore[arg-type]
        self.assertEqual(
            tomllib.loads(toml(draft, ""))["limits"],
            {"a": True, "b": 5, "c": 0.5, "d": ["x", 'y"']},
        )

    def test_long_things_are_cut(self) -> None:
        directive = Directive("a" * 100_000, ("b",), "c.conf", 1)
        self.assertLess(len(shown(directive)), 100)
        draft = Draft()
        draft.say(draft.table(""), Kind.LOST, "x " * 100_000, directive)
        self.assertLess(len(toml(draft, "")), 4000)

    def test_equal_remarks_are_one(self) -> None:
        draft = Draft()
        first, second = (Directive("gzip", ("on",), "a.conf", line) for line in (3, 9))
        for directive in (first, second, first):
            draft.say(draft.table(""), Kind.LOST, "It is so.", directive)
        self.assertEqual(draft.counts()[Kind.LOST], 2)
        self.assertEqual(
            toml(draft, "h").splitlines(),
            [
                "# h", "", "# Cannot be honoured:", "#   - It is so.",
                "#       a.conf:3  gzip on", "#       a.conf:9  gzip on",
            ],
        )  # fmt: skip

    def test_places(self) -> None:
        draft = Draft()
        source = [Directive("a", (), file, line) for file, line in
                  (("x", 1), ("x", 2), ("y", 2), ("y", 2), ("x", 7), ("x", 8))]  # fmt: skip
        draft.put(draft.table("log"), "access", "", source)
        self.assertIn('access = ""  # x:1, 2, y:2, x:7 and 1 more', toml(draft, ""))


class WholeTests(SynchronousTestCase):
    """The same through the whole translation."""

    @settings(SETTINGS, max_examples=60)
    @given(st.lists(TEXTS, min_size=6, max_size=6))
    def test_any_arguments(self, texts: list[str]) -> None:
        names = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts]
        a, b, c, d, e, f = names
        conf = site(
            f"server_name {a}; ssl_certificate /x{b}; some_thing {c} {d};",
            f"proxy_set_header {e} {f}; add_header {a} {b};",
            f"upstream {c} {{ server 127.0.0.1; }} server {{ listen 81; server_name {d}; }}",
        )
        try:
            found = of_text(conf, self.mktemp())
        except NginxError:
            return  # it was no configuration
        self.assertEqual(len(found.settings.sites), 1)
        self.assertEqual(str(found.site.upstreams[0]), "https://127.0.0.1:9443")

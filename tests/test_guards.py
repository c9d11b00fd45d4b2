"""Which paths are open to whom: no spelling of a guarded path slips past."""

from __future__ import annotations

import itertools
import posixpath
import re
import unicodedata
from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes, urlsplit

from attrs import evolve, frozen
from hypothesis import Phase, example, given, note, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy import config, crosschecks, guards
from authproxy.guards import INSIDE, MOST_OCTETS, MOST_READINGS, Guards, checked_path, prepared
from authproxy.settings import GuardSettings, Settings, SiteSettings, Trust
from authproxy.spellings import readings

from . import http2_client
from .examples import EXAMPLES
from .transports import FakeTransport
from .world import OK, World, fields_of, get, say

SETTINGS = settings(
    EXAMPLES, max_examples=1000, phases=(Phase.explicit, Phase.generate, Phase.shrink)
)
INSIDER = "10.1.2.3"
STRANGER = "198.51.100.7"
BALANCER = "192.0.2.1"

# Spellings, and what becomes of them where /if/admin/ is guarded: "guarded" (403, or in), "odd"
# (400 for everybody), "open".
SPELLINGS = (
    # The path and what is below it.
    (b"/if/admin/", "guarded"),
    (b"/if/admin", "guarded"),  # Django redirects it
    (b"/if/admin?x=1", "guarded"),
    (b"/if/admin/?next=/if/user/", "guarded"),
    (b"/if/admin/x/y", "guarded"),
    (b"/if/admin/a.b-c_d~e", "guarded"),
    (b"/if/admin/?/../../x", "guarded"),
    (b"/IF/admin/", "guarded"),
    (b"/if/ADMIN", "guarded"),
    (b"/if/admin/x%20y", "guarded"),
    (b"/if/admin/%23/core", "guarded"),
    (b"/if/admin/x/../y", "guarded"),
    (b"/if/admin/./", "guarded"),
    (b"/if/admin//x", "guarded"),
    (b"/if/admin/;x", "guarded"),
    (b"/if/admin/%c3%a9", "guarded"),
    (b"/IF/ADMIN/%23", "guarded"),
    # What only looks like it.
    (b"/", "open"),
    (b"/if/", "open"),
    (b"/if/user/", "open"),
    (b"/if/administrators/", "open"),
    (b"/if/admin-x", "open"),
    (b"/if/admin.js", "open"),
    (b"/x/if/admin/", "open"),
    (b"/if/user/?next=/if/admin/", "open"),
    (b"/if/user/?next=%2Fif%2Fadmin%2F", "open"),
    (b"/admin/if/", "open"),
    (b"/ifadmin", "open"),
    (b"/if/user/x%20y", "open"),
    (b"/media/%E7%AE%A1%E7%90%86/if-admin.pdf", "open"),
    (b"/.well-known/openid-configuration", "open"),
    (b"/a;b=c/if", "open"),
    (b"/a//b", "open"),
    (b"/if/admins/../user/", "open"),
    (b"/?/if/admin/", "open"),
    # Percent-encoding, once, twice and more.
    (b"/if/%61dmin/", "odd"),
    (b"/%69f/admin/", "odd"),
    (b"/if/admi%6e", "odd"),
    (b"/if/admi%6E/", "odd"),
    (b"/if/%41DMIN/", "odd"),
    (b"/if%2fadmin/", "odd"),
    (b"/if%2Fadmin%2F", "odd"),
    (b"/%2fif/admin/", "odd"),
    (b"/if/admin%2f", "odd"),
    (b"/if/%2561dmin/", "odd"),
    (b"/if%252fadmin/", "odd"),
    (b"/if%25252fadmin/", "odd"),
    (b"/if%2525252525252525252fadmin/", "odd"),
    (b"/if/%25%36%31dmin/", "odd"),
    # Slashes.
    (b"//if/admin/", "odd"),
    (b"/if//admin/", "odd"),
    (b"/if///admin", "odd"),
    (b"/IF//ADMIN", "odd"),
    (b"/if\\admin/", "odd"),
    (b"\\if\\admin", "odd"),
    (b"/if/admin\\", "odd"),
    (b"/if%5cadmin/", "odd"),
    (b"/if%255cadmin/", "odd"),
    (b"//evil.example/if/admin/", "odd"),
    (b"///evil.example/if/admin/", "odd"),  # browsers' parser of URLs takes any number (WHATWG)
    (b"/%2f/evil.example/if/admin/", "odd"),
    (b"/\\\\evil.example/if/admin/", "odd"),
    # Dots.
    (b"/./if/admin/", "odd"),
    (b"/if/./admin/", "odd"),
    (b"/if/x/../admin/", "odd"),
    (b"/x/../if/admin/", "odd"),
    (b"/../if/admin/", "odd"),
    (b"/../../../if/admin/", "odd"),
    (b"/if/user/../admin/", "odd"),
    (b"/if/user/%2e%2e/admin/", "odd"),
    (b"/if/user/.%2E/admin/", "odd"),
    (b"/if/user%2f..%2fadmin/", "odd"),
    (b"/if/user/%252e%252e/admin/", "odd"),
    (b"/if/user\\..\\admin/", "odd"),
    (b"/a//../if/admin/", "odd"),
    (b"/a/b/../../if/admin/", "odd"),
    (b"/if/admin/../user/", "odd"),
    (b"/if/admin/..", "odd"),
    (b"/if/admin/..%2fuser/", "odd"),
    (b"/if/admin/%2e%2e/user/", "odd"),
    (b"/if/admin/..;/user/", "odd"),
    (b"/if/admin./", "odd"),
    (b"/if./admin", "odd"),
    (b"/if/admin.", "odd"),
    (b"/if/admin...", "odd"),
    (b"/if/admin%2e", "odd"),
    # Parameters.
    (b"/if/admin;x=y/", "odd"),
    (b"/if/admin;", "odd"),
    (b"/if;a=b/admin/", "odd"),
    (b"/;a/if/admin/", "odd"),
    (b"/if/user/..;/admin/", "odd"),
    (b"/if/user/..;x=y/admin/", "odd"),
    (b"/if/admin%3bx", "odd"),
    # NUL, blanks, controls, what ends a path once it is decoded.
    (b"/if/admin%00", "odd"),
    (b"/if/admin%00.html", "odd"),
    (b"/if/admin%2500", "odd"),
    (b"/if/admin%00%cc%83", "odd"),  # without the NUL its n would be another letter
    (b"/if/admin%3f", "odd"),
    (b"/if/admin%3fx", "odd"),
    (b"/if/admin%23", "odd"),
    (b"/if/admin%20/", "odd"),
    (b"/if/admin%20", "odd"),
    (b"/if/ad%0amin/", "odd"),
    (b"/if/%09admin/", "odd"),
    (b"/if/admin%0d%0a", "odd"),
    (b"/%20/if/admin/", "odd"),
    # Other writings of a letter, a dot, a slash.
    (b"/if/%u0061dmin/", "odd"),
    (b"/if%u002fadmin/", "odd"),
    (b"/if%c0%afadmin/", "odd"),
    (b"/if%e0%80%afadmin/", "odd"),
    (b"/if%f0%80%80%afadmin/", "odd"),
    (b"/if/user/%c0%ae%c0%ae/admin/", "odd"),
    (b"/if/%c1%a1dmin/", "odd"),
    (b"/if/%ef%bd%81dmin/", "odd"),  # a of full width
    (b"/if%ef%bc%8fadmin/", "odd"),  # / of full width
    (b"/if/user/%e2%80%a5/admin/", "odd"),  # two dots in one character
    (b"/if/%ef%bc%a1DMIN/", "odd"),
    # More than anybody means.
    (b"/if/admin/" + b"%20" * 400, "odd"),
    (b"/if/user/admin/" + b"%20" * 400, "odd"),
    (b"/x/" + b"%20" * MOST_OCTETS, "odd"),
    (b"/x%2525252525252525" + b"25" * 20, "odd"),
    (b"/x" + b"%ef%b7%ba" * 9, "odd"),  # each is 18 characters, in 33 octets
    (b"/x" + b"%ufdfa" * 9, "odd"),
    (b"/x" + b"%" * 999, "open"),
    (b"/x%ef%ac%81%c2%bd%ef%bc%85%c3%9f%c4%b0", "open"),  # these do not grow
)


def made(*rules: GuardSettings) -> Guards:
    """The guards of a site with these."""
    found = prepared(rules)
    assert found is not None
    return found


def word(of: Guards, target: bytes) -> str:
    """What becomes of a target, in the words of SPELLINGS."""
    found = of.of(target)
    return "odd" if found is None else "guarded" if found else "open"


ADMIN = made(GuardSettings("/if/admin/", allow=("10.0.0.0/8",)))


class SpellingTests(SynchronousTestCase):
    def test_table(self) -> None:
        self.assertGreater(len(SPELLINGS), 100)
        for target, expected in SPELLINGS:
            self.assertEqual(word(ADMIN, target), expected, target)

    def test_how_a_guard_is_written_makes_no_difference(self) -> None:
        for path in ("/if/admin", "/IF/Admin/"):
            other = made(GuardSettings(path, deny=(STRANGER,)))
            for target, expected in SPELLINGS:
                self.assertEqual(word(other, target), expected, target)

    def test_the_whole_site(self) -> None:
        """There no spelling is ambiguous: all mean the same."""
        everything = made(GuardSettings("/", deny=(STRANGER,)))
        for target, _ in SPELLINGS:
            self.assertEqual(word(everything, target), "guarded", target)

    def test_several(self) -> None:
        several = made(
            GuardSettings("/", deny=("192.0.2.0/24",)),
            GuardSettings("/if/admin/", allow=INSIDE),
            GuardSettings("/if/admin/x", allow=INSIDE),
        )
        for target, paths in (
            (b"/", ["/"]),
            (b"/if/user/%20", ["/"]),
            (b"/if/admin/", ["/", "/if/admin/"]),
            (b"/if/admin/x/y", ["/", "/if/admin/", "/if/admin/x"]),
            (b"/if/admin/%20", ["/", "/if/admin/"]),
            (b"/if/admin/%78", None),
            (b"/if//admin/", None),
        ):
            found = several.of(target)
            self.assertEqual(None if found is None else [g.path for g in found], paths, target)

    def test_preset(self) -> None:
        inside = made(GuardSettings(preset="inside"))
        below = made(GuardSettings("/auth/", "inside"))
        for target, root, sub in (
            (b"/-/metrics", True, True),
            (b"/-/metrics/", True, True),
            (b"/if/admin/", True, True),
            (b"/auth/if/admin/", False, True),
            (b"/auth/-/metrics", False, True),
            (b"/-/health/live/", False, False),
            (b"/if/user/", False, False),
            (b"/auth/if/user/", False, False),
            (b"/api/v3/admin/version/", False, False),
            (b"/ws/client/", False, False),
        ):
            self.assertEqual((bool(inside.of(target)), bool(below.of(target))), (root, sub), target)
        self.assertEqual({g.allow for g in inside.of(b"/if/admin/") or ()}, {INSIDE})
        own = made(GuardSettings(preset="inside", allow=("192.0.2.0/24",)))
        self.assertEqual({g.allow for g in own.of(b"/if/admin/") or ()}, {("192.0.2.0/24",)})

    def test_none(self) -> None:
        self.assertIsNone(prepared(()))

    def test_work_is_bounded(self) -> None:
        """Not by a stopwatch: so many readings are looked at, of so many octets."""
        worst = b"/xx/if.admin/" + b"%20//;x/%2e/%c0%ae%u0041.\\" * 18
        looked: list[bytes] = []

        def counted(path: bytes) -> object:
            for reading in readings(path):
                looked.append(reading)
                yield reading

        self.patch(guards, "readings", counted)
        self.assertEqual(word(ADMIN, worst), "odd")
        self.assertLessEqual(len(looked), MOST_READINGS + 1)
        self.assertGreater(len(looked), 1)
        self.assertEqual(word(ADMIN, worst * 2), "odd")
        self.assertLessEqual(len(looked), MOST_READINGS + 1)  # too long to be looked at


# What servers do to a path before they look at it, written down independently of spellings.py.


def _nginx(path: bytes) -> bytes:
    """One pass over the decoded path: merge_slashes, dot segments."""
    kept: list[bytes] = []
    for segment in unquote_to_bytes(path).split(b"/"):
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment not in (b"", b"."):
            kept.append(segment)
    return b"/" + b"/".join(kept) + b"/"


def _go(path: bytes) -> bytes:
    """net/http: URL.Path is decoded, ServeMux cleans it."""
    return posixpath.normpath(b"/" + unquote_to_bytes(path).lstrip(b"/"))


def _tomcat(path: bytes) -> bytes:
    without = re.sub(rb";[^/]*", b"", path)
    return posixpath.normpath(b"/" + unquote_to_bytes(without).replace(b"\\", b"/").lstrip(b"/"))


def _iis(path: bytes) -> bytes:
    twice = unquote_to_bytes(unquote_to_bytes(path)).replace(b"\\", b"/").lower()
    names = [name if name in (b".", b"..") else name.rstrip(b". ") for name in twice.split(b"/")]
    return posixpath.normpath(b"/" + b"/".join(names).lstrip(b"/"))


def _percent_u(path: bytes) -> bytes:
    text = re.sub(rb"%u00([0-9a-fA-F]{2})", lambda match: bytes.fromhex(match[1].decode()), path)
    return unquote_to_bytes(text)


def _lenient_utf_8(path: bytes) -> bytes:
    def letter(match: re.Match[bytes]) -> bytes:
        return bytes([(match[0][0] & 31) << 6 | match[0][1] & 63])

    return _go(re.sub(rb"[\xc0\xc1][\x80-\xbf]", letter, unquote_to_bytes(path)))


def _whatwg(path: bytes) -> bytes:
    """A browser's parser: tab and line ends out, backslashes, %2e as a dot."""
    text = re.sub(rb"[\t\r\n]", b"", path).replace(b"\\", b"/")
    return re.sub(rb"/(?:\.|%2e)(?=/|\Z)", b"", re.sub(rb"(?i)%2e", b".", text)) or b"/"


def _wide(path: bytes) -> bytes:
    text = unquote_to_bytes(path).decode("utf-8", "replace")
    return unicodedata.normalize("NFKC", text).encode()


SERVERS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda path: path,
    "without case": lambda path: path.lower(),
    "django on uvicorn": unquote_to_bytes,
    "decoded twice": lambda path: unquote_to_bytes(unquote_to_bytes(path)),
    "decoded thrice": lambda path: unquote_to_bytes(unquote_to_bytes(unquote_to_bytes(path))),
    "go": _go,
    "go behind one that decodes": lambda path: _go(unquote_to_bytes(path)),
    "nginx": _nginx,
    "nginx, and its upstream": lambda path: unquote_to_bytes(_nginx(path)),
    "clean, then decode": lambda path: unquote_to_bytes(posixpath.normpath(path)),
    "tomcat": _tomcat,
    "iis": _iis,
    "%u": _percent_u,
    "a C string": lambda path: unquote_to_bytes(path).partition(b"\0")[0],
    "python's urlsplit": lambda path: unquote_to_bytes(urlsplit(path).path),
    "decode, then split": lambda path: urlsplit(b"//x" + unquote_to_bytes(path)).path,
    "lenient UTF-8": _lenient_utf_8,
    "a browser": _whatwg,
    "compatibility forms": _wide,
}


def reaches(path: bytes) -> list[str]:
    """The servers that would answer this path with the admin interface."""
    found = []
    for name, server in SERVERS.items():
        try:
            meant = server(path)
        except ValueError:  # it refuses
            continue
        if name in ("without case", "iis"):
            meant = meant.lower()
        if meant == b"/if/admin" or meant.startswith(b"/if/admin/"):
            found.append(name)
    return found


def spelled(letter: str) -> st.SearchStrategy[str]:
    """One octet, in one of many ways."""
    code = ord(letter)
    ways = [letter] * 6 + [f"%{code:02x}", f"%{code:02X}", f"%25{code:02x}", f"%2525{code:02x}",
            f"%u{code:04x}", f"%c{code >> 6}%{0x80 | code & 63:02x}"]  # fmt: skip
    if letter.isalpha():
        wide = chr(0xFF00 + code - 0x20).encode()
        ways += [letter.upper(), "".join(f"%{octet:02x}" for octet in wide)]
    if letter == "/":
        ways += [
            "\\",
            "//",
            "/./",
            "/x/../",
            ";p/",
            "%5c",
            "/..;/",
            ".//",
            "%20/",
            "/%09",
            "%ef%bc%8f",
        ]
    return st.sampled_from(ways)


NOISE = st.sampled_from(
    ["", "", "", "/..", "/../user", "/x", ";x", "%00", "%3f", "%23", "?x", "?/../..", ".", "%20", "\\", "\\x",
     "/%2e%2e/user", "%2f..%2fuser", "//", "%", "%u", "%zz"]
)  # fmt: skip
BEFORE = st.sampled_from(
    ["", "", "", "/x/..", "/.", "/x/y/../..", "//h", "/%2e%2e", "\\", "/;a", "/if/user/../..", "/%00", "/x%3f/.."]
)  # fmt: skip
PATHS = st.tuples(BEFORE, *map(spelled, "/if/admin"), NOISE).map("".join)
ANYTHING = st.lists(
    st.sampled_from(["/", "if", "admin", "..", ".", "%2f", "%2e", "\\", ";", "%25", "%00", "%5c", "x", "%61", "%20"]),
    max_size=12,
).map(lambda parts: "/" + "".join(parts))  # fmt: skip


class ServerTests(SynchronousTestCase):
    """Whatever a server makes the guarded path of, counts as guarded here."""

    def check(self, text: str) -> list[str]:
        target = text.encode()
        found = reaches(target.partition(b"?")[0])
        note(f"{target!r} reaches {found}")
        if found:
            self.assertIn(word(ADMIN, target), ("guarded", "odd"), (target, found))
        return found

    def test_spelled(self) -> None:
        seen: set[str] = set()

        @SETTINGS
        @given(PATHS | ANYTHING)
        @example("/if/admin")
        @example("/if%2525%32fadmin")
        def check(text: str) -> None:
            seen.update(self.check(text))

        check()
        self.assertEqual(seen, set(SERVERS))  # each was led there: the test tests something

    @SETTINGS
    @given(PATHS | ANYTHING)
    def test_the_short_way_is_the_long_one(self, text: str) -> None:
        """The expression for plain paths, and the look at names, only save work."""
        path = text.encode().partition(b"?")[0].lower()
        guard = ADMIN._all[0]
        all_readings = list(itertools.islice(readings(path), 300))
        covered = {guard.covers(reading) for reading in all_readings}
        expected = {(True,): "guarded", (False,): "open"}.get(tuple(covered), "odd")
        found = word(ADMIN, text.encode())
        if len(all_readings) <= MOST_READINGS:
            self.assertEqual(found, expected, text)
        else:
            self.assertIn(found, {"open": ("open", "odd")}.get(expected, ("odd",)), text)


class PathTests(SynchronousTestCase):
    """What may be written for a path."""

    def test_right(self) -> None:
        for path in (
            "",
            "/",
            "/if/admin/",
            "/if/admin",
            "/-/metrics",
            "/.well-known/x",
            "/a.b/C_~",
        ):
            self.assertEqual(checked_path(path), path)

    def test_wrong(self) -> None:
        for path, words in (
            ("if/admin/", 'such as "/if/admin/"'),
            ("/if/admin/*", 'Write "/if/admin/"'),
            ("/if/%61dmin/", "decoded"),
            ("/if//admin/", "plain ASCII"),
            ("/if/../admin/", "plain ASCII"),
            ("/if/admin/?x", "plain ASCII"),
            ("/if/admin;x", "plain ASCII"),
            ("/if/admin.", "plain ASCII"),
            ("/if\\admin", "plain ASCII"),
            ("/if/admin\n", "plain ASCII"),
            ("/if/ädmin/", "plain ASCII"),
            ("//", "plain ASCII"),
        ):
            error = self.assertRaises(ValueError, checked_path, path)
            self.assertIn(words, str(error), path)


def problems(text: str) -> list[str]:
    return [str(problem) for problem in config.loads(text, "f.toml")[1]]


class SettingsTests(SynchronousTestCase):
    def test_right(self) -> None:
        found, wrong = config.loads(
            '[[site]]\nhosts = ["a"]\n[[site.guard]]\npreset = "inside"\n[[site.guard]]\n'
            'path = "/if/admin/"\nallow = ["10.0.0.0/8", "unix:"]\ndeny = ["10.9.0.0/16"]\n'
            '[[site]]\nhosts = ["b"]\n[[site.guard]]\npath = "/"\ndeny = ["192.0.2.7"]\n',
            "f.toml",
        )
        self.assertEqual(wrong, [])
        self.assertEqual(
            [site.guards for site in found.sites],
            [
                (
                    GuardSettings(preset="inside"),
                    GuardSettings("/if/admin/", "", ("10.0.0.0/8", "unix:"), ("10.9.0.0/16",)),
                ),
                (GuardSettings("/", deny=("192.0.2.7/32",)),),
            ],
        )
        self.assertEqual(SiteSettings().guards, ())  # nothing is guarded that nobody named

    def test_wrong(self) -> None:
        for guard, expected in (
            ('path = "/x"\nallow = ["10.0.0.0/33"]', "allow[1]: "),
            ('path = "/x"\nallow = ["10.0.0.0/8", "nobody"]', 'allow[2]: "nobody" is not a network'),
            ('path = "/x"\nallow = "10.0.0.0/8"', 'allow: must be a list in brackets, not "10.0.0.0/8". Write'),
            ('path = "x"\nallow = ["10.0.0.0/8"]', "path: must be a path that begins with"),
            ("path = 5\ndeny = []", "path: must be a text in quotes"),
            ('path = "/x"\nalow = ["10.0.0.0/8"]', "alow: there is no such setting. Did you mean allow?"),
            ('preset = "insde"', 'preset: must be "" or "inside", not "insde". Did you mean "inside"?'),
            ('allow = ["10.0.0.0/8"]', "path: which path?"),
            ('path = "/x"', "allow: nobody is named."),
            ('path = "/x"\nallow = []\ndeny = []', "allow: nobody is named."),
            ('path = "/x"\nallow = ["10.0.0.0/8"]\ndeny = ["10.0.0.0/8"]', "allow[1]: is never let in: 10.0.0.0/8"),
            ('path = "/x"\nallow = ["::1", "10.1.0.0/16"]\ndeny = ["10.0.0.0/8"]', "allow[2]: is never let in"),
            ('path = "/x"\nallow = ["unix:"]\ndeny = ["unix:"]', "allow[1]: is never let in: unix:"),
        ):  # fmt: skip
            text = f'[[site]]\n[[site.guard]]\npath = "/ok"\ndeny = ["10.0.0.0/8"]\n[[site.guard]]\n{guard}\n'
            [line] = problems(text)
            self.assertTrue(line.startswith(f"f.toml: site[1].guard[2].{expected}"), line)

    def test_one_bracket(self) -> None:
        for text in ("[site.guard]\npath = '/'", "guard = 5", "guard = '/if/admin/'"):
            [line] = problems(f"[[site]]\n{text}\n")
            self.assertEqual(
                line, "f.toml: site[1].guard: guards are written with two brackets: [[site.guard]]."
            )

    def test_a_site_beside_it(self) -> None:
        """With the same upstream and no guards: a way around them, by another Host."""
        guard = '[[site.guard]]\npreset = "inside"\n'
        for first, second, expected in (
            (guard, "", ["site[2].guard"]),
            ("", guard, ["site[1].guard"]),
            (guard, guard, []),
            ("", "", []),
            (guard, 'upstream = "https://127.0.0.1:9444"\n', []),
            (guard, 'upstream = ["https://127.0.0.1:9444", "https://127.0.0.1:9443"]\n', ["site[2].guard"]),
        ):  # fmt: skip
            found, wrong = config.loads(
                f'[[site]]\nhosts = ["a"]\n{first}[[site]]\nhosts = ["b"]\n{second}', "f.toml"
            )
            self.assertEqual(wrong, [])
            self.assertEqual([key for key, _ in crosschecks.warnings(found)], expected)

    def test_twice(self) -> None:
        """Allowed, and seldom meant."""
        guard = GuardSettings("/if/admin/", allow=("10.0.0.0/8",))
        twice = evolve(guard, below="/if/Admin", allow=("192.0.2.0/24",))
        other = evolve(guard, below="/x")
        site = SiteSettings(guards=(guard, other, twice))
        found = evolve(Settings(), sites=(site,))
        self.assertEqual(crosschecks.problems(found), [])
        [(key, words)] = crosschecks.warnings(found)
        self.assertEqual(key, "site[1].guard[3].path")
        self.assertIn("guard[1] has it too", words)
        self.assertEqual(
            crosschecks.warnings(evolve(Settings(), sites=(SiteSettings(guards=(guard, other)),))),
            [],
        )


@frozen
class Asked:
    """What became of a request."""

    status: int
    content: bytes
    forwarded: bytes


class Conversation(SynchronousTestCase):
    """Through a whole proxy."""

    rules: Sequence[GuardSettings] = (GuardSettings("/if/admin/", allow=("10.0.0.0/8",)),)

    def world(
        self,
        *trusted: str,
        rules: Sequence[GuardSettings] | None = None,
        trust: Trust | None = None,
    ) -> World:
        settings = evolve(Settings(), trust=trust or Trust(trusted))
        world = World(settings, hosts=("sso.example.com",))
        world.site.guards = prepared(self.rules if rules is None else rules)
        self.said: list[tuple[str, str]] = []
        world.gateway.say = lambda words, kind="", *_, **__: self.said.append((words, kind))
        return world

    def ask(self, world: World, data: bytes, peer: str = STRANGER) -> Asked:
        client = world.client(peer)
        before = len(world.origins)
        say(client, data)
        if len(world.origins) > before or any(o.value() for o in world.origins):
            origin = world.origins[-1]
            got = origin.value()
            say(origin, OK)
            head = client.take()
            return Asked(int(head[9:12]), head.partition(b"\r\n\r\n")[2], got)
        head, _, content = client.take().partition(b"\r\n\r\n")
        return Asked(int(head[9:12]), content, b"")

    def status(self, target: bytes, peer: str, **options: Sequence[GuardSettings]) -> int:
        asked = self.ask(self.world(**options), get(target), peer)
        self.assertEqual(bool(asked.forwarded), asked.status == 200)
        return asked.status


class GatewayTests(Conversation):
    def test_table(self) -> None:
        for target, expected in SPELLINGS:
            if not target.startswith(b"/"):
                continue  # the parser refuses it
            outside, inside = self.status(target, STRANGER), self.status(target, INSIDER)
            verdicts = {"guarded": (403, 200), "odd": (400, 400), "open": (200, 200)}
            self.assertEqual((outside, inside), verdicts[expected], target)

    def test_absolute_form(self) -> None:
        for target, status in (
            (b"http://sso.example.com/if/admin/", 403),
            (b"https://sso.example.com/if/admin", 403),
            (b"http://sso.example.com/if/%61dmin/", 400),
            (b"http://sso.example.com//if/admin/", 400),
            (b"http://sso.example.com/if/user/", 200),
            (b"http://sso.example.com", 200),
            (b"http://sso.example.com?/if/admin/", 200),
        ):
            self.assertEqual(self.status(target, STRANGER), status, target)

    def test_methods_and_upgrades(self) -> None:
        upgrade = (
            b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )  # fmt: skip
        for data in (
            get(b"/if/admin/", *upgrade),
            *(get(b"/if/admin/", method=m) for m in (b"HEAD", b"POST", b"PUT", b"OPTIONS", b"X")),
            get(b"/if/admin/", b"Content-Length: 1000000", method=b"POST"),
            get(b"/if/admin/", b"Content-Length: 5", b"Expect: 100-continue", method=b"POST"),
            get(b"/if/admin/", b"Transfer-Encoding: chunked", method=b"POST"),
        ):
            asked = self.ask(self.world(), data)
            self.assertEqual((asked.status, asked.forwarded), (403, b""), data)

    def test_http2(self) -> None:
        for target, expected in SPELLINGS:
            if not target.startswith(b"/"):
                continue
            world = self.world()
            client = http2_client.Client(world)
            client.h2.send_headers(1, http2_client.request(target), end_stream=True)
            statuses = [
                int(dict(event.headers)[b":status"])
                for event in client.talk()
                if hasattr(event, "headers")
            ]
            wanted = {"guarded": [403], "odd": [400], "open": []}[expected]
            self.assertEqual((statuses, len(world.origins)), (wanted, not wanted), target)

    def test_websockets_in_http2(self) -> None:
        """RFC 8441: the path of a handshake is one like any other."""
        for target, status in ((b"/if/admin/ws", 403), (b"/if//admin/ws", 400)):
            world = self.world()
            client = http2_client.Client(world)
            fields = [
                (b":method", b"CONNECT"), (b":protocol", b"websocket"),
                *http2_client.request(target)[1:], (b"sec-websocket-version", b"13"),
            ]  # fmt: skip
            client.h2.send_headers(1, fields)
            [answer] = [event for event in client.talk() if hasattr(event, "headers")]
            self.assertEqual(int(dict(answer.headers)[b":status"]), status)
            self.assertEqual(world.origins, [])

    def test_what_is_said(self) -> None:
        world = self.world()
        asked = self.ask(world, get(b"/if/admin/secret?token=x"))
        self.assertEqual(asked.status, 403)
        self.assertIn(b"not open to the network", asked.content)
        self.assertNotIn(b"10.0.0.0", asked.content)  # that is the operator's business
        self.assertEqual(dict(world.gateway.refused), {"guard": 1})
        [(words, kind)] = self.said
        for part in ("Site sso.example.com, 403 for 198.51.100.7: /if/admin/ is guarded",
                     "It allows 10.0.0.0/8", "trust.proxies"):  # fmt: skip
            self.assertIn(part, words)
        self.assertNotIn("secret", words)
        self.assertNotIn(STRANGER, kind)
        self.assertEqual(world.access.statuses, [403])

    def test_what_is_said_of_odd_paths(self) -> None:
        world = self.world()
        asked = self.ask(world, get(b"/if//admin/"), INSIDER)
        self.assertEqual(asked.status, 400)
        self.assertIn(b"several ways", asked.content)
        self.assertEqual(dict(world.gateway.refused), {"ambiguous path": 1})
        [(words, _)] = self.said
        self.assertIn("400 for 10.1.2.3", words)

    def test_deny(self) -> None:
        rules = (
            GuardSettings("/if/admin/", allow=("10.0.0.0/8",), deny=("10.1.0.0/16",)),
            GuardSettings("/", deny=("192.0.2.0/24",)),
        )
        for peer, target, status in (
            (INSIDER, b"/if/admin/", 403),
            ("10.2.0.1", b"/if/admin/", 200),
            (INSIDER, b"/if/user/", 200),
            (STRANGER, b"/if/user/", 200),
            ("192.0.2.9", b"/if/user/", 403),
            ("192.0.2.9", b"//x%2f", 403),
        ):
            self.assertEqual(self.status(target, peer, rules=rules), status, (peer, target))
        self.ask(world := self.world(rules=rules), get(b"/if/admin/"), INSIDER)
        self.assertIn("in its deny", self.said[0][0])
        self.assertEqual(world.gateway.refused["guard"], 1)

    def test_all_must_let_pass(self) -> None:
        rules = (
            GuardSettings("/if/", allow=("10.0.0.0/8", "192.0.2.0/24")),
            GuardSettings("/if/admin/", allow=("10.0.0.0/8", "198.51.100.0/24")),
        )
        for peer, status in ((INSIDER, 200), ("192.0.2.1", 403), (STRANGER, 403)):
            self.assertEqual(self.status(b"/if/admin/", peer, rules=rules), status, peer)

    def test_no_guards(self) -> None:
        for target, _ in SPELLINGS:
            if target.startswith(b"/"):
                self.assertEqual(self.status(target, STRANGER, rules=()), 200, target)

    def test_repeated_heads(self) -> None:
        """The second of two requests with the same fields is looked at as well."""
        world = self.world()
        client = world.client(STRANGER)
        say(client, get(b"/if/user/"))
        say(world.origins[0], OK)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 200"))
        say(client, get(b"/if/admin/"))
        self.assertTrue(client.take().startswith(b"HTTP/1.1 403"))


class AddressTests(Conversation):
    """Whose address counts: the client's, after the trust rules."""

    def forwarded(self, world: World, peer: str, *values: bytes) -> int:
        fields = [b"X-Forwarded-For: " + value for value in values]
        return self.ask(world, get(b"/if/admin/", *fields), peer).status

    def test_behind_a_trusted_proxy(self) -> None:
        for values, status in (
            ((b"10.1.2.3",), 200),
            ((b"198.51.100.7",), 403),
            ((b"10.1.2.3, 198.51.100.7",), 403),
            ((b"198.51.100.7, 10.1.2.3",), 200),
            ((b"10.1.2.3", b"198.51.100.7"), 403),
        ):
            world = self.world(f"{BALANCER}/32")
            self.assertEqual(self.forwarded(world, BALANCER, *values), status, values)

    def test_a_trusted_proxy_whose_words_are_garbage(self) -> None:
        """Its own address is an inner one; that of whoever it speaks for is not known."""
        for trusted, peer, allow in (("10.0.0.0/8", "10.0.0.2", "10.0.0.0/8"),
                                     ("unix:", "unix:", "unix:")):  # fmt: skip
            rules = (GuardSettings("/if/admin/", allow=(allow,)),)
            for value, status in ((b"unknown", 403), (b"", 403), (b"10.1.2.3, unknown", 403)):
                world = self.world(trusted, rules=rules)
                self.assertEqual(self.forwarded(world, peer, value), status, (peer, value))
            world = self.world(trusted, rules=rules)
            self.assertEqual(self.forwarded(world, peer), 200)  # it asks for itself

    def test_a_field_of_the_address_that_cannot_be_read(self) -> None:
        """A proxy that speaks for somebody whom nobody could tell is not asking for itself."""
        rules = (GuardSettings("/if/admin/", allow=("10.0.0.0/8",)),)
        for configured in ("X-Real-IP", ""):
            trust = Trust(("10.0.0.2/32",), configured)
            for fields, status in (
                ((b"X-Real-IP: 198.51.100.7", b"X-Real-IP: 10.1.2.3"), 403),
                ((b"X-Real-IP: unknown",), 403),
                ((b"X-Real-IP:",), 403),
                ((b"X-Real-IP: 198.51.100.7",), 403),
                ((b"CF-Connecting-IP: 198.51.100.7",), 403),
                ((b"Forwarded: for=198.51.100.7",), 403),
                ((b"X-Real-IP: 10.1.2.3",), 200 if configured else 403),
                ((), 200),
            ):
                world = self.world(rules=rules, trust=trust)
                asked = self.ask(world, get(b"/if/admin/", *fields), "10.0.0.2")
                self.assertEqual(asked.status, status, (configured, fields))

    def test_a_list_that_ends_in_garbage_at_a_proxy(self) -> None:
        """The last good address is that of a proxy, and whom that spoke for nobody can tell."""
        for value, status in (
            (b"198.51.100.7, unknown, 10.0.0.9", 403),
            (b"unknown, 10.0.0.9", 403),
            (b", 10.0.0.9", 403),
            (b"10.1.2.3, fe80::1%eth0, 10.0.0.8, 10.0.0.9", 403),
            (b"10.0.0.9", 200),  # it asks for itself
            (b"10.0.0.8, 10.0.0.9", 200),
            (b"unknown, 10.1.2.3, 10.0.0.9", 200),  # no proxy: what it says of others is its own
        ):
            world = self.world("10.0.0.0/28")
            self.assertEqual(self.forwarded(world, "10.0.0.2", value), status, value)

    def test_a_proxy_that_is_not_trusted(self) -> None:
        """An inner address that speaks for others: everybody would be inside."""
        carrier = (GuardSettings("/if/admin/", allow=("100.64.0.0/10",)),)
        field = b"X-Forwarded-For: 100.64.0.9"
        world = self.world(rules=carrier)
        self.assertEqual(self.ask(world, get(b"/if/admin/", field), "100.64.0.1").status, 403)
        self.assertEqual(self.ask(world, get(b"/if/admin/"), "100.64.0.1").status, 200)
        for field in (
            b"X-Forwarded-For: 10.1.2.3", b"X-Forwarded-Proto: https", b"X-Real-IP: 10.1.2.3",
            b"Forwarded: for=10.1.2.3", b"CF-Connecting-IP: 10.1.2.3", b"Via: 1.1 other",
            b"X-Forwarded-Host: sso.example.com",
        ):  # fmt: skip
            world = self.world()
            self.assertEqual(self.ask(world, get(b"/if/admin/", field), INSIDER).status, 403)
            [words] = [words for words, _ in self.said if "is guarded" in words]
            self.assertIn('[trust] proxies = ["10.1.2.3"]', words)

    def test_a_stranger_that_speaks_like_a_proxy(self) -> None:
        """What it says changes nothing, for better or worse."""
        far = "8.8.8.8"  # the addresses of documentation count as private
        self.assertEqual(self.forwarded(self.world(), far, b"10.1.2.3"), 403)
        rules = (GuardSettings("/if/admin/", allow=(far,)),)
        self.assertEqual(self.forwarded(self.world(rules=rules), far, b"192.0.2.1"), 200)

    def test_deny_alone_asks_no_proxy(self) -> None:
        rules = (GuardSettings("/if/admin/", deny=("192.0.2.0/24",)),)
        self.assertEqual(self.forwarded(self.world(rules=rules), INSIDER, b"192.0.2.1"), 200)

    def test_unix_peers(self) -> None:
        for rules, status in (
            ((GuardSettings("/if/admin/", allow=("unix:",)),), 200),
            ((GuardSettings("/if/admin/", allow=("10.0.0.0/8",)),), 403),
            ((GuardSettings(preset="inside"),), 403),  # everybody may be behind a unix socket
            ((GuardSettings("/if/admin/", deny=("unix:",)),), 403),
        ):
            world = self.world(rules=rules)
            self.assertEqual(self.ask(world, get(b"/if/admin/"), "unix:").status, status)

    def test_inside(self) -> None:
        rules = (GuardSettings(preset="inside"),)
        for peer in (
            "127.0.0.1",
            "::1",
            "10.255.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "fd00::1",
            "fe80::1",
        ):
            for target in (b"/if/admin/", b"/-/metrics"):
                self.assertEqual(self.status(target, peer, rules=rules), 200, peer)
        for peer in ("172.32.0.1", "192.169.0.1", "2001:db8::1", "100.64.0.1", "8.8.8.8"):
            for target in (b"/if/admin/", b"/-/metrics"):
                self.assertEqual(self.status(target, peer, rules=rules), 403, peer)


class OrderTests(Conversation):
    def test_fields_of_what_passes(self) -> None:
        """A guard looks; it changes nothing of what is forwarded."""
        world = self.world()
        client = world.client(INSIDER)
        say(client, get(b"/if/admin/x%20y?a=b"))
        origin: FakeTransport = world.origins[0]
        self.assertTrue(origin.value().startswith(b"GET /if/admin/x%20y?a=b HTTP/1.1\r\n"))
        self.assertIn((b"x-forwarded-for", INSIDER.encode()), fields_of(origin.value()))

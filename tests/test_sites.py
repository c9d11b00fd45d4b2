"""Which site a host belongs to, and where HSTS means anything."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from authproxy.sites import SiteTable, hsts_applies, normal_host


@attrs.frozen
class Place:
    """A site by its name."""

    name: str
    hosts: tuple[str, ...] = ()


EXACT = Place("exact", ("sso.example.com", "[2001:db8::1]", "192.0.2.1"))
WILDCARD = Place("wildcard", ("*.example.com", "*.Example.ORG."))
INNER = Place("inner", ("*.sso.example.com",))
ANY = Place("any")


class FindTests(SynchronousTestCase):
    def find(self, host: bytes, *places: Place) -> str:
        found = SiteTable(places).find(host)
        return found.name if found else ""

    def test_table(self) -> None:
        """Exact before wildcard before none; without case, port and final dot."""
        for host, expected in (
            (b"sso.example.com", "exact"),
            (b"SSO.Example.COM", "exact"),
            (b"sso.example.com.", "exact"),
            (b"sso.example.com:8443", "exact"),
            (b"SSO.example.com.:8443", "exact"),
            (b"[2001:db8::1]", "exact"),
            (b"[2001:DB8::1]:443", "exact"),
            (b"192.0.2.1:443", "exact"),
            (b"other.example.com", "wildcard"),
            (b"other.example.org", "wildcard"),
            (b"a.sso.example.com", "inner"),
            (b"example.com", ""),
            (b"a.b.example.com", ""),  # one label more, not two
            (b"sso.example.com.evil.example", ""),
            (b"evilsso.example.co", ""),
            (b"2001:db8::1", ""),
            (b"com", ""),
        ):
            self.assertEqual(self.find(host, EXACT, WILDCARD, INNER), expected, host)
            otherwise = self.find(host, ANY, INNER, WILDCARD, EXACT)
            self.assertEqual(otherwise, expected or "any", host)

    def test_no_host_at_all(self) -> None:
        """HTTP/1.0: the site for every host, or the only one; nobody guesses among several."""
        self.assertEqual(self.find(b"", EXACT), "exact")
        self.assertEqual(self.find(b"", EXACT, ANY), "any")
        self.assertEqual(self.find(b"", EXACT, WILDCARD), "")
        self.assertEqual(self.find(b""), "")

    def test_what_is_remembered_is_bounded_and_right(self) -> None:
        table = SiteTable([EXACT])
        for number in range(5000):
            self.assertIsNone(table.find(b"%d.example" % number))
        self.assertLessEqual(len(table._known), 1024)
        self.assertIs(table.find(b"sso.example.com"), EXACT)
        self.assertIs(table.find(b"sso.example.com"), EXACT)


class NormalHostTests(SynchronousTestCase):
    def test_table(self) -> None:
        for host, expected in (
            (b"A.Example", "a.example"),
            (b"a.example.", "a.example"),
            (b"a.example.:1", "a.example"),
            (b"a:80", "a"),
            (b"[::1]", "[::1]"),
            (b"[::1]:80", "[::1]"),
            (b"", ""),
        ):
            self.assertEqual(normal_host(host), expected)


class HSTSTests(SynchronousTestCase):
    def test_names(self) -> None:
        for host in (b"sso.example.com", b"SSO.example.com.:8443", b"intranet",
                     b"a.localhost.example",
                     b"1.example", b"xn--bcher-kva.example"):  # fmt: skip
            self.assertTrue(hsts_applies(host), host)

    def test_never(self) -> None:
        for host in (b"", b"localhost", b"LOCALHOST:8443", b"localhost.", b"a.localhost",
                     b"127.0.0.1",
                     b"192.0.2.1:443", b"[::1]", b"[2001:db8::1]:8443", b"192.0.2.1."):  # fmt: skip
            self.assertFalse(hsts_applies(host), host)

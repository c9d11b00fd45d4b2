"""What the stand-in believes, by its peer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from authproxy.standin.page import Arrived, seen

FIELDS = [
    (b"Host", b"authentik:9000"),
    (b"X-Forwarded-For", b"203.0.113.9"),
    (b"X-Forwarded-Host", b"sso.example.com"),
    (b"X-Forwarded-Proto", b"https"),
]


class TrustTests(SynchronousTestCase):
    def believed(self, *, trusted: bool) -> tuple[str, str]:
        found = seen(Arrived(b"GET", b"/", b"HTTP/1.1", FIELDS, "192.0.2.1", False, trusted))
        return found.url, found.client

    def test_trusted(self) -> None:
        self.assertEqual(self.believed(trusted=True), ("https://sso.example.com/", "203.0.113.9"))

    def test_untrusted(self) -> None:
        """As authentik does from 2026.8.1 on."""
        self.assertEqual(self.believed(trusted=False), ("http://authentik:9000/", "192.0.2.1"))

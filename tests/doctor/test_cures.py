"""The line for authentik's environment: it replaces the defaults, so it must have them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from authproxy.doctor import cures

DEFAULTS = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fe80::/10,::1/128"
NAME = "AUTHENTIK_LISTEN__TRUSTED_PROXY_CIDRS="


class LineTests(SynchronousTestCase):
    def test_added(self) -> None:
        for address, added in (
            ("203.0.113.5", ",203.0.113.5/32"),
            ("100.64.0.1", ",100.64.0.1/32"),
            ("172.32.0.1", ",172.32.0.1/32"),
            ("2001:db8::5", ",2001:db8::5/128"),
            ("fd00::5", ",fd00::5/128"),
            ("::ffff:203.0.113.5", ",203.0.113.5/32"),
            ("10.1.2.3", ""),
            ("127.0.0.1", ""),
            ("172.17.0.1", ""),
            ("192.168.1.1", ""),
            ("fe80::1%eth0", ""),
            ("::1", ""),
            ("::ffff:10.0.0.1", ""),
        ):
            self.assertEqual(cures.trusted_line([address]), NAME + DEFAULTS + added, address)

    def test_several(self) -> None:
        addresses = ["203.0.113.5", "10.0.0.1", "fd00::5", "203.0.113.5"]
        self.assertEqual(
            cures.trusted_line(addresses), f"{NAME}{DEFAULTS},203.0.113.5/32,fd00::5/128"
        )

    def test_words(self) -> None:
        """What to do, by what is known of the address."""
        first, line, last = cures.trust_us(["203.0.113.5"])
        self.assertIn("does not trust 203.0.113.5", first)
        self.assertIn("replaces the defaults", first)
        self.assertEqual(line, f"    {NAME}{DEFAULTS},203.0.113.5/32")
        self.assertIn("restart", last)
        first, line, last = cures.trust_us(["10.0.0.5"])
        self.assertIn("though 10.0.0.5 is trusted by default", first)
        self.assertEqual(line, f"    {NAME}{DEFAULTS}")
        self.assertIn("another address", last)
        first, line, last = cures.trust_us([])
        self.assertEqual(line, f"    {NAME}{DEFAULTS},ADDRESS/32")
        self.assertIn("ADDRESS is the proxy's", last)

"""How many connections there may be, in all and of one address."""

from __future__ import annotations

import resource
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from authproxy.transport import admission
from authproxy.transport.admission import Admission, address_key, connections_allowed


class AllowedTests(SynchronousTestCase):
    def allowed(self, setting: int, descriptors: int) -> int:
        with mock.patch.object(resource, "getrlimit", lambda _: (descriptors, descriptors)):
            return connections_allowed(setting)

    def test_two_descriptors_each_and_a_reserve(self) -> None:
        self.assertEqual(self.allowed(0, 65536), (65536 - admission.RESERVE) // 2)
        self.assertEqual(self.allowed(0, 1024), (1024 - admission.RESERVE) // 2)

    def test_a_setting_never_allows_more_than_that(self) -> None:
        self.assertEqual(self.allowed(100, 65536), 100)
        self.assertEqual(self.allowed(50_000, 1024), (1024 - admission.RESERVE) // 2)

    def test_at_most_100_000(self) -> None:
        self.assertEqual(self.allowed(0, resource.RLIM_INFINITY), 100_000)
        self.assertEqual(self.allowed(1_000_000, 1 << 30), 100_000)

    def test_at_least_one(self) -> None:
        self.assertEqual(self.allowed(0, 10), 1)


class KeyTests(SynchronousTestCase):
    def test_table(self) -> None:
        for address, key in (
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::", "2001:db8:1:3::/64"),
            ("unix:", "unix:"),
        ):
            self.assertEqual(address_key(address), key)


class AdmissionTests(SynchronousTestCase):
    def test_in_all(self) -> None:
        """Whoever was told that it is full hears once that there is room."""
        limit = Admission(2, 10, lambda _: False)
        told: list[str] = []
        for _ in range(2):
            self.assertFalse(limit.full(lambda: told.append("never")))
            limit.enter()
        self.assertTrue(limit.full(lambda: told.append("http")))
        self.assertTrue(limit.full(lambda: told.append("https")))
        self.assertEqual(told, [])
        limit.leave()
        self.assertEqual(told, ["http", "https"])
        limit.leave()
        self.assertEqual((told, limit.open), (["http", "https"], 0))

    def test_full_again_while_telling(self) -> None:
        """Two wait for one place: the second is told again later."""
        limit = Admission(1, 10, lambda _: False)
        limit.enter()
        entered: list[str] = []

        def wait(name: str) -> None:
            if not limit.full(lambda: wait(name)):
                limit.enter()
                entered.append(name)

        wait("http")
        wait("https")
        limit.leave()
        self.assertEqual(entered, ["http"])
        limit.leave()
        self.assertEqual(entered, ["http", "https"])

    def test_tunnels(self) -> None:
        """Each has half of what a connection has, and all of them half of everything."""
        limit = Admission(4, 10, lambda _: False)
        limit.enter()
        self.assertEqual([limit.begin_tunnel() for _ in range(5)], [True] * 4 + [False])
        told: list[str] = []
        self.assertFalse(limit.full(lambda: told.append("never")))
        limit.enter()
        self.assertTrue(limit.full(lambda: told.append("room")))
        limit.end_tunnel()
        self.assertEqual(told, ["room"])
        self.assertFalse(limit.full(lambda: told.append("never")))
        limit.enter()
        self.assertFalse(limit.begin_tunnel())
        self.assertTrue(limit.full(lambda: told.append("never")))

    def test_unproven_of_one_address(self) -> None:
        limit = Admission(100, 2, lambda _: False)
        keys = [limit.begin("192.0.2.1") for _ in range(3)]
        self.assertEqual(keys, ["192.0.2.1", "192.0.2.1", None])
        self.assertEqual(limit.refused, 1)
        self.assertIsNotNone(limit.begin("192.0.2.2"))
        limit.end("192.0.2.1")
        self.assertIsNotNone(limit.begin("192.0.2.1"))

    def test_an_ipv6_customer_is_one_address(self) -> None:
        limit = Admission(100, 2, lambda _: False)
        keys = [limit.begin(f"2001:db8::{n}") for n in range(3)]
        self.assertIsNone(keys[2])
        self.assertIsNotNone(limit.begin("2001:db8:0:1::"))

    def test_exempt(self) -> None:
        limit = Admission(100, 1, lambda address: address == "10.0.0.1")
        keys = [limit.begin("10.0.0.1") for _ in range(5)]
        self.assertNotIn(None, keys)
        for key in keys:
            assert key is not None
            limit.end(key)

    def test_nothing_is_kept_of_who_left(self) -> None:
        limit = Admission(100, 2, lambda _: False)
        for n in range(1000):
            key = limit.begin(f"192.0.{n % 256}.{n // 256}")
            assert key is not None
            limit.end(key)
        self.assertEqual(limit._unproven, {})

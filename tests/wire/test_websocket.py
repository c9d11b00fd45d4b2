"""The opening handshake: which requests are one, which answers accept it."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire import websocket
from authproxy.wire.heads import CHUNKED, Fields, ResponseHead
from tests.wire.feeding import refusal

# The example of RFC 6455 1.3.
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

NAMED = {
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": KEY,
}
FIELDS: Fields = [
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-accept", ACCEPT),
]


class KeyTests(SynchronousTestCase):
    @given(st.binary(min_size=16, max_size=16))
    def test_every_key_of_16_octets(self, octets: bytes) -> None:
        self.assertTrue(websocket.is_valid_key(base64.b64encode(octets)))

    @given(st.binary(max_size=40).filter(lambda octets: len(octets) != 16))
    def test_no_key_of_another_length(self, octets: bytes) -> None:
        self.assertFalse(websocket.is_valid_key(base64.b64encode(octets)))

    @given(st.binary(max_size=30))
    def test_nothing_else(self, octets: bytes) -> None:
        self.assertFalse(websocket.is_valid_key(octets))

    def test_nearly_a_key(self) -> None:
        for key in (KEY[:-1], KEY + b"\n", KEY + b"=", b" " + KEY, b"-" + KEY[1:]):
            self.assertFalse(websocket.is_valid_key(key), key)
        # The last digit stands for four bits that are nil: other encoders' garbage is no key.
        self.assertFalse(websocket.is_valid_key(KEY[:-3] + b"B=="))

    def test_accept_value(self) -> None:
        self.assertEqual(websocket.accept_value(KEY), ACCEPT)


class AskingTests(SynchronousTestCase):
    def test_a_proper_handshake(self) -> None:
        self.assertTrue(websocket.asks_for_websocket(b"GET", 11, 0, NAMED))
        for name, value in [
            (b"upgrade", b"WebSocket"),
            (b"connection", b"keep-alive, upgrade"),
            (b"connection", b"UPGRADE"),
        ]:
            self.assertTrue(websocket.asks_for_websocket(b"GET", 11, 0, NAMED | {name: value}))

    def test_not_by_other_means(self) -> None:
        for method, version, length in [
            (b"POST", 11, 0),
            (b"get", 11, 0),
            (b"GET", 10, 0),
            (b"GET", 11, 5),
            (b"GET", 11, CHUNKED),
        ]:
            self.assertFalse(websocket.asks_for_websocket(method, version, length, NAMED))

    def test_every_field_is_needed_and_read_strictly(self) -> None:
        for name in NAMED:
            without = {other: value for other, value in NAMED.items() if other != name}
            self.assertFalse(websocket.asks_for_websocket(b"GET", 11, 0, without), name)
        for name, value in [
            (b"upgrade", b"h2c"),
            (b"upgrade", b"websocket, h2c"),
            (b"upgrade", b"websocket/13"),
            (b"connection", b"keep-alive"),
            (b"connection", b"upgrades"),
            (b"sec-websocket-version", b"8"),
            (b"sec-websocket-version", b"13, 8"),
            (b"sec-websocket-key", KEY[:-4]),
            (b"sec-websocket-key", KEY + b", " + KEY),
        ]:
            named = NAMED | {name: value}
            self.assertFalse(websocket.asks_for_websocket(b"GET", 11, 0, named), value)


class SwitchingTests(SynchronousTestCase):
    def check(self, status: int, version: int, fields: Fields) -> str:
        """The reason of the refusal, "" if there is none."""
        head = ResponseHead(status, b"", version, fields)
        error = refusal(websocket.check_switching, head, KEY)
        if error is None:
            return ""
        self.assertEqual(error.status, 502)
        return error.reason

    def test_a_proper_answer(self) -> None:
        self.assertEqual(self.check(101, 11, FIELDS), "")
        upper = [(name, value.upper()) for name, value in FIELDS[:2]]
        self.assertEqual(self.check(101, 11, [*upper, FIELDS[2]]), "")

    def test_another_status_or_version(self) -> None:
        for status, version in ((200, 11), (100, 11), (101, 10), (426, 11)):
            self.assertIn("101", self.check(status, version, FIELDS))

    def test_every_field_is_needed(self) -> None:
        for name, word in [
            (b"upgrade", "Upgrade"),
            (b"connection", "Connection"),
            (b"sec-websocket-accept", "Accept"),
        ]:
            without = [field for field in FIELDS if field[0] != name]
            for fields in (without, [*without, (name, b"x")]):
                self.assertIn(word, self.check(101, 11, fields), fields)

    def test_a_second_field_counts(self) -> None:
        for name, word in [
            (b"upgrade", "Upgrade"),
            (b"connection", ""),  # one option more is no harm
            (b"sec-websocket-accept", "Accept"),
        ]:
            reason = self.check(101, 11, [*FIELDS, (name, b"x")])
            self.assertIn(word, reason)
            self.assertEqual(bool(word), bool(reason))

    def test_the_accept_value_of_another_key(self) -> None:
        other = websocket.accept_value(b"x3JJHMbDL1EzLkh9GBhXDw==")
        for value in (other, ACCEPT.lower(), ACCEPT + b"=", b""):
            fields = [*FIELDS[:2], (b"sec-websocket-accept", value)]
            self.assertIn("Accept", self.check(101, 11, fields))

"""The productions, octet by octet, and the two rules that keep them linear."""

from __future__ import annotations

import re
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire import grammar

OCTETS = [bytes([octet]) for octet in range(256)]
# RFC 9110 5.6.2, written anew.
TCHAR = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
EXPRESSIONS = {n: e for n, e in vars(grammar).items() if isinstance(e, re.Pattern)}


def members(expression: re.Pattern[bytes], template: bytes) -> set[int]:
    """The octets that may stand where the template has `@`."""
    return {
        octet[0]
        for octet in OCTETS
        if expression.fullmatch(template.replace(b"@", octet)) is not None
    }


class OctetTests(SynchronousTestCase):
    def test_token(self) -> None:
        self.assertEqual(members(grammar.METHOD, b"@"), TCHAR)
        self.assertEqual(members(grammar.FIELD_NAME, b"a@b"), TCHAR)
        self.assertEqual(members(grammar.FIELD_LINE, b"@:"), TCHAR)
        self.assertEqual(members(grammar.REQUEST_LINE, b"a@b / HTTP/1.1\r\n"), TCHAR)

    def test_target(self) -> None:
        visible = set(range(0x21, 0x7F)) - set(b"#")
        self.assertEqual(members(grammar.TARGET, b"/@"), visible)
        self.assertEqual(members(grammar.REQUEST_LINE, b"GET /a@b HTTP/1.1\r\n"), visible)

    def test_field_text(self) -> None:
        allowed = {0x09, *range(0x20, 0x7F), *range(0x80, 0x100)}
        self.assertEqual(set(grammar.FIELD_TEXT), allowed)
        self.assertEqual(members(grammar.STATUS_LINE, b"HTTP/1.1 200 a@b\r\n"), allowed)

    def test_host(self) -> None:
        name = set(b"-_.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
        self.assertEqual(members(grammar.HOST, b"a@b"), name)
        self.assertEqual(members(grammar.HOST, b"[:@:]"), set(b":.0123456789abcdefABCDEF"))
        self.assertEqual(members(grammar.HOST, b"a:1@"), set(b"0123456789"))

    def test_chunk_size_and_extension(self) -> None:
        self.assertEqual(members(grammar.FIRST_CHUNK, b"@\r\n"), set(b"0123456789abcdefABCDEF"))
        text = {*range(0x20, 0x7F), *range(0x80, 0x100)}
        self.assertEqual(members(grammar.FIRST_CHUNK, b"5;@\r\n"), text)
        self.assertEqual(members(grammar.NEXT_CHUNK, b"\r\n5;@\r\n"), text)

    def test_method_so_far(self) -> None:
        for text, good in [(b"GE", True), (b"GET ", True), (b"G\r", False), (b"A" * 33, False)]:
            self.assertEqual(grammar.METHOD_SO_FAR.match(text) is not None, good, text)


class HostTests(SynchronousTestCase):
    def test_ports(self) -> None:
        for port in range(65536 + 10):
            match = grammar.HOST.fullmatch(b"a:%d" % port)
            self.assertEqual(match is not None, 0 < port < 65536, port)
        for text in (b"01", b"", b"+1", b"1 ", b"655350"):
            self.assertIsNone(grammar.HOST.fullmatch(b"a:" + text), text)

    def test_names(self) -> None:
        for host in (b"a", b"a.", b"a.b", b"a" * 63, b"[::]", b"[::ffff:192.0.2.1]", b"127.0.0.1"):
            self.assertIsNotNone(grammar.HOST.fullmatch(host), host)
        for host in (
            b"",
            b".",
            b".a",
            b"a..b",
            b"a" * 64,
            b"[]",
            b"[::",
            b"::1",
            b"[::1]a",
            b"a\n",
        ):
            self.assertIsNone(grammar.HOST.fullmatch(host), host)


class AbsoluteFormTests(SynchronousTestCase):
    def test_parts(self) -> None:
        for target, parts in [
            (b"http://a", (b"a", b"", b"")),
            (b"HTTPS://a:1/", (b"a:1", b"/", b"")),
            (b"http://a?b/c?d", (b"a", b"", b"?b/c?d")),
            (b"http://a//b?c", (b"a", b"//b", b"?c")),
            (b"http://u@a/", (b"u@a", b"/", b"")),
        ]:
            match = grammar.ABSOLUTE_FORM.fullmatch(target)
            assert match is not None
            self.assertEqual(match.groups(), parts)
        for target in (b"http:///", b"http:/a", b"ftp://a", b"http://", b"http://?a", b"//a/b"):
            self.assertIsNone(grammar.ABSOLUTE_FORM.fullmatch(target), target)


class ChunkTests(SynchronousTestCase):
    def test_so_far_takes_every_beginning(self) -> None:
        line = b"0123456789abcdef;" + b"a" * 255 + b"\r\n"
        self.assertIsNotNone(grammar.FIRST_CHUNK.fullmatch(line))
        for cut in range(len(line)):
            self.assertIsNotNone(grammar.FIRST_CHUNK_SO_FAR.fullmatch(line[:cut]), cut)
        for cut in range(len(line) + 2):
            beginning = (b"\r\n" + line)[:cut]
            self.assertIsNotNone(grammar.NEXT_CHUNK_SO_FAR.fullmatch(beginning), cut)


class LinearTests(SynchronousTestCase):
    """By the structure of the compiled expressions, not by a stopwatch."""

    def repeats(self, parsed: Any) -> list[tuple[str, int, Any]]:
        """Kind, upper bound and item of every quantifier, also of those inside."""
        found: list[tuple[str, int, Any]] = []
        for operation, argument in parsed:
            name = str(operation)
            if name.endswith("REPEAT"):
                found.append((name, argument[1], argument[2]))
                found += self.repeats(argument[2])
            elif name == "SUBPATTERN":
                found += self.repeats(argument[3])
            elif name == "BRANCH":
                for branch in argument[1]:
                    found += self.repeats(branch)
            elif name == "ATOMIC_GROUP":
                found += self.repeats(argument)
        return found

    def test_quantifiers_are_possessive_or_bounded(self) -> None:
        self.assertGreater(len(EXPRESSIONS), 10)
        for name, expression in EXPRESSIONS.items():
            for kind, most, _ in self.repeats(_parser.parse(expression.pattern, expression.flags)):
                possessive = kind == "POSSESSIVE_REPEAT"
                self.assertTrue(possessive or most < 100, f"{name}: {kind} up to {most}")

    def test_a_quantifier_in_another_is_possessive(self) -> None:
        for name, expression in EXPRESSIONS.items():
            for _, most, item in self.repeats(_parser.parse(expression.pattern, expression.flags)):
                inner = [kind for kind, times, _ in self.repeats(item) if times > 1]
                if most > 1:
                    self.assertEqual(set(inner) - {"POSSESSIVE_REPEAT"}, set(), name)

    def test_the_rules_would_notice(self) -> None:
        self.assertEqual(self.repeats(_parser.parse(rb"(a|b+)?"))[1][0], "MAX_REPEAT")

    def test_no_dollar(self) -> None:
        for name, expression in EXPRESSIONS.items():
            self.assertNotIn(b"$", expression.pattern.replace(rb"[!#$%&'", b""), name)

"""Field lists of HTTP/2 -> heads, and back."""

from __future__ import annotations

from h2.exceptions import ProtocolError as H2Error
from h2.utilities import HeaderValidationFlags, validate_headers
from hpack import NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire import http2
from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import CHUNKED, Fields, HeadLimits, RequestHead, ResponseHead

from ..examples import EXAMPLES

LIMITS = HeadLimits()


def request(*fields: tuple[bytes, bytes], **pseudo: bytes | None) -> Fields:
    """A field list; a pseudo-header field that is None is left out."""
    values: dict[str, bytes | None] = {
        "method": b"GET", "scheme": b"https", "authority": b"sso.example.com", "path": b"/",
    }  # fmt: skip
    values |= pseudo
    first = [(b":" + name.encode(), value) for name, value in values.items() if value is not None]
    return [*first, *fields]


def parse(headers: Fields, ended: bool = True, before: RequestHead | None = None) -> RequestHead:
    """The head."""
    return http2.parse_request(headers, ended, LIMITS, before)


def meaning(head: RequestHead) -> tuple[object, ...]:
    """Everything that a head says."""
    return (
        head.method, head.target, head.version, head.fields, head.host, head.length,
        head.expects_continue, head.keep_alive, head.upgrade, head.named,
    )  # fmt: skip


class RequestTests(SynchronousTestCase):
    def refused(self, headers: Fields, status: int = 400, ended: bool = True) -> None:
        with self.assertRaises(ProtocolError, msg=repr(headers)[:200]) as caught:
            parse(headers, ended)
        self.assertEqual(caught.exception.status, status, headers)

    def test_what_it_says(self) -> None:
        head = parse(request((b"accept", b"*/*"), (b"te", b"trailers"), path=b"/a?b=c"))
        self.assertEqual(
            meaning(head),
            (
                b"GET", b"/a?b=c", 20, [(b"accept", b"*/*"), (b"te", b"trailers")],
                b"sso.example.com", 0, False, True, False,
                {b"accept": b"*/*", b"te": b"trailers"},
            ),
        )  # fmt: skip

    def test_length(self) -> None:
        for fields, ended, length in (
            ([], True, 0),
            ([], False, CHUNKED),
            ([(b"content-length", b"5")], False, 5),
            ([(b"content-length", b"0")], True, 0),
            ([(b"content-length", b"0")], False, 0),
        ):
            head = parse(request(*fields, method=b"POST"), ended)
            self.assertEqual(head.length, length)

    def test_bad_lengths(self) -> None:
        for values in ([b"5"], [b"+0"], [b"0x0"], [b""], [b"1_0"], [b"0", b"0"], [b"0" * 20]):
            self.refused(request(*[(b"content-length", value) for value in values]))
        for value in (b"-1", b"1, 1", b"1 1", b"1" * 20):
            self.refused(request((b"content-length", value)), ended=False)

    def test_cookie(self) -> None:
        crumbs = [(b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")]
        self.assertEqual(parse(request(*crumbs)).fields, [(b"x", b"y"), (b"cookie", b"a=1; b=2")])
        whole = [(b"cookie", b"a=1; b=2"), (b"x", b"y")]
        self.assertEqual(parse(request(*whole)).fields, whole)

    def test_pseudo_header_fields(self) -> None:
        for name in ("method", "scheme", "path"):
            self.refused(request(**{name: None}))
            self.refused(request(**{name: b""}))
        self.refused(request((b":path", b"/")))
        self.refused(request((b":status", b"200")))
        self.refused(request((b":x", b"y")))
        self.refused(request((b"x", b"y"), (b":protocol", b"websocket")))
        self.refused([(b"x", b"y"), *request()])
        self.refused(request(scheme=b"ftp"))
        self.refused([])

    def test_authority(self) -> None:
        for authority, host in (
            (None, b"sso.example.com"),
            (b"sso.example.com", b"SSO.example.com"),
            (b"sso.example.com:8443", None),
            (b"[2001:db8::1]:443", None),
        ):
            fields = [] if host is None else [(b"host", host)]
            head = parse(request(*fields, authority=authority))
            self.assertEqual(head.host, authority or host)
        for authority in (None, b"", b"a b", b"user@sso.example.com", b"a/b", b"a:0", b"a:99999",
                          b"a,b", b"a\xff", b"a" * 300):  # fmt: skip
            self.refused(request(authority=authority))
        self.refused(request((b"host", b"other.example.com")))
        self.refused(request((b"host", b"sso.example.com:443")))
        self.refused(request((b"host", b"sso.example.com"), (b"host", b"sso.example.com")))

    def test_path(self) -> None:
        for path in (b"/", b"/|^[", b"/%00", b"//a", b"/a?b#"[:-1]):
            self.assertEqual(parse(request(path=path)).target, path)
        for path in (b"a", b"*", b"http://x/", b"/#a", b"/a b", b"/\x00", b"/\xff", b"/\r\n", b"?"):
            self.refused(request(path=path))
        self.assertEqual(parse(request(path=b"*", method=b"OPTIONS")).target, b"*")
        self.refused(request(path=b"/" * 32769), 414)

    def test_method(self) -> None:
        self.assertEqual(parse(request(method=b"PROPFIND")).method, b"PROPFIND")
        for method, status in (
            (b"TRACE", 405), (b"trace", 405), (b"CONNECT", 405), (b"Connect", 405), (b"", 400),
            (b"G T", 400), (b"GET\n", 400), (b"a" * 33, 501),
        ):  # fmt: skip
            self.refused(request(method=method), status)

    def test_fields(self) -> None:
        for name in (b"", b"X", b"a b", b"a:b", b"a\0", b"a\n", b"a\nb", b"\xff", b"a\r"):
            self.refused(request((name, b"x")))
            self.refused(request((b"a", b"b"), (name, b"x"), (b"c", b"d")))
        for value in (b"\0", b"a\rb", b"a\nb", b"a\r\nb", b"\x7f", b"\x1b", b" a", b"a ", b"\ta",
                      b"a\t", b" ", b"\n"):  # fmt: skip
            self.refused(request((b"a", value)))
            self.refused(request((b"a", b"b"), (b"x", value), (b"c", b"d")))
        for value in (b"", b"a b", b"a\tb", b"\xe4", b'"'):
            head = parse(request((b"x", value), (b"y", b"")))
            self.assertEqual(head.fields, [(b"x", value), (b"y", b"")])

    def test_fields_of_a_connection(self) -> None:
        for name, value in (
            (b"connection", b"close"), (b"keep-alive", b"5"), (b"proxy-connection", b"close"),
            (b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"), (b"te", b"gzip"),
            (b"te", b"trailers, gzip"),
        ):  # fmt: skip
            self.refused(request((name, value)))

    def test_limits(self) -> None:
        self.refused(request(*[(b"x-%d" % n, b"") for n in range(101)]), 431)
        self.refused(request((b"x", b"a" * 32768)), 431)
        self.refused(request((b"cookie", b"a" * 20000), (b"cookie", b"b" * 20000)), 431)
        self.assertEqual(len(parse(request(*[(b"cookie", b"a=b")] * 500)).fields), 1)

    def test_expect(self) -> None:
        expecting = request((b"expect", b"100-Continue"), method=b"POST")
        self.assertTrue(parse(expecting, False).expects_continue)
        self.assertFalse(parse(expecting, True).expects_continue)
        self.refused(request((b"expect", b"x")), 417)

    def test_the_same_fields_again(self) -> None:
        """Nothing is parsed twice, and nothing of the first request is in the second."""
        first = parse(request((b"a", b"b"), path=b"/1"))
        first.forwarded = b"forwarded"
        again = parse(request((b"a", b"b"), path=b"/2", method=b"HEAD"), before=first)
        self.assertIs(again.fields, first.fields)
        self.assertEqual((again.method, again.target), (b"HEAD", b"/2"))
        self.assertEqual(again.forwarded, b"forwarded")
        for headers, ended in (
            (request((b"a", b"c")), True),
            (request((b"a", b"b"), authority=b"other"), True),
            (request((b"a", b"b")), False),
        ):
            self.assertEqual(parse(headers, ended, first).forwarded, b"")
        self.refused_after(first, request((b"a", b"b"), path=b"/#"))
        self.refused_after(first, request((b"a", b"b"), method=b"TRACE"))
        self.refused_after(first, request((b"a", b"b"), scheme=b"x"))

    def refused_after(self, first: RequestHead, headers: Fields) -> None:
        self.assertRaises(ProtocolError, parse, headers, True, first)


class AgainstTheLibraryTests(SynchronousTestCase):
    """Whose own checks are off: what it would refuse, we do."""

    names = st.sampled_from(
        [b"a", b"A", b"te", b"host", b"cookie", b"connection", b"x\n", b"", b"a:b", b":path",
         b"transfer-encoding", b"upgrade", b"x y", b"\x7f", b"expect", b"keep-alive"]
    )  # fmt: skip
    values = st.one_of(
        st.sampled_from([b"trailers", b"sso.example.com", b"", b" a", b"a ", b"a\nb", b"\0"]),
        st.binary(max_size=5),
    )
    pseudo = st.lists(
        st.one_of(
            st.sampled_from(request()),
            st.tuples(st.sampled_from([b":method", b":path", b":scheme", b":authority", b":x",
                                       b":status", b":protocol"]), values),
        ),
        max_size=5,
    )  # fmt: skip
    lists = st.one_of(
        st.builds(lambda rest: request() + rest, st.lists(st.tuples(names, values), max_size=4)),
        st.builds(lambda a, b: a + b, pseudo, st.lists(st.tuples(names, values), max_size=2)),
    )

    @settings(EXAMPLES, max_examples=400)
    @given(lists, st.booleans())
    def test_nothing_is_laxer(self, headers: Fields, ended: bool) -> None:
        flags = HeaderValidationFlags(
            is_client=False, is_trailer=False, is_response_header=False, is_push_promise=False
        )
        try:
            list(validate_headers(headers, flags))
        except H2Error:
            self.assertRaises(ProtocolError, parse, headers, ended)

    @settings(EXAMPLES, max_examples=400)
    @given(lists, lists, st.booleans())
    def test_the_one_before_changes_nothing(self, one: Fields, two: Fields, ended: bool) -> None:
        for first, second in ((one, two), (two, one), (one, one)):
            try:
                before = parse(first)
            except ProtocolError:
                continue
            try:
                alone: object = meaning(parse(second, ended))
            except ProtocolError as e:
                alone = str(e)
            try:
                after: object = meaning(parse(second, ended, before))
            except ProtocolError as e:
                after = str(e)
            self.assertEqual(alone, after)


class WebSocketTests(SynchronousTestCase):
    def test_becomes_a_get(self) -> None:
        headers = request((b"sec-websocket-version", b"13"), method=b"CONNECT",
                          protocol=b"websocket")  # fmt: skip
        head = parse(headers, False)
        self.assertEqual((head.method, head.upgrade, head.length), (b"GET", True, 0))
        self.assertRaises(ProtocolError, parse, headers, True)


class ResponseTests(SynchronousTestCase):
    def test_fields(self) -> None:
        head = ResponseHead(200, b"OK", 11, [(b"a", b"b"), (b"set-cookie", b"c"), (b"d", b"e")])
        fields = http2.response_fields(head)
        self.assertEqual(fields, [(b":status", b"200"), (b"a", b"b"), (b"set-cookie", b"c"),
                                  (b"d", b"e")])  # fmt: skip
        self.assertEqual([isinstance(f, NeverIndexedHeaderTuple) for f in fields],
                         [False, False, True, False])  # fmt: skip

    def test_switching(self) -> None:
        fields = [(b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"date", b"x"),
                  (b"sec-websocket-accept", b"y"), (b"sec-websocket-protocol", b"z")]  # fmt: skip
        self.assertEqual(
            http2.switching_fields(ResponseHead(101, b"", 11, fields)),
            [(b":status", b"200"), (b"date", b"x"), (b"sec-websocket-protocol", b"z")],
        )

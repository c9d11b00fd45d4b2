"""What authentik's pages, redirects and cookies tell; their forms are those of its releases."""

from __future__ import annotations

from email.message import Message

from twisted.trial.unittest import SynchronousTestCase

from authproxy.doctor.beliefs import Belief, is_authentik, of_cookie, of_page, stand_in
from authproxy.doctor.requests import Answer
from authproxy.standin.page import Arrived, seen

NEW = """<head>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="ak-build" content="">
<meta name="ak-base-url" content="https://sso.example.com:8443/">
<meta name="ak-base-url-rel" content="/">"""
OLD = """<script>
    window.authentik = {
        locale: "en",
        config: JSON.parse('{"error_reporting": {"enabled": false}}' || "{}"),
        build: "",
        api: {
            base: "http://sso.example.com/auth/",
            relBase: "/auth/",
        },
    };"""
OLDEST = '<script>window.authentik = { locale: "en", versionFamily: "2023.10" };'


def answer(content: str = "", *fields: tuple[str, str], status: int = 200) -> Answer:
    message = Message()
    for name, value in fields:
        message[name] = value
    return Answer(status, message, content.encode(), "127.0.0.1")


class PageTests(SynchronousTestCase):
    def test_pages(self) -> None:
        for content, scheme, host in (
            (NEW, "https", "sso.example.com:8443"),
            (OLD, "http", "sso.example.com"),
            ("<meta content='https://A.example/' name='ak-base-url'>", "https", "a.example"),
        ):
            belief = of_page(answer(content))
            assert belief is not None
            self.assertEqual((belief.scheme, belief.host), (scheme, host))

    def test_a_page_that_does_not_tell(self) -> None:
        for content in (
            "", "<html>", OLDEST, '<meta name="ak-base-url" content="/">',
            '<meta name="ak-base-url">', '<meta name="ak-base-url" content="https://[">',
            '<meta name="ak-base-url" content="javascript:1">',
            '<meta name="ak-base-url-rel" content="https://a.example/">',
        ):  # fmt: skip
            self.assertIsNone(of_page(answer(content)), content)

    def test_redirects(self) -> None:
        belief = of_page(answer("", ("Location", "http://sso.example.com/if/flow/a/")))
        self.assertEqual(belief, Belief("http", "sso.example.com", "a redirect"))
        self.assertIsNone(of_page(answer("", ("Location", "/if/flow/a/?next=%2F"))))


class CookieTests(SynchronousTestCase):
    def test_cookies(self) -> None:
        for value, scheme in (
            ("authentik_session=a.b; HttpOnly; Path=/; SameSite=None; Secure", "https"),
            ("authentik_session=a.b; HttpOnly; Path=/; SameSite=Lax", "http"),
            # A proxy that adds Secure to every cookie changes nothing of what authentik believes.
            ("authentik_session=a.b; HttpOnly; Path=/; SameSite=Lax; Secure", "http"),
        ):
            belief = of_cookie(answer("", ("Set-Cookie", "other=1"), ("Set-Cookie", value)))
            self.assertEqual(belief, Belief(scheme, "", "its session cookie"), value)

    def test_none(self) -> None:
        self.assertIsNone(of_cookie(answer()))
        self.assertIsNone(of_cookie(answer("", ("Set-Cookie", "sessionid=1; Secure"))))


class ServerTests(SynchronousTestCase):
    def test_authentik(self) -> None:
        self.assertTrue(is_authentik(answer("", ("X-Powered-By", "authentik"))))
        self.assertTrue(is_authentik(answer(NEW)))
        self.assertTrue(is_authentik(answer(OLDEST)))
        self.assertFalse(is_authentik(answer("<h1>It works!</h1>", ("X-Powered-By", "PHP"))))

    def test_stand_in(self) -> None:
        page = seen(Arrived(b"GET", b"/", b"HTTP/1.1", [(b"host", b"a.example")], "::1", True))
        self.assertEqual(stand_in(answer(page.as_json().decode()))["client"], "::1")
        for content in ("{}", "[]", "x", '{"client": "192.0.2.1"}'):
            self.assertEqual(stand_in(answer(content)), {})
        # Its page says what authentik's says.
        self.assertEqual(
            of_page(answer(page.as_html().decode())),
            Belief("https", "a.example", "the base URL of its pages"),
        )

    def test_pages_of_ours(self) -> None:
        made = '{"error": "x", "status": 503, "request_id": "0123456789abcdef"}'
        self.assertEqual(answer(made).request_id, "0123456789abcdef")
        self.assertEqual(answer('{"error": "authentik starting"}').request_id, "")

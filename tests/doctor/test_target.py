"""What is examined: the URL of the command line, or the sites of a configuration."""

from __future__ import annotations

import contextlib
import io
import pathlib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from authproxy import config
from authproxy.commands import doctor
from authproxy.doctor.target import Target, TargetError, of_url

SITES = """
[[site]]
hosts = ["*.a.example", "sso.a.example"]
upstream = "http://127.0.0.1:9000"
[[site]]
hosts = ["sso.b.example"]
upstream = "http://127.0.0.1:9001"
"""


class UrlTests(SynchronousTestCase):
    def test_urls(self) -> None:
        for url, host, port, path, shown in (
            ("sso.example.com", "sso.example.com", 443, "", "https://sso.example.com/"),
            ("https://SSO.example.com./", "sso.example.com", 443, "", "https://sso.example.com/"),
            ("https://a.example:443", "a.example", 443, "", "https://a.example/"),
            ("a.example:8443", "a.example", 8443, "", "https://a.example:8443/"),
            ("https://a.example/auth/", "a.example", 443, "/auth", "https://a.example/auth/"),
            ("https://[::1]:8443/", "::1", 8443, "", "https://[::1]:8443/"),
            ("https://münchen.example", "xn--mnchen-3ya.example", 443, "",
             "https://xn--mnchen-3ya.example/"),
        ):  # fmt: skip
            target = of_url(url)
            self.assertEqual((target.host, target.port, target.path), (host, port, path), url)
            self.assertEqual(target.url, shown)
            self.assertEqual(target.connect_port, port)

    def test_the_plain_port(self) -> None:
        """80 beside 443; else nobody knows."""
        self.assertEqual(of_url("https://a.example").http_port, 80)
        target = of_url("https://a.example:8443")
        self.assertEqual(target.http_port, 0)
        self.assertIn("--http-port", target.no_http)

    def test_addresses_are_not_resolved(self) -> None:
        self.assertEqual(of_url("https://127.0.0.1:8443").address, "127.0.0.1")
        self.assertEqual(of_url("https://a.example").address, "")

    def test_what_is_no_url(self) -> None:
        for url in ("http://a.example", "https://", "ftp://a", "https://a:b/", "https://[", "a b"):
            self.assertRaises(TargetError, of_url, url)


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = pathlib.Path(self.mktemp()).absolute()
        directory.mkdir()
        self.path = directory / "authproxy.toml"
        self.patch(config, "DEFAULT_PATH", str(directory / "default.toml"))

    def targets(self, *arguments: str, text: str | None = None) -> list[Target]:
        """What would be examined."""
        if text is not None:
            self.path.write_text(text)
            arguments = (*arguments, f"--config={self.path}")
        return doctor._targets(doctor.parser().parse_args(arguments))

    def wrong(self, *arguments: str) -> str:
        """What stderr says of a command line that is refused with 2."""
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            try:
                status: Any = doctor.run(list(arguments), {})
            except SystemExit as e:
                status = e.code
        self.assertEqual(status, 2, arguments)
        return err.getvalue()

    def test_each_site(self) -> None:
        first, second = self.targets(text=SITES)
        self.assertEqual(
            [first.url, second.url], ["https://sso.a.example/", "https://sso.b.example/"]
        )
        assert first.site is not None
        self.assertEqual(first.site.upstreams[0].port, 9000)
        self.assertEqual((first.port, first.connect_port, first.http_port), (443, 443, 80))

    def test_ports(self) -> None:
        for listen, port, plain in (
            ('https = ["[::]:8443"]\nhttp = ["[::]:8080"]', 8443, 8080),
            ('https = ["systemd:https"]\nhttp = ["systemd:http"]', 443, 80),
            ('https = ["[::]:8443"]\nhttp = ["[::]:8080"]\npublic_https_port = 443', 443, 80),
            ("http = []", 443, 0),
        ):
            [target] = self.targets(text=f"[listen]\n{listen}\n[[site]]\nhosts = ['a.example']\n")
            self.assertEqual(
                (target.port, target.connect_port, target.http_port), (port, port, plain)
            )

    def test_a_site_without_hosts(self) -> None:
        [target] = self.targets(text='[[site]]\nupstream = "http://127.0.0.1:9000"\n')
        self.assertEqual(target.url, "https://localhost/")

    def test_url_and_configuration(self) -> None:
        """The site that has the host, wildcards too; none for a host of somebody else's."""
        [target] = self.targets("https://other.a.example/", text=SITES)
        assert target.site is not None
        self.assertIn("*.a.example", target.site.hosts)
        [target] = self.targets("https://other.example/", text=SITES)
        self.assertIsNone(target.site)

    def test_the_default_configuration(self) -> None:
        pathlib.Path(config.DEFAULT_PATH).write_text(SITES)
        self.assertEqual(len(self.targets()), 2)

    def test_a_broken_default_configuration(self) -> None:
        """It is no obstacle to a URL, but one to its own sites, and to whoever names it."""
        pathlib.Path(config.DEFAULT_PATH).write_text("workers = 0\n")
        with contextlib.redirect_stderr(io.StringIO()) as err:
            [target] = self.targets("https://a.example/")
        self.assertIsNone(target.settings)
        self.assertIn("goes on without the configuration", err.getvalue())
        self.assertIn("workers", self.wrong())
        self.assertIn("workers", self.wrong("a.example", f"--config={config.DEFAULT_PATH}"))

    def test_options(self) -> None:
        for text, address, port in (
            ("192.0.2.1", "192.0.2.1", 443),
            ("192.0.2.1:8443", "192.0.2.1", 8443),
            ("::1", "::1", 443),
            ("[::1]:8443", "::1", 8443),
            ("[::1]", "::1", 443),
        ):
            [target] = self.targets("https://a.example", f"--connect={text}")
            self.assertEqual((target.address, target.connect_port), (address, port), text)
            self.assertEqual(target.url, "https://a.example/")
        [target] = self.targets("https://a.example:8443", "--http-port=8080", "--timeout=2")
        self.assertEqual((target.http_port, target.no_http, target.timeout), (8080, "", 2.0))

    def test_nothing_to_examine(self) -> None:
        self.assertIn("give the URL, or --config FILE", self.wrong())
        self.assertIn("no such file", self.wrong("--config=/nowhere/a.toml"))
        self.assertIn("https://", self.wrong("http://a.example"))
        self.assertIn("/nowhere/ca.pem", self.wrong("a.example", "--ca=/nowhere/ca.pem"))
        for option in ("--connect=a.example", "--connect=1.2.3.4:0", "--connect=1.2.3.4:x",
                       "--connect=:8443", "--http-port=0", "--http-port=70000", "--timeout=0",
                       "--timeout=x", "--nonsense"):  # fmt: skip
            self.assertIn("doctor", self.wrong("a.example", option), option)
        self.assertIn("not allowed with", self.wrong("a.example", "--ca=x", "--insecure"))
        self.path.write_text("[listen]\nhttps = []\n")
        self.assertIn("listen.https is empty", self.wrong(f"--config={self.path}"))

    def test_interrupted(self) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        self.patch(doctor, "examine", interrupt)
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(doctor.run(["a.example"], {}), 130)

"""The way from a TOML file to settings, and what is said of a wrong one."""

from __future__ import annotations

import datetime
import os
import pathlib
import re
import tomllib
from typing import Any

import attrs
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import authproxy
from authproxy import config, crosschecks, files, values
from authproxy.config import ConfigError, Problem, loads
from authproxy.settings import GuardSettings, Settings, SiteSettings, Verify

from .examples import EXAMPLES

EXAMPLE = pathlib.Path(authproxy.__file__).parent.parent / "etc" / "authproxy.toml"
SECTIONS = ("listen", "trust", "log", "tls", "timeouts", "limits", "pool", "health")
SETTINGS = settings(EXAMPLES, max_examples=200, phases=(Phase.generate, Phase.shrink))


def problems(text: str, **overrides: str) -> list[str]:
    """What is said of this document."""
    return [str(problem) for problem in loads(text, "f.toml", overrides)[1]]


def one(text: str, **overrides: str) -> str:
    """The only problem of this document."""
    [found] = problems(text, **overrides)
    return found


def right(text: str, **overrides: str) -> Settings:
    """The settings of a document without problems."""
    found, wrong = loads(text, "f.toml", overrides)
    assert not wrong, wrong
    return found


class DefaultsTests(SynchronousTestCase):
    def test_no_file(self) -> None:
        self.assertEqual(config.load(None), Settings())
        self.assertEqual(config.load(None, {}), Settings())

    def test_the_minimum(self) -> None:
        found = right(
            '[[site]]\nhosts = ["sso.example.com"]\nupstream = "https://10.0.0.5:9443"\n'
            'certificate = "/c.pem"\nprivate_key = "/k.pem"\n'
        )
        [site] = found.sites
        self.assertEqual([str(upstream) for upstream in site.upstreams], ["https://10.0.0.5:9443"])
        self.assertEqual((site.hosts, site.certificate), (("sso.example.com",), "/c.pem"))
        self.assertEqual(site.upstream_verify, Verify("system"))
        self.assertEqual(site.server_name(site.upstreams[0]), "sso.example.com")
        self.assertEqual((found.timeouts, found.path), (Settings().timeouts, "f.toml"))

    def test_contract(self) -> None:
        """The names and defaults that tools outside the repository rely on (DESIGN.md 7)."""
        made = Settings()
        self.assertEqual(made.workers, "auto")
        listen = made.listen
        self.assertEqual(list(map(str, listen.http)), ["[::]:80"])
        self.assertEqual(list(map(str, listen.https)), ["[::]:443"])
        self.assertEqual(str(listen.admin), "127.0.0.1:9930")
        self.assertEqual((listen.public_https_port, listen.acme_webroot), (0, ""))
        self.assertEqual((listen.plain_http, listen.proxy_protocol_from), ("redirect", ()))
        self.assertEqual((made.log.access, made.log.format), ("-", "combined"))
        self.assertEqual((made.tls.minimum_version, made.trust.proxies), ("1.3", ()))
        times = made.timeouts
        self.assertEqual((times.head, times.keepalive, times.connect), (15, 75, 5))
        self.assertEqual((times.first_byte, times.relay_idle, times.drain), (60, 3600, 30))
        [site] = made.sites
        self.assertEqual((site.hsts, site.x_forwarded_for), (63072000, "client"))

    def test_verification_follows_the_upstream(self) -> None:
        """Switched off only where what is sent stays on this machine, or by name."""
        for upstream, expected in (
            ('"https://127.0.0.1:9443"', "off"),
            ('"https://[::1]:9443"', "off"),
            ('"https://localhost:9443"', "off"),
            ('"unix:/run/a.sock"', "off"),
            ('"https://10.0.0.5:9443"', "system"),
            ('"https://localhost.example:9443"', "system"),
            ('["https://127.0.0.1:9443", "https://10.0.0.5:9443"]', "system"),
        ):
            found = right(f"[[site]]\nupstream = {upstream}\n")
            self.assertEqual(found.sites[0].upstream_verify.mode, expected, upstream)
        found = right('[[site]]\nupstream = "https://10.0.0.5:9443"\nupstream_verify = "off"\n')
        self.assertEqual(found.sites[0].upstream_verify.mode, "off")


class ExampleTests(SynchronousTestCase):
    """etc/authproxy.toml has every setting, with its default."""

    def test_as_shipped(self) -> None:
        found = config.load(str(EXAMPLE))
        self.assertEqual(files.problems(found, {}), [])
        self.assertEqual(crosschecks.warnings(found), [])
        same = [attrs.evolve(found, path="", sites=()), attrs.evolve(Settings(), sites=())]
        self.assertEqual(*same)

    def test_uncommented(self) -> None:
        text = EXAMPLE.read_text()
        text = re.sub(r"^#(?=[a-z_0-9]+ = )", "", text, flags=re.MULTILINE)
        before, _, after = text.partition("[[site]]\n")
        _, listen, rest = after.partition("[listen]\n")
        document = tomllib.loads(before + listen + rest)
        self.assertEqual(document.pop("workers"), "auto")
        self.assertEqual(set(document), set(SECTIONS))
        for name in SECTIONS:
            shape = type(getattr(Settings(), name))
            self.assertEqual(list(document[name]), values.keys_of(shape), name)
        found = right(before + listen + rest)
        listen_settings = attrs.evolve(
            found.listen, http_explicit=False, https_explicit=False, admin_explicit=False
        )
        self.assertEqual(listen_settings, Settings().listen)
        for name in SECTIONS[1:]:
            self.assertEqual(getattr(found, name), getattr(Settings(), name))

    def test_site(self) -> None:
        """Every setting is there, and each line can be used in its turn."""
        site = EXAMPLE.read_text().partition("[[site]]\n")[2].partition("[listen]\n")[0]
        site, _, guards = site.partition("#[[site.guard]]\n")
        lines = re.findall(r"^#?([a-z_0-9]+) = (.*)$", site, re.MULTILINE)
        self.assertEqual({key for key, _ in lines}, set(values.keys_of(SiteSettings)) - {"guard"})
        guards = re.sub("^#(?! )", "", guards, flags=re.MULTILINE)
        [found] = right(f"[[site]]\n[[site.guard]]\n{guards}").sites
        self.assertEqual([guard.preset for guard in found.guards], ["inside", ""])
        keys = set(re.findall(r"^([a-z]+) = ", guards, re.MULTILINE))
        self.assertEqual(keys, set(values.keys_of(GuardSettings)))
        for key, value in lines:
            found = right(f"[[site]]\n{key} = {value}\n")
            if key not in {"hosts", "upstream", "upstream_verify"}:
                default = getattr(SiteSettings(), key)
                self.assertEqual(getattr(found.sites[0], key), default, key)


class WordsTests(SynchronousTestCase):
    """Each message names the file, the key and the cure."""

    def test_table(self) -> None:
        for text, expected in (
            ("workers = 0", "workers: must be a whole number from 1 to 1024"),
            ("workers = true", "workers: must be a whole number"),
            ("listen = 5", "listen: must be a table, not 5."),
            ("site = 5", "site: sites are written with two brackets: [[site]]."),
            ("[site]", "site: sites are written with two brackets: [[site]]."),
            ("site = []", "site: there is no site."),
            ("site = [5]", "site[1]: must be a table, not 5."),
            (
                '[listen]\nhttp = "[::]:80"',
                'listen.http: must be a list in brackets, not "[::]:80". Write ["[::]:80"].',
            ),
            ("[listen]\nhttp = [80]", "listen.http[1]: must be a text in quotes, not 80."),
            (
                '[listen]\nhttp = ["80"]',
                'listen.http[1]: "80" is not an address to listen on. Write "[::]:443"',
            ),
            ('[listen]\nhttp = [":::80"]', "listen.http[1]: "),
            ('[listen]\nhttp = ["::1:80"]', 'listen.http[1]: "::1:80" does not begin with an'),
            ('[listen]\nhttp = ["localhost:80"]', "listen.http[1]: "),
            ('[listen]\nhttp = ["[::]:65536"]', "listen.http[1]: "),
            ('[listen]\nhttp = ["[::]:-1"]', "listen.http[1]: "),
            ('[listen]\nhttp = ["unix:a"]', 'listen.http[1]: a unix socket is written "unix:/'),
            ('[listen]\nhttp = ["systemd:"]', "listen.http[1]: an inherited socket is writt"),
            ("[listen]\nadmin = false", "listen.admin: must be a text in quotes, not false."),
            (
                "[listen]\npublic_https_port = 65536",
                "listen.public_https_port: must be a whole number from 0 to 65535, not 65536.",
            ),
            (
                '[listen]\nplain_http = "serv"',
                'listen.plain_http: must be "redirect" or "serve", not "serv". Did you mean "',
            ),
            ('[listen]\nacme_webroot = "www"', "listen.acme_webroot: must be an absolute pa"),
            (
                '[trust]\nproxies = ["10.0.0.1/8"]',
                'trust.proxies[1]: "10.0.0.1/8" has bits beyond its length. Write "10.0.0.0/8',
            ),
            ('[trust]\nproxies = ["lb.example"]', 'trust.proxies[1]: "lb.example" is not a n'),
            ('[trust]\nproxies = ["::ffff:10.0.0.0/104"]', "trust.proxies[1]: IPv4 addresses"),
            (
                '[trust]\nproxies = ["fe80::1%eth0"]',
                'trust.proxies[1]: zones cannot be used here. Write "fe80::1".',
            ),
            (
                "[tls]\nminimum_version = 1.3",
                'tls.minimum_version: must be "1.3" or "1.2", not 1.3. Did you mean "1.3"?',
            ),
            ('[tls]\nminimum_version = "1.1"', "tls.minimum_version: must be"),
            (
                '[timeouts]\nhead = "15s"',
                'timeouts.head: must be a number of seconds, without quotes or unit, not "15s',
            ),
            (
                "[timeouts]\nhead = 0",
                "timeouts.head: must be a number of seconds from 0.1 to 604800, not 0.",
            ),
            ("[timeouts]\nhead = nan", "timeouts.head: must be a number"),
            ("[timeouts]\nhead = inf", "timeouts.head: must be a number"),
            ("[timeouts]\nhead = true", "timeouts.head: must be a number"),
            ("[limits]\nhead_bytes = 65536.0", "limits.head_bytes: must be a whole number"),
            ("[limits]\nline_bytes = 70000", "limits.line_bytes: one line cannot be larger"),
            ("[pool]\nidle = 300", "pool.idle: more idle connections than pool.connections"),
            ('[health]\npath = "-/health/ready/"', "health.path: must be an absolute path"),
            ('[health]\npath = "/a b"', "health.path: must be as it stands in a request"),
            ('[health]\npath = "/a\\r\\nb: c"', "health.path: must be as it stands in a request"),
            ('[health]\npath = "/\u00fc"', "health.path: must be as it stands in a request"),
            ("[health]\nfailures = 0", "health.failures: must be a whole number from 1 to 100"),
            ("[log]\naccess = 1", 'log.access: must be a text in quotes, not 1. Write "1".'),
            (
                '[[site]]\nhosts = "a.example"',
                'site[1].hosts: must be a list in brackets, not "a.example". Write ["a.exampl',
            ),
            (
                '[[site]]\nhosts = ["https://a.example/"]',
                'site[1].hosts[1]: must be a host name alone. Write "a.example".',
            ),
            ('[[site]]\nhosts = ["https://[bad"]', "site[1].hosts[1]: must be a host name al"),
            (
                '[[site]]\nhosts = ["a.example:443"]',
                'site[1].hosts[1]: must be a host name without a port. Write "a.example"',
            ),
            ('[[site]]\nhosts = ["*"]', "site[1].hosts[1]: every host is served where hosts i"),
            ('[[site]]\nhosts = ["a b"]', 'site[1].hosts[1]: "a b" is not a host name. Write '),
            ('[[site]]\nhosts = ["a.*.example"]', "site[1].hosts[1]: "),
            ('[[site]]\nhosts = ["[fe80::1%eth0]"]', "site[1].hosts[1]: an IPv6 address is wr"),
            ('[[site]]\nhosts = ["[::1]:443"]', "site[1].hosts[1]: an IPv6 address is written"),
            (
                '[[site]]\nupstream = "10.0.0.5:9443"',
                'site[1].upstream[1]: "10.0.0.5:9443" does not say https:// or http://. Write',
            ),
            ('[[site]]\nupstream = "ftp://a"', "site[1].upstream[1]: "),
            ('[[site]]\nupstream = "https://a/auth/"', "site[1].upstream[1]: may not have a p"),
            ('[[site]]\nupstream = "https://u:p@a"', "site[1].upstream[1]: "),
            ('[[site]]\nupstream = "https://a:99999"', "site[1].upstream[1]: "),
            ('[[site]]\nupstream = "https://[a"', "site[1].upstream[1]: "),
            ("[[site]]\nupstream = 5", "site[1].upstream: must be a text in quotes, not 5."),
            ("[[site]]\nupstream = []", "site[1].upstream: the list is empty. Write upstream "),
            (
                '[[site]]\nupstream = ["https://127.0.0.1", "http://127.0.0.1"]',
                "site[1].upstream: the servers of one site are all https:// or all plain",
            ),
            ('[[site]]\nupstream_verify = "no"', 'site[1].upstream_verify: must be "system", '),
            (
                "[[site]]\nupstream_verify = false",
                'site[1].upstream_verify: must be "system", "off", "ca:/path.pem" or "pin:sha256/B'
                'ASE64", not false.',
            ),
            ('[[site]]\nupstream_verify = "ca:/a\\u0000"', "site[1].upstream_verify: may not hold"),
            ('[[site]]\nupstream_verify = "pin:x"', "site[1].upstream_verify: a pin is writte"),
            ('[[site]]\nupstream_verify = "ca:x.pem"', "site[1].upstream_verify: "),
            ('[[site]]\nupstream_server_name = "a:1"', "site[1].upstream_server_name: must be"),
            ('[[site]]\nupstream_server_name = "a..\u00fc"', "site[1].upstream_server_name: "),
            (
                '[[site]]\nupstream_server_name = "*.a"',
                "site[1].upstream_server_name: must be one name, without a wildcard",
            ),
            ("[[site]]\nhsts = -1", "site[1].hsts: must be a whole number of seconds from 0"),
            ('[[site]]\ncertificate = "/c"', "site[1].private_key: certificate and private_k"),
            ('[[site]]\nprivate_key = "/k"', "site[1].certificate: certificate and private_k"),
            ('[[site]]\ncertificate = "/a\\u0000"\nprivate_key = "/k"', "site[1].certificate:"),
            (
                '[[site]]\nhosts=["a.b"]\n[[site]]\nhosts=["A.b."]',
                'site[2].hosts: "a.b" is already a host of site[1].',
            ),
            ("[[site]]\n[[site]]", "site[2].hosts: site[1] has no hosts either"),
            ('[listen]\nhttp=["[::]:80"]\nhttps=["[::]:80"]', "listen.https[1]: [::]:80 is al"),
            (
                '[listen]\nhttp=["[::1]:80"]\nadmin="[::1]:80"',
                "listen.admin: [::1]:80 is also listen.h",
            ),
            ("[listen]\nhttp = []\nhttps = []", "listen: nothing to listen on"),
            (
                "[listen]\nhttps = 443",
                'listen.https: must be a list in brackets, not 443. Write ["[::]:443"].',
            ),
            ("[listen]\nhttps = true", "listen.https: must be a list in brackets, not true."),
            (
                '[[site]]\nupstream = "https://10.0.0.5:94430"',
                'site[1].upstream[1]: "https://10.0.0.5:94430" has no valid port (1 to 65535). Wri',
            ),
            ("[listen]\nhttps = []", "listen.plain_http: http redirects to https, but"),
            ("a = 1\na = 2", "this is not TOML: "),
            (
                "[[site]]\nhosts = [sso.example.com]",
                "this is not TOML: Invalid value (at line 2, column 10). Texts stand in straight"
                ' quotes: hosts = ["sso.example.com"].',
            ),
            ("x = [", "this is not TOML: Invalid value (at end of document). At its end a value"),
            ("[listen]\n[log]\n[listen]\n", "this is not TOML: Cannot declare ('listen',) twice"),
            ("[[site]\n", "this is not TOML: Expected ']]' at the end of an array declaration (at"),
            ("a = " + "9" * 5000, "this is not TOML: "),
            ("a = " + "[" * 9000, ""),
            ("workers = 0x" + "f" * 9000, "workers: must be a whole number"),
            ("log.access" + ".a" * 5000 + " = 1", "log.access: must be a text in quotes"),
            ("[timeouts]\nhead = 0x" + "f" * 9000, "timeouts.head: must be a number of seco"),
        ):
            found = one(text)
            self.assertTrue(found.startswith("f.toml: " + expected), (text[:80], found))
            self.assertLess(len(found), 400)

    def test_cures_of_toml(self) -> None:
        """Each begins as the parser of this Python says it: else it would never be shown."""
        for text in (
            "a = b", 'a = "b\n', 'a = "b', "a = [1 2]", "a: 1", "= 1", "[a", "a = 1 2",
            "a = 1\na = 2\n", "[a]\n[a]\n", 'a = "\\d"', 'a = "C:\\users"',
        ):  # fmt: skip
            [said] = problems(text)
            self.assertRegex(said, r"f.toml: this is not TOML: .*\)\. [A-Z].*\.\Z")

    def test_a_port_where_a_list_is_wanted(self) -> None:
        for written in ("8443", '"8443"', '":8443"'):
            self.assertIn('Write ["[::]:8443"].', problems(f"[listen]\nhttps = {written}")[0])

    def test_nothing_like_it(self) -> None:
        """ "error" would be the opposite of what was meant."""
        self.assertNotIn("Did you mean", problems('[log]\nlevel = "verbose"')[0])
        self.assertNotIn("Did you mean", problems('[tls]\nminimum_version = "1.1"')[0])
        self.assertIn('Did you mean "warn"?', problems('[log]\nlevel = "warning"')[0])

    def test_unknown_keys(self) -> None:
        for text, expected in (
            (
                "[timeouts]\nkeepalives = 1",
                "timeouts.keepalives: there is no such setting. Did you mean keepalive?",
            ),
            ("[[site]]\nhost = []", "site[1].host: there is no such setting. Did you mean hosts?"),
            (
                "[[site]]\nupstreams = []",
                "site[1].upstreams: there is no such setting. Did you mean upstream?",
            ),
            ("[[sites]]", "sites: there is no such setting. Did you mean site?"),
            (
                "[[site]]\nfirst_byte = 1",
                "site[1].first_byte: there is no such setting here. It belongs in [timeouts].",
            ),
            ('hosts = ["a"]', "hosts: there is no such setting here. It belongs in [[site]]."),
            (
                "connections = 1",
                "connections: there is no such setting here. It belongs in [limits] or [pool]",
            ),
            (
                "[log]\nzzz = 1",
                "log.zzz: there is no such setting. There are: access, format, level.",
            ),
            ('path = "x"', "path: there is no such setting. Did you mean health?"),
            ("zzz = 1", "zzz: there is no such setting. There are: workers, listen, trust, log, "),
            ("[listen]\nhttp_explicit = true", "listen.http_explicit: there is no such setting."),
        ):
            found = one(text)
            self.assertTrue(found.startswith("f.toml: " + expected), (text, found))

    def test_one_line_whatever_the_file_holds(self) -> None:
        for octets in ("\\n", "\\r", "\\u001b[2J", "\\u2028", "\\u0085", "\\u0007"):
            for text in (
                f'"a{octets}b" = 1',
                f'[[site]]\nhosts = ["a{octets}b"]',
                f'[listen]\nplain_http = "a{octets}b"',
                f'[[site]]\nupstream = "a{octets}b"',
            ):
                found = one(text)
                self.assertEqual(len(found.splitlines()), 1)
                self.assertTrue(found.isprintable(), found)

    def test_a_problem_without_a_file(self) -> None:
        self.assertEqual(str(Problem("", "a.b", "is wrong.")), "a.b: is wrong.")


class AllAtOnceTests(SynchronousTestCase):
    def test_every_problem(self) -> None:
        found = problems(
            'workers = 1025\nlisten = { htp = ["[::]:80"], http = ["x", "[::]:80", 5] }\n'
            '[timeouts]\nhead = "a"\ndrain = -1\n[pool]\nidle = 9\nconnections = 8\n'
            '[[site]]\nhosts = ["a b", "c", "d:1"]\ncertificate = 1\n[[site]]\nhsts = "x"\n'
        )
        keys = sorted(line.split(": ")[1] for line in found)
        self.assertEqual(
            keys,
            sorted([
                "workers", "listen.htp", "listen.http[1]", "listen.http[3]", "timeouts.head",
                "timeouts.drain", "pool.idle", "site[1].hosts[1]", "site[1].hosts[3]",
                "site[1].certificate", "site[2].hsts",
            ]),
        )  # fmt: skip

    def test_nothing_is_said_that_only_follows(self) -> None:
        """A misspelt hosts is one problem, and not also a second site without hosts."""
        self.assertEqual(len(problems('[[site]]\nhost = ["a"]\n[[site]]\n')), 1)
        self.assertEqual(len(problems('[[site]]\ncertificate = 1\nprivate_key = "/k"\n')), 1)

    def test_load_raises_them_all(self) -> None:
        error = self.assertRaises(ConfigError, config.load, None, {"http": "x", "upstream": "y"})
        self.assertEqual(len(error.problems), 2)
        self.assertEqual(str(error).splitlines(), list(map(str, error.problems)))

    def test_what_was_right_is_understood(self) -> None:
        found, wrong = loads(
            '[log]\naccess = "/a"\nformat = 1\n[timeouts]\nhead = 7\n[[site]]\nhosts = 5\n'
            'certificate = "/c"\nprivate_key = "/k"\n',
            "f.toml",
        )
        self.assertEqual(len(wrong), 2)
        self.assertEqual((found.log.access, found.timeouts.head), ("/a", 7))
        self.assertEqual((found.sites[0].certificate, found.path), ("/c", "f.toml"))


class OverrideTests(SynchronousTestCase):
    def test_values(self) -> None:
        found = right(
            '[log]\naccess = "/a"\n[listen]\nhttp = ["[::]:1"]\n[[site]]\nhosts = ["b.example"]\n'
            'upstream = "https://127.0.0.1"',
            http="127.0.0.1:8080", https="127.0.0.1:8443", access_log="", host="a.example",
            upstream="http://127.0.0.1:9000", certificate="/c", private_key="/k",
        )  # fmt: skip
        [site] = found.sites
        self.assertEqual(list(map(str, found.listen.http)), ["127.0.0.1:8080"])
        self.assertEqual(list(map(str, found.listen.https)), ["127.0.0.1:8443"])
        self.assertTrue(found.listen.http_explicit and found.listen.https_explicit)
        self.assertEqual((found.log.access, site.hosts), ("", ("a.example",)))
        self.assertEqual(str(site.upstreams[0]), "http://127.0.0.1:9000")
        self.assertEqual((site.certificate, site.private_key), ("/c", "/k"))

    def test_without_a_site(self) -> None:
        for text in ("", "site = []"):
            self.assertEqual(right(text, host="a.example").sites[0].hosts, ("a.example",))

    def test_problems_name_the_option(self) -> None:
        for name, value in (
            ("http", "x"), ("https", "x"), ("host", "a b"), ("upstream", "x"), ("certificate", "x"),
            ("private_key", "x"),
        ):  # fmt: skip
            found = problems("", **{name: value})
            self.assertTrue(found[0].startswith(f"--{name.replace('_', '-')}: "), found)
            self.assertNotIn("f.toml", found[0])

    def test_what_belongs_together(self) -> None:
        self.assertIn("site[1].private_key: ", one("", certificate="/c"))

    def test_several_sites(self) -> None:
        """Nobody guesses which; and the rest of the file is looked at all the same."""
        found = problems('[[site]]\nhosts=["a"]\n[[site]]\nhosts=["b"]\n[tls]\nx = 1', host="c")
        self.assertEqual(len(found), 2)
        self.assertTrue(found[0].startswith("--host: the configuration has several sites."))
        self.assertTrue(found[1].startswith("f.toml: tls.x: "))

    def test_over_a_wrong_table(self) -> None:
        self.assertIn("f.toml: site: ", one("site = 5", host="a"))
        self.assertIn("f.toml: site[1]: ", one("site = [5]", host="a"))
        self.assertIn("f.toml: listen: ", one("listen = 5", http="[::]:80"))


class CanonicalTests(SynchronousTestCase):
    def test_hosts(self) -> None:
        """As clients write them, so that they are found."""
        for written, expected in (
            ("SSO.Example.com.", "sso.example.com"),
            ("*.Example.com", "*.example.com"),
            ("b\u00fccher.example", "xn--bcher-kva.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0:0::1", "[2001:db8::1]"),
            ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
            ("localhost", "localhost"),
        ):
            found = right(f'[[site]]\nhosts = ["{written}"]\n')
            self.assertEqual(found.sites[0].hosts, (expected,))

    def test_upstreams(self) -> None:
        for written, expected in (
            ("https://auth.example", "https://auth.example:443"),
            ("http://AUTH.example/", "http://auth.example:80"),
            ("https://[fe80::1%eth0]:9443", "https://[fe80::1%eth0]:9443"),
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
        ):
            found = right(f'[[site]]\nupstream = "{written}"\n')
            self.assertEqual(str(found.sites[0].upstreams[0]), expected)

    def test_networks(self) -> None:
        found = right('[trust]\nproxies = ["10.0.0.1", "2001:DB8::/32", "unix:"]\n')
        self.assertEqual(found.trust.proxies, ("10.0.0.1/32", "2001:db8::/32", "unix:"))

    def test_listeners(self) -> None:
        written = ["[::]:80", "192.0.2.1:0", "[fe80::1%eth0]:80", "unix:/a", "systemd:http"]
        found = right(f"[listen]\nhttp = {written}\nadmin = ''\n")
        self.assertEqual(list(map(str, found.listen.http)), written)
        self.assertIsNone(found.listen.admin)


class WarningTests(SynchronousTestCase):
    def test_table(self) -> None:
        for text, key in (
            ('[trust]\nproxies = ["0.0.0.0/0"]', "trust.proxies"),
            ('[trust]\nproxies = ["10.0.0.0/8", "::/0"]', "trust.proxies"),
            ('[listen]\nproxy_protocol_from = ["::/0"]', "listen.proxy_protocol_from"),
            (
                '[[site]]\nupstream="https://10.0.0.5"\nupstream_verify="off"',
                "site[1].upstream_verify",
            ),
            ('[[site]]\nupstream="http://10.0.0.5"', "site[1].upstream"),
            ('[[site]]\nupstream="http://127.0.0.1:9443"', "site[1].upstream"),
            ('[[site]]\nupstream="https://127.0.0.1:9000"', "site[1].upstream"),
        ):
            [(found, words)] = crosschecks.warnings(right(text))
            self.assertEqual(found, key)
            self.assertTrue(words.endswith("."))
        for text in (
            "",
            '[trust]\nproxies = ["10.0.0.0/8"]',
            '[[site]]\nupstream="http://127.0.0.1"',
            '[[site]]\nupstream="http://127.0.0.1:9000"',
            '[[site]]\nupstream="https://127.0.0.1:9443"',
        ):
            self.assertEqual(crosschecks.warnings(right(text)), [])


class FileTests(SynchronousTestCase):
    def test_files_that_cannot_be_read(self) -> None:
        directory = pathlib.Path(self.mktemp())
        directory.mkdir()
        binary = directory / "binary"
        binary.write_bytes(b"\xff\xfe")
        for path, words in (
            (directory / "missing", "there is no such file. Name the configuration with --config"),
            (binary, "this is not UTF-8 text."),
            (directory, "this is a directory. Name a file in it."),
            (binary / "x", "cannot be read: Not a directory."),
        ):
            found, [problem] = config.examine(str(path))
            self.assertTrue(str(problem).startswith(f"{path}: {words}"), problem)
            self.assertEqual(found, Settings(path=str(path)))

    def test_a_byte_order_mark(self) -> None:
        """Some editors write one."""
        path = self.mktemp()
        pathlib.Path(path).write_bytes(b"\xef\xbb\xbfworkers = 1\n")
        self.assertEqual(config.load(path).path, path)
        os.unlink(path)


SCALARS = (
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["", "-", "unix:", "unix:/a", "https://[", "[::1]", "10.0.0.0/8", "pin:", "%", "*"]
    )
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.just(datetime.UTC) | st.none())
)
ALL_KEYS = sorted({key for shape in (Settings, SiteSettings, *[type(getattr(Settings(), name))
                   for name in SECTIONS]) for key in values.keys_of(shape)})  # fmt: skip
KEYS = st.sampled_from(ALL_KEYS) | st.text(max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
TABLES = st.fixed_dictionaries(
    {},
    optional={
        name: st.dictionaries(
            st.sampled_from(values.keys_of(type(getattr(Settings(), name)))) | KEYS,
            VALUES,
            max_size=4,
        )
        | VALUES
        for name in SECTIONS
    }
    | {
        "workers": VALUES,
        "site": VALUES
        | st.lists(
            st.dictionaries(st.sampled_from(values.keys_of(SiteSettings)), VALUES, max_size=5),
            max_size=3,
        ),
    },
)
DOCUMENTS = TABLES | st.dictionaries(KEYS, VALUES, max_size=4)
OPTIONS = st.dictionaries(
    st.sampled_from(sorted(config.OVERRIDES)), st.text(max_size=8), max_size=3
)


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            text = str(value).lower()
        case str():
            text = '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
        case list():
            text = "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            text = "{" + ", ".join(f"{toml(k)} = {toml(each)}" for k, each in value.items()) + "}"
        case datetime.date() | datetime.time():
            text = value.isoformat()
        case float() if value.is_integer():
            text = f"{value:.1f}"
        case _:
            text = repr(value)
    return text


class AnyDocumentTests(SynchronousTestCase):
    def test_every_setting_with_every_type(self) -> None:
        """A wrong one is a problem in its section, and never an exception."""
        everything = (True, 5, 1.5, float("nan"), "", "x", [], [[]], [5], [{}], {}, {"x": 1})
        moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        wrong = (*everything, moment, moment.date(), moment.time())
        for section in (*SECTIONS, "site"):
            shape = SiteSettings if section == "site" else type(getattr(Settings(), section))
            for key in values.keys_of(shape):
                for value in wrong:
                    table = toml({key: value})
                    text = f"site = [{table}]" if section == "site" else f"{section} = {table}"
                    for line in problems(text):
                        self.assertTrue(line.startswith(f"f.toml: {section}"), (text, line))

    @SETTINGS
    @given(DOCUMENTS, OPTIONS)
    def test_never_a_traceback(self, document: dict[str, Any], options: dict[str, str]) -> None:
        text = "\n".join(f"{toml(key)} = {toml(value)}" for key, value in document.items())
        found, wrong = loads(text, "f.toml", options)
        for problem in wrong:
            line = str(problem)
            self.assertTrue(line.startswith(("f.toml: ", "--")), line)
            self.assertTrue(line.isprintable(), repr(line))
            self.assertNotIn("object at 0x", line)
        self.assertIsInstance(found, Settings)
        for problem in files.problems(found, {}):
            self.assertIsInstance(problem, tuple)
        if not wrong:
            crosschecks.warnings(found)

    @SETTINGS
    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        loads(text, "f.toml")

"""Settings as TOML: what is written means the same."""

from __future__ import annotations

import tomllib
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy import config, toml
from authproxy.settings import Settings, SiteSettings

from . import test_config
from .test_config import DOCUMENTS, EXAMPLE, SETTINGS

EVERYTHING = """
workers = 3
[listen]
http = ["[::]:80", "unix:/run/a \\"b\\".sock", "systemd:http"]
https = []
admin = ""
public_https_port = 8443
acme_webroot = "/var/www/\\u007f\\u0085é\\\\"
proxy_protocol_from = ["10.0.0.0/8", "unix:"]
http2 = false
[log]
access = ""
format = "json"
[timeouts]
head = 1.5
keepalive = 604800
[[site]]
hosts = ["sso.example.com", "*.example.org", "[2001:db8::1]"]
upstream = ["https://10.0.0.5:9443", "https://[2001:db8::5]:9443"]
upstream_verify = "ca:/etc/ca.pem"
[[site.guard]]
path = "/if/admin/"
allow = ["10.0.0.0/8"]
[[site.guard]]
preset = "inside"
deny = ["192.0.2.7"]
[[site]]
upstream = "unix:/run/authentik.sock"
upstream_verify = "pin:sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
certificate = "/c"
private_key = "/k"
"""


def right(text: str) -> Settings:
    found, wrong = config.loads(text, "f.toml")
    assert not wrong, wrong
    return found


class RoundTests(SynchronousTestCase):
    def check(self, settings: Settings) -> str:
        text = toml.dumps(settings)
        again, wrong = config.loads(text, settings.path)
        self.assertEqual((wrong, again), ([], settings), text)
        return text

    def test_defaults(self) -> None:
        text = self.check(Settings())
        self.assertIn('\nupstream = "https://127.0.0.1:9443"  # default\n', text)
        self.assertEqual(toml.changed(Settings()), [])
        for line in text.splitlines():
            self.assertTrue(not line or line.startswith("[") or "  # default" in line, line)

    def test_everything(self) -> None:
        text = self.check(right(EVERYTHING))
        self.assertIn('\n[[site.guard]]\npath = "/if/admin/"\n', text)
        self.assertIn("\nhead = 1.5\n", text)
        self.assertIn("\nkeepalive = 604800\n", text)

    def test_shipped(self) -> None:
        self.check(config.load(str(EXAMPLE)))

    def test_what_is_not_written_stays_so(self) -> None:
        """The default ports may become others where they may not be bound; written ones do not."""
        text = self.check(right('[listen]\nhttp = ["[::]:80"]\n'))
        self.assertIn('\nhttp = ["[::]:80"]  # default\n', text)
        self.assertIn('\n#https = ["[::]:443"]  # default, where it can be had\n', text)

    def test_verification(self) -> None:
        """Its default depends on where upstream is."""
        for upstream, mode, changed in (
            ("https://127.0.0.1", "off", False),
            ("https://127.0.0.1", "system", True),
            ("https://10.0.0.5", "system", False),
            ("https://10.0.0.5", "off", True),
        ):
            found = right(f'[[site]]\nupstream = "{upstream}"\nupstream_verify = "{mode}"\n')
            line = f'\nupstream_verify = "{mode}"{"" if changed else "  # default"}\n'
            self.assertIn(line, self.check(found))
            self.assertEqual("site[1].upstream_verify" in toml.changed(found), changed)

    @SETTINGS
    @given(DOCUMENTS)
    def test_any(self, document: dict[str, Any]) -> None:
        text = "\n".join(
            f"{test_config.toml(key)} = {test_config.toml(value)}"
            for key, value in document.items()
        )
        found, wrong = config.loads(text, "f.toml")
        if not wrong:
            self.check(found)

    @SETTINGS
    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
    def test_any_text(self, text: str) -> None:
        site = SiteSettings(certificate=f"/{text}", private_key=f"/{text}")
        self.check(evolve(Settings(), sites=(site,)))


class ShapeTests(SynchronousTestCase):
    def test_document(self) -> None:
        """What the TOML says, as data, with what is only implied."""
        found = right(EVERYTHING)
        self.assertEqual(tomllib.loads(toml.dumps(found)), toml.document(found))
        self.assertEqual(toml.document(Settings())["listen"]["https"], ["[::]:443"])

    def test_changed(self) -> None:
        text = '[timeouts]\nhead = 3\nkeepalive = 75\n[[site]]\n[[site.guard]]\npath = "/a"\ndeny = ["::1"]\n'
        self.assertEqual(
            toml.changed(right(text)),
            ["timeouts.head", "site[1].guard[1].path", "site[1].guard[1].deny"],
        )

    def test_secrets(self) -> None:
        """There are none in the settings; one that comes is masked by its name."""
        self.assertEqual(toml.SECRETS, frozenset())
        self.patch(toml, "SECRETS", frozenset({"upstream_server_name", "acme_webroot"}))
        found = right('[[site]]\nupstream_server_name = "hush.example"\n')
        text = toml.dumps(found)
        self.assertNotIn("hush", text + repr(toml.document(found)))
        self.assertIn(f'upstream_server_name = "{toml.MASK}"\n', text)
        self.assertIn('acme_webroot = ""  # default\n', text)  # that none is set is no secret

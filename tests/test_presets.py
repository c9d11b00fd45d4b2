"""What is known of CDNs, and whole requests that come through one."""

from __future__ import annotations

import datetime
import ipaddress
from typing import get_args, get_type_hints

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from authproxy import config, crosschecks
from authproxy.presets import PRESETS, trusted
from authproxy.settings import Settings, Trust
from authproxy.trust import ADDRESS_FIELDS

from .test_gateway import STRANGER, Conversation
from .world import OK, World, get, say

EDGE, EDGE6 = "104.16.0.7", "2606:4700::7"
CLIENT = b"192.0.2.1"


class PresetTests(SynchronousTestCase):
    def test_networks(self) -> None:
        """Canonical, disjoint, and none so large that it would be the internet."""
        for preset in PRESETS.values():
            networks = [ipaddress.ip_network(network) for network in preset.networks]
            self.assertEqual([str(network) for network in networks], list(preset.networks))
            for network in networks:
                self.assertTrue(network.is_global, network)
                self.assertGreaterEqual(network.prefixlen, 13 if network.version == 4 else 29)
            for version in (4, 6):
                of_it = [network for network in networks if network.version == version]
                self.assertEqual(
                    sum(n.num_addresses for n in of_it),
                    sum(n.num_addresses for n in ipaddress.collapse_addresses(of_it)),
                )
            self.assertIn(preset.address_field, ADDRESS_FIELDS)
            self.assertLess(datetime.date(2026, 1, 1), datetime.date.fromisoformat(preset.compared))

    def test_the_settings_know_them(self) -> None:
        hints = get_type_hints(Trust)
        self.assertEqual(get_args(get_args(hints["presets"])[0]), tuple(PRESETS))
        fields = {field.lower().encode() for field in get_args(hints["address_field"]) if field}
        self.assertEqual(fields, set(ADDRESS_FIELDS))

    def test_nothing_is_trusted_without_them(self) -> None:
        networks = trusted(Trust())
        self.assertFalse(networks)
        self.assertFalse(networks.contains(EDGE))

    def test_more_networks(self) -> None:
        trust = Trust(presets=("cloudflare",), preset_networks=("198.51.100.0/24",))
        self.assertTrue(trusted(trust).contains("198.51.100.1"))
        self.assertEqual(trusted(trust).word_of("198.51.100.1"), (False, b"cf-connecting-ip"))
        self.assertFalse(trusted(evolve(trust, preset_networks=())).contains("198.51.100.1"))


class ConfigurationTests(SynchronousTestCase):
    def test_right(self) -> None:
        settings, problems = config.loads(
            '[trust]\npresets = ["cloudflare"]\npreset_networks = ["198.51.100.0/24"]\n'
            'proxies = ["10.0.0.0/8"]\naddress_field = "X-Real-IP"\n',
            "f.toml",
        )
        self.assertEqual(problems, [])
        self.assertEqual(settings.trust.presets, ("cloudflare",))
        self.assertEqual(trusted(settings.trust).word_of("10.0.0.1"), (True, b"x-real-ip"))

    def test_wrong(self) -> None:
        for text, key, words in (
            ('presets = ["cloudfare"]', "trust.presets[1]", 'must be "cloudflare"'),
            ('presets = "cloudflare"', "trust.presets", "must be a list in brackets"),
            ('preset_networks = ["10.0.0.0/8"]', "trust.preset_networks", "there is none"),
            ('address_field = "X-Real-IP"', "trust.address_field", "trust.proxies is empty"),
            (
                'proxies = ["10.0.0.0/8"]\naddress_field = "cf-connecting-ip"',
                "trust.address_field",
                'Did you mean "CF-Connecting-IP"?',
            ),
            (
                'proxies = ["10.0.0.0/8"]\naddress_field = "Cookie"',
                "trust.address_field",
                "must be",
            ),
        ):
            _, problems = config.loads(f"[trust]\n{text}\n", "f.toml")
            self.assertEqual([problem.key for problem in problems], [key], problems)
            self.assertIn(words, problems[0].message)

    def test_everybody(self) -> None:
        settings, _ = config.loads(
            '[trust]\npresets = ["cloudflare"]\npreset_networks = ["0.0.0.0/0"]\n', ""
        )
        [(key, _)] = crosschecks.warnings(settings)
        self.assertEqual(key, "trust.preset_networks")


class CloudflareTests(Conversation):
    """Whole requests, with the addresses that upstream hears of."""

    def setUp(self) -> None:
        self.settings = evolve(Settings(), trust=Trust(presets=("cloudflare",)))

    def heard(
        self, *fields: bytes, peer: str = EDGE, settings: Settings | None = None
    ) -> dict[bytes, bytes]:
        """The fields that upstream gets of a request with these."""
        world = World(settings or self.settings)
        _, _, got = self.forwarded(world, get(b"/", *fields), peer)
        self.assertEqual(len(got), len(dict(got)), got)
        return dict(got)

    def test_through_cloudflare(self) -> None:
        for peer in (EDGE, EDGE6):
            for address in (CLIENT, b"2001:db8::1"):
                got = self.heard(b"CF-Connecting-IP: " + address, peer=peer)
                self.assertEqual(got[b"x-forwarded-for"], address)
                self.assertNotIn(b"cf-connecting-ip", got)

    def test_forged_from_outside(self) -> None:
        """Whoever finds the origin's address and asks it himself: his own address, and no field
        with which authentik or something behind it could be told another."""
        for settings in (self.settings, Settings()):
            got = self.heard(
                b"CF-Connecting-IP: 192.0.2.66",
                b"CF-Connecting-IPv6: 2001:db8::66",
                b"True-Client-IP: 192.0.2.66",
                b"X-Forwarded-For: 192.0.2.66",
                peer=STRANGER,
                settings=settings,
            )
            self.assertEqual(got[b"x-forwarded-for"], STRANGER.encode())
            self.assertNotIn(b"192.0.2.66", b" ".join(got.values()))
            self.assertNotIn(b"2001:db8::66", b" ".join(got.values()))

    def test_two_and_garbage(self) -> None:
        for fields in (
            (b"CF-Connecting-IP: 192.0.2.66", b"CF-Connecting-IP: 192.0.2.67"),
            (b"CF-Connecting-IP: nonsense",),
            (b"CF-Connecting-IP:",),
        ):
            got = self.heard(*fields, b"X-Forwarded-For: 192.0.2.66, 192.0.2.1")
            self.assertEqual(got[b"x-forwarded-for"], CLIENT)
            self.assertEqual(self.heard(*fields)[b"x-forwarded-for"], EDGE.encode())

    def test_what_cloudflare_passes_on(self) -> None:
        """X-Forwarded-Host and client certificates are its client's words."""
        got = self.heard(
            b"CF-Connecting-IP: 192.0.2.1",
            b"X-Forwarded-Host: evil.example",
            b"X-Forwarded-Client-Cert: evil",
            b"ssl-client-cert: evil",
        )
        self.assertEqual(got[b"x-forwarded-host"], b"sso.example.com")
        self.assertNotIn(b"evil", b" ".join(got.values()))

    def test_what_it_says_is_not_forged(self) -> None:
        """Its fields on every request are no attack; those of a stranger are counted as one."""
        for peer, counted in ((EDGE, False), (STRANGER, True)):
            world = World(self.settings)
            self.forwarded(world, get(b"/", b"CF-Connecting-IP: 192.0.2.1"), peer)
            self.assertEqual(bool(sum(world.gateway.dropped_fields.values())), counted)

    def test_many_clients_on_one_connection(self) -> None:
        """Cloudflare reuses connections: each request has its own client."""
        world = World(self.settings)
        client = world.client(EDGE, True)
        for address in (b"192.0.2.1", b"192.0.2.2"):
            say(client, get(b"/", b"CF-Connecting-IP: " + address))
            [origin] = world.origins
            self.assertIn(b"x-forwarded-for: " + address + b"\r\n", origin.take().lower())
            say(origin, OK)

    def test_flexible(self) -> None:
        """TLS ends at Cloudflare, which comes here by plain HTTP: no redirect, which would loop."""
        world = World(self.settings)
        _, _, got = self.forwarded(
            world,
            get(b"/", b"CF-Connecting-IP: 192.0.2.1", b"X-Forwarded-Proto: https"),
            EDGE,
            secure=False,
        )
        self.assertEqual(dict(got)[b"x-forwarded-proto"], b"https")

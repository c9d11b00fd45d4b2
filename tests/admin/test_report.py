"""The report: readiness, sites, certificates, settings, and its form as JSON."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from authproxy.admin.certificates import DAY, certificates
from authproxy.admin.history import History
from authproxy.admin.in_force import MASK, sections
from authproxy.admin.report import Now, Report, readiness, report
from authproxy.counters import Snapshot
from authproxy.identity import Identity
from authproxy.settings import Settings, SiteSettings, Verify

from .busy import SITES, UPSTREAMS, counters, identity, settings

NOBODY = Identity([], set())


def reported(counts: Snapshot, now: float = 1000.0, **given: Any) -> Report:
    moment = Now(wall=now, steady=now, uptime=60, host="door")
    return report(
        moment, given.get("settings", Settings()), given.get("identity", NOBODY),
        given.get("draining", False), counts, given.get("history", History()),
        given.get("faults", []),
    )  # fmt: skip


class ReadinessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pairs = identity()
        certificate = self.pairs.pairs[0].certificate
        self.begins = certificate.not_valid_before_utc.timestamp()
        self.ends = certificate.not_valid_after_utc.timestamp()

    def reasons(self, counts: Snapshot, wall: float | None = None) -> list[str]:
        wall = self.begins + DAY if wall is None else wall
        return readiness(settings(), self.pairs, False, counts, wall)

    def test_ready(self) -> None:
        self.assertEqual(self.reasons(counters(900)), [])

    def test_one_upstream_of_a_site_is_enough(self) -> None:
        for up in ((0, 2, 2), (2, 0, 1), (0, 1, 1)):
            self.assertEqual(self.reasons(counters(900, up)), [], up)

    def test_no_upstream_of_a_site(self) -> None:
        self.assertEqual(
            self.reasons(counters(900, (0, 0, 2))),
            [f"site {SITES[0]}: no upstream is up ({UPSTREAMS[0]}, {UPSTREAMS[1]})"],
        )

    def test_not_checked(self) -> None:
        """Who checks nothing is not told that nothing works."""
        self.assertEqual(self.reasons({"workers": {"": 2}}), [])
        half: Snapshot = {"upstream_up": {f"{SITES[0]}\t{UPSTREAMS[0]}": 0}}
        self.assertEqual(self.reasons(half), [])

    def test_no_worker(self) -> None:
        self.assertEqual(self.reasons({"workers": {"": 0}}), ["no worker process serves"])

    def test_certificates(self) -> None:
        [first, second] = self.reasons({}, self.ends + 1)
        self.assertIn(f"site {SITES[0]}: its certificate expired on 20", first)
        self.assertIn(SITES[1], second)
        self.assertIn("valid only from", self.reasons({}, self.begins - 1)[0])

    def test_draining(self) -> None:
        self.assertEqual(readiness(settings(), self.pairs, True, {}, 0), ["draining"])

    def test_states_of_certificates(self) -> None:
        def seen(wall: float) -> tuple[str, int]:
            first = certificates(settings(), self.pairs, wall)[0]
            return first.state, first.days_left

        self.assertEqual(seen(self.begins - 1)[0], "not yet valid")
        self.assertEqual(seen(self.ends - 14.5 * DAY), ("valid", 14))
        self.assertEqual(seen(self.ends - 13.5 * DAY), ("expires soon", 13))
        self.assertEqual(seen(self.ends + DAY), ("expired", -1))

    def test_what_is_known_of_a_certificate(self) -> None:
        first, second = certificates(settings(), self.pairs, self.begins + DAY)
        self.assertEqual((first.site, second.site), SITES)
        self.assertEqual((first.self_signed, second.self_signed), (False, True))
        self.assertIn(SITES[0], first.names)
        self.assertIn("*.apps.example.com", first.notes[0])


class ReportTests(SynchronousTestCase):
    def test_nothing_is_known_yet(self) -> None:
        seen = reported({})
        self.assertEqual((seen.state, seen.requests, seen.requests_per_second), ("ready", 0, None))
        [site] = seen.sites
        self.assertEqual((site.state, site.upstreams[0].state), ("not checked", "not checked"))
        self.assertEqual(seen.workers, 1)

    def test_counters_without_labels(self) -> None:
        counts: Snapshot = {
            "requests": {"": 7}, "websockets": {"": 2}, "exchanges": {"": 5},
            "upstream_connections": {"idle": 3, "leased": 1}, "retries": {"": 4},
        }  # fmt: skip
        seen = reported(counts)
        self.assertEqual((seen.requests, seen.websockets, seen.under_way), (7, 2, 3))
        self.assertEqual((seen.pool.idle, seen.pool.leased, seen.pool.retries), (3, 1, 4))
        self.assertEqual(seen.requests_by_status, ())
        self.assertIsNone(seen.sites[0].requests)

    def test_states(self) -> None:
        def states(*up: int) -> tuple[Any, ...]:
            first, second = reported(counters(900, up), settings=settings()).sites  # type: ignore[arg-type]
            return first.state, second.state, [u.state for u in first.upstreams]

        self.assertEqual(states(2, 2, 2), ("up", "up", ["up", "up"]))
        self.assertEqual(states(2, 1, 0), ("degraded", "down", ["up", "partly up"]))
        self.assertEqual(states(0, 0, 1), ("down", "degraded", ["down", "down"]))
        self.assertEqual(reported(counters(900, (0, 0, 0)), settings=settings()).state, "not ready")
        self.assertEqual(reported({}, draining=True).state, "draining")

    def test_tables(self) -> None:
        seen = reported(counters(900), settings=settings())
        self.assertEqual([row.name for row in seen.requests_by_status],
                         ["1xx", "2xx", "3xx", "4xx", "5xx"])  # fmt: skip
        self.assertEqual([row.name for row in seen.requests_by_version], ["1.1", "2"])
        self.assertEqual([row.name for row in seen.websockets_by_path],
                         ["/ws/client/", "/ws/outpost/"])  # fmt: skip
        self.assertEqual(seen.refused[0].name, "unknown host")

    def test_what_clients_cause_is_bounded(self) -> None:
        many: Snapshot = {"refused": {f"reason {n}": float(n) for n in range(100)}}
        rows = reported(many).refused
        self.assertEqual((len(rows), rows[-1].name), (12, "others"))
        self.assertEqual(sum(row.value for row in rows), sum(range(100)))

    def test_rates(self) -> None:
        history = History()
        for n in range(20):
            history.add(1000 + n * 5.0, counters(n * 5.0))
        seen = reported(counters(100), 1100, history=history, settings=settings())
        minute = (counters(100), counters(40))
        first, second = (sum(counts["requests"].values()) for counts in minute)
        self.assertAlmostEqual(seen.last_minute.requests or 0, (first - second) / 60)
        self.assertEqual(len(seen.history.p99), 19)

    def test_as_json(self) -> None:
        plain = reported(counters(900), settings=settings(), identity=identity()).plain()
        self.assertEqual(json.loads(json.dumps(plain, allow_nan=False))["host"], "door")

    def test_revision(self) -> None:
        """Numbers make none, all else does."""
        first = reported(counters(900), settings=settings()).plain()
        for same in (counters(950), counters(905)):
            again = reported(same, 2000, settings=settings()).plain()
            self.assertEqual(again["revision"], first["revision"])
        others = (
            reported(counters(900, (0, 0, 2)), settings=settings()),
            reported(counters(900), settings=settings(), draining=True),
            reported(counters(900) | {"refused": {"new": 1}}, settings=settings()),
            reported(counters(900), settings=attrs.evolve(settings(), workers=7)),
        )
        self.assertEqual(len({r.plain()["revision"] for r in others} | {first["revision"]}), 5)


class InForceTests(SynchronousTestCase):
    def shown(self, settings: Settings) -> dict[str, dict[str, str]]:
        return {
            section.name: {setting.name: setting.value for setting in section.settings}
            for section in sections(settings)
        }

    def test_as_in_the_file(self) -> None:
        site = SiteSettings(hosts=("a.example",), upstream_verify=Verify("ca", "/etc/ca.pem"))
        shown = self.shown(attrs.evolve(settings(), sites=(site,)))
        self.assertEqual(shown["[[site]]"]["hosts"], '["a.example"]')
        self.assertEqual(shown["[[site]]"]["upstream"], '["https://127.0.0.1:9443"]')
        self.assertEqual(shown["[[site]]"]["upstream_verify"], '"ca:/etc/ca.pem"')
        self.assertEqual(shown["[trust]"]["proxies"], '["10.0.0.0/8"]')
        self.assertEqual(shown["[listen]"]["http2"], "true")
        self.assertEqual(shown["[timeouts]"]["head"], "15")
        self.assertEqual(shown[""]["workers"], '"auto"')
        self.assertNotIn("admin_explicit", shown["[listen]"])
        self.assertNotIn("path", shown[""])

    def test_what_was_changed(self) -> None:
        changed = {
            setting.name for section in sections(settings()) for setting in section.settings
            if setting.changed
        }  # fmt: skip
        self.assertEqual(changed, {"hosts", "upstream", "admin", "proxies"})

    def test_secrets(self) -> None:
        @attrs.frozen
        class Table:
            api_token: str = "hunter2"
            password_file: str = "/etc/secret"
            url: str = "https://me:hunter2@host/"
            empty_secret: str = ""
            hashes: tuple[str, ...] = ("x",)

        shown = self.shown(attrs.evolve(Settings(), log=Table()))  # type: ignore[arg-type]
        self.assertEqual(shown["[log]"], {
            "api_token": MASK, "password_file": '"/etc/secret"', "url": f'"https://{MASK}@host/"',
            "empty_secret": '""', "hashes": '["x"]',
        })  # fmt: skip

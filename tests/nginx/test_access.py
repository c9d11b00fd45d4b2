"""allow, deny and refusing locations -> guards, where the meaning is the same, and only there."""

from __future__ import annotations

import tomllib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from .translated import Result, of_text, site

EVERYBODY = ["0.0.0.0/0", "::/0", "unix:"]
LOST = "cannot be written as a guard"


def location(path: str, rules: str, proxied: bool = True) -> str:
    """A location with rules, to the same upstream."""
    passing = "proxy_pass https://127.0.0.1:9443;" if proxied else ""
    return f"location {path} {{ {rules} {passing} }}"


class AccessTests(SynchronousTestCase):
    def made(self, server: str, inside: str = "") -> tuple[Result, list[dict[str, Any]]]:
        """What comes out, and its guards."""
        found = of_text(site(server, inside), self.mktemp())
        [table] = tomllib.loads(found.text)["site"]
        return found, table.get("guard", [])

    def test_rules_with_an_equal_guard(self) -> None:
        for rules, guard in (
            ("allow 10.0.0.0/8; deny all;", {"allow": ["10.0.0.0/8"]}),
            ("allow 10.0.0.5; allow ::1; deny all;", {"allow": ["10.0.0.5/32", "::1/128"]}),
            ("allow unix:; deny all;", {"allow": ["unix:"]}),
            ("deny 10.0.0.5; allow all;", {"deny": ["10.0.0.5/32"]}),
            ("deny 10.0.0.5;", {"deny": ["10.0.0.5/32"]}),
            ("deny all;", {"deny": EVERYBODY}),
            ("deny 10.0.0.5; deny all;", {"deny": EVERYBODY}),
            ("deny all; allow 10.0.0.5;", {"deny": EVERYBODY}),  # the first that matches
            ("deny 10.0.0.5; allow 10.0.0.0/8; deny all;",
             {"allow": ["10.0.0.0/8"], "deny": ["10.0.0.5/32"]}),
            ("allow 10.0.0.0/8; deny 10.0.0.5; deny all;", {"allow": ["10.0.0.0/8"]}),
            ("return 403;", {"deny": EVERYBODY}),
            ("return 404;", {"deny": EVERYBODY}),
        ):  # fmt: skip
            found, guards = self.made(location("/if/admin/", rules, "return" not in rules))
            self.assertEqual(guards, [{"path": "/if/admin/", **guard}], rules)
            self.assertNotIn(LOST, found.text)

    def test_rules_of_what_leads_nowhere(self) -> None:
        """There nginx asked nobody: to open it would be a surprise."""
        for rules, guard in (
            ("deny all;", {"deny": EVERYBODY}),
            ("allow 10.0.0.0/8; deny all; stub_status;", {"allow": ["10.0.0.0/8"]}),
            ("deny all; root /var/www;", {"deny": EVERYBODY}),
            ("return 451;", {"deny": EVERYBODY}),
            ("return 503 later;", {"deny": EVERYBODY}),
        ):
            found, guards = self.made(location("/if/admin/", rules, proxied=False))
            self.assertEqual(guards, [{"path": "/if/admin/", **guard}], rules)
        found, guards = self.made(location("= /-/metrics", "deny all;", proxied=False))
        self.assertEqual(guards, [])
        self.assertIn(LOST, found.said("ATTENTION"))

    def test_what_is_internal(self) -> None:
        """Clients cannot ask for it."""
        _, guards = self.made(location("/if/admin/", "internal;"))
        self.assertEqual(guards, [{"path": "/if/admin/", "deny": EVERYBODY}])

    def test_names_that_go_on(self) -> None:
        """nginx's prefix is one of characters, not of names."""
        for path, said in (("/if/adm", True), ("~ ^/if/adm", True), ("/if/admin/", False)):
            found, guards = self.made(location(path, "deny all;"))
            self.assertEqual(len(guards), 1)
            self.assertEqual("whole names" in found.said("DIFFERENT"), said, path)

    def test_rules_without(self) -> None:
        for rules in (
            "allow 10.0.0.5; deny 10.0.0.0/8;",  # an exception, in front
            "allow 10.0.0.5; deny 10.0.0.0/8; allow 10.0.0.0/7; deny all;",
            "deny 10.0.0.0/8; allow 10.0.0.5; deny all;",  # allow would never be reached
            "allow $somebody; deny all;",
            "allow example.com; deny all;",
            "satisfy any; auth_basic x; allow 10.0.0.0/8; deny all;",
        ):
            found, guards = self.made(location("/if/admin/", rules))
            self.assertEqual(guards, [], rules)
            self.assertIn(LOST, found.said("ATTENTION"), rules)

    def test_everybody_may(self) -> None:
        for rules in ("allow all;", "allow 10.0.0.0/8;", "allow 10.0.0.0/8; allow all;"):
            found, guards = self.made(location("/if/admin/", rules))
            self.assertEqual((guards, found.said("ATTENTION")), ([], ""), rules)

    def test_paths_with_an_equal_guard(self) -> None:
        for path, guarded in (
            ("/if/admin/", "/if/admin/"),
            ("/-/metrics", "/-/metrics"),
            ("^~ /if/admin/", "/if/admin/"),
            ("~ ^/if/admin/", "/if/admin/"),
            ("~ ^/if/admin/.*", "/if/admin/"),
        ):
            _, guards = self.made(location(path, "allow 10.0.0.0/8; deny all;"))
            self.assertEqual([guard["path"] for guard in guards], [guarded], path)

    def test_paths_without(self) -> None:
        for path in (
            "= /if/admin/", "~ /if/admin/", "~* ^/if/admin/", "~ ^/if/(admin|user)/", '"/a b/"',
            "/a%20b/", "//", "/a/../b/", "/a./", '"/x\ny/"', "~ ^/if/admin/$",
        ):  # fmt: skip
            found, guards = self.made(location(path, "allow 10.0.0.0/8; deny all;"))
            self.assertEqual(guards, [], path)
            self.assertIn(LOST, found.said("ATTENTION"), path)

    def test_the_whole_host(self) -> None:
        _, guards = self.made("allow 10.0.0.0/8; deny all;")
        self.assertEqual(guards, [{"path": "/", "allow": ["10.0.0.0/8"]}])

    def test_the_main_location(self) -> None:
        _, guards = self.made("", "allow 10.0.0.0/8; deny all;")
        self.assertEqual(guards, [{"path": "/", "allow": ["10.0.0.0/8"]}])

    def test_other_rules_below(self) -> None:
        """nginx asks one location, guards are all asked: the outer one would shut the inner."""
        for rules in ("allow all;", "allow 192.0.2.1; deny all;"):
            inner = location("/-/health/", rules)
            found, guards = self.made(inner, "allow 10.0.0.0/8; deny all;")
            self.assertIn(LOST, found.said("ATTENTION"))
            self.assertNotIn("/", [guard["path"] for guard in guards])
            self.assertIn("#[[site.guard]]\n# This covers more", found.text)
            self.assertIn('\n#path = "/"', found.text)

    def test_the_same_rules_below(self) -> None:
        rules = "allow 10.0.0.0/8; deny all;"
        found, guards = self.made(location("/ws/", rules), rules)
        self.assertEqual([guard["path"] for guard in guards], ["/ws/", "/"])
        self.assertNotIn(LOST, found.text)

    def test_patterns_below(self) -> None:
        """Where they lead cannot be known; the guard stays, which is the safe way."""
        static = location(r"~* \.(js|css)$", "expires 30d;")
        found, guards = self.made(static + location("/if/admin/", "allow 10.0.0.0/8; deny all;"))
        self.assertEqual([guard["path"] for guard in guards], ["/if/admin/"])
        self.assertIn("A location with a pattern", found.said("DIFFERENT"))

    def test_inherited(self) -> None:
        """Rules of a location replace those outside, all of them."""
        found, guards = self.made("deny 192.0.2.1;" + location("/if/admin/", "deny 192.0.2.2;"))
        self.assertEqual(guards, [{"path": "/if/admin/", "deny": ["192.0.2.2/32"]}])
        self.assertIn(LOST, found.said("ATTENTION"))

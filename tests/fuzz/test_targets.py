"""Each target for a moment: what it begins with, and the same mutations of it on every run."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from .connections import said, script_of
from .targets import TARGETS, mutations

# Each of the last two plays a whole proxy; script/fuzz is for longer runs.
INPUTS = {"http1": 1200, "http2": 500, "configuration": 400}
USUAL = 4000


class TargetTests(SynchronousTestCase):
    def run_target(self, name: str) -> None:
        target = TARGETS[name]
        for octets in itertools.islice(mutations(target.seeds(), 1), INPUTS.get(name, USUAL)):
            try:
                target.run(octets)
            except Exception as e:
                raise AssertionError(f"{name} of {octets!r}") from e

    def test_a_script_is_what_was_said(self) -> None:
        script = [b"a" * 200, "ok", b"b", "hold"]
        self.assertEqual(list(script_of(said(*script))), script)

    def test_request_head(self) -> None:
        self.run_target("request-head")

    def test_response_head(self) -> None:
        self.run_target("response-head")

    def test_chunks(self) -> None:
        self.run_target("chunks")

    def test_proxy_header(self) -> None:
        self.run_target("proxy-header")

    def test_trust_lists(self) -> None:
        self.run_target("trust-lists")

    def test_spellings(self) -> None:
        self.run_target("spellings")

    def test_configuration(self) -> None:
        self.run_target("configuration")

    def test_http1(self) -> None:
        self.run_target("http1")

    def test_http2(self) -> None:
        self.run_target("http2")

    def test_every_target_has_its_test(self) -> None:
        tests = {f"test_{name.replace('-', '_')}" for name in TARGETS}
        self.assertEqual(tests - set(dir(self)), set())

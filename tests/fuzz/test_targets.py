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


def _test_of(name: str) -> None:
    def test(self: TargetTests) -> None:
        self.run_target(name)

    setattr(TargetTests, f"test_{name.replace('-', '_')}", test)


for _name in TARGETS:
    _test_of(_name)

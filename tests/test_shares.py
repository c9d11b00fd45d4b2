"""The sharing of the tests loses none of them, and adds up what trial says."""

from __future__ import annotations

import os

from twisted.python.modules import getModule
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase

from . import shares


class SharesTests(SynchronousTestCase):
    def test_all_modules(self) -> None:
        """Each once, and those that are named exist."""
        found = [
            module.name
            for module in getModule("tests").walkModules()
            if module.name.rpartition(".")[2].startswith("test_")
        ]
        self.assertEqual(sorted(shares.modules()), sorted(found))
        self.assertEqual(tuple(shares.modules()[: len(shares.LONGEST)]), shares.LONGEST)

    def test_records(self) -> None:
        """Of one width, and all in the pipe before somebody reads."""
        self.assertLess(max(map(len, shares.modules())), shares.WIDTH)
        self.assertLess(len(shares.modules()) * shares.WIDTH, 65536)

    def share(self, *names: str) -> tuple[TestResult, str]:
        """What a process comes to with these modules, and what it says."""
        take, put = os.pipe()
        self.addCleanup(os.close, take)
        os.write(put, b"".join(name.encode().ljust(shares.WIDTH) for name in names))
        os.close(put)
        result = TestResult()
        said: list[bytes] = []
        self.patch(shares, "say", said.append)
        shares.Share(take).run(result)
        return result, b"".join(said).decode()

    def test_modules_one_after_the_other(self) -> None:
        result, said = self.share("tests.test_documents", "tests.test_errors")
        self.assertTrue(result.wasSuccessful(), f"{result.errors} {result.failures}")
        self.assertGreater(result.testsRun, 2)
        self.assertRegex(said, r"^tests\.test_documents: \d+ tests, \d+ s\ntests\.test_errors: \d+")

    def test_a_module_that_cannot_be_loaded(self) -> None:
        """It is an error, and the next one is taken."""
        result, said = self.share("tests.test_of_nobody", "tests.test_errors")
        self.assertEqual(len(result.errors), 1)
        self.assertGreater(result.testsRun, 1)
        self.assertRegex(
            said,
            r"^tests\.test_of_nobody: .*, 1 FAILED\n    .*test_of_nobody.*(\n.*)*\ntests\.test_errors: ",
        )

    def test_sums(self) -> None:
        texts = ["a\nPASSED (skips=1, successes=3)\n", "b\nFAILED (failures=1, successes=4)\n", ""]
        self.assertEqual(shares.total(texts), {"skips": 1, "failures": 1, "successes": 7})

"""What came of a check, in words that a terminal can take."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from authproxy.doctor.results import MOST_WORDS, failed, ok, skipped, summary, warning


class ResultTests(SynchronousTestCase):
    def test_foreign_words(self) -> None:
        """A server's words must not move the cursor, or fill the screen."""
        result = failed("a", "it said \x1b[2Jmünchen\r\n", "\x07x")
        self.assertEqual((result.words, result.cure), ("it said ?[2Jmünchen??", ("?x",)))
        self.assertEqual(len(ok("a", "x" * 10_000).words), MOST_WORDS)

    def test_lines_to_paste(self) -> None:
        result = warning("a", "b", "Set", "    [trust]\n    proxies = []")
        self.assertEqual(result.cure, ("Set", "    [trust]", "    proxies = []"))

    def test_json(self) -> None:
        self.assertEqual(
            skipped("a", "b", "c").as_json(),
            {"name": "a", "status": "skipped", "words": "b", "cure": ["c"]},
        )

    def test_summary(self) -> None:
        results = [ok("a", ""), ok("b", ""), warning("c", ""), failed("d", "")]
        self.assertEqual(summary(results), "2 ok, 1 warning, 1 failed")
        self.assertEqual(summary([warning("a", ""), warning("b", "")]), "2 warnings")

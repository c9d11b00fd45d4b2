"""Whole configurations in the style that people post, each with what comes out of it beside it.

After a change of what is said: python -m tests.nginx.test_configurations writes them anew. Read
the difference.
"""

from __future__ import annotations

import pathlib
import tomllib

from twisted.trial.unittest import SynchronousTestCase

from authproxy.settings import Settings

from .translated import Result, of_file

HERE = pathlib.Path(__file__).parent / "configurations"
DOCUMENTATION = pathlib.Path(__file__).parents[2] / "docs" / "migrating-from-nginx.md"
# Relative paths of nginx become absolute ones below its own directory.
DIRECTORY = "/etc/nginx"


def sources() -> list[pathlib.Path]:
    """The configurations."""
    return sorted([*HERE.glob("*.conf"), HERE / "includes" / "nginx.conf"])


def text_of(result: Result) -> str:
    """What came out, as on a machine where it was /etc/nginx that was read."""
    return result.text.replace(str(HERE), DIRECTORY)


class ConfigurationTests(SynchronousTestCase):
    maxDiff = None

    def test_there_are_enough(self) -> None:
        self.assertGreaterEqual(len(sources()), 10)
        self.assertEqual(
            sorted(path.with_suffix(".toml") for path in sources()), sorted(HERE.rglob("*.toml"))
        )

    def test_what_comes_out(self) -> None:
        """And that it is a valid configuration, which Result sees to."""
        for path in sources():
            expected = path.with_suffix(".toml").read_text()
            self.assertEqual(text_of(of_file(path)), expected, path.name)

    def test_the_transcript_of_the_documentation(self) -> None:
        """docs/migrating-from-nginx.md shows what comes out of authentik.conf, to the letter."""
        text = (HERE / "authentik.toml").read_text()
        shown = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
        self.assertIn(shown, DOCUMENTATION.read_text())

    def test_the_shape_of_the_files(self) -> None:
        for path in sources():
            text = path.with_suffix(".toml").read_text()
            for line in text.splitlines():
                self.assertTrue(line.isprintable(), (path.name, line))
                if line.startswith("# "):
                    self.assertLessEqual(len(line), 140, (path.name, line))
            self.assertTrue(text.endswith("\n"))
            self.assertFalse(text.endswith("\n\n"))

    def test_no_value_is_the_default(self) -> None:
        """But for those that say what nginx did: addresses, versions, HSTS."""
        always = {"http", "https", "minimum_version", "hsts", "upstream"}
        defaults = Settings()
        for path in sources():
            document = tomllib.loads(path.with_suffix(".toml").read_text())
            for table in ("listen", "log", "timeouts", "limits", "pool"):
                for key, value in document.get(table, {}).items():
                    if key not in always:
                        default = getattr(getattr(defaults, table), key)
                        self.assertNotEqual(value, default, (path.name, table, key))


def write() -> None:
    """Write all expectations anew."""
    for path in sources():
        path.with_suffix(".toml").write_text(text_of(of_file(path)))


if __name__ == "__main__":
    write()

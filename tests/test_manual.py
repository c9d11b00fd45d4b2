"""What script/generate.py makes is up to date, and its manual has no faults."""

from __future__ import annotations

import configparser
import importlib.util
import pathlib
import re
import shutil
import subprocess
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import authproxy
from authproxy import values
from authproxy.commands import COMMANDS
from authproxy.settings import GuardSettings, Settings, SiteSettings

ROOT = pathlib.Path(authproxy.__file__).parent.parent
PAGES = ("authproxy.1", "authproxy.toml.5")


def generate() -> Any:
    """script/generate.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "script" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys  # noqa: PLC0415

    sys.modules["generate"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


GENERATE = generate()


class GeneratedTests(SynchronousTestCase):
    def test_up_to_date(self) -> None:
        made = GENERATE.generated()
        self.assertEqual(len(made), 5)
        for path, text in made.items():
            self.assertEqual(
                path.read_text(), text, f"{path.name}: run .venv/bin/python script/generate.py"
            )

    def test_nothing_else_is_there(self) -> None:
        made = {path.name for path in GENERATE.generated()}
        there = {path.name for path in (*ROOT.glob("etc/man/*"), *ROOT.glob("etc/completion/*"))}
        self.assertEqual(there, made)

    def test_all_of_it_is_installed(self) -> None:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        installed = dict(setup["options.data_files"])
        for path in GENERATE.generated():
            self.assertIn(str(path.relative_to(ROOT)), installed.values())
        self.assertEqual(installed["share/man/man1"], "etc/man/authproxy.1")
        self.assertEqual(installed["share/man/man5"], "etc/man/authproxy.toml.5")


class ManualTests(SynchronousTestCase):
    def page(self, name: str) -> str:
        return (ROOT / "etc" / "man" / name).read_text()

    def lint(self, program: str, *arguments: str) -> None:
        if shutil.which(program) is None:
            raise SkipTest(f"{program} is not installed")
        for name in PAGES:
            done = subprocess.run(
                [program, *arguments, str(ROOT / "etc" / "man" / name)],
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)

    def test_groff(self) -> None:
        self.lint("groff", "-man", "-ww", "-Tutf8")

    def test_mandoc(self) -> None:
        if shutil.which("mandoc") is None:
            raise SkipTest("mandoc is not installed")
        for name in PAGES:
            done = subprocess.run(
                ["mandoc", "-Tlint", str(ROOT / "etc" / "man" / name)],
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""), name)

    def test_every_command(self) -> None:
        text = self.page("authproxy.1")
        for name in COMMANDS:
            self.assertRegex(text, rf"(?m)^\.SS {re.escape(name)}\b")

    def test_every_setting(self) -> None:
        text = self.page("authproxy.toml.5").replace("\\", "")
        headings = dict.fromkeys(re.findall(r"^\.SH (\[.*)$", text, re.MULTILINE))
        tables: dict[str, type] = {"[[site]]": SiteSettings, "[[site.guard]]": GuardSettings}
        tables |= {
            f"[{name}]": type(getattr(Settings(), name))
            for name in values.keys_of(Settings)
            if name not in ("site", "workers")
        }
        self.assertEqual(set(headings), set(tables))
        for heading, shape in tables.items():
            section = text.partition(f".SH {heading}\n")[2].partition("\n.SH ")[0]
            keys = re.findall(r'^\.B "?([a-z_0-9]+) = ', section, re.MULTILINE)
            self.assertEqual(set(keys) | {"guard"}, set(values.keys_of(shape)) | {"guard"}, heading)

    def test_each_has_words(self) -> None:
        for table in GENERATE.sections((ROOT / "etc" / "authproxy.toml").read_text()):
            for setting in table.settings:
                self.assertTrue(" ".join(setting.words), setting.lines)

"""The benchmark suite runs: every work gives figures, what is missing is named. Nothing is timed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks import machine, results, table
from benchmarks.origin import frame, frame_sizes
from benchmarks.proxies import PROXIES
from benchmarks.work import QUICK, WORK, Figure

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 1800  # seconds, on a machine that is far too slow
SYSTEM = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
WITHOUT_PROGRAMS = "handshake,download,ws-small,latency"
if sys.platform != "linux":
    skip = "/proc, epoll and processor affinity are Linux's"


class Run:
    """The suite as a process, with a directory of its own."""

    def __init__(self, test: SynchronousTestCase, *options: str, path: str) -> None:
        self.directory = Path(test.mktemp())
        self.directory.mkdir(parents=True)
        self.json = self.directory / "results.json"
        self.temporary = self.directory / "temporary"
        self.temporary.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", *options, "--json", str(self.json.resolve())],
            check=False,
            cwd=ROOT,
            env=os.environ | {"PATH": path, "TMPDIR": str(self.temporary.resolve())},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.said = done.stdout
        test.assertEqual(done.returncode, 0, f"{done.stdout}{done.stderr}")
        self.document: dict[str, Any] = json.loads(self.json.read_text())

    def figures(self, work: str, proxy: str) -> list[float]:
        rounds = self.document["work"][work]["rounds"]
        return [figure["value"] for round_ in rounds for figure in round_.get(proxy, {}).values()]

    def left_behind(self) -> list[str]:
        """Files, and processes that were started with one of them."""
        where = str(self.temporary.resolve()).encode()
        running = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = entry.read_bytes()
            except OSError:
                continue
            if where in command:
                running.append(command.decode())
        return [*map(str, self.temporary.iterdir()), *running]


class WholeSuite(SynchronousTestCase):
    """One short round of everything."""

    def test_every_work_has_figures(self) -> None:
        before = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", before)
        os.environ["PATH"] = SYSTEM  # for machine.missing, below
        run = Run(self, "--quick", "--rounds", "1", path=SYSTEM)
        for name, work in WORK.items():
            if work.needs and machine.missing(work.needs):
                self.assertIn(f"{name}: left out: {machine.missing(work.needs)}", run.said)
                continue
            left_out = run.document["work"][name]["left_out"]
            for proxy in PROXIES.values():
                figures = run.figures(name, proxy.name)
                if proxy.program and machine.missing(proxy.program):
                    self.assertEqual(figures, [])
                    self.assertIn(machine.missing(proxy.program), run.said)
                elif proxy.name not in left_out:
                    self.assertTrue(figures and all(map(math.isfinite, figures)), (name, proxy))
            self.assertIn(left_out.get("authproxy"), (None, "offers no HTTP/2"))
        self.assertEqual(run.left_behind(), [])

    def test_alone(self) -> None:
        """Without any of the programs: authproxy, before our origin, under our load."""
        nothing = str(Path(self.mktemp()).resolve())
        options = ("--quick", "--rounds", "1", "--only", f"tls,{WITHOUT_PROGRAMS}")
        run = Run(self, *options, "--proxies", "nginx,haproxy,caddy,authproxy", path=nothing)
        for program in ("nginx", "haproxy", "caddy"):
            self.assertIn(f"{program} is not installed: apt install {program}\n", run.said)
        self.assertIn("tls: left out: wrk is not installed: apt install wrk\n", run.said)
        self.assertEqual(sorted(run.document["work"]), sorted(WITHOUT_PROGRAMS.split(",")))
        for name in WITHOUT_PROGRAMS.split(","):
            self.assertTrue(run.figures(name, "authproxy"), name)
        self.assertEqual(run.left_behind(), [])

    def test_micro(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "--micro", "--quick"],
            check=False, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 10)

    def test_workers(self) -> None:
        before = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", before)
        os.environ["PATH"] = SYSTEM
        if machine.missing("wrk"):
            raise SkipTest(machine.missing("wrk"))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "--workers", "--quick"],
            check=False, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
            env=os.environ | {"PATH": SYSTEM},
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("small GET, TLS on both sides", "full TLS handshake with one GET"):
            self.assertRegex(done.stdout, rf"(?m)^{name}: one worker [0-9.]+ us, two [0-9.]+ us: ")


class Failing(SynchronousTestCase):
    """A proxy that does the work wrongly gets no figure."""

    def test_wrong_answers(self) -> None:
        """twisted.web speaks no TLS to its upstream: here it is made to try."""
        program = (
            "import dataclasses, sys\n"
            "from benchmarks import __main__ as main, proxies\n"
            "broken = dataclasses.replace(proxies.PROXIES['twisted'], cannot='')\n"
            "proxies.PROXIES['twisted'] = broken\n"
            "sys.exit(main.main())\n"
        )
        path = Path(self.mktemp())
        done = subprocess.run(
            [sys.executable, "-c", program, "--quick", "--rounds", "1", "--only", "handshake",
             "--proxies", "twisted", "--json", str(path.resolve())],
            check=False, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        self.assertEqual(done.returncode, 1)
        self.assertIn("FAILED: handshake: twisted.web: ", done.stderr)
        entry = json.loads(path.read_text())["work"]["handshake"]
        self.assertEqual(entry["rounds"], [{}])
        self.assertEqual(entry["left_out"], {"twisted": "failed"})


class Results(SynchronousTestCase):
    """Medians, ratios, merging and the table."""

    def entry(self, *rounds: dict[str, float]) -> results.Entry:
        entry = results.entry(WORK["plain"], QUICK, {})
        entry["rounds"] = [
            {proxy: results.plain({"": Figure(value)}) for proxy, value in round_.items()}
            for round_ in rounds
        ]
        return entry

    def test_the_ratio_is_of_the_rounds(self) -> None:
        """A machine that was slower in one round changes the figures, not the ratio."""
        entry = self.entry(
            {"nginx": 10, "authproxy": 20},
            {"nginx": 40, "authproxy": 80},
            {"nginx": 11, "authproxy": 33},
        )
        self.assertEqual(results.figure(entry, "", "nginx"), 11)
        self.assertEqual(results.figure(entry, "", "authproxy"), 33)
        self.assertEqual(results.ratio(entry, "", "authproxy", "nginx"), 2)

    def test_without_nginx_there_is_no_ratio(self) -> None:
        entry = self.entry({"authproxy": 20})
        self.assertIsNone(results.ratio(entry, "", "authproxy", "nginx"))
        self.assertIsNone(results.figure(entry, "", "nginx"))

    def test_other_work_stays(self) -> None:
        path = Path(self.mktemp())
        document = results.begin(path)
        document["work"]["plain"] = self.entry({"nginx": 10})
        results.save(document, path)
        self.assertEqual(results.begin(path)["work"], document["work"])

    def test_figures_of_another_machine_do_not_stay(self) -> None:
        path = Path(self.mktemp())
        document = results.begin(path)
        document["machine"]["processor"] = "another"
        document["work"]["plain"] = self.entry({"nginx": 10})
        results.save(document, path)
        self.assertEqual(results.begin(path)["work"], {})

    def test_table(self) -> None:
        entry = self.entry({"nginx": 10, "authproxy": 20.5})
        entry["left_out"] = {"authproxy": "", "twisted": "speaks plain HTTP only"}
        document = {"work": {"plain": entry}}
        lines = table.markdown(document).splitlines()
        self.assertEqual(lines[0], "|  | nginx | authproxy |")
        self.assertEqual(lines[2], f"| {entry['title']} | 10.0 us | 20.5 us (2.05) |")

    def test_table_says_why_a_figure_is_missing(self) -> None:
        entry = self.entry({"nginx": 10})
        entry["left_out"] = {"authproxy": "offers no HTTP/2"}
        other = self.entry({"nginx": 10, "authproxy": 1500})
        text = table.markdown({"work": {"plain": other, "http2": entry}})
        self.assertIn("| 10.0 us | 1.50 ms (150.00) |", text)
        self.assertIn("| 10.0 us | - <sup>1</sup> |", text)
        self.assertIn("<sup>1</sup> authproxy offers no HTTP/2.", text)


class Frames(SynchronousTestCase):
    """RFC 6455 5.2, as far as load and origin need it."""

    def test_sizes(self) -> None:
        for size in (0, 100, 125, 126, 65535, 65536):
            data = frame(size)
            sizes = frame_sizes(data)
            assert sizes is not None
            self.assertEqual((sizes[1], sum(sizes)), (size, len(data)))

    def test_incomplete(self) -> None:
        self.assertIsNone(frame_sizes(b"\x82"))
        self.assertIsNone(frame_sizes(frame(65536)[:9]))

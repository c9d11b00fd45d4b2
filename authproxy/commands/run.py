"""Owns `authproxy run`: twistd in the foreground with the plugin, and nothing of its own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from twisted.scripts import twistd

_FILES = ("config", "certificate", "private-key", "access-log")
DESCRIPTION = "Run the proxy in the foreground until it is told to stop."


def parser() -> argparse.ArgumentParser:
    """The command line. What it has is read by twistd again."""
    from ..tap import Options  # noqa: PLC0415  (what the other commands do not need)

    made = argparse.ArgumentParser(prog="authproxy run", description=DESCRIPTION)
    for name, short, _, what in Options.optParameters:
        names = [f"-{short}", f"--{name}"] if short else [f"--{name}"]
        metavar = "FILE" if name in _FILES else "VALUE"
        made.add_argument(*names, metavar=metavar, help=what)
    return made


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the proxy until it is told to stop. The options are those of `twistd authproxy`."""
    parser().parse_args(arguments)  # what makes no sense: twistd answers it with a page of its own
    if not os.access(".", os.X_OK):  # root's home, say, after su: twistd goes there once more
        os.chdir("/")
    sys.argv = ["authproxy", "--nodaemon", "--pidfile=", "authproxy", *arguments]
    twistd.run()
    return 0

"""Owns `authproxy run`: twistd in the foreground with the plugin, and nothing of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from twisted.scripts import twistd

_FILES = ("config", "certificate", "private-key", "access-log")
DESCRIPTION = "Run the proxy in the foreground until it is told to stop."


def parser() -> argparse.ArgumentParser:
    """The command line, for those who describe it; twistd reads it by itself."""
    from ..tap import Options  # noqa: PLC0415  (what the other commands do not need)

    made = argparse.ArgumentParser(prog="authproxy run", description=DESCRIPTION)
    for name, short, _, what in Options.optParameters:
        names = [f"-{short}", f"--{name}"] if short else [f"--{name}"]
        metavar = "FILE" if name in _FILES else "VALUE"
        made.add_argument(*names, metavar=metavar, help=what)
    return made


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the proxy until it is told to stop. The options are those of `twistd authproxy`."""
    if {"-h", "--help"} & set(arguments):  # twistd's page begins with twistd
        parser().print_help()
        return 0
    sys.argv = ["authproxy", "--nodaemon", "--pidfile=", "authproxy", *arguments]
    twistd.run()
    return 0

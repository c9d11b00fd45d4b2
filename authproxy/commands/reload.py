"""Owns `authproxy reload`: let the running proxy read its configuration again, and wait for it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from . import asking

DESCRIPTION = (
    "Let the running authproxy read its configuration again. Waits for the result: exits 0 if the"
    " new settings are in force, 1 (with the reasons) if the old ones stay. Nothing that is open is"
    " cut either way."
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return asking.parser("reload", DESCRIPTION)


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the command. Returns the exit status."""
    answer = asking.answer("reload", parser().parse_args(arguments), environ)
    if answer is None:
        return 1
    print("Reloaded: new settings are in force.")
    return 0

"""Owns `authproxy status`: a few lines about the running proxy."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from . import asking

DESCRIPTION = "Say in a few lines how the running authproxy is: exits 0 if one answers, else 1."


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return asking.parser("status", DESCRIPTION)


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the command. Returns the exit status."""
    answer = asking.answer("status", parser().parse_args(arguments), environ)
    if answer is None:
        return 1
    for name, value in answer.items():
        print(f"{name.replace('_', ' ')}: {value}")
    return 0

"""Owns `authproxy import-nginx`: an nginx configuration in, the authproxy.toml that does the same
out, with what became of every directive."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from ..nginx.draft import Kind, printable
from ..nginx.reading import NginxError, read
from ..nginx.translation import Translation, translate

DESCRIPTION = (
    "Read an nginx configuration, with all that it includes, and print the authproxy.toml that does"
    " the same. Comments say what became of every directive, with file and line. Nothing is changed"
    " or contacted. Exits 0, or 1 with the reason on stderr if nothing can be made of it."
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="authproxy import-nginx", description=DESCRIPTION)
    made.add_argument(
        "file", metavar="FILE",
        help="such as /etc/nginx/sites-enabled/authentik.conf, or /etc/nginx/nginx.conf",
    )  # fmt: skip
    return made


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the command. The configuration goes to stdout, a line of figures to stderr."""
    file = parser().parse_args(arguments).file
    try:
        made = translate(read(file))
    except NginxError as e:
        print(f"authproxy import-nginx: {printable(str(e))}", file=sys.stderr)
        return 1
    sys.stdout.write(made.text)
    print(f"authproxy import-nginx: {_summary(made)}", file=sys.stderr)
    return 0


def _summary(made: Translation) -> str:
    counts = made.counts
    sites = f"{made.sites} site{'s' if made.sites > 1 else ''}"
    urgent = counts[Kind.ATTENTION]
    return (
        f"{sites}. Directives and defaults of nginx: {counts[Kind.UNNEEDED]} not needed,"
        f" {counts[Kind.DIFFERENT]} done differently, {counts[Kind.LOST]} cannot be honoured,"
        f" {urgent} {'needs' if urgent == 1 else 'need'} your attention."
    )

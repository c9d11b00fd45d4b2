"""Owns `authproxy config show`: the settings in force, defaults included."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from .. import config, toml

DESCRIPTION = "Look at a configuration."
SHOW = (
    "Print the settings in force: those of the file, and the default of every other, marked. What"
    " is printed is a configuration that means the same. Exits 1 where the file has problems."
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="authproxy config", description=DESCRIPTION)
    actions = made.add_subparsers(dest="action", metavar="show", required=True)
    show = actions.add_parser("show", help="print the settings in force", description=SHOW)
    show.add_argument(
        "-c", "--config", metavar="FILE", default=None,
        help=f"configuration file (default: {config.DEFAULT_PATH}, if it exists)",
    )  # fmt: skip
    show.add_argument(
        "--json", action="store_true",
        help='as JSON: {"file", "settings", "changed"}, the last the keys of what is no default',
    )  # fmt: skip
    return made


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the command. Settings go to stdout, problems to stderr."""
    chosen = parser().parse_args(arguments)
    settings, problems = config.examine(config.path_or_default(chosen.config))
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    if chosen.json:
        shown = {
            "file": settings.path,
            "settings": toml.document(settings),
            "changed": toml.changed(settings),
        }
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return 0
    file = settings.path or "no file: the built-in defaults"
    print(f"# The settings in force ({file}).\n\n{toml.dumps(settings)}", end="")
    return 0

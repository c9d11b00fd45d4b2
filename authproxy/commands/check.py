"""Owns `authproxy check`: would this configuration work? Every problem at once, exit 0 or 1."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from .. import config, crosschecks, files, guards
from ..settings import Settings
from ..workers.processors import processors

DESCRIPTION = (
    "Read a configuration and everything that it names, and print every problem with its cure."
    " Exits 0 if none was found, else 1. Whether ports are free and authentik answers is not tried."
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="authproxy check", description=DESCRIPTION)
    made.add_argument(
        "-c", "--config", metavar="FILE", default=None,
        help=f"configuration file (default: {config.DEFAULT_PATH}, if it exists)",
    )  # fmt: skip
    return made


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the command. Problems and warnings go to stderr, the summary to stdout."""
    path = config.path_or_default(parser().parse_args(arguments).config)
    settings, problems = config.examine(path)
    problems = problems + [
        config.Problem(settings.path, key, message)
        for key, message in files.problems(settings, environ)
    ]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        count = len(problems)
        print(f"{count} problem{'s' if count > 1 else ''}.", file=sys.stderr)
        return 1
    warnings = [*crosschecks.warnings(settings), *files.remarks(settings, environ)]
    for key, message in warnings:
        print(f"warning: {config.Problem(settings.path, key, message)}", file=sys.stderr)
    print(_summary(settings, len(warnings)))
    return 0


def _summary(settings: Settings, warnings: int) -> str:
    """What the proxy would do, for a reader who wonders whether that was meant."""
    listen = settings.listen
    but = f", but {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    lines = [f"{settings.path or 'The built-in defaults'}: no problem found{but}."]
    workers = settings.workers
    if isinstance(workers, str):
        workers = f"auto, {processors()} here"
    lines.append(f"  workers: {workers}")
    for scheme, addresses in (("https", listen.https), ("http", listen.http)):
        does = "redirects to https" if scheme == "http" and listen.plain_http == "redirect" else ""
        if addresses:
            where = ", ".join(map(str, addresses))
            lines.append(f"  {scheme:5} on {where}{': ' if does else ''}{does}")
    if listen.admin is not None:
        lines.append(f"  status page and metrics on {listen.admin}")
    for site in settings.sites:
        hosts = ", ".join(site.hosts) or "any host"
        lines.append(
            f"  {hosts} -> {', '.join(map(str, site.upstreams))}"
            f" (verification: {site.upstream_verify.mode};"
            f" certificate: {site.certificate or 'self-signed'})"
        )
        lines += [f"    {guard}" for guard in guards.expanded(site.guards)]
    return "\n".join(lines)

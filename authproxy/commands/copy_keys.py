"""Owns `authproxy copy-keys`: root's part before the service starts, see certificate_copies.py.

The unit runs it as ExecStartPre=+, as root and outside the sandbox. What it cannot do is said
here, one line each with its cure, and stops the start: the service could only say less.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from twisted.plugin import IPlugin, getPlugins

from .. import config
from ..certificate_copies import DIRECTORY, copy, runtime_directory
from ..settings import Settings

DESCRIPTION = (
    "Copy the configured certificates and private keys, which often only root may read, to where"
    " the service can read them. The systemd unit runs this as root before every start."
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="authproxy copy-keys", description=DESCRIPTION)
    made.add_argument("-c", "--config", metavar="FILE", default=None, help="configuration file")
    return made


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the command. Returns the exit status: 0, or 1 and the reasons on stderr."""
    path = config.path_or_default(parser().parse_args(arguments).config)
    try:
        settings = config.load(path, {})
    except config.ConfigError as e:
        return _report([str(e)])
    runtime = runtime_directory(environ)
    if not runtime:
        return _report(
            [
                "RUNTIME_DIRECTORY is not set, so there is nowhere to copy to. systemd sets it:"
                " use this command in a unit, with RuntimeDirectory= and ExecStartPre=+."
            ]
        )
    # Root's to write as well: Twisted's list of plugins. Without it every start looks through them
    # all, and complains that the service may not write the list.
    mask = os.umask(0o022)  # the unit's is 0077, and the service is to read it
    list(getPlugins(IPlugin))
    os.umask(mask)
    return _report(_copy(settings, runtime))


def _copy(settings: Settings, runtime: str) -> list[str]:
    """Copy, for the owner of the runtime directory. Returns what to complain about."""
    paths = [
        path for site in settings.sites for path in (site.certificate, site.private_key) if path
    ]
    try:
        owner = os.stat(runtime)
        failures = copy(paths, os.path.join(runtime, DIRECTORY), owner.st_uid, owner.st_gid)
    except OSError as e:
        return [
            f"{os.path.join(runtime, DIRECTORY)} cannot be used: {e.strerror or e}. Run this as"
            f" root (ExecStartPre=+), and if it is in the way, remove {DIRECTORY}."
        ]
    return [
        f"{failure}. Correct certificate or private_key in [[site]], or the file; root must be"
        " able to read it."
        for failure in failures
    ]


def _report(messages: list[str]) -> int:
    for message in messages:
        print(f"authproxy copy-keys: {message}", file=sys.stderr)
    return 1 if messages else 0

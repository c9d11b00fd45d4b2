"""Owns how commands ask a running proxy: its control socket, and what to say without one."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Mapping
from typing import Any

from .. import config
from ..control import NO_FILE, ask, default_path

TIMEOUT = 90.0  # seconds: workers of a busy machine may need a while


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """A command line with what finds the socket."""
    made = argparse.ArgumentParser(prog=f"authproxy {command}", description=description)
    made.add_argument(
        "-c", "--config", metavar="FILE", default=None,
        help=f"configuration file with listen.control (default: {config.DEFAULT_PATH}, if it"
        " exists); the running proxy reads the file that it was started with",
    )  # fmt: skip
    made.add_argument(
        "--control", metavar="PATH", default="",
        help="control socket (default: what the configuration says in listen.control)",
    )  # fmt: skip
    return made


def answer(
    command: str, chosen: argparse.Namespace, environ: Mapping[str, str]
) -> dict[str, Any] | None:
    """The answer of the running proxy, or None: then what is wrong was said on stderr."""
    path = chosen.control or _configured(chosen.config) or default_path(environ)
    said: dict[str, Any] = {}
    try:
        problem = _of_another_file(path, chosen.config) if chosen.config else ""
        if not problem:
            said = ask(path, command, TIMEOUT)
            problem = said.get("problem", "")
    except (OSError, ValueError) as e:
        problem = _explain(path, e)
    if problem:
        print(f"authproxy {command}: {problem}", file=sys.stderr)
        return None
    return said


def _of_another_file(path: str, config_file: str) -> str:
    """The words for whoever names a file that the proxy at `path` does not run with, else "".

    With a slip in the name another proxy would reload its own, and report that all is well.
    """
    running = ask(path, "status", TIMEOUT).get("configuration", "")
    if running != NO_FILE and not os.path.isabs(running):
        return ""  # relative to where it was started, which nobody knows here
    if os.path.realpath(running) == os.path.realpath(config_file):
        return ""
    return (
        f"what answers at {path} runs with {running}, not with {config_file}. Leave --config out,"
        " or name the socket of the other one with --control."
    )


def _configured(path: str | None) -> str:
    """listen.control of a file in which other things may be wrong: that is why one reloads."""
    settings, _ = config.examine(config.path_or_default(path))
    return settings.listen.control


def _explain(path: str, reason: Exception) -> str:
    code = getattr(reason, "errno", None)
    if code in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
        return (
            f"no authproxy answers at {path}. Is it running? If it runs with another configuration"
            " or as another user, name its socket with --control."
        )
    if code in (errno.EACCES, errno.EPERM):
        return f"{path}: permission denied. Run this as root, or as the user of the service."
    if isinstance(reason, TimeoutError):
        return f"no answer at {path} within {TIMEOUT:g} s. The log of the service says more."
    return f"{path}: {reason}"

"""Owns `authproxy run`: twistd in the foreground with the plugin, and nothing of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from twisted.scripts import twistd


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the proxy until it is told to stop. The options are those of `twistd authproxy`."""
    sys.argv = ["authproxy", "--nodaemon", "--pidfile=", "authproxy", *arguments]
    twistd.run()
    return 0

"""The harness: authproxy, its upstream servers and curl as processes of their own, on loopback.

Nothing here sleeps in order to be in time: it waits for what a process says or does, with PATIENCE
as the bound of a machine that is far too slow.
"""

from __future__ import annotations

import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, cast

import trustme
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
HOST = "sso.example.com"
PATIENCE = 60.0  # seconds
GLANCE = 0.01  # seconds between two looks at something that cannot be waited for
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
COMMAND = (sys.executable, "-c", "import sys; from authproxy.commands import main; sys.exit(main())")
# Of whoever runs the tests; a test that wants one sets it.
_NOT_INHERITED = (
    "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "RUNTIME_DIRECTORY",
    "SSL_CERT_DIR", "SSL_CERT_FILE", "STATE_DIRECTORY", "XDG_STATE_HOME",
)  # fmt: skip
_LISTENING = re.compile(r"Listening for (https?) on (\S+)\.$", re.MULTILINE)


def until[T](look: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """What `look` returns, as soon as that is true. Raises AssertionError."""
    end = time.monotonic() + patience
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience:g} s: {what}")
        time.sleep(GLANCE)

"""Owns what the measurements run on: processors, limits, and the description that goes with them.

The measured proxy has the first processor that we may use; origins and load have the second. On a
machine with one processor they share it, which is said.
"""

from __future__ import annotations

import ctypes
import os
import platform
import random
import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

# Program -> Debian's package, and the option that makes it say its version.
PACKAGES = {
    "nginx": ("nginx", "-v"),
    "haproxy": ("haproxy", "-v"),
    "caddy": ("caddy", "version"),
    "wrk": ("wrk", "-v"),
    "h2load": ("nghttp2-client", "--version"),
}
_SET_TIMER_SLACK = 29  # PR_SET_TIMERSLACK, see prctl(2)
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def processors() -> tuple[int, int]:
    """The proxy's processor and everything else's; the same one where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[1 if len(usable) > 1 else 0]


def raise_limits() -> int:
    """As many descriptors as are allowed, here and in every child. Returns their number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def wake_in_time() -> None:
    """Let our own timers end when they should, not up to 50 us later, as is the default."""
    ctypes.CDLL(None).prctl(_SET_TIMER_SLACK, 1)


def missing(program: str) -> str:
    """Why a program is left out and what to do about it; "" when it is here."""
    if shutil.which(program):
        return ""
    package = PACKAGES[program][0] if program in PACKAGES else program
    return f"{program} is not installed: apt install {package}"


def free_port() -> int:
    """A port where nobody listens, for who comes back to it, or cannot say which one it got.

    Not one of those that the kernel gives to whoever asks for any, and to outgoing connections:
    it would soon be somebody's. Nor, on Linux, one that this process or another one has got from
    here: a name says so, which is gone with its process.
    """
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    except OSError:
        text = "49152 65535"  # IANA's
    below = range(10000, max(int(text.split()[0]), 11000))
    for port in random.sample(below, len(below)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if sys.platform == "linux":
                name = socket.socket(socket.AF_UNIX)
                name.bind(f"\0authproxy-port-{port}")
                _given.append(name)
            return port
    raise OSError("no free port")


_given: list[socket.socket] = []  # the names of those that were given away


def versions() -> dict[str, str]:
    """Of every program that has a part in it."""
    found = dict.fromkeys(PACKAGES, "")
    for name, (_, option) in PACKAGES.items():
        path = shutil.which(name)
        if path:
            said = subprocess.run([path, option], capture_output=True, text=True)
            match = _VERSION.search(said.stdout + said.stderr)
            found[name] = match[0] if match else "?"
    found |= {name: version(name) for name in ("authproxy", "twisted", "pyopenssl", "cryptography")}
    # Not every build is optimised alike; the system's is the one that a package would run on.
    whose = " of the system" if sys.base_prefix == "/usr" else ""
    found["python"] = platform.python_version() + whose
    found["openssl"] = ssl.OPENSSL_VERSION.split()[1]
    return found


def describe() -> dict[str, str]:
    """The machine, without its name."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    flags = re.search(r"flags\s*: (.*)", Path("/proc/cpuinfo").read_text())
    virtual = " (virtual)" if flags and "hypervisor" in flags[1].split() else ""
    return {
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", sys.platform),
        "kernel": re.match(r"[\d.]+", platform.release())[0],  # type: ignore[index]
        "processor": f"{cpu[1] if cpu else platform.machine()}{virtual}",
        "processors": str(len(os.sched_getaffinity(0))),
    }

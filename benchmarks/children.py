"""Owns processes: where they run, what they cost, that they end.

What a process costs is its own and all its descendants' user and system time, of all threads: what
/proc/PID/stat has in hundredths of a second, read from the same counter in nanoseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

PATIENCE = 60.0  # seconds for a server to listen, or to end
_SCHEDULED = 2  # CPUCLOCK_SCHED: the low bits of a process's clock, see clock_getcpuclockid(3)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_libc = ctypes.CDLL(None)


class Child:
    """A process on one processor, with what it says in a file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        said: Path,
        environ: dict[str, str] | None = None,
    ) -> None:
        def settle() -> None:
            os.sched_setaffinity(0, {core})
            _libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)  # whatever happens to us

        self.name = Path(command[0]).name
        self._said = said
        with said.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | (environ or {}),
                start_new_session=True,  # Ctrl-C is for us, who end it in order
                preexec_fn=settle,  # noqa: PLW1509  # no threads run when processes are started
            )
        self.pid = self._popen.pid

    def wait_for(self, port: int, context: ssl.SSLContext | None = None) -> None:
        """Until it listens there; with a context, until it completes a handshake: a supervisor
        listens before its workers serve."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._popen.poll() is None:
            with suppress(OSError):
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
                    if context is not None:
                        context.wrap_socket(sock, server_hostname="localhost").close()
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} does not listen: {self.said()}")

    def said(self) -> str:
        """The end of what it said."""
        return self._said.read_text(errors="replace")[-2000:]

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        total = 0.0
        for pid in family(self.pid):
            with suppress(OSError):  # ended meanwhile: its parent has its time
                total += time.clock_gettime(~pid << 3 | _SCHEDULED)
                fields = _stat(pid)
                total += (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
        return total

    def memory(self) -> int:
        """Octets: the proportional set size, so shared pages count once."""
        total = 0
        for pid in family(self.pid):
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:  # ended meanwhile
                continue
            total += sum(
                int(line.split()[1]) * 1024
                for line in rollup.splitlines()
                if line.startswith("Pss:")
            )
        return total

    def stop(self) -> None:
        """End it, politely first."""
        if self._popen.poll() is not None:
            return
        self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(3)
        except subprocess.TimeoutExpired:
            for pid in reversed(list(family(self.pid))):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._popen.wait()


def family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
    waiting = [pid]
    while waiting:
        yield (one := waiting.pop())
        waiting += children.get(one, [])


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on: index 0 is the state, 1 the parent."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

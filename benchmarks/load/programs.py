"""wrk and h2load: run them, believe what they say only when nothing went wrong."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from . import LoadError

# On a machine that is busy with other work, all of a second may go into handshakes: where not one
# request was done, and nothing is wrong, it is tried again for so many times as long.
LONGER = (1, 4, 16)
STREAMS = (8, 4)  # connections, streams at the same time on each
# Every request has a field of its own, so no two have the same.
VARY = """
local n = 0
request = function()
  n = n + 1
  return wrk.format(nil, nil, { ["Host"] = "localhost", ["X-Request"] = n })
end
"""


def wrk(url: str, connections: int, seconds: float, script: Path | None = None) -> int:
    """Small requests on so many connections, each busy all the time. Returns their number."""
    command = ["wrk", "-t1", f"-c{connections}", "--timeout", "10s"]
    if script is not None:
        command += ["-s", str(script)]
    said = ""
    for times in LONGER:
        said = _run([*command, f"-d{times * max(1, round(seconds))}s", url])
        bad = re.search(r"(?:Non-2xx|Socket errors).*", said)
        done = re.search(r"(\d+) requests in", said)
        if bad or not done:
            raise LoadError(f"wrk: {bad[0] if bad else said}")
        if int(done[1]):
            return int(done[1])
    raise LoadError(f"wrk: {said}")


def h2load(url: str, seconds: float) -> int:
    """Small requests over HTTP/2. Returns their number."""
    clients, streams = STREAMS
    command = ["h2load", "-t1", f"-c{clients}", f"-m{streams}", f"-D{max(1, round(seconds))}", url]
    said = _run(command)
    if "Application protocol: h2\n" not in said:
        raise LoadError("h2load: no HTTP/2")
    requests = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
    if requests is None or statuses is None:
        raise LoadError(f"h2load: {said}")
    if not int(requests[1]) or any(
        int(n) for n in (*requests.groups()[1:], *statuses.groups()[1:])
    ):
        raise LoadError(f"h2load: {requests[0]}; {statuses[0]}")
    return int(requests[1])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise LoadError(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout

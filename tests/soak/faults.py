"""What is done to the proxy and its origin in a soak.

A reload is no fault: nothing may fail because of one. The origin's death and a worker's have a
window in the record, which closes once requests are served again.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from authproxy.control import ask

from ..e2e.processes import (
    HOST,
    PATIENCE,
    Origin,
    Stage,
    free_port,
    request,
    response,
    toml,
    until,
)
from ..e2e.test_workers import workers_of
from .record import Record

MENDED = 6  # requests in a row that are served: of two workers, each had one


class Faults:
    """Them, one after the other, about `every` so many seconds."""

    def __init__(self, stage: Stage, record: Record, workers: int, kill: bool) -> None:
        self.done = dict.fromkeys(("reloads", "origin restarts", "worker kills"), 0)
        self.noted = stage.directory / "noted"
        self.access = stage.directory / "access.log"
        self._stage = stage
        self._record = record
        self._pair = stage.certificate(HOST)
        self.origin = self._start_origin(free_port())
        self._document: dict[str, Any] = stage.configuration(
            self.origin.port,
            log={"access": str(self.access)},
            pool={"idle_timeout": 2},
            limits={"unproven_per_address": 1000},
        ) | {"workers": workers}
        self.proxy = stage.proxy(self._document)
        self._actions = [self.reload, self.reload, self.restart_origin]
        if kill and workers > 1:
            self._actions.append(self.kill_worker)

    def run(self, over: threading.Event, every: float) -> None:
        """Until it is over: all of them in some order, then in another one."""
        left: list[Callable[[], None]] = []
        while not over.wait(every * (0.5 + random.random())):
            left = left or random.sample(self._actions, len(self._actions))
            left.pop()()

    def reload(self) -> None:
        """Other settings, another certificate."""
        [site] = self._document["site"]
        timeouts = self._document["timeouts"] | {"keepalive": random.randrange(60, 90)}
        site = site | self._stage.certificate(HOST)
        self._document |= {"site": [site], "timeouts": timeouts}
        config = Path(self.proxy.popen.args[-1])  # type: ignore[index]
        config.write_text(toml(self._document))
        answer = ask(self._document["listen"]["control"], "reload", PATIENCE)
        if answer != {"problem": ""}:
            self._record.wrong.append(f"a reload: {answer}")
        self.done["reloads"] += 1

    def restart_origin(self) -> None:
        """Killed in the middle of whatever it does; for a moment nobody listens there."""
        self._record.open_window()
        self.origin.stop()
        time.sleep(random.random() / 2)
        self.origin = self._start_origin(self.origin.port)
        self._mended()
        self.done["origin restarts"] += 1

    def kill_worker(self) -> None:
        """It takes its connections with it; another one takes its place."""
        before = workers_of(self.proxy)
        self._record.open_window()
        os.kill(random.choice(before), signal.SIGKILL)
        until(
            lambda: len(now := workers_of(self.proxy)) == len(before) and now != before,
            "another worker",
        )
        self._mended()
        self.done["worker kills"] += 1

    def _mended(self) -> None:
        """Wait until requests are served again."""
        served = 0

        def look() -> bool:
            nonlocal served
            try:
                with self._stage.connect(self.proxy) as sock:
                    sock.sendall(request("/bytes/probe?size=1"))
                    served = served + 1 if response(sock).status == 200 else 0
            except Exception:  # whatever it is: not yet
                served = 0
            return served == MENDED

        until(look, "requests are served again")
        self._record.close_window()

    def _start_origin(self, port: int) -> Origin:
        arguments = [
            *(sys.executable, "-m", "tests.soak.origin", f"--port={port}"),
            *("--certificate", self._pair["certificate"], "--key", self._pair["private_key"]),
            *("--noted", str(self.noted)),
        ]
        return self._stage.keep(Origin(arguments, self._stage.directory)).ready()

    def __str__(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in self.done.items())

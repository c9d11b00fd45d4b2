"""What an operator finds in the terminal and in the journal."""

from __future__ import annotations

import socket
from typing import Any

from .processes import LOOPBACK, EndToEnd, Proxy, Stage, request, response

# As systemd sets it where standard error is the journal.
AS_JOURNAL = (
    "/bin/sh", "-c", 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"', "sh",
)  # fmt: skip
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"
DEAD = "http://127.0.0.1:1"


class OperationsLogTests(EndToEnd):
    def start(self, stage: Stage, workers: int = 1, before: Any = (), **log: str) -> Proxy:
        document = stage.configuration(DEAD, log=log)
        return stage.proxy(document | {"workers": workers}, before=before)

    def test_in_a_terminal(self) -> None:
        stage = self.own_stage()
        proxy = self.start(stage)
        stage.curl(proxy)(proxy.url)
        proxy.says(rf"^{STAMP} error upstream: Site \S+, 503 \(request \w+\): nothing listens at")
        for line in proxy.stderr.splitlines():
            self.assertRegex(line, rf"^{STAMP} (info|error) ")
        self.assertNotIn("twistd", proxy.stderr)

    def test_in_the_journal(self) -> None:
        """One worker or several: the same lines, with a priority and without a time."""
        for workers in (1, 2):
            stage = self.own_stage()
            proxy = self.start(stage, workers, AS_JOURNAL)
            stage.curl(proxy)(proxy.url)
            worker = r"\[worker \d\] " if workers > 1 else ""
            proxy.says(rf"^<3>{worker}upstream: Site \S+, 503 .*nothing listens")
            proxy.says(r"^<6>Listening for https on")
            for line in proxy.stderr.splitlines():
                self.assertRegex(line, r"^<[36]>\S")
            self.assertNotRegex(proxy.stderr, STAMP)

    def test_another_journal(self) -> None:
        """JOURNAL_STREAM is inherited, standard error may have gone elsewhere since."""
        stage = self.own_stage()
        document = stage.configuration(DEAD)
        proxy = stage.proxy(document, environ={"JOURNAL_STREAM": "8:1"})
        proxy.says(rf"^{STAMP} info Listening for https on")

    def test_level(self) -> None:
        """Of the workers' lines too."""
        for workers in (1, 2):
            for level, there in (("info", False), ("debug", True)):
                stage = self.own_stage()
                proxy = self.start(stage, workers, level=level)
                with socket.create_connection((LOOPBACK, proxy.https)) as client:
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    client.recv(1000)
                stage.curl(proxy)(proxy.url)
                proxy.says("nothing listens at")
                for words in ("debug .*client: plain HTTP on the TLS port: 127", "reactor class"):
                    if there:  # another worker's lines come by another pipe
                        proxy.says(words)
                    else:
                        self.assertNotRegex(proxy.stderr, words)

    def test_repeated(self) -> None:
        """Said once, then counted; the count is not forgotten at the end."""
        stage = self.own_stage()
        proxy = self.start(stage)
        with stage.connect(proxy) as sock:
            for _ in range(4):
                sock.sendall(request("/"))
                self.assertEqual(response(sock).status, 503)
        proxy.popen.terminate()
        proxy.wait()
        lines = [line for line in proxy.stderr.splitlines() if "nothing listens" in line]
        self.assertEqual(len(lines), 2, proxy.stderr)
        self.assertIn("(3 more like this in 10 s, the last:) upstream: Site", lines[1])

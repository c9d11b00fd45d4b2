"""What breaks on the proxy's own machine; see test_faults.py."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SkipTest

from authproxy.standin.server import CHUNK

from .clients import HTTP2, Asked
from .faulty import BODY, FAULTY, SOON, FaultTests, World
from .processes import (
    HOST,
    Proxy,
    connect,
    read_exactly,
    read_head,
    request,
    response,
    until,
    whole_lines,
)
from .test_websockets import UPGRADE

DAY = 86400
LARGE = len(CHUNK) * 400  # octets: more than all buffers on the way
UPLOAD = BODY * 4  # more than is collected before an upstream connection is taken


class ThisMachine(FaultTests):
    def test_disk_full(self) -> None:
        """From the first line on: requests are served, and it is said once."""
        proxy = self.start(self.good_url, log={"access": "/dev/full"})
        proxy.says(r"The access log /dev/full cannot be written: No space left on device\.")
        for _ in range(3):
            self.assertEqual(self.ask().status, 200)
        self.assertEqual(proxy.stderr.count("cannot be written"), 1)

    def test_disk_full_for_a_while(self) -> None:
        """A limit of the file's size stands for the disk's. No line is lost, none torn or doubled."""
        access = self.stage.directory / "access.log"
        proxy = self.start(self.good_url, log={"access": str(access)})
        limit = 30_000
        _, most = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (limit, most))
        filler = "x" * 4000
        for number in range(20):
            asked = Asked(target=f"/{filler}/{number}/", host=FAULTY)
            self.assertEqual(self.ask(asked).ended, True)
        proxy.says("access.log cannot be written: File too large.*Lines are held")
        resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, most))
        proxy.says("access.log is written again; 0 lines were lost")
        self._whole(access, 20)

    def test_disk_that_is_full(self) -> None:
        """A real one, and small; a mount that only the proxy sees."""
        place = self.stage.directory / "log"
        place.mkdir()
        before = _small_disk(place, 256 * 1024)
        proxy = self.start(
            self.good_url, log={"access": f"{place}/access.log"}, options={"before": before}
        )
        seen = Path(f"/proc/{proxy.pid}/root") / place.relative_to("/")
        filler = seen / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1000))
        long = "x" * 4000
        for number in range(20):
            self.assertTrue(self.ask(Asked(target=f"/{long}/{number}/", host=FAULTY)).ended)
        proxy.says("access.log cannot be written: No space left on device.*Lines are held")
        filler.unlink()
        proxy.says("access.log is written again; 0 lines were lost")
        self._whole(seen / "access.log", 20)

    def _whole(self, access: Path, count: int) -> None:
        """Each request for FAULTY has its one line."""

        def look() -> list[str]:
            found = re.findall(
                r"/x{4000}/(\d+)/ HTTP/1\.1", "\n".join(whole_lines(access.read_text()))
            )
            return found if len(found) >= count else []

        self.assertEqual(until(look, "all lines"), [str(number) for number in range(count)])
        for line in whole_lines(access.read_text()):
            self.assertRegex(line, r"^127\.0\.0\.1 - - \[.* HTTP/1\.1\" \d+ ")

    def test_no_descriptors(self) -> None:
        """What is open goes on, to the octet; who would need another upstream connection gets a
        page; who comes waits; and all are served once there are descriptors again."""
        proxy = self.start(self.good_url)
        with (
            self.stage.connect(proxy, FAULTY) as download,
            self.stage.connect(proxy, FAULTY, ("h2",)) as two,
            self.stage.connect(proxy, FAULTY) as one,
            self.stage.connect(proxy, FAULTY) as websocket,
        ):
            client = HTTP2(two)
            websocket.sendall(request("/ws/client/", *UPGRADE, host=FAULTY))
            self.assertTrue(read_head(websocket).startswith(b"HTTP/1.1 101 "))
            # An upstream connection of its own. Of HTTP/1.0, so that nothing is between its octets.
            target = f"/stream?bytes={LARGE}"
            download.sendall(request(target, host=FAULTY, version="1.0"))
            self.assertIn(b" 200 ", read_head(download))
            self.assertEqual(client.ask(Asked(host=FAULTY)).status, 200)
            one.sendall(request("/", host=FAULTY))
            self.assertEqual(response(one).status, 200)
            with self.limited(proxy):
                waiting = [connect(proxy.https) for _ in range(4)]
                proxy.says(r"this machine: Accepting pauses: Too many open files")
                # It has the one upstream connection, until all of it has come.
                upload = client.begin(Asked("POST", "/echo", pieces=[b""], host=FAULTY))
                client.send(upload, UPLOAD)
                refused = client.ask(Asked("POST", content=b"content", host=FAULTY))
                self.assertEqual((refused.status, refused.ended), (503, True))
                one.sendall(request("/", host=FAULTY))
                self.assertEqual(response(one).status, 503)
                proxy.says(rf"this machine: Site {FAULTY}, 503 .*Too many open files.*LimitNOFILE")
                client.end(upload)
                client.wait([upload])
                self.assertEqual(client.streams[upload].status, 200)
                self.assertEqual(client.streams[upload].content, UPLOAD)
                self._echoes(websocket)
            for raw in waiting:
                tls = self.stage.client_tls()
                with tls.wrap_socket(raw, server_hostname=FAULTY) as sock:
                    sock.sendall(request("/", host=FAULTY))
                    self.assertEqual(response(sock).status, 200)
            self.assertEqual(client.ask(Asked(host=FAULTY)).status, 200)
            one.sendall(request("/", host=FAULTY))
            self.assertEqual(response(one).status, 200)
            self._echoes(websocket)
            self.assertEqual(read_exactly(download, LARGE), CHUNK * (LARGE // len(CHUNK)))
        self.assertEqual(self.ask().status, 200)

    @contextlib.contextmanager
    def limited(self, proxy: Proxy) -> Iterator[None]:
        """No descriptor is free."""
        limits = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (proxy.descriptors(), limits[1]))
        try:
            yield
        finally:
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, limits)

    def _echoes(self, websocket: socket.socket) -> None:
        websocket.sendall(b"\x89\x82\0\0\0\0hi")
        came = b""
        while b"\x8a\x02hi" not in came:
            came += websocket.recv(1000)

    def test_the_clock_jumps(self) -> None:
        """The wall clock goes forth and back by days: nothing is cut early, deadlines are still
        met, lines are written, and the process ends in time."""
        self._clock_jumps(1)

    def test_the_clock_jumps_for_workers(self) -> None:
        self._clock_jumps(2)

    def _clock_jumps(self, workers: int) -> None:
        world = World(self.stage)

        def silent(sock: socket.socket) -> None:
            while self.take(sock):
                pass

        proxy = self.start(
            self.script(silent).url,
            environ=world.environ, workers=workers, timeouts={"first_byte": SOON},
        )  # fmt: skip
        with self.stage.connect(proxy) as idle, self.stage.connect(proxy) as websocket:
            idle.sendall(request("/", host=HOST))
            self.assertEqual(response(idle).status, 200)
            websocket.sendall(request("/ws/client/", *UPGRADE))
            self.assertTrue(read_head(websocket).startswith(b"HTTP/1.1 101 "))
            for jump in (2 * DAY, -2 * DAY):
                world.turn(jump)
                # A deadline of the proxy's passes: sweeps go on, in their time.
                with self.stage.connect(proxy, FAULTY) as sock:
                    sock.sendall(request(f"/{jump}/", host=FAULTY))
                    self.assertEqual(response(sock).status, 504)
                proxy.says(f"GET /{jump}/ HTTP/1.1", "stdout")
                idle.sendall(request("/", host=HOST))
                self.assertEqual(response(idle).status, 200)
                self._echoes(websocket)


def _small_disk(place: Path, size: int) -> list[str]:
    """What to begin a command with so that it has one there."""
    own = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    mount = f"mount -t tmpfs -o size={size} tmpfs {place}"
    command = [*own, "/bin/sh", "-c", f'{mount} && exec "$@"', "sh"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as e:
        raise SkipTest(f"nothing can be mounted here: {e}") from None
    return command

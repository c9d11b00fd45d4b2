"""Access lines: what is in them, what must not be, and when they are written."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import re
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy import linefile
from authproxy.accesslog import BATCH, MOST, AccessLog
from authproxy.trust import Client
from authproxy.wire.heads import RequestHead

from .examples import EXAMPLES

LINE: dict[str, Any] = {
    "address": "192.0.2.1",
    "method": b"GET",
    "target": b"/if/user/?a=b",
    "version": 11,
    "host": b"sso.example.com",
    "status": 200,
    "sent": 5,
    "duration": 0.0123456,
    "referer": None,
    "user_agent": b"curl/8",
    "upstream": "https://127.0.0.1:9443",
    "request_id": "",
    "scheme": b"https",
}


def tell(log: AccessLog, **how: Any) -> None:
    """Tell the log of a request that differs from LINE in this."""
    line = {**LINE, **how}
    named = [(b"referer", line["referer"]), (b"user-agent", line["user_agent"])]
    fields = [(name, value) for name, value in named if value is not None]
    head = RequestHead(line["method"], line["target"], line["version"], fields)
    client = Client(line["address"], line["scheme"], False, (), line["host"])
    log.line(
        head, client, line["status"], line["sent"], line["duration"], line["upstream"],
        line["request_id"],
    )  # fmt: skip


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1_700_000_000.0
        self.directory = pathlib.Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "access.log"

    def open(self, form: str = "combined", path: str | None = None) -> AccessLog:
        made = AccessLog(
            str(self.path) if path is None else path, form, lambda: self.now, None, lambda: self.now
        )
        self.addCleanup(made.close)
        return made

    def written(self, form: str = "combined", **how: Any) -> str:
        """The one line that this request writes, without its end."""
        self.path.write_bytes(b"")
        log = self.open(form)
        tell(log, **how)
        log.close()
        text = self.path.read_bytes().decode("ascii")
        self.assertTrue(text.endswith("\n"))
        self.assertEqual(text.count("\n"), 1, text)
        return text[:-1]


class FormTests(_Tests):
    def test_combined(self) -> None:
        line = self.written(referer=b"https://a.example/", request_id="0123")
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(self.now))
        self.assertEqual(
            line,
            f'192.0.2.1 - - [{stamp}] "GET /if/user/?a=b HTTP/1.1" 200 5 "https://a.example/"'
            ' "curl/8" sso.example.com 0.012 https://127.0.0.1:9443 0123',
        )

    def test_combined_with_nothing(self) -> None:
        line = self.written(
            method=b"-", target=b"-", host=b"", user_agent=None, upstream="", version=10
        )
        self.assertTrue(line.endswith('"- - HTTP/1.0" 200 5 "-" "-" - 0.012 - -'), line)

    def test_json(self) -> None:
        said = json.loads(self.written("json", version=20, referer=b"x"))
        self.assertEqual(said["address"], "192.0.2.1")
        self.assertEqual((said["method"], said["target"]), ("GET", "/if/user/?a=b"))
        self.assertEqual((said["version"], said["scheme"], said["status"]), (2.0, "https", 200))
        self.assertEqual((said["sent"], said["duration"]), (5, 0.012346))
        self.assertEqual((said["referer"], said["request_id"]), ("x", None))
        self.assertTrue(re.fullmatch(r"2023-11-1\dT\d\d:\d\d:\d\d[+-]\d{4}", said["time"]))

    def test_both_forms_have_the_same_values(self) -> None:
        said = json.loads(self.written("json"))
        self.assertEqual(set(LINE) | {"time"}, set(said))


class SafetyTests(_Tests):
    HOSTILE = (
        b'"', b"\\", b"\n", b"\r\n1.2.3.4 - -", b"\x1b[2J", b"\0", b"\x7f", b"\x85", b"\x9b31m",
        b"\xff\xfe", b"\xe2\x80\xa8", b"\t",
    )  # fmt: skip

    def test_control_octets_and_quotes(self) -> None:
        for octets in self.HOSTILE:
            for name in ("referer", "user_agent", "target", "host"):
                line = self.written(**{name: b"a" + octets + b"b"})
                self.assertTrue(line.isprintable() and line.isascii(), line)
                self.assertEqual(line.count('"'), 6, line)
                said = self.written("json", **{name: b"a" + octets + b"b"})
                self.assertTrue(said.isprintable() and said.isascii(), said)
                self.assertEqual(json.loads(said)[name], (b"a" + octets + b"b").decode("latin-1"))

    def test_long_values_are_cut(self) -> None:
        """A request of 64 KiB makes no line of 256; the target, which may be long, is whole."""
        long = b"\xff" * 30_000
        for form, each in (("combined", 4), ("json", 6)):
            log = self.open(form)
            tell(log, target=b"/?code=" + b"s" * 5000 + b"&" + b"a" * 30_000, referer=long,
                 user_agent=long)  # fmt: skip
            log.flush()
            line = self.path.read_text().splitlines()[-1]
            self.assertLess(len(line), 2 * each * MOST + 30_000 + 500)
            self.assertIn("?code=***&" + "a" * 30_000, line)
            self.assertEqual(line.count("..."), 2)

    def test_an_upstream_of_any_name(self) -> None:
        self.assertTrue(self.written(upstream="unix:/run/\xe9.sock").isascii())

    @EXAMPLES
    @given(st.binary(max_size=100), st.binary(max_size=100), st.sampled_from(["combined", "json"]))
    def test_any_octets_are_one_line(self, target: bytes, agent: bytes, form: str) -> None:
        line = self.written(form, target=b"/" + target, user_agent=agent, referer=target)
        self.assertTrue(line.isprintable() and line.isascii())


class MaskTests(_Tests):
    def test_table(self) -> None:
        for given_target, expected in (
            (b"/cb?code=SECRET&x=1", "/cb?code=***&x=1"),
            (b"/cb?x=1&state=SECRET", "/cb?x=1&state=***"),
            (b"/cb?CODE=SECRET", "/cb?CODE=***"),
            (b"/?token=SECRET&token=SECRET", "/?token=***&token=***"),
            (b"/?SAMLResponse=SEC%2BRET%3D&RelayState=/", "/?SAMLResponse=***&RelayState=/"),
            (b"/?SAMLRequest=SECRET", "/?SAMLRequest=***"),
            (b"/end-session/?id_token_hint=SEC.RE.T&a=b", "/end-session/?id_token_hint=***&a=b"),
            (b"/?a=b;code=SECRET", "/?a=b;code=***"),
            (b"/?state=SECRET%26SECRET&x=1", "/?state=***&x=1"),
            (b"/?state=SECRET%3Fcode%3DSECRET&x=1", "/?state=***&x=1"),
            (b"/?state=SECRET?SECRET=SECRET", "/?state=***"),
            (b"/?code=", "/?code=***"),
            (
                b"/if/flow/a/?next=%2Fauthorize%2F%3Fclient_id%3Dc%26state%3DSECRET%26x%3D1&y=2",
                "/if/flow/a/?next=%2Fauthorize%2F%3Fclient_id%3Dc%26state%3D***%26x%3D1&y=2",
            ),
            (b"/?next=%3Fcode%3dSECRET%2526SECRET%26x", "/?next=%3Fcode%3d***%26x"),
            (
                b"/?next=%252F%253Fcode%253DSECRET%2526x%253D1%26z",
                "/?next=%252F%253Fcode%253D***%2526x%253D1%26z",
            ),
            # Nothing to hide.
            (b"/code=1/state", "/code=1/state"),
            (b"/?encode=1&barcode=2&session_state=3&code_challenge=4",
             "/?encode=1&barcode=2&session_state=3&code_challenge=4"),
            (b"/?response_type=code&x=state", "/?response_type=code&x=state"),
        ):  # fmt: skip
            for form in ("combined", "json"):
                line = self.written(form, target=given_target)
                self.assertIn(expected, line)
                self.assertNotIn("SECRET", line)

    def test_referer(self) -> None:
        for form in ("combined", "json"):
            line = self.written(form, referer=b"https://sso.example.com/?code=SECRET")
            self.assertIn("/?code=***", line)
            self.assertNotIn("SECRET", line)

    def test_linear(self) -> None:
        """A target of 32 KiB, of whatever the expression has to look at twice."""
        for part in (
            b"%25",
            b"%",
            b"%2525",
            b"?code=",
            b"%3fcode%3d",
            b"&",
            b"%26",
            b"%25" * 9 + b"3f",
        ):
            target = b"/?" + part * (32000 // len(part))
            began = time.process_time()  # the machine may have other work
            self.written(target=target)
            self.assertLess(time.process_time() - began, 1.0, part)
        began = time.process_time()
        self.written(target=b"/?a=%" + b"25" * 16000)
        self.assertLess(time.process_time() - began, 1.0)


class WritingTests(_Tests):
    def lines(self) -> int:
        return self.path.read_text().count("\n")

    def test_in_batches(self) -> None:
        log = self.open()
        tell(log)
        self.assertEqual(self.lines(), 0)
        log.flush()
        self.assertEqual(self.lines(), 1)
        for _ in range(1000):
            tell(log)
        self.assertGreater(self.lines(), 1)
        log.flush()
        self.assertEqual(self.lines(), 1001)

    def test_appends(self) -> None:
        self.path.write_text("before\n")
        self.written_by(self.open())
        self.assertTrue(self.path.read_text().startswith("before\n192.0.2.1"))

    def written_by(self, log: AccessLog) -> None:
        tell(log)
        log.flush()

    def test_readable_by_owner_and_group_only(self) -> None:
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        self.open()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640)

    def test_close_writes(self) -> None:
        log = self.open()
        tell(log)
        log.close()
        log.close()
        tell(log)
        log.flush()
        self.assertEqual(self.lines(), 1)

    def test_none(self) -> None:
        log = self.open(path="")
        self.written_by(log)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_a_reader_of_stdout_that_sleeps(self) -> None:
        """What does not fit into its pipe is held; nobody waits for it."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        saved = os.dup(1)
        os.dup2(writer, 1)
        os.close(writer)
        try:
            log = self.open(path="-")
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        lines = 0
        for _ in range(20):
            for _ in range(100):
                tell(log)
                lines += 1
            log.flush()
        self.flushLoggedErrors()
        read = b""
        while read.count(b"\n") < lines:
            read += os.read(reader, 65536)
            log.flush()
        self.assertEqual(read.count(b"\n"), lines)

    def test_stdout_is_the_descriptor(self) -> None:
        """Not sys.stdout, which twistd may have replaced."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        saved = os.dup(1)
        os.dup2(write, 1)
        os.close(write)
        try:
            log = self.open(path="-")
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        self.written_by(log)
        self.assertIn(b"GET /if/user/", os.read(read, 65536))

    def test_moved_away(self) -> None:
        """As logrotate does it: later lines go to a new file of the same name."""
        log = self.open()
        self.written_by(log)
        old = self.path.rename(self.directory / "access.log.1")
        self.now += linefile.LOOK_AGAIN + 1
        self.written_by(log)
        self.assertEqual((old.read_text().count("\n"), self.lines()), (1, 1))
        self.path.unlink()
        self.now += linefile.LOOK_AGAIN + 1
        self.written_by(log)
        self.assertEqual(self.lines(), 1)

    def test_moved_away_and_no_new_one_can_be_made(self) -> None:
        """Then lines go on into the old file; nothing raises, nothing is lost."""
        log = self.open()
        self.written_by(log)
        away = self.directory.rename(self.mktemp())
        self.now += linefile.LOOK_AGAIN + 1
        self.written_by(log)
        self.assertEqual((away / "access.log").read_text().count("\n"), 2)
        self.assertEqual(len(self.flushLoggedErrors()), 0)


class FullDiskTests(_Tests):
    def setUp(self) -> None:
        super().setUp()
        self.room = 0
        self.tries = 0
        self.patch(linefile.os, "write", self.write)
        self.log = self.open()

    def write(self, _descriptor: int, data: bytes) -> int:
        """os.write on a disk with room for so many bytes."""
        self.tries += 1
        taken = min(self.room, len(data))
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        with self.path.open("ab") as file:
            file.write(data[:taken])
        self.room -= taken
        return taken

    def test_held_until_there_is_room(self) -> None:
        for number in range(3):
            tell(self.log, target=b"/%d" % number)
            self.log.flush()
        self.room = 100  # in the middle of a line
        self.log.flush()
        self.room = 1 << 20
        self.log.flush()
        lines = self.path.read_text().splitlines()
        self.assertEqual([line.split()[6] for line in lines], ["/0", "/1", "/2"])
        self.assertEqual(self.log.lost, 0)

    def test_what_is_held_is_bounded_and_what_is_lost_is_counted(self) -> None:
        many = 40000
        for number in range(many):
            tell(self.log)
            if number % 100 == 0:
                self.log.flush()
        self.room = 1 << 30
        self.log.flush()
        written = self.path.read_text().count("\n")
        self.assertGreater(self.log.lost, 0)
        self.assertEqual(self.log.lost + written, many)

    def test_a_request_does_not_try_again(self) -> None:
        """Only the timer does: writing megabytes for each line would be worse than losing them."""
        for _ in range(5000):
            tell(self.log)
        self.assertEqual(self.tries, 1)

    def test_heads_do_not_wait(self) -> None:
        """Lines do, which are shorter, and bounded."""
        for _ in range(5000):
            tell(self.log)
        self.assertLess(len(self.log._entries), BATCH)

"""The control socket, over a real one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from authproxy.control import LONGEST, SILENT, Control, _Conversation, ask, default_path


class ControlTests(TestCase):
    def setUp(self) -> None:
        # Not mktemp: its path can be too long for a socket (108 octets).
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = str(self.directory / "control.sock")
        self.asked: list[Deferred[Any]] = []
        self.answer = True
        self.control = Control(
            self.path,
            {"reload": self.reload, "status": lambda: {"pid": 5}, "bad": self.bad},
            reactor,
        )
        self.control.startService()
        self.addCleanup(self.control.stopService)

    def reload(self) -> Deferred[Any]:
        self.asked.append(Deferred())
        if self.answer:
            self.asked[-1].callback({"problem": "none"})
        return self.asked[-1]

    def bad(self) -> None:
        raise RuntimeError("never seen")

    def raw(self, data: bytes) -> Deferred[bytes]:
        def converse() -> bytes:
            with socket.socket(socket.AF_UNIX) as skt:
                skt.settimeout(60)
                skt.connect(self.path)
                skt.sendall(data)
                answer = b""
                while piece := skt.recv(65536):
                    answer += piece
                return answer

        return deferToThread(converse)

    async def test_nobody_else_may_open_it_at_any_time(self) -> None:
        """Twisted would make it everybody's, and we ours a moment later."""
        modes: list[int] = []
        change = os.chmod

        def seen(path: Any, mode: int) -> None:
            change(path, mode)
            modes.append(mode)

        self.patch(os, "chmod", seen)
        path = str(self.directory / "other.sock")
        other = Control(path, {}, reactor)
        other.startService()
        self.addCleanup(other.stopService)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual([mode for mode in modes if mode & 0o077], [])

    async def test_commands(self) -> None:
        self.assertEqual(await deferToThread(ask, self.path, "status", 60), {"pid": 5})
        self.assertEqual(await deferToThread(ask, self.path, "reload", 60), {"problem": "none"})
        self.assertEqual(len(self.asked), 1)

    async def test_one_command_a_conversation(self) -> None:
        """However much is sent, and before anything is answered."""
        self.answer = False
        asking = self.raw(b'{"command": "reload"}\n' * 50)
        while not self.asked:
            await deferLater(reactor, 0.01)
        await deferToThread(ask, self.path, "status", 60)  # others are answered meanwhile
        self.asked[0].callback({"problem": "late"})
        self.assertEqual(json.loads(await asking), {"problem": "late"})
        self.assertEqual(len(self.asked), 1)

    async def test_who_says_nothing(self) -> None:
        """He is not waited for, and an answer is, however long it takes."""
        clock = Clock()
        silent, asking = (_Conversation({"reload": Deferred}, clock) for _ in range(2))
        for conversation in (silent, asking):
            conversation.makeConnection(StringTransport())
        asking.dataReceived(b'{"command": "reload"}\n')
        clock.advance(SILENT)
        self.assertTrue(silent.transport.disconnected)
        self.assertFalse(asking.transport.disconnected)
        asking.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_it_is_never_open_to_others(self) -> None:
        """Not for a moment: what Twisted sets is open to all."""
        modes: list[int] = []
        set_mode = os.chmod
        self.patch(os, "chmod", lambda path, mode: modes.append(mode) or set_mode(path, mode))
        await maybeDeferred(self.control.stopService)
        self.control.startService()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(set(modes) - {0o600}, set())

    async def test_nonsense(self) -> None:
        for line in (
            b"",
            b"reload",
            b"[]",
            b'"x"',
            b"{}",
            b'{"command": []}',
            b"\xff",
            b"[" * 4000,
        ):
            answer = json.loads(await self.raw(line + b"\n"))
            self.assertIn("There are these commands: reload, status", answer["problem"])
        self.assertEqual(self.asked, [])

    async def test_too_much(self) -> None:
        self.assertEqual(await self.raw(b"x" * (LONGEST + 1)), b"")

    async def test_a_command_that_fails(self) -> None:
        answer = await deferToThread(ask, self.path, "bad", 60)
        self.assertEqual(answer, {"problem": "an internal error: RuntimeError('never seen')"})

    def test_only_its_owner(self) -> None:
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    async def test_gone_with_the_service(self) -> None:
        await self.control.stopService()
        self.assertFalse(os.path.exists(self.path))
        self.assertRaises(FileNotFoundError, ask, self.path, "status", 1)

    async def test_another_one(self) -> None:
        """It serves without, says so, and leaves the first one its socket."""
        second = Control(self.path, {}, reactor)
        second.startService()
        self.assertIsNone(second.stopService())
        self.assertEqual(await deferToThread(ask, self.path, "status", 60), {"pid": 5})

    def test_one_that_was_killed(self) -> None:
        """Its file is still there."""
        path = str(self.directory / "stale.sock")
        with socket.socket(socket.AF_UNIX) as skt:
            skt.bind(path)
        control = Control(path, {}, reactor)
        control.startService()
        self.assertIsNotNone(control._port)
        return control.stopService()  # type: ignore[no-any-return]

    def test_a_directory_that_others_may_write(self) -> None:
        os.chmod(self.directory, 0o777)
        control = Control(str(self.directory / "x.sock"), {}, reactor)
        control.startService()
        self.assertIsNone(control._port)
        os.chmod(self.directory, 0o700)


class PathTests(SynchronousTestCase):
    def test_default(self) -> None:
        self.patch(os, "geteuid", lambda: 0)
        self.assertEqual(
            default_path({"RUNTIME_DIRECTORY": "/run/a:/run/b"}), "/run/a/control.sock"
        )
        self.assertEqual(default_path({"XDG_RUNTIME_DIR": "/x"}), "/run/authproxy/control.sock")
        self.patch(os, "geteuid", lambda: 1000)
        self.assertEqual(default_path({"XDG_RUNTIME_DIR": "/x"}), "/x/authproxy/control.sock")
        self.assertEqual(default_path({"STATE_DIRECTORY": "/s"}), "/s/control.sock")

"""Copies of what only root may read: what is copied, what the service finds, what root refuses."""

from __future__ import annotations

import os
import pathlib
import stat
import tempfile
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from authproxy import certificate_copies
from authproxy.certificate_copies import CopyError, copy, copy_name, readable_copy

NOBODY = 65534
AS_ROOT = skipUnless(os.geteuid() == 0, "needs root, to act for another user")


class Case(SynchronousTestCase):
    """`runtime` is $RUNTIME_DIRECTORY, `etc` where the originals are."""

    uid, gid = os.geteuid(), os.getegid()

    def setUp(self) -> None:
        base = pathlib.Path(self.mktemp()).absolute()
        self.etc, self.runtime = base / "etc", base / "run"
        self.etc.mkdir(parents=True)
        self.runtime.mkdir()
        self.directory = self.runtime / "certificates"
        self.environ = {"RUNTIME_DIRECTORY": str(self.runtime)}

    def original(self, name: str, content: bytes = b"-----BEGIN") -> str:
        path = self.etc / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return str(path)

    def copy(self, *paths: str) -> list[CopyError]:
        return copy(paths, str(self.directory), self.uid, self.gid)

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.iterdir()}


class NameTests(SynchronousTestCase):
    def test_is_one_plain_name(self) -> None:
        paths = ("/a/../b", "/etc/..", "/", "here", "/x/" + "é" * 250, "/a/b\nc", "/a/\udcff")
        for path in paths:
            name = copy_name(path)
            self.assertRegex(name, r"\A[0-9a-f]{64}-[A-Za-z0-9._-]{0,64}\Z")

    def test_never_the_same(self) -> None:
        paths = ["/a/key.pem", "/b/key.pem", "/a/b/../key.pem", "/a/./key.pem", "/a/key_pem"]
        paths += ["/x/" + "a" * 70, "/x/" + "a" * 71, "/x/ä.pem", "/x/ö.pem"]
        self.assertEqual(len(set(map(copy_name, paths))), len(paths))


class CopyTests(Case):
    def test_files(self) -> None:
        certificate, key = self.original("fullchain.pem", b"C"), self.original("privkey.pem", b"K")
        self.assertEqual(self.copy(certificate, key, key), [])
        self.assertEqual(self.contents(), {copy_name(certificate): b"C", copy_name(key): b"K"})
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)
        for path in self.directory.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    def test_same_name_in_two_directories(self) -> None:
        one, two = self.original("a/key.pem", b"1"), self.original("b/key.pem", b"2")
        self.copy(one, two)
        self.assertEqual(self.contents(), {copy_name(one): b"1", copy_name(two): b"2"})

    def test_symlinked_original(self) -> None:
        """certbot's live/NAME/privkey.pem is a link to archive/NAME/privkey3.pem."""
        self.original("archive/privkey1.pem", b"old")
        self.original("archive/privkey2.pem", b"new")
        live = self.etc / "privkey.pem"
        live.symlink_to("archive/privkey1.pem")
        self.copy(str(live))
        self.assertEqual(self.contents(), {copy_name(str(live)): b"old"})
        live.unlink()
        live.symlink_to("archive/privkey2.pem")
        self.copy(str(live))
        self.assertEqual(self.contents(), {copy_name(str(live)): b"new"})

    def test_stale_copies_go(self) -> None:
        old, new = self.original("old.pem"), self.original("new.pem")
        self.copy(old)
        (self.directory / ".0123").write_bytes(b"what a killed run left")
        self.copy(new)
        self.assertEqual(list(self.contents()), [copy_name(new)])

    def test_unreadable_originals(self) -> None:
        good = self.original("good.pem")
        os.mkfifo(self.etc / "fifo")
        large = self.original("large", b"x" * (certificate_copies.LARGEST + 1))
        bad = [str(self.etc / "missing.pem"), str(self.etc), str(self.etc / "fifo"), large]
        failures = self.copy(bad[0], good, *bad[1:])
        self.assertEqual([failure.path for failure in failures], bad)
        self.assertEqual(str(failures[0]), f"{bad[0]}: No such file or directory")
        self.assertEqual(str(failures[2]), f"{bad[2]}: Not a regular file")
        self.assertEqual(list(self.contents()), [copy_name(good)])

    def test_last_copy_outlives_its_original(self) -> None:
        path = self.original("key.pem", b"K")
        self.copy(path)
        os.unlink(path)
        self.assertEqual([failure.path for failure in self.copy(path)], [path])
        self.assertEqual(self.contents(), {copy_name(path): b"K"})


class HostileDirectoryTests(Case):
    """The directory is the service user's, who may have put anything there."""

    def setUp(self) -> None:
        super().setUp()
        self.elsewhere = self.runtime / "elsewhere"
        self.elsewhere.mkdir(mode=0o755)

    def test_directory_is_a_symlink(self) -> None:
        self.directory.symlink_to(self.elsewhere)
        with self.assertRaises(OSError):
            self.copy(self.original("key.pem"))
        self.assertEqual(list(self.elsewhere.iterdir()), [])
        self.assertEqual(stat.S_IMODE(self.elsewhere.stat().st_mode), 0o755)

    def test_directory_is_a_file(self) -> None:
        self.directory.write_bytes(b"")
        with self.assertRaises(NotADirectoryError):
            self.copy(self.original("key.pem"))

    def test_runtime_directory_may_be_a_symlink(self) -> None:
        """systemd makes /run/NAME one to /run/private/NAME for RuntimeDirectoryPreserve=."""
        link = self.runtime.with_name("link")
        link.symlink_to(self.runtime)
        path = self.original("key.pem")
        copy([path], str(link / "certificates"), self.uid, self.gid)
        self.assertEqual(list(self.contents()), [copy_name(path)])

    def test_copy_is_a_link(self) -> None:
        """Links in the place of a copy are replaced, not written through."""
        victim = self.elsewhere / "victim"
        victim.write_bytes(b"precious")
        symlinked, hardlinked = self.original("s.pem", b"S"), self.original("h.pem", b"H")
        self.directory.mkdir()
        (self.directory / copy_name(symlinked)).symlink_to(victim)
        (self.directory / copy_name(hardlinked)).hardlink_to(victim)
        (self.directory / "stale").symlink_to(victim)
        self.assertEqual(self.copy(symlinked, hardlinked), [])
        self.assertEqual(victim.read_bytes(), b"precious")
        self.assertEqual(self.contents(), {copy_name(symlinked): b"S", copy_name(hardlinked): b"H"})
        self.assertFalse((self.directory / copy_name(symlinked)).is_symlink())

    def test_copy_is_a_directory(self) -> None:
        blocked, good = self.original("blocked.pem"), self.original("good.pem")
        (self.directory / copy_name(blocked)).mkdir(parents=True)
        self.assertEqual([failure.path for failure in self.copy(blocked, good)], [blocked])
        self.assertEqual(
            {path.name for path in self.directory.iterdir()}, {copy_name(blocked), copy_name(good)}
        )

    def test_directory_of_somebody_else(self) -> None:
        self.directory.mkdir()
        self.patch(os, "geteuid", lambda: self.uid + 1)
        with self.assertRaisesRegex(PermissionError, "belongs to neither"):
            copy([], str(self.directory), self.uid + 2, self.gid)


@AS_ROOT
class OwnerTests(Case):
    uid = gid = NOBODY

    def test_everything_is_the_services(self) -> None:
        path = self.original("key.pem")
        self.assertEqual(self.copy(path), [])
        for owned in (self.directory, self.directory / copy_name(path)):
            status = owned.stat()
            self.assertEqual((status.st_uid, status.st_gid), (NOBODY, NOBODY))

    def test_again(self) -> None:
        path = self.original("key.pem", b"1")
        self.copy(path)
        self.original("key.pem", b"2")
        self.assertEqual(self.copy(path), [])
        self.assertEqual(self.contents(), {copy_name(path): b"2"})


@AS_ROOT
class InReachTests(Case):
    """Root must not read for the service what the service points it at."""

    uid = gid = NOBODY

    def setUp(self) -> None:
        super().setUp()
        self.secret = self.original("shadow", b"root's")
        os.chmod(self.secret, 0o600)
        self.state = self.etc / "state"
        self.state.mkdir()
        self.his = self.state / "key.pem"

    def refused(self, path: str) -> None:
        self.assertEqual(self.copy(path), [])
        self.assertEqual(self.contents(), {})

    def test_a_link_in_a_directory_of_the_service(self) -> None:
        self.his.symlink_to(self.secret)
        os.chown(self.state, NOBODY, NOBODY)
        self.refused(str(self.his))

    def test_a_hard_link_there(self) -> None:
        self.his.hardlink_to(self.secret)
        os.chown(self.state, NOBODY, NOBODY)
        self.refused(str(self.his))

    def test_below_it_and_behind_links(self) -> None:
        (self.state / "live").mkdir()
        (self.state / "live" / "key.pem").symlink_to(self.secret)
        (self.etc / "first").symlink_to("second")
        (self.etc / "second").symlink_to(self.state / "live")
        os.chown(self.state, NOBODY, NOBODY)
        for path in ("state/live", "first", "second", "state/../first", "./second/../live"):
            self.refused(f"{self.etc}/{path}/key.pem")

    def test_what_others_may_write(self) -> None:
        self.his.symlink_to(self.secret)
        for mode, group in ((0o757, 0), (0o775, NOBODY)):
            os.chown(self.state, 0, group)
            os.chmod(self.state, mode)
            self.refused(str(self.his))

    def test_a_link_of_the_service_in_a_sticky_directory(self) -> None:
        os.chmod(self.state, 0o1777)
        self.his.symlink_to(self.secret)
        os.chown(self.his, NOBODY, NOBODY, follow_symlinks=False)
        self.refused(str(self.his))

    def test_a_copy_made_before_goes(self) -> None:
        path = self.original("state/key.pem", b"K")
        self.assertEqual(self.copy(path), [])
        self.assertEqual(self.contents(), {copy_name(path): b"K"})
        os.chown(self.state, NOBODY, NOBODY)
        self.refused(path)

    def test_a_loop(self) -> None:
        self.his.symlink_to("key.pem")
        [failure] = self.copy(str(self.his))
        self.assertIn("symbolic links", str(failure))


class ReadableCopyTests(Case):
    """An original that is missing stands for one in a directory that is closed to us."""

    def test_readable_original(self) -> None:
        path = self.original("key.pem")
        self.copy(path)
        self.assertEqual(readable_copy(path, self.environ), path)

    def test_copy(self) -> None:
        path = self.original("key.pem", b"K")
        self.copy(path)
        os.unlink(path)
        expected = str(self.directory / copy_name(path))
        self.assertEqual(readable_copy(path, self.environ), expected)
        several = {"RUNTIME_DIRECTORY": f"{self.runtime}:/run/other"}
        self.assertEqual(readable_copy(path, several), expected)

    def test_neither(self) -> None:
        path = str(self.etc / "missing.pem")
        for environ in ({}, {"RUNTIME_DIRECTORY": ""}, self.environ):
            self.assertEqual(readable_copy(path, environ), path)
        self.assertEqual(readable_copy("", self.environ), "")


@AS_ROOT
class UnprivilegedTests(Case):
    uid = gid = NOBODY

    def mktemp(self) -> str:
        """Not below trial's directory, which may itself be closed to other users."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        os.chmod(directory.name, 0o755)
        return os.path.join(directory.name, "base")

    def test_original_is_closed_to_us(self) -> None:
        path = self.original("live/key.pem", b"K")
        os.chmod(self.etc / "live", 0o700)
        self.assertEqual(self.copy(path), [])
        self.addCleanup(os.seteuid, 0)
        os.seteuid(NOBODY)
        found = readable_copy(path, self.environ)
        self.assertEqual(found, str(self.directory / copy_name(path)))
        self.assertEqual(pathlib.Path(found).read_bytes(), b"K")

"""Owns the copies of certificates and keys that only root may read.

certbot's directories are open to root alone, and the service is not root. Before it starts, a
command run as root (commands/copy_keys.py) copies the files into a directory in
$RUNTIME_DIRECTORY; the service reads the copy where it may not read the file.

The directory belongs to the service's user, so root must believe nothing in it: it is opened once,
not through a symlink, and every name in it is used relative to that descriptor. New files are made
with O_EXCL under a name nobody can guess, and get their owner through the descriptor; what the
user does to the names meanwhile can only hurt the user's own files. Nor does root read for the user
what that could point elsewhere: a file in one of the user's own directories may be a link by now.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress

DIRECTORY = "certificates"  # in $RUNTIME_DIRECTORY
LARGEST = 1 << 20  # bytes: a long chain has 20 KiB; a wrong path must not fill the memory of root
_NAME_PART = 64  # characters of the file's own name in its copy's: only for the reader's eye
MOST_LINKS = 40  # as the kernel has it
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class CopyError(Exception):
    """A file was not copied; str() has the path and the reason. `path` is the file."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


def runtime_directory(environ: Mapping[str, str]) -> str:
    """The first directory of $RUNTIME_DIRECTORY, which systemd sets; "" without one."""
    return environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]


def copy_name(path: str) -> str:
    """The name of the copy of `path`, without any directory.

    The path is hashed as it is written: normalising a/../b would equate two files where `a` is a
    symlink.
    """
    absolute = os.path.join(os.getcwd(), path)
    digest = hashlib.sha256(os.fsencode(absolute)).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(path))
    return f"{digest}-{readable[-_NAME_PART:]}"


def readable_copy(path: str, environ: Mapping[str, str]) -> str:
    """`path`, or its copy where this process cannot read the file and there is one."""
    directory = runtime_directory(environ)
    if not path or not directory or _can_read(path):
        return path
    copied = os.path.join(directory, DIRECTORY, copy_name(path))
    return copied if os.path.isfile(copied) else path


def _can_read(path: str) -> bool:
    # Opened, not asked with access(2): that answers for the real user, not the effective one.
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def copy(paths: Iterable[str], directory: str, uid: int, gid: int) -> list[CopyError]:
    """Copy files into `directory` (made if needed, 0700), for the user `uid` and group `gid`.

    What that user could replace is left to him: he reads it himself, or nobody does. Returns what
    failed; the others are copied. Whatever else is in the directory is removed, but the last copy
    of a file that cannot be read any more stays. Raises OSError if the directory itself cannot be
    used.
    """
    wanted = {copy_name(path): path for path in paths}
    his = []
    failures = []
    fd = _open_directory(directory, uid, gid)
    try:
        for name, path in wanted.items():
            try:
                if uid != os.geteuid() and _in_reach(path, uid, gid):
                    his.append(name)
                    continue
                _write(fd, name, _read(path), uid, gid)
            except OSError as e:
                failures.append(CopyError(path, e.strerror or str(e)))
            except CopyError as e:
                failures.append(e)
        _remove_others(fd, wanted.keys() - his)
    finally:
        os.close(fd)
    return failures


def _open_directory(directory: str, uid: int, gid: int) -> int:
    """Make and open the directory. Its parent is systemd's and may be reached by a symlink."""
    parent, name = os.path.split(os.path.abspath(directory))
    parent_fd = os.open(parent, _OPEN_DIRECTORY)
    try:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent_fd)
        fd = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)
    try:
        # Anybody else's directory was moved here to have its owner changed.
        if os.fstat(fd).st_uid not in (uid, os.geteuid()):
            raise PermissionError(f"{directory} belongs to neither the service nor this user")
        os.fchown(fd, uid, gid)
        os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _in_reach(path: str, uid: int, gid: int) -> bool:
    """Whether this user could put something else at a path: there, on the way, or behind a link.

    Where he cannot, that does not change before the file is opened. Raises OSError.
    """
    names = _names(os.path.join(os.getcwd(), path))
    reached, links = "/", 0
    while names:
        name = names.pop()
        if name == "..":
            reached = os.path.dirname(reached)
            continue
        entry = os.path.join(reached, name)
        status = os.lstat(entry)
        mode = status.st_mode
        if status.st_uid == uid:
            return True
        if stat.S_ISLNK(mode):
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(entry)
            names += _names(target)
            if target.startswith("/"):
                reached = "/"
            continue
        # In a directory like /tmp everybody has names of his own, and nobody another's.
        shared = bool(mode & stat.S_IWOTH) or bool(mode & stat.S_IWGRP and status.st_gid == gid)
        if shared and stat.S_ISDIR(mode) and not mode & stat.S_ISVTX:
            return True
        reached = entry
    return False


def _names(path: str) -> list[str]:
    """The names in a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _read(path: str) -> bytes:
    """The content; symlinks are followed, as certbot's live/ consists of them."""
    # O_NONBLOCK: opening a FIFO must not wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise CopyError(path, "Not a regular file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise CopyError(path, f"Larger than {LARGEST} bytes, so neither certificate nor key")
    return content


def _write(directory: int, name: str, content: bytes, uid: int, gid: int) -> None:
    """Replace the copy in one step: a reader sees the old one or the new one."""
    temporary = f".{secrets.token_hex(16)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(fd, 0o600)
            os.fchown(fd, uid, gid)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise


def _remove_others(directory: int, wanted: Iterable[str]) -> None:
    """Remove copies of files that are no longer configured, and what a killed run left."""
    for name in set(os.listdir(directory)).difference(wanted):
        # A directory in here is not ours: unlink fails, and it stays.
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)

"""Owns ACME HTTP-01 challenges (RFC 8555 8.3): the files of certbot's webroot plugin."""

from __future__ import annotations

import os
import re
import stat

PREFIX = b"/.well-known/acme-challenge/"
# A token is base64url (RFC 8555 8.1), so a name with a dot or a slash is none: no path escapes.
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{1,256}")
MOST = 4096  # octets; a key authorization is a tenth of that


def challenge(webroot: str, target: bytes) -> bytes | None:
    """The content for this request target below PREFIX, or None: there is none.

    `webroot` is the directory given to certbot's -w.
    """
    token = target[len(PREFIX) :]
    if not _TOKEN.fullmatch(token):
        return None
    path = os.path.join(webroot, PREFIX.decode().strip("/"), token.decode())
    try:
        with open(path, "rb", opener=_open) as file:
            return file.read(MOST) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    except OSError:
        return None


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer would hold everything up

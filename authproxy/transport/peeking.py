"""Owns reading a prefix (the PROXY protocol's) off a socket, and not an octet more.

So TLS, which reads the socket itself, can start right after it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import main

from .stream import Stream

PEEK_SIZE = 536  # a PROXY v2 header with every field that we accept


def peek_header(stream: Stream, parse: Callable[[bytes], int | None]) -> None:
    """Let the stream read a prefix before anything else.

    `parse` gets what has come so far and says how many octets the prefix has, or None when it has
    not ended yet; it may abort the connection. After the end the stream reads as before.
    """
    taken = b""

    def peek() -> Any:
        nonlocal taken
        try:
            data = stream.socket.recv(PEEK_SIZE, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        before = len(taken)
        # The state is set before calling out: parse goes on with TLS or a protocol.
        del stream.doRead
        end = parse(taken + data)
        if end is not None:
            stream.socket.recv(end - before)
        elif not stream._aborting:
            # Its end has not come, so all of this is prefix; peeking again would spin.
            taken += stream.socket.recv(len(data))
            stream.doRead = peek  # type: ignore[method-assign]
        return None

    stream.doRead = peek  # type: ignore[method-assign]

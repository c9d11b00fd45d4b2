"""Owns the bytes of one socket: eager writes, and TLS on the socket itself.

`Stream` is one behaviour over the two stock families of transports (tcp.* and unix.*), the one
place where a mixin is right. Two things differ from a Twisted transport, behind its interface:

- `write` sends at once when nothing is buffered (or at the end of the batch of events that is being
  delivered, see dispatch.py), and falls back to Twisted's buffer for what the kernel did not take.
  That saves two epoll_ctl calls and one reactor turn a write.
- `start_tls` drives an OpenSSL connection bound to the socket, instead of TLSMemoryBIOProtocol: no
  copies through memory BIOs, no exception per read, no delayed call per write.

What a stream reads is its state: the method that `doRead` is (peeking.py has one more).
"""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet import main, tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.python.failure import Failure

from . import octets
from .accepted import Accepted
from .interfaces import HandshakeOwner
from .octets import READ_SIZE, RECORD

if TYPE_CHECKING:
    _Base = tcp.Connection
else:
    _Base = object

# A full record says that more is waiting. Taking a few at once makes one write of them on the other
# side; the bound keeps one fast download from starving everybody else.
RECORDS_AT_ONCE = 4

# Seconds idle, seconds between probes, probes: a peer that vanished is noticed in two minutes.
KEEPALIVE = (60, 15, 4)
_NONE = bytes(4)  # no octets, as an int of C


def _over(*_: Any) -> Any:
    """What a stream does that is over: nothing."""


class Stream(_Base):
    """Eager writes and socket-bound TLS for a Twisted stream transport."""

    # Beside the two dozen attributes of Twisted's. Above 30 Python gives each instance a dictionary
    # of its own, which is 1.6 kB.
    __slots__ = ("_handle", "_owner", "_unsent", "closed", "negotiatedProtocol", "tls")

    if TYPE_CHECKING:
        reactor: Any  # dialling.TransportReactor
        _tlsClientDefault: bool

    def __init__(self, *args: Any, **named: Any) -> None:
        self.tls: SSL.Connection | None = None
        self._handle: Any = None  # of `tls`
        self.negotiatedProtocol: bytes | None = None
        self.closed: Callable[[], None] | None = None  # told at the end, whatever the protocol is
        self._owner: HandshakeOwner | None = None
        self._unsent = b""
        super().__init__(*args, **named)

    # Writing.

    def write(self, data: bytes) -> None:
        """Send what the kernel takes now, or at the end of this batch of events; buffer the rest
        as Twisted does."""
        if not data or not self.connected or self._writeDisconnected:
            return
        if self._unsent:
            self._unsent += data
            if len(self._unsent) >= RECORD:
                self._send_rest()
            return
        self._unsent = data
        transports = self.reactor.outbox.transports
        if transports is None or len(data) >= RECORD:
            self._send_rest()
        else:
            transports.append(self)

    def send_unsent(self) -> Exception | None:
        """Send what was written in this batch of events; close, if that was asked for and nothing
        is left. Returns what doWrite would: the end of the connection is the caller's to tell."""
        data, self._unsent = self._unsent, b""
        if not self.connected:
            return None
        if data:
            self._send_or_buffer(data)
        all_sent = not self._tempDataLen and not self.dataBuffer
        if self.disconnecting and all_sent and self.producer is None:
            ended: Exception = self._postLoseConnection()
            return ended
        return None

    def _send_or_buffer(self, data: bytes) -> None:
        if self._owner is not None:  # no byte of ours goes out before the handshake is over
            self._tempDataBuffer.append(data)
            self._tempDataLen += len(data)
            return
        if not self._tempDataLen and not self.dataBuffer:
            sent = self.writeSomeData(data)
            if sent == len(data):
                return
            # An error is met again, and reported, by doWrite: never from within a caller's write.
            if type(sent) is int and sent:
                data = memoryview(data)[sent:].tobytes()
        FileDescriptor.write(self, data)

    def _send_rest(self) -> None:
        data, self._unsent = self._unsent, b""
        if data and self.connected:
            self._send_or_buffer(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """As write, of all of them at once."""
        self.write(b"".join(iovec))

    def writeSomeData(self, data: bytes) -> Any:
        """Send once. Returns the number of octets taken, or the exception that ends us."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return main.CONNECTION_LOST

    @property
    def buffered(self) -> int:
        """Octets written that the kernel has not taken yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen + len(self._unsent)

    @property
    def outstanding(self) -> int:
        """Octets that the peer has not taken: `buffered`, and those that the kernel holds.

        The kernel asks for more only when a third of its buffer, which may have 4 MiB, is free.
        """
        try:
            held = fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, _NONE)
        except OSError:
            held = _NONE
        return self.buffered + int.from_bytes(held, sys.byteorder)

    # Reading.

    def doRead(self) -> Any:
        """Plain bytes."""
        try:
            data = self.socket.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    # TLS.

    def start_tls(self, tls: SSL.Connection, owner: HandshakeOwner) -> None:
        """Speak TLS from here on.

        `tls` is bound to this socket and in its accept or connect state. `owner` hears how the
        handshake ends. What is written before that waits; nothing is delivered before it.
        """
        self.tls = tls
        self._handle = octets.handle_of(tls)
        octets.one_message_a_read(tls)
        self._owner = owner
        self.doRead = self.doWrite = self._handshake  # type: ignore[method-assign]
        self.startReading()
        if self._tlsClientDefault:
            self.startWriting()  # the ClientHello goes out on the next turn, from doWrite

    def _handshake(self) -> Any:
        assert self.tls is not None
        assert self._owner is not None
        owner = self._owner
        try:
            complete = octets.handshake(self.tls, self._handle)
        except SSL.WantWriteError:
            self.startWriting()
            return None
        except SSL.Error as e:
            self._owner = None
            owner.handshake_failed(e)
            return main.CONNECTION_LOST
        self.stopWriting()  # never both: writable is always true, and would spin
        if not complete:
            return None
        self._owner = None
        del self.doWrite
        self.doRead = self._read_tls  # type: ignore[method-assign]
        self.writeSomeData = self._send_tls  # type: ignore[method-assign]
        self.negotiatedProtocol = octets.negotiated(self.tls, self._handle) or None
        owner.handshake_completed()
        if self._tempDataLen and self.connected:
            self.startWriting()
        if self._tlsClientDefault or self.disconnecting or not self.connected:
            return None
        return self.doRead()  # a client's request comes with the end of its handshake

    def _read_tls(self) -> Any:
        tls = self.tls
        assert tls is not None
        why: Any = None
        try:
            data = octets.receive(tls, self._handle)
        except SSL.WantReadError:
            return None
        except SSL.Error as e:
            return self._tls_ended(e)
        if len(data) == RECORD:
            data, why = self._read_more(tls, data)
        self.protocol.dataReceived(data)
        return why

    def _read_more(self, tls: SSL.Connection, data: bytes) -> tuple[bytes, Any]:
        records = [data]
        try:
            while len(records) < RECORDS_AT_ONCE and len(records[-1]) == RECORD:
                records.append(octets.receive(tls, self._handle))
        except SSL.WantReadError:
            pass
        except SSL.Error as e:
            return b"".join(records), self._tls_ended(e)
        return b"".join(records), None

    def _tls_ended(self, reason: SSL.Error) -> Exception:
        if isinstance(reason, SSL.ZeroReturnError):
            self._send_close_notify()
            return main.CONNECTION_DONE
        if isinstance(reason, SSL.WantWriteError):
            # Only a key update makes a read want to write; the next read does it.
            return None  # type: ignore[return-value]
        return main.CONNECTION_LOST

    def _send_tls(self, data: bytes) -> Any:
        tls = self.tls
        length = len(data)
        if not length or tls is None:
            return 0  # SSL_write of nothing is an error
        sent = 0
        try:
            sent = octets.send(tls, self._handle, data)
            # Partial writes are on: one call takes one record.
            while sent < length:
                sent += octets.send(tls, self._handle, memoryview(data)[sent:])
        except (SSL.WantWriteError, SSL.WantReadError):
            return sent
        except SSL.Error:
            return main.CONNECTION_LOST
        return sent

    def getPeerCertificate(self) -> Any:
        """The peer's certificate (OpenSSL.crypto.X509), or None."""
        return None if self.tls is None else self.tls.get_peer_certificate()

    # Ending.

    def loseConnection(self) -> None:
        """Close after everything written has gone; a handshake that still runs is aborted."""
        if self._owner is not None:
            self.abortConnection()
            return
        transports = self.reactor.outbox.transports
        if transports is None or self.producer is not None or self._writeDisconnected:
            self._send_rest()
            FileDescriptor.loseConnection(self)
        elif self.connected and not self.disconnecting:
            # At the end of this batch of events: a turn of the reactor less for each connection.
            self.stopReading()
            self.disconnecting = True
            if not self._unsent:  # else it is on the list already
                transports.append(self)

    def loseWriteConnection(self) -> None:
        """Close our side after everything written has gone."""
        self._send_rest()
        super().loseWriteConnection()

    def stopProducing(self) -> None:
        """Whom we feed is gone: how we end is for the protocol of the two to say (relay.py)."""

    def _postLoseConnection(self) -> Any:
        self._send_close_notify()
        return main.CONNECTION_DONE

    def _closeWriteConnection(self) -> None:
        self._send_close_notify()
        super()._closeWriteConnection()
        if self.connected:
            self.startReading()  # for the peer's end; its input, until then, is the protocol's

    def _send_close_notify(self) -> None:
        if self.tls is not None and self._owner is None:
            with suppress(SSL.Error):  # the peer is gone, or takes no more: it sees the FIN
                self.tls.shutdown()

    def connectionLost(self, reason: Failure) -> None:
        """As Twisted's; the state's bound methods go, so that no reference cycle stays."""
        self.doRead = self.doWrite = self.writeSomeData = _over  # type: ignore[method-assign,assignment]
        self._owner = None
        self._unsent = b""
        closed, self.closed = self.closed, None
        super().connectionLost(reason)
        self.tls = self._handle = None
        if closed is not None:
            closed()

    def enable_keepalive(self) -> None:
        """Let the kernel probe a silent peer (TCP only)."""
        if self.socket.family == socket.AF_UNIX:
            return
        idle, interval, count = KEEPALIVE
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)


class TCPServer(Stream, Accepted):
    """A TCP connection that was accepted."""


class TCPClient(Stream, tcp.Client):
    """A TCP connection that we made."""


class UNIXServer(Stream, unix.Server):
    """A unix-socket connection that was accepted."""


class UNIXClient(Stream, unix.Client):
    """A unix-socket connection that we made."""

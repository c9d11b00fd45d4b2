"""Owns name resolution, and whether somebody listens at each of the addresses."""

from __future__ import annotations

import queue
import socket
import threading

from .results import Result, failed, ok, skipped, warning
from .stream import dial, is_ours, words_of
from .target import Target

NAME, CONNECT = "name", "connect"


def resolve(host: str, port: int, timeout: float) -> list[str]:
    """The addresses of a name, as this machine's resolver orders them. Raises OSError.

    In a thread, which may outlive this call: getaddrinfo has no deadline of its own.
    """
    found: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def look() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as e:
            found.put(e)
        except UnicodeError:
            found.put(OSError("it is no host name"))
        else:
            found.put(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))

    threading.Thread(target=look, daemon=True).start()
    try:
        result = found.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError("the resolver gave no answer in time") from None
    if isinstance(result, OSError):
        raise result
    return result


def check_name(target: Target) -> tuple[list[Result], list[str]]:
    """What the name resolves to, and the addresses to try."""
    if target.address == target.host:
        return [ok(NAME, f"{target.host} is an address")], [target.address]
    try:
        addresses = resolve(target.host, target.connect_port, target.timeout)
    except OSError as e:
        words = f"{target.host} does not resolve: {words_of(e)}"
        if target.address:
            return [warning(NAME, f"{words} (--connect goes on without)")], [target.address]
        here = " To examine what runs on this machine: --connect 127.0.0.1" if target.site else ""
        return [
            failed(
                NAME, words, f"Add an A or AAAA record for {target.host}, or wait for DNS.{here}"
            )
        ], []
    shown = ", ".join(addresses)
    ours = any(map(is_ours, addresses))
    if target.address:
        there = target.address in addresses
        apart = "" if there else f"; --connect goes to {target.address} instead"
        return [ok(NAME, f"{target.host} is {shown}{apart}")], [target.address]
    if target.site is not None and not ours:
        return [
            ok(
                NAME,
                f"{target.host} is {shown}, which is not this machine: right behind NAT, a balancer"
                " or a CDN, and then what follows is seen through that (--connect 127.0.0.1 looks"
                " at this machine alone)",
            )
        ], addresses
    return [ok(NAME, f"{target.host} is {shown}{', this machine' if ours else ''}")], addresses


def check_connect(target: Target, addresses: list[str]) -> tuple[list[Result], str]:
    """Try all of them, as clients of every kind would; and the first that accepted, or ""."""
    if not addresses:
        return [skipped(CONNECT, "no address to connect to")], ""
    port = target.connect_port
    good: list[str] = []
    bad: list[str] = []
    source = ""
    for address in addresses:
        try:
            with dial(address, port, target.end) as stream:
                good.append(address)
                source = source or stream.source
        except OSError as e:
            bad.append(f"{address} port {port}: {words_of(e)}")
    if not good:
        return [failed(CONNECT, "; ".join(bad), *_nobody(target, addresses))], ""
    if bad:
        cure = "Clients that try this address first wait. Listen there too, or remove its record."
        return [warning(CONNECT, f"{good[0]} accepts, but {'; '.join(bad)}", cure)], good[0]
    return [ok(CONNECT, f"{', '.join(good)} port {port}, from {source}")], good[0]


def _nobody(target: Target, addresses: list[str]) -> tuple[str, ...]:
    if not any(map(is_ours, addresses)):
        return (
            "Is the proxy running there, and does a firewall, a router or a cloud's security group"
            f" let port {target.connect_port} through?",
        )
    port = target.connect_port
    cure = "Nothing listens there. Start authproxy (systemctl start authproxy; its log: "
    cure += "journalctl -u authproxy)."
    if target.settings is not None:
        listening = ", ".join(map(str, target.settings.listen.https)) or "nowhere"
        cure += f" The configuration listens for https on {listening}."
    return (cure, f"    ss -ltnp 'sport = :{port}'")

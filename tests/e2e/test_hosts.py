"""Whose site a request gets, whatever it says: SNI, Host, absolute-form, :authority, sessions, ALPN.

Three sites, each with an upstream server of its own that records. What counts is the one valid
host of the request; a request without one gets none.
"""

from __future__ import annotations

import socket
import ssl
from typing import ClassVar

from ..conformance.frames import PREFACE, ask, settings
from .clients import HTTP2, Asked
from .processes import (
    HOST,
    EndToEnd,
    Proxy,
    Stage,
    connect,
    read_all,
    read_head,
    request,
    response,
)
from .recording import RecordingOrigin

OTHER, IDN, WILD = "other.example.org", "xn--bcher-kva.example", "x.example.net"
GUARDED = "/if/admin/"
MISDIRECTED, BAD = "421", "400"
# Host -> the site that it belongs to, or the status.
HOSTS = {
    **dict.fromkeys(
        (HOST, HOST.upper(), HOST + ".", HOST + ":443", HOST + ".:8443", HOST + ":1"), "first"
    ),
    **dict.fromkeys((OTHER, "Other.Example.Org.", IDN, IDN.upper(), OTHER + ":65535"), "second"),
    **dict.fromkeys(
        (WILD, "X.EXAMPLE.NET.:1", "-.example.net", "_.example.net", "xn--a.example.net"), "wild"
    ),
    **dict.fromkeys(
        (
            "example.net", "a.b.example.net", "xexample.net", f"{HOST}.evil.example",
            f"evil.{HOST}", "evil.example", "localhost", "127.0.0.1", "[::1]", "0x7f.1", "0",
            "[::ffff:127.0.0.1]:443", "sso", "com", "example.com", "sso.example", "b-cher.example",
        ),
        MISDIRECTED,
    ),
    **dict.fromkeys(
        (
            "", ".", ":443", ".example.net", "*.example.net", f"{HOST}..", f".{HOST}", f"{HOST}:",
            f"{HOST}:0", f"{HOST}:99999", f"{HOST}:+1", f"{HOST}:0443", f"{HOST}:443:443",
            f"{HOST}@evil.example", f"evil.example@{HOST}", f"a:b@{HOST}", f"{HOST},{OTHER}",
            f"{HOST}, {OTHER}", f"{HOST} {OTHER}", f"{HOST}/", f"{HOST}/{GUARDED}", f"{HOST}?",
            f"{HOST}#", f"{HOST}\\", "sso%2eexample.com", f"[{HOST}]", "[::1", "::1", "[::1%25lo]",
            "[fe80::1%lo]", f"https://{HOST}", f"//{HOST}", "sso..example.com", f'"{HOST}"',
            "b\xfccher.example", "\u0455so.example.com", "sso\u3002example\u3002com", "a" * 254,
            ".".join(["a" * 63] * 5), f"{HOST}\t{OTHER}", f"{HOST};", f"<{HOST}>", f"{HOST}\x7f",
        ),
        BAD,
    ),
}  # fmt: skip


class _Sites(EndToEnd):
    """The first has a guard that lets nobody in, the second appends to X-Forwarded-For."""

    origins: ClassVar[dict[str, RecordingOrigin]]
    proxy: ClassVar[Proxy]
    contexts: ClassVar[dict[tuple[str, ...], ssl.SSLContext]]  # to make one takes its time
    minimum: ClassVar[str] = "1.3"

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.contexts = {}
        cls.origins = {name: RecordingOrigin() for name in ("first", "second", "wild")}
        urls = {name: stage.scripted(origin.converse).url for name, origin in cls.origins.items()}
        guard = {"path": GUARDED, "allow": ["203.0.113.0/24"]}
        tls = {"minimum_version": cls.minimum}
        document = stage.configuration(urls["first"], {"guard": [guard]}, tls=tls)
        document["site"] += [
            {"hosts": [OTHER, IDN], "upstream": urls["second"], "x_forwarded_for": "append"}
            | stage.certificate(OTHER),
            {"hosts": ["*.example.net"], "upstream": urls["wild"]}
            | stage.certificate("*.example.net"),
        ]
        cls.proxy = stage.proxy(document)

    def setUp(self) -> None:
        super().setUp()
        self.seen()

    def seen(self) -> dict[str, list[tuple[str, str]]]:
        """What came since the last time: by site, (Host, target)."""
        found = {}
        for name, origin in self.origins.items():
            for one in origin.take():
                [host], [again] = one.values(b"host"), one.values(b"x-forwarded-host")
                self.assertEqual(host, again)
                self.assertEqual(one.values(b"x-forwarded-for"), [b"127.0.0.1"])
                self.assertEqual(one.values(b"x-forwarded-proto"), [b"https"])
                found.setdefault(name, []).append((host.decode(), one.target.decode()))
        return found

    def shake(self, name: str | None = HOST, *protocols: str) -> ssl.SSLSocket:
        """TLS with this name, whatever certificate it gets; closed with the test."""
        if protocols not in self.contexts:
            self.contexts[protocols] = self.context(*protocols)
        return self.with_context(self.contexts[protocols], name)

    def context(self, *protocols: str) -> ssl.SSLContext:
        context = self.stage.client_tls(*protocols)
        context.check_hostname = False
        return context

    def with_context(
        self,
        context: ssl.SSLContext,
        name: str | None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        raw = connect(self.proxy.https)
        self.addCleanup(raw.close)
        sock = context.wrap_socket(
            raw, server_hostname=name, session=session, suppress_ragged_eofs=False
        )
        self.addCleanup(sock.close)
        return sock


class Sites(_Sites):
    """What a request says."""

    def is_of(self, host: str, status: int, verdict: str, target: str = "/") -> None:
        """One request got this, and the right upstream server saw it, and nobody else."""
        how = f"{host!r} {target}"
        if verdict in (MISDIRECTED, BAD):
            self.assertEqual((status, self.seen()), (int(verdict), {}), how)
        elif verdict == "first" and target == GUARDED:
            self.assertEqual((status, self.seen()), (403, {}), how)
        else:
            self.assertEqual((status, self.seen()), (200, {verdict: [(host, target)]}), how)

    def asked(self, octets: bytes, name: str | None = HOST) -> int:
        sock = self.shake(name)
        sock.sendall(octets)
        status = int(read_all(sock)[9:12])
        sock.close()
        return status

    def test_host(self) -> None:
        for host, verdict in HOSTS.items():
            for name, target in ((HOST, "/"), (OTHER, GUARDED))[: 1 + (verdict == "first")]:
                octets = b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"
                status = self.asked(octets % (target.encode(), host.encode()), name)
                self.is_of(host, status, verdict, target)

    def test_authority(self) -> None:
        for host, verdict in HOSTS.items():
            for name, target in ((HOST, "/"), (OTHER, GUARDED))[: 1 + (verdict == "first")]:
                client = HTTP2(self.shake(name, "h2"))
                status = client.ask(Asked(target=target, host=host)).status
                self.is_of(host, status, verdict, target)
                client.close()

    def test_absolute_form(self) -> None:
        """Its authority is the host, where Host says the same; else nobody's."""
        for target, host, status, seen in (
            (f"https://{HOST}/a", HOST, 200, {"first": [(HOST, "/a")]}),
            (f"http://{OTHER}/a?b", OTHER, 200, {"second": [(OTHER, "/a?b")]}),
            (f"HTTPS://{HOST.upper()}/", HOST, 200, {"first": [(HOST.upper(), "/")]}),
            (f"https://{HOST}{GUARDED}", HOST, 403, {}),
            (f"HTTP://{HOST.upper()}{GUARDED}", HOST, 403, {}),
            (f"https://{HOST}?/../if/admin/", HOST, 200, {"first": [(HOST, "/?/../if/admin/")]}),
            (f"https://{HOST}/if/%61dmin/", HOST, 400, {}),
            (f"https://{HOST}//if/admin/", HOST, 400, {}),
            (f"https://{OTHER}/", HOST, 400, {}),
            (f"https://{HOST}:443/", HOST, 400, {}),
            (f"https://{HOST}./", HOST, 400, {}),
            (f"https://{HOST}@{OTHER}/", OTHER, 400, {}),
            (f"https://{HOST}@{OTHER}/", HOST, 400, {}),
            (f"https://a@{HOST}/", HOST, 400, {}),
            ("https:///", HOST, 400, {}),
            ("https://", HOST, 400, {}),
            (f"https:/{OTHER}/", HOST, 400, {}),
            (f"https:{OTHER}/", HOST, 400, {}),
            (f"ftp://{HOST}/", HOST, 400, {}),
            (f"{HOST}/", HOST, 400, {}),
            (f"https://{HOST}\\@{OTHER}/", HOST, 400, {}),
            (f"https://evil.example/{HOST}/", "evil.example", 421, {}),
            (f"//{OTHER}/", HOST, 200, {"first": [(HOST, f"//{OTHER}/")]}),
            (f"/https://{OTHER}/", HOST, 200, {"first": [(HOST, f"/https://{OTHER}/")]}),
        ):
            octets = request(target, "Connection: close", host=host)
            self.assertEqual((self.asked(octets), self.seen()), (status, seen), target)

    def test_absolute_form_of_an_old_client(self) -> None:
        for line, status, seen in (
            (f"GET https://{OTHER}/ HTTP/1.0", 200, {"second": [(OTHER, "/")]}),
            (f"GET https://{HOST}{GUARDED} HTTP/1.0", 403, {}),
            ("GET https://evil.example/ HTTP/1.0", 421, {}),
            # Several sites, and none is for everybody.
            ("GET / HTTP/1.0", 421, {}),
            (f"GET https://{OTHER}/ HTTP/1.1", 400, {}),
        ):
            self.assertEqual((self.asked(f"{line}\r\n\r\n".encode()), self.seen()), (status, seen))

    def test_other_words_for_a_host(self) -> None:
        for field in (
            f"X-Forwarded-Host: {OTHER}", f"Forwarded: host={OTHER}", f"X-Host: {OTHER}",
            f"X_Forwarded_Host: {OTHER}", f"X-Original-Host: {OTHER}", f"X-Forwarded-Server: {OTHER}",
            f"Connection: Host\r\nX-Forwarded-Host: {OTHER}",
        ):  # fmt: skip
            status = self.asked(request("/", field, "Connection: close"))
            self.is_of(HOST, status, "first")
            self.assertEqual(self.asked(request(GUARDED, field, "Connection: close")), 403)
        for fields in ((f"Host: {OTHER}",), (f"Host: {HOST}",), (f"HOST: {OTHER}",)):
            self.assertEqual(self.asked(request("/", *fields, "Connection: close")), 400)
        self.assertEqual(self.seen(), {})

    def conversation(self) -> list[tuple[str, str, int, str]]:
        """(Host, target, status, site), turn by turn."""
        return [
            (HOST, "/1", 200, "first"),
            (OTHER, GUARDED, 200, "second"),
            (HOST, GUARDED, 403, ""),
            ("evil.example", "/", 421, ""),
            (WILD, GUARDED, 200, "wild"),
            (HOST + ".", GUARDED, 403, ""),
            (OTHER, "/2", 200, "second"),
            (OTHER, "/3", 200, "second"),
            (HOST, "/4", 200, "first"),
            (HOST.upper(), GUARDED, 403, ""),
        ]

    def wanted(self) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        for host, target, _, site in self.conversation():
            if site:
                found.setdefault(site, []).append((host, target))
        return found

    def test_one_connection_for_all(self) -> None:
        for fields in ((), ("Accept: */*", "Cookie: a=b", "X-Forwarded-For: 203.0.113.7")):
            sock = self.shake()
            for host, target, status, _ in self.conversation():
                sock.sendall(request(target, *fields, host=host))
                self.assertEqual(response(sock).status, status, (host, target))
            self.assertEqual(self.seen(), self.wanted())

    def test_one_segment_for_all(self) -> None:
        sock = self.shake(OTHER)
        sock.sendall(
            b"".join(request(target, host=host) for host, target, *_ in self.conversation())
        )
        for host, target, status, _ in self.conversation():
            head = read_head(sock)
            self.assertEqual(int(head[9:12]), status, (host, target))
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            while length:
                length -= len(sock.recv(length))
        self.assertEqual(self.seen(), self.wanted())

    def test_one_http_2_connection_for_all(self) -> None:
        """A browser may use it for all names of the certificate (RFC 9113 9.1.1); who uses it for
        others gets what their sites say, or a 421."""
        client = HTTP2(self.shake(HOST, "h2"))
        self.addCleanup(client.close)
        fields = [("accept", "*/*"), ("x-forwarded-for", "203.0.113.7")]
        for host, target, status, _ in self.conversation():
            self.assertEqual(
                client.ask(Asked(target=target, host=host, fields=fields)).status, status
            )
        self.assertEqual(self.seen(), self.wanted())
        together = [Asked(target=t, host=h, fields=fields) for h, t, *_ in self.conversation()]
        statuses = [seen.status for seen in client.ask_all(*together)]
        self.assertEqual(statuses, [status for _, _, status, _ in self.conversation()])
        came = {site: sorted(requests) for site, requests in self.seen().items()}
        self.assertEqual(came, {site: sorted(those) for site, those in self.wanted().items()})

    def test_protocols_that_were_not_agreed(self) -> None:
        """The connection is what ALPN says, and nothing else comes of other octets."""
        h2 = PREFACE + settings() + ask(1)
        for protocols, agreed, octets, answer in (
            (["h2"], "h2", request("/"), rb"\A(?!HTTP)"),
            (["h2", "http/1.1"], "h2", request("/"), rb"\A(?!HTTP)"),
            (["h2"], "h2", b"PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n", rb"\A(?!HTTP)"),
            (["h2"], "h2", b"GET / HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings(), rb"\A(?!HTTP)"),
            (["http/1.1"], "http/1.1", h2, rb"\AHTTP/1\.1 (400|505) "),
            (["http/1.1", "foo"], "http/1.1", h2, rb"\AHTTP/1\.1 (400|505) "),
        ):
            sock = self.shake(HOST, *protocols)
            self.assertEqual(sock.selected_alpn_protocol(), agreed)
            sock.sendall(octets)
            self.assertRegex(read_all(sock), answer)
        context = ssl.create_default_context()
        self.stage.authority.configure_trust(context)
        sock = self.with_context(context, HOST)
        self.assertIsNone(sock.selected_alpn_protocol())
        sock.sendall(h2)
        self.assertRegex(read_all(sock), rb"\AHTTP/1\.1 (400|505) ")
        self.assertEqual(self.seen(), {})

    def test_upgrade_to_http_2(self) -> None:
        """RFC 7540 3.2, over TLS and with a guard behind it: stays HTTP/1.1."""
        sock = self.shake()
        fields = "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"
        sock.sendall(request("/", *fields))
        self.assertEqual(response(sock).status, 200)
        sock.sendall(PREFACE + settings() + ask(1, path=GUARDED))
        self.assertRegex(read_all(sock), rb"\AHTTP/1\.1 (400|505) ")
        self.assertEqual(self.seen(), {"first": [(HOST, "/")]})

    def test_websockets_in_a_stream(self) -> None:
        """Of the site of :authority, past its guards."""
        sock = self.shake(OTHER, "h2")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = HTTP2(sock)
        client.until(lambda: client.h2.remote_settings.enable_connect_protocol)
        for host, target, status in (
            (HOST, GUARDED, 403), (HOST, "/if/%61dmin/", 400), ("evil.example", "/ws", 421),
            (OTHER, "/ws", 502), (HOST, "/ws", 502),
        ):  # fmt: skip
            number = client.begin(
                Asked(
                    method="CONNECT", target=target, host=host, pieces=[b""],
                    fields=[(":protocol", "websocket"), ("sec-websocket-version", "13")],
                )
            )  # fmt: skip
            seen = client.streams[number]
            client.until(lambda s=seen: s.over)
            self.assertEqual(seen.status, status, (host, target))
        self.assertEqual(self.seen(), {"second": [(OTHER, "/ws")], "first": [(HOST, "/ws")]})


class Sessions(_Sites):
    """What a handshake says."""

    def test_certificates(self) -> None:
        for name, owner in (
            (HOST, HOST), (HOST.upper(), HOST), (OTHER, OTHER), (WILD, "*.example.net"),
            ("a.b.example.net", HOST), ("example.net", HOST), ("evil.example", HOST), (None, HOST),
            ("b\xfccher.example", OTHER),
        ):  # fmt: skip
            certificate = self.shake(name).getpeercert()
            assert certificate is not None
            names = [value for _, value in certificate["subjectAltName"]]  # type: ignore[misc]
            self.assertEqual(names, [owner], name)

    def test_a_session_of_another_name(self) -> None:
        """It proves nothing but that the client was here: Host decides, as ever."""
        for protocol in ("http/1.1", "h2"):
            context = self.context(protocol)
            first = self.with_context(context, OTHER)
            self.get(first, protocol, OTHER, "/", 200)
            session = first.session
            assert session is not None
            self.assertTrue(session.has_ticket)
            for name in (HOST, OTHER, WILD, "evil.example", None):
                sock = self.with_context(context, name, session)
                self.assertEqual(sock.selected_alpn_protocol(), protocol)
                for host, target, status in (
                    (HOST, GUARDED, 403), (HOST, "/", 200), ("evil.example", "/", 421),
                    (OTHER, GUARDED, 200),
                ):  # fmt: skip
                    if sock.session is not None:
                        session = sock.session
                    self.get(sock, protocol, host, target, status)
                    sock = self.with_context(context, name, session)
        self.assertEqual(
            {target for _, target in self.seen()["first"]}, {"/"}, "a guard was passed"
        )

    def get(self, sock: ssl.SSLSocket, protocol: str, host: str, target: str, status: int) -> None:
        if protocol == "h2":
            client = HTTP2(sock)
            self.assertEqual(client.ask(Asked(target=target, host=host)).status, status)
        else:
            sock.sendall(request(target, host=host))
            self.assertEqual(response(sock).status, status)

    def test_a_session_of_http_2_for_http_1(self) -> None:
        """ALPN is agreed anew in every handshake (RFC 7301 3.1)."""
        context = self.context("h2")
        sock = self.with_context(context, HOST)
        self.get(sock, "h2", HOST, "/", 200)
        session = sock.session
        context.set_alpn_protocols(["http/1.1"])
        sock = self.with_context(context, OTHER, session)
        self.assertEqual(sock.selected_alpn_protocol(), "http/1.1")
        self.get(sock, "http/1.1", HOST, GUARDED, 403)


class SessionsOfTLS12(Sessions):
    """These know their name."""

    minimum: ClassVar[str] = "1.2"

    def context(self, *protocols: str) -> ssl.SSLContext:
        context = super().context(*protocols)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context


class Default(EndToEnd):
    """A site without hosts beside one with: everything that is a host is its, and only that."""

    def test_who_gets_what(self) -> None:
        named, default = RecordingOrigin(), RecordingOrigin()
        urls = [self.scripted(origin.converse).url for origin in (named, default)]
        stage = self.own_stage()
        document = stage.configuration(urls[0], listen={"plain_http": "serve"})
        document["site"].append({"hosts": [], "upstream": urls[1]} | stage.certificate("a.example"))
        proxy = stage.proxy(document)
        for host, verdict in HOSTS.items():
            sock = connect(proxy.http)
            octets = b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host.encode()
            sock.sendall(octets)
            status = int(read_all(sock)[9:12])
            sock.close()
            came = [len(origin.take()) for origin in (named, default)]
            wanted = {"first": (200, [1, 0]), BAD: (400, [0, 0])}.get(verdict, (200, [0, 1]))
            self.assertEqual((status, came), wanted, host)

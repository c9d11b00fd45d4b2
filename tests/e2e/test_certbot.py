"""A certificate from an ACME server: certbot's webroot, and its renewal, as docs/operations.md says.

The server is pebble, on loopback; certbot is the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import trustme
from cryptography import x509
from twisted.trial.unittest import SkipTest

from authproxy.control import ask

from .processes import (
    HOST,
    LOOPBACK,
    PATIENCE,
    EndToEnd,
    Process,
    Proxy,
    Stage,
    connect,
    free_port,
    toml,
    until,
)

PROGRAMS = ("certbot", "pebble", "pebble-challtestsrv")


class Authority:
    """pebble, and a name server for which every name is this machine. `challenged` is the port that
    it looks for http challenges at."""

    def __init__(self, stage: Stage, challenged: int) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert(LOOPBACK)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        self.ca = stage.file("pebble-ca.pem", authority.cert_pem.bytes())
        self._directory = stage.directory
        names, management, self.port = free_port(), free_port(), free_port()
        stage.process(
            ["pebble-challtestsrv", "-http01", "", "-https01", "", "-tlsalpn01", "",
             "-dns01", f"{LOOPBACK}:{names}", "-management", f"{LOOPBACK}:{management}",
             "-defaultIPv6", "", "-defaultIPv4", LOOPBACK],
        )  # fmt: skip
        configuration = {
            "listenAddress": f"{LOOPBACK}:{self.port}",
            "managementListenAddress": f"{LOOPBACK}:{free_port()}",
            "certificate": str(stage.file("pebble.pem", chain)),
            "privateKey": str(stage.file("pebble.key", leaf.private_key_pem.bytes())),
            "httpPort": challenged,
            "tlsPort": free_port(),
        }
        file = stage.file("pebble.json", json.dumps({"pebble": configuration}))
        self._process: Process = stage.process(
            ["pebble", "-config", str(file), "-dnsserver", f"{LOOPBACK}:{names}", "-strict"],
            environ={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"},
        )
        until(self._listens, "pebble listens")

    def _listens(self) -> bool:
        try:
            connect(self.port).close()
        except ConnectionRefusedError:
            return False
        return True

    def certbot(self, *arguments: str) -> None:
        """Run it, and expect that to go well."""
        directories: Sequence[str] = [
            f"--{kind}-dir={self._directory / 'letsencrypt' / kind}"
            for kind in ("config", "work", "logs")
        ]
        done = subprocess.run(
            ["certbot", *arguments, *directories, "--non-interactive",
             f"--server=https://{LOOPBACK}:{self.port}/dir"],
            env=os.environ | {"REQUESTS_CA_BUNDLE": str(self.ca)},
            capture_output=True, text=True, check=False, timeout=5 * PATIENCE,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"{done.stdout}\n{done.stderr}\n{self._process}")


class CertbotTests(EndToEnd):
    def test_webroot_and_renewal(self) -> None:
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            raise SkipTest(f"not installed: {', '.join(missing)}")
        stage = self.own_stage()
        webroot = stage.directory / "webroot"
        webroot.mkdir()
        origin = stage.origin(HOST)
        document = stage.configuration(origin.port, listen={"acme_webroot": str(webroot)})
        [site] = document["site"]
        for name in ("certificate", "private_key"):
            del site[name]
        proxy = stage.proxy(document, environ={"STATE_DIRECTORY": str(stage.directory)})
        authority = Authority(stage, proxy.http)
        authority.certbot(
            "certonly", "--webroot", f"--webroot-path={webroot}", f"--domain={HOST}",
            "--agree-tos", "--register-unsafely-without-email",
        )  # fmt: skip
        live = stage.directory / "letsencrypt/config/live" / HOST
        site["certificate"] = str(live / "fullchain.pem")
        site["private_key"] = str(live / "privkey.pem")
        Path(proxy.popen.args[-1]).write_text(toml(document))  # type: ignore[index]
        self.assertEqual(ask(document["listen"]["control"], "reload", PATIENCE), {"problem": ""})
        first = self.served(proxy)
        self.assertIn("Pebble", first.issuer.rfc4514_string())
        authority.certbot("renew", "--force-renewal", "--no-random-sleep-on-renew")
        until(lambda: self.served(proxy) != first, "the renewed certificate")

    def served(self, proxy: Proxy) -> x509.Certificate:
        anybody = ssl.create_default_context()
        anybody.check_hostname = False
        anybody.verify_mode = ssl.CERT_NONE
        with anybody.wrap_socket(connect(proxy.https), server_hostname=HOST) as sock:
            der = sock.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)

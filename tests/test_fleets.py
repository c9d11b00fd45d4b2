"""The files for fleets: that they fit the settings, the units and each other."""

from __future__ import annotations

import http.server
import json
import pathlib
import re
import subprocess
import threading
from typing import Any, ClassVar

import yaml
from twisted.trial.unittest import SynchronousTestCase

from authproxy import config, crosschecks
from authproxy.presets import PRESETS
from authproxy.settings import Settings
from authproxy.workers.supervisor import GRACE

ROOT = pathlib.Path(__file__).parent.parent
MANIFESTS = ROOT / "etc" / "kubernetes" / "authproxy.yaml"
CHECK = ROOT / "etc" / "keepalived" / "check-authproxy"


def right(test: SynchronousTestCase, text: str) -> Settings:
    """The settings of a configuration in which nothing is wrong, and nothing seldom meant."""
    settings, problems = config.loads(text, "f.toml")
    test.assertEqual(problems, [])
    test.assertEqual(crosschecks.warnings(settings), [])
    return settings


class KubernetesTests(SynchronousTestCase):
    def setUp(self) -> None:
        documents = list(yaml.safe_load_all(MANIFESTS.read_text()))
        self.kinds: dict[str, Any] = {document["kind"]: document for document in documents}
        self.assertEqual(len(self.kinds), len(documents))
        self.pod = self.kinds["Deployment"]["spec"]["template"]["spec"]
        [self.container] = self.pod["containers"]
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.settings = right(self, self.kinds["ConfigMap"]["data"]["authproxy.toml"])

    def test_ports(self) -> None:
        listen = self.settings.listen
        self.assertEqual([address.port for address in listen.http], [self.ports["http"]])
        self.assertEqual([address.port for address in listen.https], [self.ports["https"]])
        assert listen.admin is not None
        self.assertEqual((listen.admin.host, listen.admin.port), ("0.0.0.0", self.ports["admin"]))
        self.assertGreater(min(self.ports.values()), 1023)  # without any capability
        served = {
            port["port"]: port["targetPort"] for port in self.kinds["Service"]["spec"]["ports"]
        }
        self.assertEqual(served, {80: "http", 443: "https"})
        self.assertEqual(listen.public_https_port, 443)

    def test_probes(self) -> None:
        for probe, path in (
            ("startupProbe", "/healthz"),
            ("livenessProbe", "/healthz"),
            ("readinessProbe", "/readyz"),
        ):
            self.assertEqual(
                self.container[probe]["httpGet"], {"path": path, "port": "admin"}, probe
            )

    def test_the_drain_has_its_time(self) -> None:
        [_, hook] = self.container["lifecycle"]["preStop"]["exec"]["command"]
        needed = int(hook) + self.settings.timeouts.drain + GRACE
        self.assertGreaterEqual(self.pod["terminationGracePeriodSeconds"], needed)

    def test_files_are_mounted(self) -> None:
        mounts = {mount["name"]: mount for mount in self.container["volumeMounts"]}
        self.assertEqual(set(mounts), {volume["name"] for volume in self.pod["volumes"]})
        [site] = self.settings.sites
        for path in (site.certificate, site.private_key):
            self.assertTrue(path.startswith(mounts["tls"]["mountPath"] + "/"), path)
        self.assertNotIn("subPath", mounts["tls"])  # a renewed one would never arrive
        self.assertEqual(
            self.container["args"][-1], mounts["settings"]["mountPath"] + "/authproxy.toml"
        )
        secret = next(v["secret"] for v in self.pod["volumes"] if v["name"] == "tls")
        self.assertEqual(secret["defaultMode"] & 0o007, 0)

    def test_sandbox(self) -> None:
        security = self.container["securityContext"]
        self.assertEqual(security["capabilities"], {"drop": ["ALL"]})
        self.assertTrue(security["readOnlyRootFilesystem"])
        self.assertFalse(security["allowPrivilegeEscalation"])
        self.assertTrue(self.pod["securityContext"]["runAsNonRoot"])
        self.assertFalse(self.pod["automountServiceAccountToken"])

    def test_the_admin_port_is_not_for_everybody(self) -> None:
        everybody, monitoring = self.kinds["NetworkPolicy"]["spec"]["ingress"]
        self.assertNotIn("from", everybody)
        self.assertEqual([port["port"] for port in everybody["ports"]], ["http", "https"])
        self.assertEqual(monitoring["ports"], [{"port": "admin"}])
        self.assertTrue(monitoring["from"])
        self.assertNotIn("admin", str(self.kinds["Service"]["spec"]["ports"]))

    def test_labels(self) -> None:
        label = {"app.kubernetes.io/name": "authproxy"}
        deployment = self.kinds["Deployment"]["spec"]
        self.assertEqual(deployment["template"]["metadata"]["labels"], label)
        for selector in (
            deployment["selector"]["matchLabels"],
            self.kinds["Service"]["spec"]["selector"],
            self.kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
            self.kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        ):
            self.assertEqual(selector, label)


class ContainerTests(SynchronousTestCase):
    def test_it_starts_as_the_manifest_expects(self) -> None:
        text = (ROOT / "etc" / "container" / "Containerfile").read_text()
        unit = (ROOT / "etc" / "authproxy.service").read_text()
        entry = re.search(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
        command = re.search(r"^CMD (\[.*\])$", text, re.MULTILINE)
        start = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
        assert entry and command and start
        self.assertEqual(json.loads(entry[1]) + json.loads(command[1]), start[1].split())
        self.assertRegex(text, r"(?m)^USER 65532:65532$")
        self.assertIn("runAsUser: 65532", MANIFESTS.read_text())
        for copied in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
            for name in copied.split():
                self.assertTrue((ROOT / name).exists(), name)


class _Admin(http.server.BaseHTTPRequestHandler):
    statuses: ClassVar[dict[str, int]] = {"/healthz": 200, "/readyz": 503}

    def do_GET(self) -> None:
        self.send_response(self.statuses.get(self.path, 404))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Not to be seen."""


class KeepalivedTests(SynchronousTestCase):
    def test_the_check(self) -> None:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Admin)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        alive = f"http://127.0.0.1:{server.server_port}"
        for url, what, works in (
            (alive, ["healthz"], True),
            (alive, ["readyz"], False),
            (alive, [], False),  # readyz
            ("http://127.0.0.1:1", ["healthz"], False),
        ):
            done = subprocess.run(
                [str(CHECK), *what],
                env={"AUTHPROXY_ADMIN": url, "PATH": "/usr/bin:/bin", "http_proxy": "http://x:1"},
                check=False,
                capture_output=True,
                timeout=60,
            )
            self.assertEqual(done.returncode == 0, works, (url, what, done.stderr))

    def test_the_configuration(self) -> None:
        text = (CHECK.parent / "keepalived.conf").read_text()
        bare = re.sub(r"[#!].*", "", text)
        self.assertEqual(bare.count("{"), bare.count("}"))
        weights = {
            what: int(weight)
            for what, weight in re.findall(
                r"check-authproxy (\w+)\"[^}]*weight -(\d+)", bare, re.DOTALL
            )
        }
        self.assertEqual(set(weights), {"healthz", "readyz"})
        # More than the difference of the two machines' priorities (110 and 100): else nothing moves.
        self.assertGreater(min(weights.values()), 10)
        self.assertGreater(weights["healthz"], weights["readyz"])
        self.assertNotIn("nopreempt", bare)


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = (ROOT / "docs" / "fleets.md").read_text()

    def test_configurations(self) -> None:
        found = re.findall(r"^( *)```toml\n(.*?)^ *```$", self.text, re.MULTILINE | re.DOTALL)
        self.assertGreater(len(found), 3)
        for indent, document in found:
            right(self, re.sub(rf"(?m)^{indent}", "", document))

    def test_the_day_of_the_comparison(self) -> None:
        self.assertIn(PRESETS["cloudflare"].compared, self.text)
        for source in PRESETS["cloudflare"].sources:
            self.assertIn(source, self.text)

    def test_files(self) -> None:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", self.text):
            self.assertTrue((ROOT / "docs" / link).exists(), link)

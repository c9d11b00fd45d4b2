"""The systemd units: what they must say, and what systemd says of them."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
from unittest import SkipTest, skipUnless

from twisted.trial.unittest import SynchronousTestCase

ETC = pathlib.Path(__file__).parent.parent / "etc"
WITH_SYSTEMD = skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
MOST_EXPOSURE = 2.0  # of systemd-analyze security, which says 10 for a unit without any sandbox


def directives(unit: str) -> dict[str, list[str]]:
    """Directive -> its values in order, whatever the section."""
    found: dict[str, list[str]] = {}
    for line in (ETC / unit).read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def analyze(*arguments: str, cwd: pathlib.Path | None = None) -> str:
    result = subprocess.run(
        ["systemd-analyze", *arguments],
        check=False,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return result.stdout


class ServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.unit = directives("authproxy.service")

    def test_commands(self) -> None:
        """The same environment and the same configuration in both; the copying is root's."""
        [start], [copying] = self.unit["ExecStart"], self.unit["ExecStartPre"]
        config = "--config /etc/authproxy/authproxy.toml"
        self.assertEqual(
            start, f"/opt/authproxy/bin/twistd --nodaemon --pidfile= authproxy {config}"
        )
        self.assertEqual(copying, f"+/opt/authproxy/bin/authproxy copy-keys {config}")
        self.assertEqual(
            self.unit["ExecReload"],
            [f"-{copying}", f"/opt/authproxy/bin/authproxy reload {config}"],
        )
        [again] = directives("authproxy-certificates@.service")["ExecStart"]
        self.assertEqual(f"+{again}", copying)

    def test_promises(self) -> None:
        promised = {
            "Type": "notify",
            "NotifyAccess": "main",
            "WatchdogSec": "30",
            "TimeoutStopSec": "60",
            "LimitNOFILE": "65536",
            "DynamicUser": "yes",
            "StateDirectory": "authproxy",
            "RuntimeDirectory": "authproxy",
            "LogsDirectory": "authproxy",
            "AmbientCapabilities": "CAP_NET_BIND_SERVICE",
            "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
            "ProtectSystem": "strict",
        }
        for name, value in promised.items():
            self.assertEqual(self.unit.get(name), [value], name)

    def test_what_would_break_it(self) -> None:
        for name in ("MemoryDenyWriteExecute", "PrivateUsers", "PrivateNetwork", "IPAddressDeny"):
            self.assertNotIn(name, self.unit)
        [families] = self.unit["RestrictAddressFamilies"]
        self.assertEqual(set(families.split()), {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"})

    @WITH_SYSTEMD
    def test_exposure(self) -> None:
        output = analyze("security", "--offline=true", "--no-pager", str(ETC / "authproxy.service"))
        level = re.search(r"Overall exposure level for authproxy\.service: ([0-9.]+)", output)
        if level is None and "Permission denied" in output:
            raise SkipTest("systemd-analyze needs /run/systemd, which only root can make here")
        assert level is not None, output
        self.assertLessEqual(float(level[1]), MOST_EXPOSURE, output)


class SocketTests(SynchronousTestCase):
    def test_names(self) -> None:
        """The names that [listen] uses as "systemd:https" and "systemd:http"."""
        for unit, name, port in (("authproxy", "https", 443), ("authproxy-http", "http", 80)):
            socket = directives(f"{unit}.socket")
            self.assertEqual(socket["FileDescriptorName"], [name])
            self.assertEqual(socket["Service"], ["authproxy.service"])
            self.assertEqual(socket["ListenStream"], [f"[::]:{port}"])


class VerifyTests(SynchronousTestCase):
    @WITH_SYSTEMD
    def test_systemd_has_no_objection(self) -> None:
        """With programs that exist in place of /opt/authproxy: verify insists on that."""
        directory = pathlib.Path(self.mktemp()).absolute()
        directory.mkdir()
        units = sorted([*ETC.glob("authproxy*.s*"), *ETC.glob("authproxy*.path")])
        self.assertEqual(len(units), 5)
        present = shutil.which("true") or "/bin/true"
        for unit in units:
            text = re.sub(r"/opt/authproxy/bin/\w+", present, unit.read_text())
            # An instance of a template, by its name.
            (directory / unit.name.replace("@", "@sso.example.com")).write_text(text)
        names = [f"./{unit.name.replace('@', '@sso.example.com')}" for unit in units]
        said = analyze("verify", "--man=no", *names, cwd=directory).splitlines()
        # verify also loads, and may complain about, units of this machine.
        self.assertEqual([line for line in said if "authproxy" in line], [])

"""testssl.sh and sslyze against an authproxy of its own, on loopback. Run it by script/tls-scan.

Two sites, one with an EC certificate and one with RSA, from an authority that is thrown away; with
the defaults, and with minimum_version = "1.2". Ends with 1 where there is a finding above LOW that
is not argued away below, a protocol below the setting, or a scan that did not end in time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import trustme

from tests.e2e.processes import LOOPBACK, Proxy, Stage

HOSTS = {"ec.example.com": trustme.KeyType.ECDSA, "rsa.example.com": trustme.KeyType.RSA}
VALIDITY = datetime.timedelta(days=80)  # below 60 there are warnings, above 90 too
SERIOUS = ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
SAID = ("LOW", "WARN")  # WARN: a check that could not be done
PROTOCOLS = {
    "ssl_2_0": "SSLv2", "ssl_3_0": "SSLv3", "tls_1_0": "TLS 1.0", "tls_1_1": "TLS 1.1",
    "tls_1_2": "TLS 1.2", "tls_1_3": "TLS 1.3",
}  # fmt: skip
ALLOWED = {"1.3": {"TLS 1.3"}, "1.2": {"TLS 1.2", "TLS 1.3"}}
# Mozilla's profiles: "modern" is TLS 1.3 alone.
PROFILES = {"1.3": "modern", "1.2": "intermediate"}

# What says something about the throw-away authority, or about this machine, and not about authproxy.
ARGUED = {
    "cert_chain_of_trust": "the authority is thrown away",
    "cert_revocation": "it has neither CRL nor OCSP; whether it should is the operator's choice",
    "cert_crlDistributionPoints": "as above",
    "cert_ocspURL": "as above",
    "DNS_CAArecord": "example.com is asked of no DNS here",
    "overall_grade": "follows from cert_chain_of_trust: T",
    "scanTime": "a scan that is too long for testssl.sh is still a scan",
    "engine_problem": "of the OpenSSL that testssl.sh uses",
}
# (host, version, criterion) of sslyze.
_KIND = "modern knows EC certificates alone; which one is the operator's choice"
PROFILE_ARGUED: dict[tuple[str, str, str], str] = {
    ("rsa.example.com", "1.3", "certificate_types"): _KIND,
    ("rsa.example.com", "1.3", "certificate_signatures"): _KIND,
}
EVERYWHERE_ARGUED = {
    "certificate_path_validation": "of the throw-away authority, which no trust store has",
    "tls_curves": "X448 and secp521r1 beside the profile's are strong (RFC 8446 4.2.7)",
}


def configuration(stage: Stage, upstream: str, version: str) -> dict[str, Any]:
    """Both sites."""
    document = stage.configuration(upstream, stage.certificate("first.example"))
    [first] = document["site"]
    now = datetime.datetime.now(datetime.UTC)
    document["site"] = []
    for host, kind in HOSTS.items():
        leaf = stage.authority.issue_cert(
            host, key_type=kind, not_before=now - VALIDITY / 60, not_after=now + VALIDITY
        )
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        document["site"].append(first | {
            "hosts": [host],
            "certificate": str(stage.file(f"{host}-{version}.pem", chain)),
            "private_key": str(stage.file(f"{host}-{version}.key", leaf.private_key_pem.bytes())),
        })  # fmt: skip
    if version != "1.3":  # that is the default
        document["tls"] = {"minimum_version": version}
    return document


def testssl(stage: Stage, proxy: Proxy, host: str, version: str, patience: float) -> list[str]:
    """What is wrong by testssl.sh."""
    found = stage.directory / f"testssl-{host}-{version}.json"
    command = shutil.which("testssl") or shutil.which("testssl.sh")
    if command is None:
        raise SystemExit("testssl.sh is missing. Debian and Ubuntu: apt install testssl.sh")
    arguments = [
        command, "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", LOOPBACK,
        "--connect-timeout", "10", "--openssl-timeout", "10", "--add-ca", str(stage.ca),
        "--jsonfile", str(found), f"{host}:{proxy.https}",
    ]  # fmt: skip
    run(arguments, patience)
    entries = json.loads(found.read_text())
    kinds: dict[str, int] = {}
    for entry in entries:
        kinds[entry["severity"]] = kinds.get(entry["severity"], 0) + 1
    print(f"{host} from {version}: testssl.sh: {kinds}", flush=True)
    wrong = []
    for entry in entries:
        name, severity, words = entry["id"], entry["severity"], entry["finding"]
        argued = next((why for known, why in ARGUED.items() if name.startswith(known)), None)
        if severity in SERIOUS and argued is None:
            wrong.append(f"{severity} {name}: {words}")
        elif severity in (*SERIOUS, *SAID):
            print(f"    {severity} {name}: {words}" + (f" ({argued})" if argued else ""))
    return wrong


def sslyze(
    stage: Stage, proxy: Proxy, host: str, version: str, program: str, patience: float
) -> list[str]:
    """What is wrong by sslyze: protocols, its checks of known holes, and Mozilla's profile."""
    found = stage.directory / f"sslyze-{host}-{version}.json"
    said = run(
        [program, "--early_data", "--sni", host, "--certinfo_ca_file", str(stage.ca),
         "--mozilla_config", PROFILES[version], "--json_out", str(found),
         f"{LOOPBACK}:{proxy.https}"], patience,
    )  # fmt: skip
    [server] = json.loads(found.read_text())["server_scan_results"]
    results = server["scan_result"] or {}
    spoken = {
        name
        for key, name in PROTOCOLS.items()
        if results[f"{key}_cipher_suites"]["result"]["accepted_cipher_suites"]
    }
    print(f"{host} from {version}: sslyze: {', '.join(sorted(spoken))}", flush=True)
    wrong = [f"{name} is spoken" for name in sorted(spoken - ALLOWED[version])]
    wrong += [f"{name} is not spoken" for name in sorted(ALLOWED[version] - spoken)]
    wrong += holes(results)
    for criterion, words in re.findall(r"^ +\* (\w+): (.+)$", said, re.MULTILINE):
        argued = PROFILE_ARGUED.get((host, version, criterion))
        argued = argued or EVERYWHERE_ARGUED.get(criterion)
        if argued is None:
            wrong.append(f"not of Mozilla's profile, {criterion}: {words}")
        else:
            print(f"    {criterion}: {words} ({argued})")
    return wrong


def holes(results: dict[str, Any]) -> Iterator[str]:
    """sslyze's checks that say yes."""

    def says(check: str, *names: str) -> list[Any]:
        result = results[check]["result"]
        return [result[name] for name in names] if result is not None else ["no result"]

    for check, names in (
        ("heartbleed", ("is_vulnerable_to_heartbleed",)),
        ("openssl_ccs_injection", ("is_vulnerable_to_ccs_injection",)),
        ("tls_compression", ("supports_compression",)),
        ("tls_1_3_early_data", ("supports_early_data",)),
        ("session_renegotiation", ("is_vulnerable_to_client_renegotiation_dos",)),
    ):
        if any(says(check, *names)):
            yield f"{check}: {says(check, *names)}"
    [robot] = says("robot", "robot_result")
    if not str(robot).startswith("NOT_VULNERABLE"):
        yield f"robot: {robot}"


def run(arguments: list[str], patience: float) -> str:
    """What a program says, to its end. Most of what it finds is in a file that it writes."""
    done = subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=patience,
        check=False,
    )
    return done.stdout


def main() -> None:
    """Scan, say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sslyze", default="sslyze", help="its program")
    parser.add_argument("--patience", type=float, default=900.0, help="seconds for each scan (900)")
    parser.add_argument("--version", choices=ALLOWED, action="append", help="only this one")
    parser.add_argument("--keep", help="a directory for what the programs wrote")
    chosen = parser.parse_args()
    stage = Stage()
    wrong: dict[str, list[str]] = {}
    try:
        upstream = f"http://{LOOPBACK}:{stage.origin().port}"
        with ThreadPoolExecutor(2) as pool:
            scans = {}
            for version in chosen.version or ALLOWED:
                proxy = stage.proxy(configuration(stage, upstream, version))
                for host in HOSTS:
                    first = (stage, proxy, host, version)
                    last = (chosen.sslyze, chosen.patience)
                    scans[f"{host}, {version}, sslyze"] = pool.submit(sslyze, *first, *last)
                    scans[f"{host}, {version}, testssl.sh"] = pool.submit(
                        testssl, *first, chosen.patience
                    )
            for name, scan in scans.items():
                try:
                    wrong[name] = scan.result()
                except subprocess.TimeoutExpired:
                    wrong[name] = ["not in time"]
        if chosen.keep:
            for path in stage.directory.glob("*-*.json"):
                shutil.copy(path, Path(chosen.keep))
    finally:
        stage.close()
    for name, findings in wrong.items():
        for finding in findings:
            print(f"{name}: {finding}")
    print(f"{sum(map(len, wrong.values()))} findings above LOW in {len(wrong)} scans.")
    sys.exit(any(wrong.values()))


if __name__ == "__main__":
    main()

"""Owns `authproxy doctor`: which targets are examined, and how the results are printed."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from attrs import evolve

from .. import __version__, config
from ..certificate_names import is_address, normal_host
from ..certificates import CertificateError
from ..doctor.examination import examine
from ..doctor.results import FAILED, OK, SKIPPED, WARNING, Result, summary
from ..doctor.target import Target, TargetError, configured, of_url
from ..settings import Settings, SiteSettings
from ..sites import SiteTable

DESCRIPTION = (
    "Go through the running proxy as a client does, and print what works, what does not, and the"
    " cure. Exits 0 if nothing failed, 1 if something did, 2 if there was nothing to examine."
)
EPILOG = (
    "Without URL: the first named host of each site of the configuration. Run it on the proxy's"
    " machine to have authentik looked at from there too; on another one for a client's view."
)
WIDTH = 100
COLOURS = {OK: "32", WARNING: "33", FAILED: "31;1", SKIPPED: "2"}


def run(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the command."""
    try:
        return _run(parser().parse_args(arguments), environ)
    except KeyboardInterrupt:
        return 130  # as a shell says it of what Ctrl-C ended


def _run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    try:
        targets = _targets(chosen)
    except (TargetError, config.ConfigError, CertificateError) as e:
        print(f"authproxy doctor: {e}", file=sys.stderr)
        return 2
    colours = sys.stdout.isatty() and "NO_COLOR" not in environ
    examined = []
    for target in targets:
        if chosen.json:
            results = list(examine(target))
        else:
            print(f"{target.url}\n", flush=True)
            results = _shown(examine(target), colours)
            print(f"\n{summary(results)}.\n", flush=True)
        examined.append(_entry(target, results))
    good = all(entry["ok"] for entry in examined)
    if chosen.json:
        document = {"authproxy": __version__, "ok": good, "targets": examined}
        print(json.dumps(document, indent=2))
    return 0 if good else 1


def _shown(examination: Iterator[Result], colours: bool) -> list[Result]:
    """Print results as they come, and return them.

    Checks that are skipped for one reason are one line; a cure that was printed is only named.
    """
    results: list[Result] = []
    cures: dict[tuple[str, ...], str] = {}
    for (status, words, cure, _), group in groupby(
        examination, lambda r: (r.status, r.words, r.cure, "" if r.status == SKIPPED else r.name)
    ):
        found = list(group)
        results += found
        name = found[0].name
        if len(found) > 1:
            line = Result("", status, f"{', '.join(r.name for r in found)}: {words}")
        elif cure and cure in cures:
            line = evolve(found[0], cure=(f"The cure is the same as that of {cures[cure]}.",))
        else:
            line = found[0]
            cures[cure] = name
        print(_lines(line, colours), flush=True)
    return results


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="authproxy doctor", description=DESCRIPTION, epilog=EPILOG)
    made.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="the address that people open, for example https://sso.example.com/",
    )
    made.add_argument(
        "-c", "--config", metavar="FILE", default=None,
        help=f"configuration file (default: {config.DEFAULT_PATH}, if it exists)",
    )  # fmt: skip
    made.add_argument(
        "--connect", metavar="ADDRESS[:PORT]", default="",
        help="connect there, wherever the name resolves",
    )  # fmt: skip
    made.add_argument("--http-port", metavar="PORT", type=_port, help="where plain HTTP is")
    trust = made.add_mutually_exclusive_group()
    trust.add_argument("--ca", metavar="FILE", default="", help="trust these certificates (PEM)")
    trust.add_argument(
        "--insecure", action="store_true", help="accept a certificate whoever issued it"
    )
    made.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=10.0,
        help="of each request (default 10); a check ends after three times that",
    )  # fmt: skip
    made.add_argument("--json", action="store_true", help="print JSON, for scripts")
    return made


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() and len(text) <= 5 else 0
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return port


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0.1 to 600 seconds")
    return seconds


def _targets(chosen: argparse.Namespace) -> list[Target]:
    """What to examine. Raises TargetError, ConfigError, CertificateError."""
    path = config.path_or_default(chosen.config)
    if path is None and chosen.url is None:
        raise TargetError(
            f"give the URL, or --config FILE: there is no {config.DEFAULT_PATH}."
            " For example: authproxy doctor https://sso.example.com/"
        )
    settings = _settings(path, needed=chosen.config is not None or chosen.url is None)
    found = _of_url(chosen.url, settings) if chosen.url else _of_sites(settings or Settings())
    targets = [_with_options(target, chosen) for target in found]
    for target in targets:
        _ = target.tls  # a CA file that cannot be used is said now, once
    return targets


def _settings(path: str | None, *, needed: bool) -> Settings | None:
    """Those of the file. Raises ConfigError where there is nothing to examine without them."""
    if path is None:
        return None
    try:
        return config.load(path)
    except config.ConfigError as e:
        if needed:
            raise
        print(f"authproxy doctor: goes on without the configuration: {e}\n", file=sys.stderr)
        return None


def _of_url(url: str, settings: Settings | None) -> list[Target]:
    target = of_url(url)
    site = SiteTable(settings.sites).find(target.host.encode()) if settings is not None else None
    if settings is None or site is None:
        return [target]
    return [configured(target, settings, site)]


def _of_sites(settings: Settings) -> list[Target]:
    if not settings.listen.https:
        raise TargetError(
            "listen.https is empty: give the https URL that clients use, which leads to another"
            " server's TLS."
        )
    return [
        configured(evolve(of_url(_name(site)), port=0), settings, site) for site in settings.sites
    ]


def _name(site: SiteSettings) -> str:
    name = normal_host(site.first_name or "localhost")
    return f"https://[{name}]/" if ":" in name else f"https://{name}/"


def _with_options(target: Target, chosen: argparse.Namespace) -> Target:
    target = evolve(target, ca=chosen.ca, insecure=chosen.insecure, timeout=chosen.timeout)
    if chosen.http_port:
        target = evolve(target, http_port=chosen.http_port, no_http="")
    if not chosen.connect:
        return target
    address, port = _connect(chosen.connect)
    return evolve(target, address=address, connect_port=port or target.connect_port)


def _connect(text: str) -> tuple[str, int]:
    """An address and its port, 0 for none."""
    bare = text.startswith("[") and text.endswith("]")
    if bare or is_address(text) or ":" not in text:
        host, port = text, ""
    else:
        host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not is_address(host):
        raise TargetError(f"--connect {text}: give an IP address, perhaps with :PORT.")
    try:
        return host, _port(port) if port else 0
    except argparse.ArgumentTypeError as e:
        raise TargetError(f"--connect {text}: {e}.") from None


def _lines(result: Result, colours: bool) -> str:
    """A line of a check, wrapped, and its cure below."""
    status = result.status.upper() if result.status == FAILED else result.status
    label = f"{status:8}"
    if colours:
        label = f"\x1b[{COLOURS[result.status]}m{label}\x1b[0m"
    margin = " " * 23
    words = textwrap.fill(
        result.words, WIDTH - 23, break_long_words=False, break_on_hyphens=False
    ).replace("\n", f"\n{margin}")
    lines = [f"{label} {result.name:12}  {words}"]
    for entry in result.cure:
        if entry.startswith("    "):  # to paste: never wrapped
            lines.append(margin + entry)
        else:
            lines.append(
                textwrap.fill(
                    entry, WIDTH, initial_indent=margin, subsequent_indent=margin,
                    break_long_words=False, break_on_hyphens=False,
                )
            )  # fmt: skip
    return "\n".join(lines)


def _entry(target: Target, results: list[Result]) -> dict[str, Any]:
    """One target as JSON."""
    return {
        "url": target.url,
        "ok": all(result.status != FAILED for result in results),
        "checks": [result.as_json() for result in results],
    }

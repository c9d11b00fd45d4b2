"""Owns the check of a large request head: SAML requests and piles of cookies are that large."""

from __future__ import annotations

from .requests import FAULTS, HTML
from .results import Result, failed, ok, skipped, warning
from .stream import words_of
from .target import Target

HEAD = "head"
COOKIE = 16 * 1024  # octets
REFUSED = (400, 413, 414, 431, 494)  # 494 is nginx's own


def check(target: Target) -> list[Result]:
    """A cookie of 16 KiB, on the way to authentik's pages."""
    path = target.path + "/if/user/"
    fields = ("Cookie", f"authproxy_doctor={'x' * COOKIE}")
    try:
        without = target.get(path, HTML).status
    except FAULTS as e:
        return [skipped(HEAD, f"{path} without a cookie: {words_of(e)}")]
    if without >= 500:
        return [skipped(HEAD, f"authentik does not answer ({without})")]
    try:
        answer = target.get(path, HTML, fields)
    except FAULTS as e:
        words = f"a cookie of 16 KiB ends the connection: {words_of(e)}"
        return [failed(HEAD, words, *_cure(target))]
    status = answer.status
    if status in REFUSED and status != without:
        return [failed(HEAD, f"a cookie of 16 KiB is refused with {status}", *_cure(target))]
    if status >= 500:
        return [
            warning(
                HEAD, f"a cookie of 16 KiB makes a {status} of a {without}",
                "Whoever is between authproxy and authentik does not take it, or authentik itself:"
                " look into their logs.",
            )
        ]  # fmt: skip
    return [ok(HEAD, "a cookie of 16 KiB passes")]


def _cure(target: Target) -> tuple[str, ...]:
    settings = target.settings
    small = []
    if settings is not None:
        limits = settings.limits
        small = [
            f"    {name} = {wanted}    # is {value}"
            for name, value, wanted in (
                ("head_bytes", limits.head_bytes, 65536),
                ("line_bytes", limits.line_bytes, 32768),
            )
            if value < wanted
        ]
    if small:
        file = (settings.path if settings else "") or "the configuration"
        return (f"The limits in {file} are below the defaults. Set, or remove the lines:",
                "    [limits]", *small)  # fmt: skip
    return (
        "authproxy takes 64 KiB in all and 32 KiB a line, unless [limits] says less: head_bytes,"
        " line_bytes. A proxy in front has limits of its own. nginx:",
        "    large_client_header_buffers 8 32k;",
    )

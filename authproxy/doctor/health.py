"""Owns the health of authentik as it is seen through the proxy, and whose the fault is."""

from __future__ import annotations

from .requests import FAULTS, JSON, Answer
from .results import Result, failed, ok, warning
from .stream import words_of
from .target import Target

# authentik's, also below a sub-path: they stay at the root.
PATHS = {"live": "/-/health/live/", "ready": "/-/health/ready/"}


def check(target: Target) -> list[Result]:
    """Both."""
    return [_one(target, name, path) for name, path in PATHS.items()]


def _one(target: Target, name: str, path: str) -> Result:
    try:
        answer = target.get(path, JSON)
    except FAULTS as e:
        return failed(
            name, f"{path} got no answer: {words_of(e)}",
            "The proxy accepts connections but does not answer: its log says why.",
            "    journalctl -u authproxy -n 20",
        )  # fmt: skip
    return verdict(name, path, answer, target)


def verdict(name: str, path: str, answer: Answer, target: Target) -> Result:
    """What a health answer means; of the proxy's, or of authentik's own."""
    status = answer.status
    if 200 <= status < 300:
        return ok(name, f"{path} is {status}")
    words = f"{path} is {status}{'' if answer.request_id else _said(answer)}"
    if status == 421:
        return failed(
            name, words,
            f"No site of the proxy has {target.host}. Add it to hosts in [[site]].",
        )  # fmt: skip
    if answer.request_id:
        return failed(
            name, f"{words}: the proxy does not reach authentik",
            "Is authentik running, and is upstream in [[site]] its address? The proxy's log has the"
            " reason, and its cure:",
            f"    journalctl -u authproxy | grep -F ', {status} (request' | tail -3",
        )  # fmt: skip
    if status == 503:
        return warning(
            name, f"{words}: authentik starts, or its database is not reached",
            "This passes within a minute or two after a start. If it does not, look into"
            " authentik's log:",
            "    docker compose logs --tail 50 server",
        )  # fmt: skip
    if status in (502, 504):
        return failed(
            name, f"{words}, and the page is not authproxy's",
            "Another proxy answers: it is in front of authproxy, or instead of it, and does not"
            " reach what is behind it. Its log says why.",
        )  # fmt: skip
    return failed(
        name, f"{words}: that is not authentik",
        "Does upstream in [[site]] name authentik's port (9443 with https, 9000 with http)? Does"
        f" {target.host} lead to this proxy?",
    )  # fmt: skip


def _said(answer: Answer) -> str:
    error = answer.entries.get("error")
    return f" ({str(error)[:80]})" if error else ""

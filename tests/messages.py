"""Every message that the source can show to an operator, found in its syntax trees."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from authproxy.commands import copy_keys

from .test_layering import MODULES

# Modules whose texts are all messages: problems of settings and of the files that they name.
OF_MESSAGES = (
    "certificate_copies", "certificates", "commands.copy_keys", "config", "crosschecks", "files",
    "guards", "places",
    "loading", "reloads", "self_signed", "upstream_tls", "values", "transport.binding",
    "transport.opening", "upstream.check", "upstream.dialler", "upstream.health",
)  # fmt: skip
# Exceptions whose texts reach the log or a person. ProtocolError's is its second argument.
ERRORS = (
    "CertificateError", "CopyError", "ListenError", "VerificationError", "ConnectFailed",
    "ConnectionCut", "NoCapacity", "NotVerified", "ProtocolError", "TimedOut", "UpstreamError",
    "StreamEnded", "UsageError",
)  # fmt: skip
SECOND = {"ProtocolError": 1, "CopyError": 1, "emit": 1}  # whose text is not the first argument
# Texts of those modules that nobody is shown.
NO_MESSAGES = (
    copy_keys.DESCRIPTION,
    "STATUS=serving; the last reload was refused",  # systemctl's status
    # What OpenSSL says, by which a fault is known.
    "no protocols available", "wrong version number", "packet length too long",
    "no shared cipher", "alert bad certificate", "alert unknown ca",
    ", in detail",  # of a kind
    "needs entries, and unknown as 'first' or 'refuse'",  # of a programmer to a programmer
)  # fmt: skip
LEVELS = ("debug", "info", "warn", "error", "critical", "failure", "emit")
LEAST = 10  # characters by which one message can be told from others
MARK = "\0"  # stands where something is filled in
_FILLED = re.compile(r"\{[^{}]*\}")


def text_of(node: ast.AST) -> str | None:
    """A text with MARK for what is filled in; None: no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) or MARK for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is None and right is None else (left or MARK) + (right or MARK)
    return None


def name_of(call: ast.Call) -> str:
    """The last part of what is called."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def is_log(call: ast.Call) -> bool:
    """Whether this is log.error(...) or the like."""
    owner = getattr(call.func, "value", None)
    return getattr(owner, "id", "") in ("log", "logger") and name_of(call) in LEVELS


def is_said(call: ast.Call) -> bool:
    """Whether this is say(message, ...) of saying.py."""
    return name_of(call) == "say" and bool(call.args)


def calls() -> Iterator[tuple[str, ast.Call]]:
    """(module, call) of the whole package but what is no part of the running proxy: the stand-in,
    and what is said of a file of nginx."""
    for module, tree in MODULES.items():
        if not module.startswith(("standin", "nginx")):
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    yield module, node


def texts() -> Iterator[tuple[str, str]]:
    """(module, message) of everything that an operator can meet."""
    for module, call in calls():
        if is_log(call) or is_said(call) or name_of(call) in ERRORS:
            place = SECOND.get(name_of(call), 0)
            text = text_of(call.args[place]) if len(call.args) > place else None
            if text:
                yield module, _FILLED.sub(MARK, text) if is_log(call) else text
    for module in OF_MESSAGES:
        for text in _sentences(MODULES[module]):
            if text.replace(MARK, "") not in NO_MESSAGES:
                yield module, _FILLED.sub(MARK, text)


def _sentences(tree: ast.Module) -> Iterator[str]:
    """All texts of a module but docstrings and what is no sentence."""
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            parts.add(node.value)  # a docstring
        if isinstance(node, ast.JoinedStr):
            parts.update(child for child in ast.walk(node) if child is not node)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and node not in parts:
            text = text_of(node)
            if text and len(text.replace(MARK, " ").split()) >= 3:
                yield text


def fragments(text: str) -> list[str]:
    """The parts of a message, between what is filled in, by which it can be found."""
    parts = map(plain, re.split(rf"[{MARK}\n]", text))
    return [part for part in parts if len(part) >= LEAST]


def plain(text: str) -> str:
    """Without what Markdown adds, and with one space where there are several."""
    return " ".join(text.replace("\\|", "|").replace("`", "").split())

"""Owns the answers that are made here: error pages by Accept, redirects.

No page repeats anything that a client sent. Each has a request id, which the access log has too.
The form is authentik's own while it starts: JSON with an `error`, an HTML page, or text.
"""

from __future__ import annotations

import json
import secrets
from email.utils import formatdate
from html import escape
from http import HTTPStatus

from .wire.heads import Fields, ResponseHead

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

# What a person is told. Statuses without an entry get their phrase alone.
_SENTENCES = {
    400: "The request is not one that this server understands.",
    403: "This page is not open to the network that the request came from.",
    404: "There is nothing here.",
    405: "This method is not allowed here.",
    408: "The request took too long to arrive.",
    413: "The request is too large.",
    414: "The address is too long.",
    417: "The request expects something that this server does not do.",
    421: "This server is not responsible for the host name that was asked for.",
    431: "The header of the request is too large. Deleting this site's cookies may help.",
    501: "The request uses something that this server does not know.",
    502: "The login service sent an answer that cannot be passed on.",
    503: "The login service cannot be reached at the moment. It may be starting.",
    504: "The login service did not answer in time.",
    505: "This server speaks HTTP/1.1.",
    508: "The login service is configured to be its own proxy.",
}
# RFC 9110's names (15.5.14, 15.5.15); http.HTTPStatus has older ones before Python 3.13.
_PHRASES = {413: "Content Too Large", 414: "URI Too Long"}
_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">{refresh}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{status} {phrase}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 18vh auto 0; max-width: 32rem;
  padding: 0 1.5rem; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .5rem; }}
small {{ opacity: .65; }}
</style></head>
<body><h1>{phrase}</h1><p>{sentence}{again}</p>
<p><small>{status}{detail} &middot; request {request_id}</small></p></body></html>
"""


def new_request_id() -> str:
    """An identifier for a page and its log lines: 16 hexadecimal digits, not guessable."""
    return secrets.token_hex(8)


def answer(
    status: int,
    accept: bytes | None,
    *,
    request_id: str,
    detail: str = "",
    retry_after: int = 0,
) -> tuple[ResponseHead, bytes]:
    """An error response and its content.

    `accept` is the request's Accept field. `detail` is a fragment of ours, such as a
    ProtocolError's reason. `retry_after` is in seconds; 0 for no such field.
    """
    phrase = _phrase(status)
    media_type = _preferred(accept)
    if media_type == "application/json":
        entries = {"error": detail or _SENTENCES.get(status, phrase), "status": status}
        content = json.dumps({**entries, "request_id": request_id}).encode() + b"\n"
    elif media_type == "text/html":
        content = _html(status, phrase, detail, request_id, retry_after).encode()
    else:
        more = f": {detail}" if detail else ""
        sentence = _SENTENCES.get(status, phrase)
        content = f"{status} {phrase}{more}\n{sentence}\nrequest {request_id}\n".encode()
    charset = "" if media_type == "application/json" else "; charset=utf-8"
    fields: Fields = [
        (b"content-type", (media_type + charset).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if retry_after:
        fields.append((b"retry-after", b"%d" % retry_after))
    if status == 405:
        fields.append((b"allow", METHODS))
    return complete(status, fields, content)


def redirect(location: bytes, status: int) -> tuple[ResponseHead, bytes]:
    """A redirect (RFC 9110 15.4). `location` is made of validated parts."""
    return complete(status, [(b"location", location)], b"")


def complete(status: int, fields: Fields, content: bytes) -> tuple[ResponseHead, bytes]:
    """A response made here and its content: Date (RFC 9110 6.6.1), the length, these fields."""
    made: Fields = [(b"date", formatdate(usegmt=True).encode())]
    if status != 204:  # RFC 9110 8.6
        made.append((b"content-length", b"%d" % len(content)))
    fields = [*made, *fields]
    return ResponseHead(status, _phrase(status).encode(), 11, fields, len(content)), content


def _phrase(status: int) -> str:
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _html(status: int, phrase: str, detail: str, request_id: str, retry_after: int) -> str:
    refresh = f'<meta http-equiv="refresh" content="{retry_after}">' if retry_after else ""
    return _HTML.format(
        status=status,
        phrase=escape(phrase),
        sentence=escape(_SENTENCES.get(status, "")),
        again=" This page tries again by itself." if retry_after else "",
        detail=f": {escape(detail)}" if detail else "",
        refresh=refresh,
        request_id=request_id,
    )


def _preferred(accept: bytes | None) -> str:
    """The media type of ours that a client likes best (RFC 9110 12.5.1); text where it says
    nothing, or takes anything."""
    best, best_quality = "text/plain", 0.0
    for entry in (accept or b"")[:1024].decode("latin-1").lower().split(","):
        media_type, *parameters = [part.strip() for part in entry.split(";")]
        if media_type not in ("text/html", "application/json", "text/plain"):
            continue
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                quality = _quality(parameter[2:])
        if quality > best_quality:
            best, best_quality = media_type, quality
    return best


def _quality(text: str) -> float:
    """0 to 1; what is no such number is 0."""
    if len(text) > 5 or not text.replace(".", "", 1).isdecimal():
        return 0.0
    return min(float(text), 1.0)

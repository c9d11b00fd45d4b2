"""Owns what authentik believes of a request, read from what it sends. Pure: answers in.

Without a login authentik says it in these places:

- `<meta name="ak-base-url" content="https://sso.example.com/">` in every page of its interface,
  which is build_absolute_uri() of Django (authentik/core/views/interface.py);
- `window.authentik = {... api: { base: "https://sso.example.com/", ...` in those before 2026;
- an absolute Location;
- the session cookie: Secure and SameSite=None under https, neither under http
  (authentik/root/middleware.py). That is the scheme alone.

The stand-in of `authproxy demo` says it in JSON, and the client's address too.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import SplitResult, urlsplit

from attrs import frozen

from .requests import Answer

_TAG = re.compile(r"<meta\s[^>]{0,2000}>", re.IGNORECASE)
_BASE_NAME = re.compile(r"\bname\s*=\s*[\"']?ak-base-url(?=[\"'\s/>])", re.IGNORECASE)
_CONTENT = re.compile(r"\bcontent\s*=\s*[\"']([^\"'>]{1,2000})", re.IGNORECASE)
_API_BASE = re.compile(r"\bapi\s*:\s*\{\s*base\s*:\s*\"([^\"]{1,2000})\"")
_STAND_IN = {"scheme", "host", "client", "url", "method", "path", "http_version", "headers"}


@frozen
class Belief:
    """scheme "https" or "http"; host with its port, "" where it is not told; where it was read."""

    scheme: str
    host: str
    source: str


def of_page(answer: Answer) -> Belief | None:
    """What a page, or a redirect, tells."""
    text = answer.text
    for tag in _TAG.findall(text):
        content = _CONTENT.search(tag)
        if _BASE_NAME.search(tag) and content:
            return _of_url(content[1], "the base URL of its pages")
    if match := _API_BASE.search(text):
        return _of_url(match[1], "the API's base URL in its pages")
    location = answer.field("Location")
    if "/if/" in location or "/flows/" in location:  # else it may be anybody's
        return _of_url(location, "a redirect")
    return None


def of_cookie(answer: Answer) -> Belief | None:
    """What the session cookie tells."""
    for line in answer.fields.get_all("Set-Cookie") or ():
        name, *attributes = [part.strip().lower() for part in str(line).split(";")]
        if name.startswith("authentik_session="):
            secure = "secure" in attributes and "samesite=none" in attributes
            return Belief("https" if secure else "http", "", "its session cookie")
    return None


def stand_in(answer: Answer) -> dict[str, Any]:
    """What the stand-in of `authproxy demo` shows of a request; {} of every other server."""
    entries = answer.entries
    return entries if entries.keys() == _STAND_IN else {}


def is_authentik(answer: Answer) -> bool:
    """Whether it says so: the field that its front ends set, or the names of its pages."""
    if answer.field("X-Powered-By").lower() == "authentik" or answer.field("X-authentik-id"):
        return True
    return "ak-base-url" in answer.text or "window.authentik" in answer.text


def _of_url(url: str, source: str) -> Belief | None:
    try:
        parts: SplitResult = urlsplit(unescape(url))
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return None
    return Belief(parts.scheme, parts.netloc.lower(), source)

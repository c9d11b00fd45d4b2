"""nginx configurations as texts, and what becomes of them."""

from __future__ import annotations

import pathlib
from typing import Any

from authproxy import config
from authproxy.nginx import translation
from authproxy.nginx.draft import Draft
from authproxy.nginx.reading import Directive, NginxError, is_opaque, read
from authproxy.settings import Settings, SiteSettings

# A server that is authentik's front, as short as can be.
SITE = """
server {{
    listen 443 ssl;
    server_name sso.example.com;
    ssl_certificate /etc/nginx/sso.pem;
    ssl_certificate_key /etc/nginx/sso.key;
    {server}
    location / {{
        proxy_pass {upstream};
        {location}
    }}
}}
{top}
"""


def site(
    server: str = "", location: str = "", top: str = "", upstream: str = "https://127.0.0.1:9443"
) -> str:
    """A site with more in it."""
    return SITE.format(server=server, location=location, top=top, upstream=upstream)


class Result:
    """What a translation gave: the text, the settings that it is, and the remarks by heading."""

    def __init__(self, text: str, draft: Draft, counts: dict[Any, int]) -> None:
        self.text = text
        self.draft = draft
        self.counts = counts
        settings, problems = config.loads(text, "made.toml")
        assert not problems, problems
        self.settings: Settings = settings

    @property
    def site(self) -> SiteSettings:
        [only] = self.settings.sites
        return only

    def said(self, kind: str) -> str:
        """All remarks of one kind (a name of Kind), with their directives, on one line."""
        found = []
        for section in (*self.draft.tables.values(), *self.draft.sites):
            for (one, words), directives in section.remarks.items():
                if one.name == kind:
                    found.append(words)
                    found += [" ".join((d.name, *d.args)) for d in directives]
        return " | ".join(found)


def of_file(path: pathlib.Path) -> Result:
    """Translate a file, and see that nothing of it was passed over."""
    drafts: list[Draft] = []

    class Seen(Draft):
        def __init__(self) -> None:
            super().__init__()
            drafts.append(self)

    original = translation.Draft
    translation.Draft = Seen  # type: ignore[misc]
    try:
        configuration = read(str(path))
        made = translation.translate(configuration)
    finally:
        translation.Draft = original  # type: ignore[misc]
    silent = passed_over(drafts[0], configuration.directives)
    assert not silent, silent
    return Result(made.text, drafts[0], made.counts)


def passed_over(draft: Draft, directives: tuple[Directive, ...]) -> list[str]:
    """The directives that became neither a setting nor a remark."""
    found = []
    for directive in directives:
        if draft.is_open(directive):
            found.append(f"{directive.place} {directive.name}")
        if directive.block is not None and not is_opaque(directive.name):
            found += passed_over(draft, directive.block)
    return found


def of_text(text: str, directory: str, name: str = "authentik.conf") -> Result:
    """Translate a text, from a file in a directory that is made for it."""
    folder = pathlib.Path(directory).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return of_file(path)


def refusal(text: str, directory: str) -> str:
    """Why nothing can be made of a text."""
    try:
        of_text(text, directory)
    except NginxError as e:
        return str(e)
    raise AssertionError("this was translated")

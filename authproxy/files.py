"""Owns what is wrong with the files that the settings name: certificates, keys, CAs, directories.

The settings themselves were right (config.py); this opens what they point to, and finds every
problem at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial

from . import values
from .certificate_copies import readable_copy
from .certificate_notes import notes
from .certificates import (
    CertificateError,
    Pair,
    load_pair,
    read_certificates,
    read_key,
    server_context,
)
from .settings import Settings, SiteSettings
from .upstream_tls import UpstreamTLS


def problems(settings: Settings, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """(key, what is wrong and the cure) of everything that would stop the start."""
    found = certificate_problems(settings, environ)
    webroot = settings.listen.acme_webroot
    if webroot and not os.path.isdir(webroot):
        found.append(("listen.acme_webroot", f"{webroot} is not a directory. Make it."))
    found += [("log.access", message) for message in _log(settings.log.access)]
    return found


def certificate_problems(settings: Settings, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """The same, of certificates, keys and CAs alone."""
    found = []
    for number, site in enumerate(settings.sites, 1):
        if site.certificate and site.private_key:
            found += [_problem(number, e) for e in _pair_problems(site, settings, environ)]
        verify = site.upstream_verify
        for upstream in site.upstreams:
            if upstream.scheme != "https":
                continue
            try:
                UpstreamTLS(verify.mode, verify.value, site.server_name(upstream))
            except CertificateError as e:
                found.append(_problem(number, e))
                break  # the others would fail in the same way
    return found


def remarks(settings: Settings, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """(key, what an operator should know) of certificates that work, but not as hoped."""
    said = []
    for number, site in enumerate(settings.sites, 1):
        if site.certificate:
            pair = load(site, environ)
            said += [
                (f"site[{number}].certificate", note)
                for note in notes(pair, site.hosts, time.time())
            ]
    return said


def _pair_problems(
    site: SiteSettings, settings: Settings, environ: Mapping[str, str]
) -> list[CertificateError]:
    """What is wrong with each of the two files; or, where nothing is, with the two together."""
    readable = partial(readable_copy, environ=environ)
    found = []
    for read in (
        lambda: read_certificates(site.certificate, "certificate", readable),
        lambda: read_key(site.private_key, readable),
    ):
        try:
            read()
        except CertificateError as e:
            found.append(e)
    if not found:
        try:
            server_context(load(site, environ), minimum_version=settings.tls.minimum_version)
        except CertificateError as e:
            found.append(e)
    return found


def _problem(number: int, error: CertificateError) -> tuple[str, str]:
    """A CertificateError begins with the setting that named the file."""
    setting, _, message = str(error).partition(" ")
    if setting not in values.keys_of(SiteSettings):  # an environment variable
        return f"site[{number}].upstream_verify", str(error)
    return f"site[{number}].{setting}", message


def load(site: SiteSettings, environ: Mapping[str, str]) -> Pair:
    """The certificate and key of a site, or root's copies of them. Raises CertificateError."""
    return load_pair(
        site.certificate, site.private_key, readable=partial(readable_copy, environ=environ)
    )


def _log(path: str) -> list[str]:
    if path in ("", "-"):
        return []
    if not os.path.isabs(path):
        return [f'{path} is not an absolute path. Write one, "-" for stdout, or "" for none.']
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        return [f"the directory {directory} does not exist. Make it, or name another file."]
    target = path if os.path.exists(path) else directory
    if os.path.isdir(path):
        return [f"{path} is a directory. Name a file in it."]
    if not os.access(target, os.W_OK):
        return [f"{target} may not be written by this user. Give it to the user of the service."]
    return []
